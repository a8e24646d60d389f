"""Secure sums in simulation: masks are arithmetic to the bit, in every engine, whoever drops out."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import ray_clusters, tiny
from tff_tx import aggregators, algorithms, tasks
from tff_tx.core.errors import UserError
from tff_tx.federation.secure_sums import Threat
from tff_tx.federation.simulated_sums import SimulatedSums
from tff_tx.runtime import Hook, LocalEngine, RayCluster, RayEngine, TooFewClientsError

THREAT = Threat(0.0, 0.3, active=False)
SUMS = aggregators.SecureSums(aggregators.GridSumFactory(20, 5), aggregators.FigureSumFactory())
OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
)
SECURE = dataclasses.replace(
    OPTIONS,
    aggregator=aggregators.stack(aggregators.clipping(None, SUMS.figures), aggregators.secure_mean(SUMS, True)),
    figures_sum=SUMS.figures,
)

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def task(digits_task):
    return tiny.linear_digits_task(digits_task)


@pytest.fixture(scope="module")
def process(task):
    return task.process(algorithms.build_fed_avg(task.model, SECURE))


class Vanishing(Hook):
    """Clients that vanish in the second round when they have trained, by their position."""

    def __init__(self, positions):
        self._positions, self._round = positions, 0

    def start_round(self, engine, state, broadcast, clients):
        self._round += 1
        self._gone = [clients[p]["client_id"] for p in self._positions] if self._round == 2 else []

    def start_client(self, job):
        gone = job.client["client_id"] in self._gone
        return dataclasses.replace(job, at_client=(*job.at_client, vanish)) if gone else job


def vanish(contribution, job):
    raise RuntimeError("gone")


def rounds(task):
    return [tasks.client_arguments(task.train.client_ids[:5], seed=1, round_num=number) for number in (1, 2)]


def results(engine, all_clients):
    """All leaves of the last state and metrics, and the failures."""
    with engine:
        state = engine.initialize()
        for clients in all_clients:
            output = engine.run_round(state, clients)
            state = output.state
        leaves = [np.asarray(leaf) for leaf in tf.nest.flatten((engine.flatten_state(state), output.metrics))]
        return leaves, sorted(output.failures), engine.traffic()


def check_equal(found, expected):
    assert found[1] == expected[1]
    for a, b in zip(found[0], expected[0]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("gone", [[], [3]])
def test_masks_are_arithmetic_to_the_bit(task, process, gone):
    masks = results(LocalEngine(process, 2, hooks=[SimulatedSums(THREAT), Vanishing(gone)]), rounds(task))
    check_equal(masks, results(LocalEngine(process, 2, hooks=[Vanishing(gone)]), rounds(task)))
    assert masks[1] == gone


@pytest.mark.slow
@pytest.mark.parametrize("gone", [[], [3]])
def test_ciphertexts_are_arithmetic_to_the_bit(task, process, gone):
    encrypted_sums = pytest.importorskip("tff_tx.federation.encrypted_sums")
    found = results(LocalEngine(process, 2, hooks=[Vanishing(gone), encrypted_sums.EncryptedSums(3)]), rounds(task))
    check_equal(found, results(LocalEngine(process, 2, hooks=[Vanishing(gone)]), rounds(task)))
    assert found[1] == gone


def test_too_few_survivors_are_no_round(task, process):
    hooks = [SimulatedSums(Threat(0.0, 0.3, active=True)), Vanishing([0, 1, 2])]
    with LocalEngine(process, 2, hooks=hooks) as engine:
        engine.run_round(engine.initialize(), rounds(task)[0])
        with pytest.raises(TooFewClientsError, match="2 of at least 3 clients finished"):
            engine.run_round(engine.initialize(), rounds(task)[1])
        with pytest.raises(TooFewClientsError, match="at least 3 must be honest"):
            engine.run_round(engine.initialize(), rounds(task)[0][:2])


def test_the_model_and_metrics_are_those_without_secure_sums(task, process):
    plain = task.process(algorithms.build_fed_avg(task.model, dataclasses.replace(OPTIONS)))
    outputs = []
    for each in (process, plain):
        with LocalEngine(each, 2) as engine:
            output = engine.run_round(engine.initialize(), rounds(task)[0])
            outputs.append((output.metrics["client_work"]["train"], engine.traffic()))
    (secure, traffic), (clear, before) = outputs
    assert secure["num_examples"] == clear["num_examples"]
    np.testing.assert_allclose(secure["loss"], clear["loss"], rtol=1e-4)
    assert traffic.upload_bytes < 0.75 * before.upload_bytes  # 20 bits a number, and some figures of 62


def test_what_is_left_in_the_clear_is_refused(task):
    half = dataclasses.replace(SECURE, figures_sum=None)
    process = task.process(algorithms.build_fed_avg(task.model, half))
    with pytest.raises(UserError, match="would be summed in the clear"):
        LocalEngine(process, 2)


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits(task, process):
    expected = results(LocalEngine(process, 2, hooks=[Vanishing([2])]), rounds(task))
    with RayCluster(cpus=2) as cluster:
        ray_clusters.wait_for_workers(cluster, 2)
        for hooks in ([], [SimulatedSums(THREAT)]):
            engine = RayEngine(process, cluster=cluster, hooks=[*hooks, Vanishing([2])])
            check_equal(results(engine, rounds(task)), expected)
