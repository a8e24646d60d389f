"""What the programs have in common that join a coordinator: their own files, the log of what leaves, and approval."""

from __future__ import annotations

import abc
import contextlib
import os
from collections.abc import Mapping
from typing import Any, Callable

from tff_tx.config import RunConfig
from tff_tx.config.tools import MemberConfig
from tff_tx.core import certificates, files, locks
from tff_tx.core.errors import UserError, setting
from tff_tx.federation import audit_log
from tff_tx.federation.envelopes import Payload
from tff_tx.federation.link import Link
from tff_tx.federation.messages_pb2 import Header
from tff_tx.federation.relayed_calls import Relay
from tff_tx.run.assemble import plans

_APPROVED, _SOCKET = "approved.json", "relay.sock"


class Member(abc.ABC):
    """Serves one coordinator, plan after plan.

    Attributes:
      name: By its certificate.

    Args:
      settings: Where the coordinator, the kit and its own files are.
      approve: From a plan in words and its digest to whether the operator approves of it; asked once a plan.
      role: What the kit is for.

    Raises:
      UserError: If the kit cannot be read.
    """

    def __init__(self, settings: MemberConfig, approve: Callable[[str, str], bool], role: str):
        self._settings, self._approve = settings, approve
        self.name = certificates.name_of(certificates.read_certificate(os.path.join(settings.certificate, "node.crt")))
        self._log: audit_log.AuditLog | None = None
        self._plan: Mapping[str, Any] | None = None
        self._relay: Relay | None = None
        flower = settings.transport == "flower"
        self._coordinator = os.path.join(settings.state_dir, _SOCKET) if flower else settings.coordinator
        self._link = Link(
            self._coordinator,
            settings.certificate,
            plans.digest,
            self._take_new_plan,
            self._answer,
            self._log_sent,
            role=role,
            connect=(lambda: self._relay.connect()) if flower else None,
        )

    @abc.abstractmethod
    def _take_plan(self, plan: Mapping[str, Any]) -> None:
        """Takes a plan that is not the last one; a `UserError` refuses it."""

    @abc.abstractmethod
    def _answer(self, header: Header, payload: bytes) -> Payload:
        """The answer to a message."""

    def serve(self) -> None:
        """Takes part until `stop`, or the program ends.

        Raises:
          UserError: If the coordinator rejects this member, or this member the plan; if another process has the
            member's own files, or its log has been changed.
        """
        directory, name = self._settings.state_dir, setting(f"{self._settings.section}.state_dir")
        files.make_directory(directory, name)
        files.make_private(directory)
        with locks.sole_writer(directory, name), contextlib.ExitStack() as stack:
            self._log = audit_log.AuditLog(os.path.join(directory, audit_log.NAME))
            if self._settings.transport == "flower":
                self._relay = stack.enter_context(contextlib.closing(Relay(self._coordinator)))
            self._link.serve()

    def stop(self) -> None:
        """Ends `serve` after the answer that it is at."""
        self._link.stop()

    def _log_sent(self, round_num: int, phase: str, payload: Payload, digest: bytes) -> None:
        told = {"round": round_num, "plan": plans.digest(self._plan), "to": self._coordinator}
        self._log.append(phase, payload, digest, **told)

    def _take_new_plan(self, plan: Mapping[str, Any]) -> None:
        if plan != self._plan:
            self._plan = plan
            self._take_plan(plan)

    def _ask_once(self, config: RunConfig) -> None:
        """Has the operator approve of the plan, which `config` is of, unless it was approved of before."""
        digest, path = plans.digest(self._plan), os.path.join(self._settings.state_dir, _APPROVED)
        approved = []
        if os.path.exists(path):
            approved = files.read_json(path, list)
        if digest not in approved:
            if not self._approve(plans.describe(config), digest):
                raise UserError(f"the operator of {self.name} has not approved of the plan {digest}.")
            files.write_json(path, [*approved, digest])
