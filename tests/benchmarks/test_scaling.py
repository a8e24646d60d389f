"""The cost model recovers costs that are known, and its counts are those of the engine's tree."""

import dataclasses

import numpy as np
import pytest

from benchmarks import cost_model, processes, scaling
from benchmarks.contenders import stored_task
from benchmarks.cost_model import Configuration, Observation, crossings
from benchmarks.workloads import WORKLOADS

CONFIGURATION = Configuration("A", 50, 2, 2, 2, True, 50, 6_000_000, 6_000_100)

KNOWN = {
    "coordinator": {"a round": 0.02, "a client": 1e-3, "a leaf": 6e-3, "a leaf and worker": 1e-4, "a byte": 5e-10},
    "clients": {"a round": 0.05, "a client, over processors": 4e-3, "a byte to a node": 2e-9},
    "aggregation": {"a round": 0.01, "a sum": 3e-3, "a byte and level": 1e-9},
}
CLIENT_SECONDS = {"A": 0.1, "small": 0.004}


def by_hand(c):
    """What a round takes, written out: the coordinator's seconds, those of merging, and all."""
    work = CLIENT_SECONDS[c.model] * c.clients / c.processors
    levels = {1: 1, 2: 2, 3: 3, 4: 3, 8: 4}[c.nodes]
    coordinator = 0.02 + 1e-3 * c.clients + 6e-3 * c.leaves + 1e-4 * c.leaves * c.workers
    coordinator += 5e-10 * (c.weights_bytes + c.update_bytes)
    beyond = 0.05 + 4e-3 * c.clients / c.processors + 2e-9 * c.nodes * c.weights_bytes
    aggregation = 0.01 + 3e-3 * c.crossings + 1e-9 * levels * c.update_bytes
    # On two cores a coordinator beside one node has the other; beside two or more it takes from both.
    return coordinator, aggregation, work + beyond + aggregation + coordinator / (1 if c.nodes == 1 else 2)


def observe(model, clients, nodes, weights, noise=None):
    shared = nodes > 1
    c = Configuration(model, clients, nodes, nodes, min(nodes, 2), shared, min(clients, 256), weights, weights + 100)
    factors = np.ones(3) if noise is None else 1 + 0.02 * noise.standard_normal(3)
    coordinator, aggregation, seconds = by_hand(c) * factors
    return Observation(c, CLIENT_SECONDS[model] * clients, seconds, coordinator, aggregation)


GRID = [
    (model, clients, nodes, weights)
    for model, weights in (("A", 6_000_000), ("small", 10_000))
    for clients in (10, 50, 1000, 5000)
    for nodes in (1, 2, 4)
]
UNSEEN = ("A", 300, 3, 6_000_000)


def test_the_fit_recovers_known_costs():
    observations = [observe(*row) for row in GRID]
    model = cost_model.fit(observations)
    assert model.client_seconds == pytest.approx(CLIENT_SECONDS)
    for phase, terms in KNOWN.items():
        assert model.coefficients[phase] == pytest.approx(terms, rel=1e-3), phase
    unseen = observe(*UNSEEN)
    assert model.seconds(unseen.configuration) == pytest.approx(by_hand(unseen.configuration)[-1], rel=1e-6)
    assert cost_model.errors(model, [unseen]) == pytest.approx([0], abs=1e-6)


def test_the_fit_bears_noise_and_has_no_cost_below_zero():
    noise = np.random.default_rng(0)
    model = cost_model.fit([observe(*row, noise=noise) for row in GRID])
    assert abs(cost_model.errors(model, [observe(*UNSEEN)])[0]) < 0.05
    assert min(v for terms in model.coefficients.values() for v in terms.values()) >= 0


def test_an_error_above_zero_says_too_much():
    observations = [observe(*row) for row in GRID]
    model = cost_model.fit(observations)
    slow = dataclasses.replace(observations[0], seconds=2 * observations[0].seconds)
    assert cost_model.errors(model, [slow]) == pytest.approx([-0.5], abs=1e-3)


@pytest.mark.parametrize(
    ("leaves", "nodes", "expected"),
    [
        (8, 1, 1),  # to the coordinator alone
        (8, 2, 2),  # (0-3) + (4-7)
        (8, 4, 4),
        # 0-3 with the first, 4-5 with the second: all is merged once; the boundary is one of the tree's.
        (2, 2, 2),
        # Leaves 0 | 1 | 2 of the tree ((0, 1), 2).
        (3, 3, 3),
        # 0-2 and 3-5 of (((0, 1), 2), ((3, 4), 5)).
        (6, 2, 2),
        # 0-4 | 5-9 of ((0-2, 3-4), (5-7, 8-9)).
        (10, 2, 2),
        # 0-1 | 2-4 | 5-6 of (((0, 1), (2, 3)), ((4, 5), 6)): at (0-3), (4, 5), (4-6), the root, and the last.
        (7, 3, 5),
    ],
)
def test_sums_that_cross(leaves, nodes, expected):
    assert crossings(leaves, nodes) == expected


