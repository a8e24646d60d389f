"""The in-process engine: a round's graphs, streamed client by client on a few threads."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime import form as form_lib
from tff_tx.runtime.engine import Engine, Traffic


class LocalEngine(Engine):
    """Runs clients on threads of this process and adds up their contributions in the order of the cohort.

    At any time it holds the model, one sum and the contributions of a few clients, whatever the size of the cohort. The
    order of addition, and so the result, does not depend on the number of threads.

    Args:
      process: Of functional models, with clients named by plain data or datasets.
      threads: Clients at work at the same time.
    """

    def __init__(self, process: tff.learning.templates.LearningProcess, threads: int = 4):
        super().__init__(process)
        self._form = form_lib.RoundForm(process)
        self._threads = threads
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="client")

    def initialize(self) -> Any:
        return form_lib.unflatten(self._form.initialize(), self._form.state_type)

    def run_round(
        self, state: Any, clients: Sequence[Any], on_progress: Callable[[int], None] | None = None
    ) -> tff.learning.templates.LearningProcessOutput:
        form = self._form
        flat_state = [tf.convert_to_tensor(leaf) for leaf in form_lib.flatten(state, form.state_type)]
        broadcast = form.prepare(*flat_state)
        total = form.zero()
        for done, contribution in enumerate(self._contributions(clients, broadcast), start=1):
            total = form.accumulate(*total, *contribution)
            if on_progress is not None:
                on_progress(done)
        results = form.update(*flat_state, *form.report(*total))
        state_size = len(flat_state)
        return tff.learning.templates.LearningProcessOutput(
            form_lib.unflatten(results[:state_size], form.state_type),
            form_lib.unflatten([leaf.numpy() for leaf in results[state_size:]], form.metrics_type),
        )

    def _contributions(self, clients, broadcast):
        """Yields the clients' contributions in order, with at most a few computed ahead."""

        def work(client):
            return self._form.work(*form_lib.flatten(client, self._form.client_type), *broadcast)

        waiting = collections.deque()
        for client in clients:
            waiting.append(self._pool.submit(work, client))
            if len(waiting) > 2 * self._threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def model_weights(self, state: Any) -> tff.learning.models.ModelWeights:
        weights = state.global_model_weights
        return tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf).numpy(), weights)

    def traffic(self) -> Traffic:
        return self._form.traffic

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
