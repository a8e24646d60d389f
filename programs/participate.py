"""Takes part in a federation: `python -m programs.participate --coordinator=HOST:PORT --certificate=DIR --data=FILE`.

It only dials out, and stays: through rounds, runs and outages, until it is stopped. What it takes part in is bounded by
--policy and approved by the operator, once for each plan; what leaves is in the audit log, which --check_log checks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from programs import cli, interrupts
from tff_tx.config.tools import MemberConfig, ParticipantConfig
from tff_tx.core import tls
from tff_tx.core.errors import UserError, setting


def main(settings: cli.Settings) -> int:
    def made(own, approve):
        from tff_tx.run.federation import Participant

        return Participant(own, approve)

    return serve(settings[ParticipantConfig], made, "coordinator", "certificate", "data")


def serve(own: MemberConfig, made: Callable[..., Any], *needed: str) -> int:
    """Serves a coordinator by what `made` makes of settings, or checks a log; `needed` settings must be there."""
    if own.check_log:
        return _check_log(own)
    for name in needed:
        if not getattr(own, name):
            raise UserError(f"{setting(f'{own.section}.{name}')} is missing: a {own.section} needs it.")
    tls.require_tls_1_3()
    member = made(own, lambda words, digest: _approve(own, words, digest))
    cli.end_of_imports()
    try:
        member.serve()
    except KeyboardInterrupt:
        print(f"\n{interrupts.describe()}.", file=sys.stderr)
        return interrupts.exit_code()
    return 0


def _approve(own: MemberConfig, words: str, digest: str) -> bool:
    if own.approve is not None:
        return own.approve == digest
    print(f"The coordinator at {own.coordinator} has the plan {digest}:\n\n{words}\n")
    if not sys.stdin.isatty():
        print(f"To approve of it, add --approve={digest}.")
        return False
    return input("Take part? (yes or no) ").strip() == "yes"


def _check_log(own: MemberConfig) -> int:
    from tff_tx.federation import audit_log

    path = os.path.join(own.state_dir, audit_log.NAME)
    if not os.path.exists(path):
        raise UserError(
            f"{setting(f'{own.section}.state_dir')}={own.state_dir}: there is no {path}; name the directory of one "
            "that has joined a coordinator."
        )
    entries = list(audit_log.read(path))
    for entry in entries:
        print(" ".join(f"{name}={value}" for name, value in entry.items() if name not in ("before", "hash")))
    print(
        f"{len(entries)} entries, none changed, added or removed; a log that lost its last lines would look the same."
    )
    return 0


PROGRAM = cli.Program(main, ParticipantConfig)

if __name__ == "__main__":
    PROGRAM.run()
