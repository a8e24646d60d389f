"""What a round on a cluster costs: formulas, fitted to measured rounds, and said on paper for clusters nobody has here.

`python -m benchmarks.cost_model` fits what `python -m benchmarks.scaling` has measured, checks it on rounds that were
not used for the fit, and tells what larger clusters take. scaling.md explains the formulas.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.optimize

from benchmarks import report


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a round's costs follow from.

    Attributes:
      model: Name of the workload; a client of one costs other seconds than one of another.
      clients: Of the cohort.
      nodes: With workers; the coordinator is on none of them.
      workers: On all nodes together.
      processors: That the workers have together.
      shared: Whether the coordinator runs on these processors too, as on a machine all of whose cores have a node; it
        then takes its time from all of them. Else it works beside them, and all of its time counts as if nothing of it
        were hidden by theirs, which is too much rather than too little.
      leaves: Parts of the cohort.
      weights_bytes: That are sent to a node a round.
      update_bytes: Of a sum.
    """

    model: str
    clients: int
    nodes: int
    workers: int
    processors: int
    shared: bool
    leaves: int
    weights_bytes: int
    update_bytes: int

    @property
    def crossings(self) -> int:
        """Sums that go from node to node, or to the coordinator, if nobody takes another's leaves."""
        return crossings(self.leaves, self.nodes)

    @property
    def levels(self) -> int:
        """Sums that go one after another at most: those of a path of the tree above the nodes, and the last one."""
        return math.ceil(math.log2(self.nodes)) + 1

    @property
    def moved_bytes(self) -> int:
        """What crosses between nodes: weights to each, and sums."""
        return self.nodes * self.weights_bytes + self.crossings * self.update_bytes


