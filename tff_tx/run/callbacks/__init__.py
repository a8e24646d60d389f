"""Callbacks: what happens beside the rounds of a run."""

from tff_tx.run.callbacks.callback import Callback, RoundResult, RunState
from tff_tx.run.callbacks.recording import Ledger, MetricsCsv, SavesCheckpoints, TensorBoard
from tff_tx.run.callbacks.stopping import EarlyStopping, KeepBest

__all__ = [
    "Callback",
    "EarlyStopping",
    "KeepBest",
    "Ledger",
    "MetricsCsv",
    "RoundResult",
    "RunState",
    "SavesCheckpoints",
    "TensorBoard",
]
