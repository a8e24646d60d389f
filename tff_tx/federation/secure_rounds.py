"""Secure sums over the transport: each phase of the protocol is a message to participants, and their answers.

The first message is the model and which clients train. A participant advertises its keys when it has trained, so that
whoever fails at that has no part in the session, and the phases after it take seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable

import numpy as np

from tff_tx.federation import contents
from tff_tx.federation.answers import ask
from tff_tx.federation.hub import Hub
from tff_tx.federation.layout import Layout
from tff_tx.federation.secure_sums import (
    Authority,
    Client,
    Identity,
    SecureSumError,
    Server,
    Terms,
    Threat,
    decode,
    encode,
)
from tff_tx.federation.secure_sums.identities import require_distinct
from tff_tx.federation.secure_sums.messages import Roster, SealedShares, Survivors, Unmask

KEYS = "keys"
_STEPS = {
    "shares": (Roster, "share_keys"),
    "input": (SealedShares, "masked_input"),
    "survivors": (Survivors, "sign_survivors"),
    "unmask": (Unmask, "unmask"),
}
PHASES = (KEYS, *_STEPS)
"""Phases of a round: in each a participant answers what it is named for."""


def model_digest(form: str, arrays: Sequence[Any]) -> bytes:
    """SHA-256 of a broadcast model: the digest of the form, which has what no round changes, and all other leaves."""
    found = hashlib.sha256(form.encode())
    for array in map(np.asarray, arrays):
        found.update(repr((array.dtype.name, array.shape)).encode() + array.tobytes())
    return found.digest()


class SecureRounds:
    """The coordinator's end.

    Attributes:
      training_phase: In which participants train.

    Args:
      hub: Where participants join.
      layout: Of what is summed.
      threat: What a round withstands.
      run: Digest of the plan.
      seconds: Time limit of an answer of all phases but the first.
    """

    training_phase = KEYS

    def __init__(self, hub: Hub, layout: Layout, threat: Threat, run: str, seconds: float):
        self._hub, self._layout, self._threat, self._run, self._seconds = hub, layout, threat, run, seconds

    def sum(
        self,
        round_num: int,
        model: bytes,
        requests: Mapping[str, Any],
        on_phase: Callable[[str], None] = lambda phase: None,
        layout: Layout | None = None,
        require: Callable[[Collection[str]], None] = lambda names: None,
    ) -> tuple[list[np.ndarray], dict[str, str]]:
        """The sum over participants, leaves of int64, and by name the reasons why others are not in it.

        Args:
          round_num: The round.
          model: `model_digest` of what is broadcast.
          requests: First message to each participant; different from all before.
          on_phase: Called after each phase with its name.
          layout: Of what is summed, if it is not the contributions.
          require: Called with the names of those that have trained; raises an error if they are too few for a round.

        Raises:
          SecureSumError: If there is none: too few participants, or shares that do not fit.
        """
        layout = layout or self._layout
        terms = Terms(self._run, round_num, model, layout.vectors(), self._threat, len(self._hub.names))
        terms.sizes(len(requests))  # rejects what cannot be before anybody trains
        server, marks = Server(terms, self._hub.authority), self._hub.fingerprints(requests)
        names, reasons, messages = {mark: name for name, mark in marks.items()}, {}, requests
        for phase in PHASES:
            seconds = None if phase == KEYS else self._seconds
            answers, failures = ask(self._hub, round_num, phase, messages, seconds, contents.split)
            for name, (_, content) in answers.items():
                try:
                    server.receive(marks[name], decode(content))
                except SecureSumError as error:
                    failures[name] = f"{name}: {error}"
            reasons = {**failures, **reasons}
            if phase == KEYS:
                require(answers.keys() - failures.keys())
            try:
                sent = server.advance()
            except SecureSumError as error:
                told = "; ".join(reasons.values())
                raise SecureSumError(f"{error}{f' ({told})' if told else ''}") from error
            messages = {names[mark]: contents.pack({}, encode(message)) for mark, message in sent.items()}
            on_phase(phase)
        summed = {names[mark] for mark in server.survivors}
        return layout.split(server.sums), {n: reasons.get(n, f"{n} has dropped out") for n in requests.keys() - summed}


class SecureParty:
    """A participant's end, in one session at a time.

    Attributes:
      phases: What it is asked for: the first message is a request, the others are of the protocol.

    Args:
      identity: Its key and certificate.
      authority: Who vouches for the others, and which of them the plan names.
      threat: What a round is to withstand, by the plan.
      run: Digest of the plan.
      participants: Number of participants of the plan.
      least: Fewest participants over which it agrees to be summed.
    """

    phases = PHASES

    def __init__(
        self, identity: Identity, authority: Authority, threat: Threat, run: str, participants: int, least: int
    ):
        self._identity, self._authority, self._threat = identity, authority, threat
        self._run, self._participants, self._least = run, participants, least
        self._client: Client | None = None
        self._inputs: Sequence[np.ndarray] = ()

    def begin(self, round_num: int, model: bytes, layout: Layout, leaves: Sequence[np.ndarray]) -> bytes:
        """Opens a session, the last one's secrets being erased; gives the answer to the first message.

        Args:
          round_num: The round.
          model: `model_digest` of what this participant has received.
          layout: Of what is summed.
          leaves: What it adds to the sum.
        """
        self.erase()
        terms = Terms(self._run, round_num, model, layout.vectors(), self._threat, self._participants)
        self._client = Client(terms, self._identity, self._authority, self._least)
        self._inputs = layout.join(leaves)
        return encode(self._client.advertise())

    def answer(self, phase: str, content: bytes) -> bytes:
        """The answer to a message of another phase than the first.

        Raises:
          SecureSumError: If it is refused: then the session is over for this participant.
        """
        if self._client is None:
            raise SecureSumError("there is no session: it has begun without this participant, or was given up.")
        try:
            kind, step = _STEPS[phase]
            message = decode(content)
            if not isinstance(message, kind):
                raise SecureSumError(f"the message of the phase {phase!r} is a {type(message).__name__}.")
            more = (self._inputs,) if phase == "input" else ()
            reply = getattr(self._client, step)(message, *more)
            if phase == "shares":
                # One voice each, also of who has an earlier certificate that has not expired yet.
                certificates = (other.certificate for other in message.neighbours)
                require_distinct([self._identity.certificate, *certificates])
            if phase == "input":
                self._inputs = ()
            return encode(reply)
        except BaseException:
            self.erase()
            raise

    def erase(self) -> None:
        """Ends the session, and forgets its secrets and what was to be summed."""
        if self._client is not None:
            self._client.erase()
        self._client, self._inputs = None, ()
