"""The coordinator's end of the transport: it asks participants, and waits for their answers."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from tff_tx.core.errors import UserError, setting
from tff_tx.federation import grpc_calls, relayed_calls, wire
from tff_tx.federation.envelopes import Payload, payload_digest
from tff_tx.federation.peers import AllowList, Peers, Request
from tff_tx.federation.secure_sums.identities import Authority, fingerprint
from tff_tx.federation.service import Service

MOST_BYTES = 1 << 36


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long to wait for what, in seconds.

    Attributes:
      join: For participants that are needed, before the first round.
      phase: For a participant's answer.
      silence: For a sign of life of one that owes an answer.
    """

    join: float = 600.0
    phase: float = 3600.0
    silence: float = 60.0


class Hub(contextlib.AbstractContextManager):
    """A server that participants join, see `Service`; `ask` sends each a message and gathers the answers.

    Args:
      address: To listen at, host:port.
      certificate: Directory of the coordinator's kit.
      participants: File with the list, see `certificates.PARTICIPANTS`.
      names: Who of them takes part.
      others: Who joins besides, and has no data: the key holder.
      run: Digest of the plan.
      welcome: What those are told who join, see `contents.pack`.
      limits: How long to wait for what.
      most_bytes: Longest message of a participant.
      relay: Unix socket to which calls are relayed, in place of the address.

    Raises:
      UserError: If the kit or the list cannot be read or names nobody of the `names`, or the address is taken.
    """

    def __init__(
        self,
        address: str,
        certificate: str,
        participants: str,
        names: Sequence[str],
        run: str,
        welcome: Mapping[str, Any],
        limits: Limits | None = None,
        most_bytes: int = MOST_BYTES,
        others: Sequence[str] = (),
        relay: str | None = None,
    ):
        self._kit, (identity, authority) = certificate, wire.load_kit(certificate, "coordinator")
        allowed = AllowList(participants)
        for path, wanted in (("data.silos", names), ("aggregation.key_holder", others)):
            if missing := sorted(set(wanted) - set(allowed.names().values())):
                raise UserError(
                    f"{setting(path)}={','.join(wanted)}: {missing[0]} is not among those of {participants}; make its "
                    "kit with `python -m programs.certs`, or correct the name."
                )
        self.names, self.limits, self._peers = tuple(names), limits or Limits(), Peers([*names, *others])
        service = Service(identity, authority, self._peers, allowed, run, welcome, most_bytes)
        if relay is not None:
            self._stop, self.port = relayed_calls.serve(service, relay), 0
            return
        try:
            self._stop, self.port = grpc_calls.serve(service, address, certificate, len(list(self._peers)))
        except RuntimeError as error:
            raise UserError(
                f"{setting('engine.federation_address')}={address}: cannot listen there ({error}): choose another."
            ) from None

    @property
    def authority(self) -> Authority:
        """Who certifies participants: of those that take part, and no others."""
        return Authority.load(self._kit, participants=self.names)

    def key_holders(self, name: str) -> Authority:
        """Who certifies the key holder of this name, and nobody else."""
        return Authority.load(self._kit, participants=[name], role="keyholder")

    def fingerprints(self, names: Iterable[str]) -> dict[str, bytes]:
        """Of participants that have joined, the digests of their certificates."""
        with self._peers.changed:
            return {name: fingerprint(self._peers[name].certificate) for name in names}

    def wait(self, names: Sequence[str] | None = None) -> None:
        """Waits until participants have joined and approved of the plan, by default all.

        Raises:
          UserError: If one has not come within the limit.
        """
        wanted = list(self._peers if names is None else names)
        deadline = time.monotonic() + self.limits.join
        with self._peers.changed:
            while missing := [name for name in wanted if not self._peers[name].is_ready]:
                if not self._peers.changed.wait(deadline - time.monotonic()):
                    told = [f" ({name}: {self._peers[name].refusal})" for name in missing if self._peers[name].refusal]
                    raise UserError(
                        f"{setting('data.silos')}: {', '.join(missing)} did not join within {self.limits.join:.0f} s"
                        f"{''.join(told)}: start `python -m programs.participate` there (programs.keyholder at a key "
                        "holder), or leave them out."
                    )

    def ask(
        self,
        round_num: int,
        phase: str,
        payloads: Mapping[str, Payload],
        on_answer: Callable[[int], None] | None = None,
        seconds: float | None = None,
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Sends participants a message each, and waits for their answers.

        A participant that is gone and comes back within the limits is sent the same message again.

        Args:
          round_num: The round.
          phase: What it is about.
          payloads: What is sent, by the participant's name; different from all that are sent before, unless it may have
            the same answer.
          on_answer: Called with the number of answers so far.
          seconds: Time limit; default: that of a phase.

        Returns:
          The answers by name, and by name the reasons why others have none.
        """
        answers, failures = {}, {}
        limit = self.limits.phase if seconds is None else seconds
        with self._peers.changed:
            started = time.monotonic()
            for name, payload in payloads.items():
                self._peers[name].request, self._peers[name].answer = (
                    Request(round_num, phase, payload, payload_digest(payload)),
                    None,
                )
            self._peers.changed.notify_all()
            while waiting := payloads.keys() - answers.keys() - failures.keys():
                now = time.monotonic()
                for name in waiting:
                    peer = self._peers[name]
                    if peer.answer is not None:
                        answers[name], peer.answer = peer.answer, None
                        if on_answer is not None:
                            on_answer(len(answers))
                    elif now > started + limit:
                        failures[name] = f"{name} has not answered within {limit:.0f} s"
                    elif now > max(started, peer.last_seen) + self.limits.silence:
                        failures[name] = f"{name} has given no sign of life for {self.limits.silence:.0f} s"
                if waiting - answers.keys() - failures.keys():
                    self._peers.changed.wait(1.0)
            for name in payloads:
                self._peers[name].request = None
        return answers, failures

    def close(self) -> None:
        """Ends the server; participants go on looking for the next."""
        with self._peers.changed:
            self._peers.closing = True
            self._peers.changed.notify_all()
        self._stop()

    def __exit__(self, *unused):
        self.close()
