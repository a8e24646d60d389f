"""What aggregators cost: `python -m benchmarks.aggregation`.

Processor seconds of aggregation per client and round, beside those of a whole round of FedAvg on a workload: the
client's part (clipping, norms), which its work ends with, the addition of one contribution to the others, and the end
of the round at the server. Updates are random, of the model's shapes; training is measured once, with the plain mean,
and only what an aggregator needs above the mean is called extra.
"""

from __future__ import annotations

import time

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from benchmarks import report
from benchmarks.contenders import parts
from benchmarks.workloads import WORKLOADS
from tff_tx import aggregators, runtime
from tff_tx.runtime import form as form_lib

AGGREGATORS = {
    "mean": aggregators.mean_factory,
    "clip, zero, mean": lambda: aggregators.stack(
        aggregators.clipping(), aggregators.zeroing(), aggregators.mean_factory()
    ),
    "attention": aggregators.AttentionFactory,
    "attention with a floor": lambda: aggregators.AttentionFactory(floor=0.5),
    "centred clipping": lambda: aggregators.centered_clipping_factory(1.0),
    "median": aggregators.median_factory,
    "trimmed mean": aggregators.trimmed_mean_factory,
    "Krum": aggregators.krum_factory,
    "Multi-Krum": lambda: aggregators.krum_factory(multi=True),
    "Bulyan": lambda: aggregators.bulyan_factory(),
    "geometric median": aggregators.geometric_median_factory,
}
STREAMING = ("mean", "clip, zero, mean", "attention", "attention with a floor", "centred clipping")
"""Those that hold no updates."""


def main() -> None:
    """Measures, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/aggregation.json")
    parser.add_argument("--workload", default="A", choices=list(WORKLOADS))
    parser.add_argument("--clients", type=int, help="a round; default: the workload's")
    parser.add_argument("--repetitions", type=int, default=3, help="rounds measured after one that is not")
    parser.add_argument("--aggregator", action="append", choices=list(AGGREGATORS), help="several: only these")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    workload = WORKLOADS[flags.workload]
    clients = flags.clients or workload.clients
    process = parts.process(workload)
    round_seconds = clients / workload.clients * _round_seconds(process, workload, flags.repetitions)
    state_type = process.initialize.type_signature.result.member
    update_type = state_type.global_model_weights.trainable
    figures = {
        name: measure(AGGREGATORS[name](), update_type, clients, flags.repetitions)
        for name in dict.fromkeys(["mean", *(flags.aggregator or AGGREGATORS)])
    }
    result = {
        "machine": report.machine(),
        "flags": vars(flags),
        "round_seconds": round_seconds,
        "aggregators": figures,
    }
    print(f"\nA round of {clients} clients with the mean: {round_seconds:.2f} processor seconds.\n")
    print(f"{tell(figures, round_seconds)}\n")
    print(f"Written to {report.write('aggregation', result, flags.output)}")


def _round_seconds(process, workload, repetitions) -> float:
    """Processor seconds of a whole round, the median of several."""
    clients = list(parts.Clients(workload))
    found = []
    with runtime.LocalEngine(process, parts.threads()) as engine:
        state = engine.initialize()
        for _ in range(repetitions + 1):
            started = time.process_time()
            state = engine.run_round(state, clients).state
            found.append(time.process_time() - started)
    return float(np.median(found[1:]))


def measure(factory, update_type, clients: int, repetitions: int) -> dict[str, float]:
    """Processor seconds of a round: `client` and `adding` over all clients, and `server` once; medians."""
    process = _process(factory, update_type)
    form = form_lib.RoundForm.of(process)
    graph = {
        p: form.graph(p).whole() for p in ("initialize", "prepare", "work", "zero", "accumulate", "report", "update")
    }
    rng = np.random.default_rng(0)
    data = [
        tf.data.experimental.to_variant(
            tf.data.Dataset.from_tensors(
                tff.types.structure_from_tensor_type_tree(
                    lambda t: rng.normal(scale=0.01, size=t.shape).astype(np.float32), update_type
                )
            )
        )
        for _ in range(min(clients, 5))
    ]
    rows = []
    for _ in range(repetitions + 1):
        state = graph["initialize"]()
        broadcast, total, seconds = graph["prepare"](*state), graph["zero"](), dict.fromkeys(["client", "adding"], 0.0)
        for i in range(clients):
            started = time.process_time()
            contribution = graph["work"](data[i % len(data)], *broadcast)
            sent = time.process_time()
            total = graph["accumulate"](*total, *contribution)
            seconds["client"] += sent - started
            seconds["adding"] += time.process_time() - sent
        started = time.process_time()
        [t.numpy() for t in graph["update"](*state, *graph["report"](*total))]
        rows.append({**seconds, "server": time.process_time() - started})
    return {part: float(np.median([row[part] for row in rows[1:]])) for part in rows[0]}


def _process(factory, update_type):
    """A process whose clients send an update that is in their data, with weight 1."""
    templates = tff.learning.templates

    @tff.tensorflow.computation
    def initial_weights():
        zeros = tff.types.structure_from_tensor_type_tree(lambda t: tf.zeros(t.shape, t.dtype), update_type)
        return tff.learning.models.ModelWeights(zeros, ())

    weights_type = initial_weights.type_signature.result
    data_type = tff.SequenceType(update_type)

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.tensorflow.computation(data_type)
    def read(data):
        return templates.ClientResult(data.get_single_element(), tf.constant(1.0))

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.CLIENTS),
        tff.FederatedType(data_type, tff.CLIENTS),
    )
    def next_fn(state, weights, data):
        del weights
        nothing = tff.federated_value((), tff.SERVER)
        return tff.templates.MeasuredProcessOutput(state, tff.federated_map(read, data), nothing)

    return templates.compose_learning_process(
        initial_weights,
        templates.build_broadcast_process(weights_type),
        templates.ClientWorkProcess(initialize, next_fn),
        factory.create(update_type, tff.TensorType(np.float32)),
        templates.build_apply_optimizer_finalizer(tff.learning.optimizers.build_sgdm(1.0), weights_type),
    )


def tell(figures: dict[str, dict[str, float]], round_seconds: float) -> str:
    """A Markdown table: milliseconds of a round's parts, and what they are beyond the mean's, as share of a round."""
    least = sum(figures["mean"].values())
    rows = [
        [
            name,
            "yes" if name in STREAMING else "no",
            *(f"{1000 * figure[part]:,.0f}" for part in ("client", "adding", "server")),
            f"{100 * (sum(figure.values()) - least) / round_seconds:.1f} %",
        ]
        for name, figure in figures.items()
    ]
    return report.table(["aggregator", "streaming", "clients ms", "adding ms", "server ms", "extra of a round"], rows)


if __name__ == "__main__":
    main()
