"""The engine of a federation whose participants do not wait for each other: FedBuff."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

from tff_tx.federation import contents
from tff_tx.federation.arrivals import Arrivals
from tff_tx.federation.engine import FederationEngine
from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.runtime.engine import Gathered
from tff_tx.runtime.fed_buff import Staleness
from tff_tx.runtime.hooks import Job


class BufferedFederationEngine(FederationEngine):
    """Adds up reports in the order in which they arrived, each scaled by `Staleness`.

    Clients of a round are pairs as of `cohorts.buffered.build_cohort_fn` of `arrivals`, which has had them trained
    before the round runs.

    Args:
      process: As of `FederationEngine`, as are those that follow.
      arrivals: The participants at work.
      staleness: Scales reports.
    """

    def __init__(self, *args: Any, arrivals: Arrivals, staleness: Staleness, **kwargs: Any):
        super().__init__(*args, hooks=[staleness], **kwargs)
        self.arrivals = arrivals

    def offer(self, state: Any, round_num: int) -> None:
        """Has participants that are free train on the model of a state."""
        broadcast = self.parts.prepare(*map(tf.convert_to_tensor, self._leaves(state)))
        arrays = contents.encode(self._changing(broadcast), self._compressed)
        self.arrivals.offer(round_num - 1, lambda client: self._request([client], arrays), self._report)

    def _report(self, payload: bytes) -> tuple[dict, Any]:
        """A participant's answer, if it is its client's update: what it says, the update, and what came with it."""
        said, arrays = contents.unpack(payload)
        if "error" in said:
            return said, None
        alone = Gathered([], None, seconds={"data": 0.0})
        sent = self._checked("it", [0], {**said, "bytes": len(payload)}, arrays, alone)
        if alone.failures:
            raise EnvelopeError(f"the client failed: {alone.failures[0]}")
        return said, (sent, alone)

    def _collect(self, clients: Sequence[Any], job_fn: Callable[[Any], Job], gathered: Gathered) -> list:
        total, gathered.seconds["data"] = self.parts.zero(), 0.0
        for job in map(job_fn, clients):
            _, (sent, alone) = self.arrivals.answers.pop(job.client["client_id"].decode())
            gathered.seconds["data"] += alone.seconds["data"]
            gathered.sent_bytes += alone.sent_bytes
            total = self._merge(*total, *job.finish(sent)[0])
        gathered.progress(len(clients))
        gathered.clock.stop("aggregation")
        return total
