"""The coordinator's end of the transport: it asks participants, and waits for their answers."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tff_tx.core.errors import UserError, setting
from tff_tx.federation import grpc_calls, relayed_calls, wire
from tff_tx.federation.envelopes import Payload, payload_digest
from tff_tx.federation.peers import AllowList, Peers, Request
from tff_tx.federation.secure_sums.identities import Authority, fingerprint
from tff_tx.federation.service import BEAT_SECONDS, Service

MOST_BYTES = 1 << 36
_REMINDER_SECONDS = 30.0


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


@dataclasses.dataclass(frozen=True)
class Wording:
    """What errors name.

    Attributes:
      names: The setting with the participants' names.
      address: That of the address.
      remedy: What brings a participant.
    """

    names: str = "data.silos"
    address: str = "engine.federation_address"
    remedy: str = "start `python -m programs.participate` there (programs.keyholder at a key holder), or leave them out"


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
      wording: What errors name.

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
        wording: Wording = Wording(),
    ):
        self._wording = wording
        self._kit, (identity, authority) = certificate, wire.load_kit(certificate, "coordinator")
        allowed = AllowList(participants)
        for path, wanted in ((wording.names, names), ("aggregation.key_holder", others)):
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
                f"{setting(wording.address)}={address}: cannot listen there ({error}): choose another."
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
        said = time.monotonic()
        deadline = said + self.limits.join
        with self._peers.changed:
            while missing := [name for name in wanted if not self._peers[name].is_ready]:
                now = time.monotonic()
                if now >= said + _REMINDER_SECONDS:
                    logging.warning("waiting for %s to join, for %.0f s more", ", ".join(missing), deadline - now)
                    said = now
                if not self._peers.changed.wait(min(deadline, said + _REMINDER_SECONDS) - now) and now >= deadline:
                    told = [f" ({name}: {self._peers[name].refusal})" for name in missing if self._peers[name].refusal]
                    raise UserError(
                        f"{setting(self._wording.names)}: {', '.join(missing)} did not join within "
                        f"{self.limits.join:.0f} s{''.join(told)}: {self._wording.remedy}."
                    )

    def ask(
        self,
        round_num: int,
        phase: str,
        payloads: Mapping[str, Payload],
        seconds: float | None = None,
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Sends participants a message each, and waits for their answers.

        Args:
          round_num: The round.
          phase: What it is about.
          payloads: As of `send`.
          seconds: Time limit; default: that of a phase.

        Returns:
          The answers by name, and by name the reasons why others have none.
        """
        answers, failures = {}, {}
        self.send(round_num, phase, payloads)
        while waiting := payloads.keys() - answers.keys() - failures.keys():
            found = self.collect(waiting, seconds)
            answers.update(found[0])
            failures.update(found[1])
        return answers, failures

    def send(self, round_num: int, phase: str, payloads: Mapping[str, Payload]) -> None:
        """Sends participants a message each, for whose answers `collect` waits.

        A participant that is gone and comes back within the limits is sent the same message again.

        Args:
          round_num: The round.
          phase: What it is about.
          payloads: What is sent, by the participant's name; different from all that are sent before, unless it may have
            the same answer.
        """
        with self._peers.changed:
            for name, payload in payloads.items():
                digest = payload_digest(payload)
                self._peers[name].ask(Request(round_num, phase, payload, digest, time.monotonic()))
            self._peers.changed.notify_all()

    def collect(
        self, names: Collection[str], seconds: float | None = None, wait: float = math.inf
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Waits until one of the participants that were sent messages has answered, or cannot any more.

        Args:
          names: Of the participants; none of them may have been in an earlier result for its message.
          seconds: Time limit of an answer; default: that of a phase.
          wait: After so many seconds the result may be empty.

        Returns:
          The answers by name in their order of arrival, and by name the reasons why others have none.
        """
        until, limit = time.monotonic() + wait, self.limits.phase if seconds is None else seconds
        with self._peers.changed:
            while True:
                found = self._settled([self._peers[name] for name in names], limit)
                if any(found) or time.monotonic() >= until:
                    return found
                self._peers.changed.wait(min(1.0, wait))

    def _settled(self, peers, limit):
        answers, failures, now = {}, {}, time.monotonic()
        for peer in sorted(peers, key=lambda peer: peer.answered):
            if peer.answer is not None:
                answers[peer.name], peer.answer = peer.answer, None
            elif now > peer.request.since + limit:
                failures[peer.name] = f"{peer.name} has not answered within {limit:.0f} s"
            elif now > max(peer.request.since, peer.last_seen) + self.limits.silence:
                failures[peer.name] = f"{peer.name} has given no sign of life for {self.limits.silence:.0f} s"
        for name in failures:
            self._peers[name].request = None
        return answers, failures

    def idle(self) -> list[str]:
        """Who has joined, is there, and owes no answer."""
        with self._peers.changed:
            since = time.monotonic() - max(self.limits.silence, 2 * BEAT_SECONDS)
            peers = [self._peers[name] for name in self.names]
            return [p.name for p in peers if p.is_ready and p.request is p.answer is None and p.last_seen > since]

    def close(self) -> None:
        """Ends the server; participants go on looking for the next."""
        with self._peers.changed:
            self._peers.closing = True
            self._peers.changed.notify_all()
        self._stop()

    def __exit__(self, *unused):
        self.close()