def crossings(leaves: int, nodes: int) -> int:
    """Sums that cross from a node to another one or to the coordinator, with leaves of one cost and nodes of one speed.

    The sum of two neighbours is made where the left one is; see `RayEngine` and `partials`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tff_tx.runtime import partials  # with TensorFlow, which need not be in memory while others are measured

    owner = np.empty(leaves, np.int64)
    for node, span in enumerate(partials.shares([1.0] * leaves, [1.0] * nodes)):
        owner[span.start : span.end] = node

    def count(span):
        if owner[span.start] == owner[span.end - 1]:  # runs of neighbours: all between is there as well
            return 0
        left, right = span.children
        return count(left) + count(right) + int(owner[left.start] != owner[right.start])

    return count(partials.Span(0, leaves)) + 1


TERMS = {
    # Of the coordinator's processor, measured as such.
    "coordinator": {
        "a round": lambda c: 1.0,
        "a client": lambda c: c.clients,
        "a leaf": lambda c: c.leaves,
        "a leaf and worker": lambda c: c.leaves * c.workers,
        "a byte": lambda c: c.weights_bytes + c.update_bytes,
    },
    # Beyond the clients' own work on all processors and the coordinator's.
    "clients": {
        "a round": lambda c: 1.0,
        "a client, over processors": lambda c: c.clients / c.processors,
        "a byte to a node": lambda c: c.nodes * c.weights_bytes,
    },
    "aggregation": {
        "a round": lambda c: 1.0,
        "a sum": lambda c: c.crossings,
        "a byte and level": lambda c: c.levels * c.update_bytes,
    },
}
"""By phase of a round, what its seconds are a sum of: a coefficient times a number of the configuration."""


@dataclasses.dataclass(frozen=True)
class Observation:
    """A measured round.

    Attributes:
      configuration: Of it.
      busy_seconds: Of all processors together, what clients took.
      seconds: Of the round.
      coordinator_seconds: Of a processor, what the coordinator took for the round.
      aggregation_seconds: What it took to merge the sums.
    """

    configuration: Configuration
    busy_seconds: float
    seconds: float
    coordinator_seconds: float
    aggregation_seconds: float

    def parts(self) -> dict[str, float]:
        """What the terms of each phase come to."""
        c = self.configuration
        work = self.busy_seconds / c.processors
        hidden = work + _added(c, self.coordinator_seconds) + self.aggregation_seconds
        return {
            "coordinator": self.coordinator_seconds,
            "clients": self.seconds - hidden,
            "aggregation": self.aggregation_seconds,
        }


def observation(run: Mapping) -> Observation:
    """The medians of a run of `contenders.clustered` on a cluster."""

    def median(value):
        return statistics.median(value(r) for r in run["rounds"])

    configuration = Configuration(
        model=run["workload"],
        clients=run["clients"],
        nodes=run["nodes"],
        workers=run["nodes"],
        processors=min(run["nodes"], run["cores"]),
        shared=run["nodes"] >= run["cores"],
        leaves=min(run["clients"], run["leaves"]),
        weights_bytes=run["rounds"][-1]["broadcast_bytes"],
        update_bytes=run["update_bytes"],
    )
    return Observation(
        configuration,
        busy_seconds=median(lambda r: r["phases"]["busy"]),
        seconds=median(lambda r: r["seconds"]),
        coordinator_seconds=median(lambda r: r["coordinator_seconds"]),
        aggregation_seconds=median(lambda r: r["phases"]["aggregation"]),
    )


def _added(configuration, coordinator_seconds):
    """What the coordinator's work adds to a round."""
    return coordinator_seconds / (configuration.processors if configuration.shared else 1)


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Fitted costs.

    Attributes:
      client_seconds: By model, seconds of a processor a client.
      coefficients: By phase and term, seconds.
    """

    client_seconds: Mapping[str, float]
    coefficients: Mapping[str, Mapping[str, float]]

    def parts(self, configuration: Configuration) -> dict[str, float]:
        """Seconds of a round by "work" and what is added to it, a term each."""
        c = configuration
        found = {"work": self.client_seconds[c.model] * c.clients / c.processors}
        for phase, terms in TERMS.items():
            for name, of in terms.items():
                seconds = self.coefficients[phase][name] * of(c)
                found[f"{phase}: {name}"] = _added(c, seconds) if phase == "coordinator" else seconds
        return found

    def seconds(self, configuration: Configuration) -> float:
        """Of a round."""
        return sum(self.parts(configuration).values())


def fit(observations: Sequence[Observation]) -> CostModel:
    """Least squares over relative errors, with no cost below 0 (Lawson and Hanson 1974, NNLS).

    A client's seconds are the mean over its model's rounds, of busy processors; what is beyond them is fitted phase by
    phase to its terms, the coordinator's to the time that its process took.
    """
    by_model: dict[str, list[float]] = {}
    for o in observations:
        by_model.setdefault(o.configuration.model, []).append(o.busy_seconds / o.configuration.clients)
    coefficients = {}
    for phase, terms in TERMS.items():
        numbers = np.array([[of(o.configuration) for of in terms.values()] for o in observations], np.float64)
        beyond = [o.parts()[phase] for o in observations]
        weights = 1 / np.array([o.coordinator_seconds if phase == "coordinator" else o.seconds for o in observations])
        scales = numbers.max(axis=0)  # bytes and rounds are many powers of ten apart
        found, _ = scipy.optimize.nnls(numbers / scales * weights[:, None], np.array(beyond) * weights)
        coefficients[phase] = dict(zip(terms, (found / scales).tolist()))
    return CostModel({model: statistics.fmean(values) for model, values in by_model.items()}, coefficients)


def errors(model: CostModel, observations: Iterable[Observation]) -> list[float]:
    """Of each round, by how much of what was measured the model is off; above 0: it says too much."""
    return [model.seconds(o.configuration) / o.seconds - 1 for o in observations]


def larger(
    configuration: Configuration, nodes: int, clients: int, processors: int, leaves_per_processor: int = 4
) -> Configuration:
    """The same work on a larger cluster, a worker a node and a machine of its own for the coordinator.

    Args:
      configuration: One that was measured.
      nodes: Of the cluster.
      clients: A round.
      processors: A node.
      leaves_per_processor: So many leaves, as docs/cluster.md advises.
    """
    total = nodes * processors
    return dataclasses.replace(
        configuration,
        clients=clients,
        nodes=nodes,
        workers=nodes,
        processors=total,
        shared=False,
        leaves=min(clients, leaves_per_processor * total),
    )


def tell_fit(model: CostModel) -> str:
    """The fitted costs as a table."""
    rows = [["work", f"a client of {name}", f"{seconds:.3g}"] for name, seconds in model.client_seconds.items()]
    rows += [[phase, name, f"{v:.3g}"] for phase, terms in model.coefficients.items() for name, v in terms.items()]
    return report.table(["phase", "cost of", "seconds"], rows)


def tell_check(model: CostModel, fitted: Sequence[Observation], unseen: Sequence[Observation]) -> str:
    """Predicted and measured seconds, as a table."""
    rows = []
    for used, observations in (("yes", fitted), ("no", unseen)):
        for o, error in zip(observations, errors(model, observations)):
            c = o.configuration
            told = f"{model.seconds(c):.3g}"
            rows.append([c.model, f"{c.clients:,}", c.nodes, used, f"{o.seconds:.3g}", told, f"{error:+.0%}"])
    return report.table(["work", "clients", "nodes", "fitted", "measured s", "predicted s", "off by"], rows)


def tell_projection(model: CostModel, known: Sequence[Configuration], processors: int, bits_per_second: float) -> str:
    """What larger clusters take, on paper, as a table.

    Args:
      model: The costs.
      known: A configuration of each model.
      processors: A node.
      bits_per_second: Of the network: what weights and sums take on the wire is a column of its own, as the measured
        network is a machine's own memory.
    """
    rows = []
    for configuration in known:
        for nodes, clients in ((10, 10_000), (100, 100_000), (1000, 1_000_000)):
            c = larger(configuration, nodes, clients, processors)
            parts = model.parts(c)
            total, largest = sum(parts.values()), max((p for p in parts if p != "work"), key=parts.get)
            wire = 8 * (c.nodes * c.weights_bytes + c.levels * c.update_bytes) / bits_per_second
            rows.append(
                [
                    *(c.model, f"{nodes:,}", f"{clients:,}", f"{parts['work']:,.1f}", f"{total - parts['work']:,.1f}"),
                    *(f"{largest} ({parts[largest]:,.1f} s)", f"{wire:,.1f}", f"{c.moved_bytes / 1e9:,.1f}"),
                    f"{parts['work'] / (total + wire):.0%}",
                ]
            )
    wired = f"wire s at {bits_per_second / 1e9:g} Gbit/s"
    header = ["work", "nodes", "clients", "work s", "added s", "most of it", wired, "GB moved", "at work"]
    return report.table(header, rows)


def tell(fitted: Sequence[Mapping], unseen: Sequence[Mapping], processors: int = 8, gigabits: float = 10.0) -> str:
    """Fit, check and projection from runs of `contenders.clustered`, as tables."""
    seen, others = ([observation(run) for run in runs] for runs in (fitted, unseen))
    model = fit(seen)
    known = {o.configuration.model: o.configuration for o in seen}
    tables = (
        tell_fit(model),
        tell_check(model, seen, others),
        tell_projection(model, list(known.values()), processors, gigabits * 1e9),
    )
    return "\n\n".join(tables)


def main() -> None:
    """Reads the runs and prints."""
    default = os.path.join(report.RESULTS, "scaling.json")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default=default, help="what benchmarks.scaling wrote")
    parser.add_argument("--processors", type=int, default=8, help="a node of the larger clusters")
    parser.add_argument("--gigabits", type=float, default=10.0, help="a second, of their network")
    flags = parser.parse_args()
    with open(flags.results) as file:
        result = json.load(file)
    print(tell(result["fitted"], result["unseen"], flags.processors, flags.gigabits))


if __name__ == "__main__":
    main()
