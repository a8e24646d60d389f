"""Audits: attacks on a trained model and on mechanisms, and the lower bound on epsilon that follows from them."""

from tff_tx.analysis.auditing.canaries import (
    PREFIX,
    Canary,
    WithCanaries,
    canary_examples,
    exposure_by_rank,
    make_canaries,
    make_references,
    read_canaries,
    write_canaries,
)
from tff_tx.analysis.auditing.measurement import (
    COORDINATES,
    Claim,
    Measurement,
    measure,
    measure_process,
    measure_updates,
)
from tff_tx.analysis.auditing.mechanism import CanaryAudit, audit_process, audit_updates, canary_process_fn
from tff_tx.analysis.auditing.membership import Attack, ExampleScorer, threshold_attack, trained_attack
from tff_tx.analysis.auditing.one_run import Bound, audit, epsilon_lower_bound, guess, p_value
from tff_tx.analysis.auditing.report import plot_audit, table
