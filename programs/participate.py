"""Takes part in a federation: `python -m programs.participate --coordinator=HOST:PORT --certificate=DIR --data=FILE`.

It only dials out, and stays: through rounds, runs and outages, until it is stopped. What it takes part in is bounded by
--policy and approved by the operator, once for each plan; what leaves is in the audit log, which --check_log checks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from programs import cli
from tff_tx.config.tools import MemberConfig, ParticipantConfig
from tff_tx.core import tls


def main(settings: cli.Settings) -> None:
    def made(own, approve):
        from tff_tx.run.federation import Participant

        return Participant(own, approve)

    serve(settings[ParticipantConfig], made, "coordinator", "certificate", "data")


def serve(own: MemberConfig, made: Callable[..., Any], *needed: str) -> None:
    """Serves a coordinator by what `made` makes of settings, or checks a log; `needed` settings must be there."""
    if own.check_log:
        from tff_tx.federation import audit_log

        for line in audit_log.describe(own.state_dir, f"{own.section}.state_dir"):
            print(line)
        return
    own.require(*needed)
    tls.require_tls_1_3()
    member = made(own, lambda words, digest: _approve(own, words, digest))
    cli.end_of_imports()
    member.serve()


def _approve(own: MemberConfig, words: str, digest: str) -> bool:
    if own.approve is not None:
        return own.approve == digest
    print(f"The coordinator{own.coordinator and f' at {own.coordinator}' or ''} has the plan {digest}:\n\n{words}\n")
    if not sys.stdin.isatty():
        print(f"To approve of it, add --approve={digest}.")
        return False
    return input("Take part? (yes or no) ").strip() == "yes"


PROGRAM = cli.Program(main, ParticipantConfig)

if __name__ == "__main__":
    PROGRAM.run()