def test_bytes_by_hand():
    assert CONFIGURATION.moved_bytes == 2 * 6_000_000 + crossings(50, 2) * 6_000_100
    assert CONFIGURATION.levels == 2


def test_a_larger_cluster_has_more_of_the_same_work():
    large = cost_model.larger(CONFIGURATION, nodes=1000, clients=1_000_000, processors=8)
    assert (large.workers, large.processors, large.leaves, large.shared) == (1000, 8000, 32_000, False)
    model = cost_model.CostModel(CLIENT_SECONDS, KNOWN)
    assert model.parts(large)["work"] == pytest.approx(0.1 * 1_000_000 / 8000)
    assert model.parts(large)["coordinator: a leaf and worker"] == pytest.approx(1e-4 * 32_000 * 1000)
    table = cost_model.tell_projection(model, [CONFIGURATION], 8, 10e9)
    assert "a client" in table
    assert "1,000,000" in table


def test_sizes_follow_a_power_law_with_as_many_examples():
    workload = WORKLOADS["A"]
    sizes = stored_task.sizes(workload, 1.5)
    assert sum(sizes) == workload.examples_per_round == sum(stored_task.sizes(workload))
    # Share of client i, (i + 1) ** -1.5, of what is left after one example each.
    shares = np.arange(1, workload.clients + 1) ** -1.5
    expected = 1 + (workload.examples_per_round - workload.clients) * shares / shares.sum()
    np.testing.assert_allclose(sizes, expected, atol=1)


def run(busy, idle, **record):
    phases = {"clients": 2.0, "aggregation": 0.5, "busy": busy, "reading": 1.0, "idle": idle}
    record = {"moved_bytes": 100, "loopback_bytes": 200, "sums": 2, "steals": 1, "broadcast_bytes": 10, **record}
    return {
        **{"workload": "A", "clients": 50, "nodes": 2, "cores": 2, "leaves": 256, "update_bytes": 20},
        "rounds": [{"seconds": 3.0, "coordinator_seconds": 0.25, "phases": phases, **record}],
    }


def test_an_observation_has_what_is_beyond_work_merging_and_coordinator():
    found = cost_model.observation(run(3.0, 1.0))
    # The coordinator shares the two cores with the workers, so that half of its time is added.
    assert found.parts() == {"coordinator": 0.25, "clients": 3.0 - 1.5 - 0.5 - 0.125, "aggregation": 0.5}
    assert found.configuration.shared
    assert found.configuration.leaves == 50


def test_tables():
    assert "20.0" in scaling.tell_idle({"A": [run(3.0, 1.0)]})
    predicted = 2 * 10 + crossings(50, 2) * 20
    assert f"{200 / predicted:.2f}" in scaling.tell_bytes([run(3.0, 1.0)])


@pytest.mark.slow
@pytest.mark.cluster
def test_a_cluster_and_one_machine_do_the_same_work():
    flags = ["--workload=tiny", "--clients=6", "--rounds=2", "--warmup=1", "--exponent=1.0"]
    ray, local = (
        processes.run("benchmarks.contenders.clustered", [*flags, *more], timeout=280)
        for more in (["--nodes=2"], ["--cores=2"])
    )
    losses = [[r["loss"] for r in turn["rounds"]] for turn in (ray, local)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert ray["examples"] == local["examples"] == 6 * WORKLOADS["tiny"].batches * WORKLOADS["tiny"].batch_size
    found = cost_model.observation(ray)
    assert found.seconds == pytest.approx(sum(r["seconds"] for r in ray["rounds"]) / 2)
    for told in ray["rounds"]:
        counted = told["moved_bytes"] - 2 * told["broadcast_bytes"]
        assert counted % ray["update_bytes"] == 0
        assert counted >= ray["update_bytes"]  # a worker that took all leaves gives one sum
        assert told["loopback_bytes"] > 2 * told["broadcast_bytes"]
    assert len(ray["peak_memory_bytes"]["workers"]) == 2
    assert local["peak_memory_bytes"]["workers"] == []
