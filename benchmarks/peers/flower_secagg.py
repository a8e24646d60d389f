"""Flower's SecAgg+ on one case of `benchmarks.secure_sums`: its workflow and its client mod in one process, by turns.

A grid in place of Flower's calls the clients one after another, so that times are of the protocol alone; bytes are of
the contents that clients send, as Flower serializes them.
"""

from __future__ import annotations

import collections
import logging
import time

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.compat.common import recorddict_compat
from flwr.server import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.supercore.task_identity import TaskIdentity

from benchmarks.secure_case import Case


class Proxy:
    """A client, as strategies know it."""

    def __init__(self, node_id: int):
        self.node_id = node_id


class Strategy(FedAvg):
    """Asks all clients, and retains what they sum up to."""

    def __init__(self, case: Case):
        super().__init__()
        self._case, self.mean = case, None

    def configure_fit(self, server_round, parameters, client_manager):
        return [(Proxy(i), FitIns(parameters, {})) for i in range(self._case.clients)]

    def aggregate_fit(self, server_round, results, failures):
        self.mean = parameters_to_ndarrays(results[0][1].parameters)[0]
        return None, {}


class Grid:
    """Calls clients in this process, and measures them and what they send."""

    def __init__(self, case: Case):
        self._case, self._stage = case, 0
        self._contexts = [Context(1, i, {}, RecordDict(), {}) for i in range(case.clients)]
        self.seconds, self.sent = collections.Counter(), collections.Counter()

    @property
    def total(self) -> float:
        """Seconds within clients and this grid."""
        return self._total

    _total = 0.0

    def send_and_receive(self, messages, *, timeout=None):
        """Has the clients reply that have not vanished."""
        del timeout
        began, replies = time.perf_counter(), []
        for message in messages:
            node = message.metadata.dst_node_id
            if self._stage >= 2 and node in self._case.dropped():
                continue
            vector = self._case.vector(node) if self._stage == 2 else None
            # A copy, as a client takes what it has read out of its message.
            message.content = recorddict_from_proto(recorddict_to_proto(message.content))
            started = time.perf_counter()
            reply = secaggplus_mod(message, self._contexts[node], lambda m, c, v=vector: _fitted(m, v))
            content = recorddict_to_proto(reply.content).SerializeToString()
            self.seconds[node] += time.perf_counter() - started
            self.sent[node] += len(content)
            replies.append(reply)
        self._stage += 1
        self._total += time.perf_counter() - began
        return replies


def _fitted(message, vector):
    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([vector]), 1, {})
    return Message(recorddict_compat.fitres_to_recorddict(result, False), reply_to=message)


def main() -> None:
    """Runs the workflow and reports it."""
    case = Case.parse(__doc__)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    strategy, grid = Strategy(case), Grid(case)
    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), strategy=strategy)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    initial = ndarrays_to_parameters([case.vector(0)])
    context.state.array_records[MAIN_PARAMS_RECORD] = recorddict_compat.parameters_to_arrayrecord(initial, True)
    workflow = SecAggPlusWorkflow(
        case.neighbours + 1, case.threshold, max_weight=1.0, clipping_range=1.0, quantization_range=2**22
    )
    started = time.perf_counter()
    workflow(grid, context)
    server_seconds = time.perf_counter() - started - grid.total
    stayed = [i for i in range(case.clients) if i not in case.dropped()]
    case.report(strategy.mean, (grid.seconds[i] for i in stayed), server_seconds, [grid.sent[i] for i in stayed])


if __name__ == "__main__":
    main()
