"""Audits a run: what its model gives away of its training data, and what that says of epsilon.

`python -m programs.audit --run_dir=runs/stdlib` infers membership, of examples and of clients. For a run with canaries
(programs.train --canaries=200) it also measures their exposure, and the lower bound on epsilon of an audit in one run
(Steinke et al. 2023) beside the accounted upper bound. `--mechanism` audits the mechanism of --dp_mechanism,
--local_dp_clip_norm or --example_dp_clip_norm by itself, with canaries that are updates or gradients, in seconds and
without training. `--vertical` attacks what crosses the cut of a run of programs.vertical.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.tools import AuditConfig
from tff_tx.core.errors import UserError, setting


def main(settings: cli.Settings) -> None:
    own = settings[AuditConfig]
    if own.run_dir is None and not own.mechanism:
        raise UserError(f"{setting('audit.run_dir')} is not set: name the directory of a run, or audit a mechanism.")
    from tff_tx.run import audit, mechanism_audit, vertical_audit

    cli.end_of_imports()
    if own.vertical:
        print(vertical_audit.audit_vertical(own))
        return
    print(mechanism_audit.audit_mechanism(settings.config, own) if own.mechanism else audit.audit_run(own.run_dir, own))


PROGRAM = cli.Program(
    main,
    AuditConfig,
    settings=[
        *("privacy", "local_privacy", "example_privacy", "cohort.clients_per_round", "cohort.sampling"),
        *("cohort.min_separation", "run.seed", "run.rounds", "engine.threads", "data.cache_dir"),
    ],
)

if __name__ == "__main__":
    PROGRAM.run()
