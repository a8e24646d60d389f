"""The engine `ray` on nodes that fail, join and hold data of their own: real raylets and workers of this machine."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
import psutil
import pytest
import tensorflow as tf
from ray import cluster_utils

from tests import ray_clusters
from tests.ray_clusters import ENDLESS, NOT_FINITE, clients, wait_for_workers, wait_until
from tff_tx.core.errors import UserError
from tff_tx.runtime import Limits, LocalEngine, RayCluster, RayEngine, TooFewClientsError

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

ROUNDS = 3


@pytest.fixture(scope="module")
def process():
    return ray_clusters.process()


@pytest.fixture
def nodes():
    """A head without processors; nodes are added by the tests."""
    started = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield started
    started.shutdown()


@pytest.fixture
def cluster(nodes):
    """Two nodes with a processor each, and this project's cluster over them."""
    with RayCluster(nodes.address) as joined:  # while there is the head alone: this process goes with its raylet
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        wait_for_workers(joined, 2)
        yield joined


@pytest.fixture(scope="module")
def undisturbed(process):
    """The weights and metrics of rounds with nobody lost, on one worker."""
    with RayEngine(process, threads=1) as engine:
        return run(engine)


def run(engine, disturb=lambda round_num, done: None, cohort=None):
    """Rounds in which something happens; gives the weights and the last metrics."""
    state = engine.initialize()
    for round_num in range(1, ROUNDS + 1):
        seen = []

        def progress(done, round_num=round_num, seen=seen):
            if not seen:
                disturb(round_num, done)
            seen.append(done)

        output = engine.run_round(state, cohort or clients(12), on_progress=progress)
        assert not output.failures
        assert seen[-1] == 12
        state = output.state
    return engine.model_weights(state), output.metrics


def check_same(found, expected):
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def listening(process):
    """Addresses that a process and all below it accept connections at."""
    family = [process, *process.children(recursive=True)]
    found = [c for member in family for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return {connection.laddr.ip.removeprefix("::ffff:") for connection in found}


def test_a_cluster_of_its_own_listens_on_this_machine_alone_and_its_end_is_a_sentence():
    with RayCluster(cpus=1) as cluster:
        wait_for_workers(cluster, 1)
        assert listening(psutil.Process()) == {"127.0.0.1"}
        (raylet,) = [p for p in psutil.Process().children(recursive=True) if p.name() == "raylet"]
        raylet.kill()

        def said():
            try:
                cluster.refresh(at_once=True)
            except UserError as error:
                return str(error)

        assert "the last node of the cluster has ended" in wait_until(said, "a sentence")


def test_two_clients_at_the_same_time_in_a_worker_change_nothing(process, undisturbed):
    with RayCluster(cpus=2, threads=2) as cluster:
        engine = RayEngine(process, cluster=cluster)
        check_same(run(engine), undisturbed)
        assert engine.record.workers == 1


def test_traffic_grows_with_nodes_and_not_with_clients(cluster):
    """Weights once a node and round, frozen ones once a run; of a node's n leaves, at most 2 log2(n) sums."""
    process = ray_clusters.process(frozen=True)
    engine = RayEngine(process, cluster=cluster)
    state = engine.initialize()
    trainable, frozen = (
        sum(w.nbytes for w in weights)
        for weights in (engine.model_weights(state).trainable, engine.model_weights(state).non_trainable)
    )
    assert frozen > 0
    update = engine.traffic().upload_bytes
    for number, weights in ((256, trainable + frozen), (256, trainable), (32, trainable)):
        state = engine.run_round(state, clients(number)).state
        assert engine.record.broadcast_bytes == weights
        assert engine.record.workers == 2
        sums = (engine.record.moved_bytes - 2 * weights) / update
        assert 1 <= sums <= engine.record.sums <= (2 + engine.record.steals) * 2 * 8
        assert sums < number / 2


def test_a_killed_worker_is_made_up_for_and_replaced(process, cluster, undisturbed):
    victim = ray_clusters.workers()[0]

    def kill(round_num, done):
        if round_num == 2:
            victim.kill()

    engine = RayEngine(process, cluster=cluster)
    lost = []
    check_same(run(engine, lambda *now: (kill(*now), lost.append(engine.record))), undisturbed)
    assert [record.lost_workers for record in lost] == [0, 1, 0]
    wait_for_workers(cluster, 2)
    assert victim.pid not in [p.pid for p in ray_clusters.workers()]


def test_a_killed_raylet_is_made_up_for(process, nodes, cluster, undisturbed):
    def kill(round_num, done):
        if round_num == 2:
            nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)

    check_same(run(RayEngine(process, cluster=cluster), kill), undisturbed)
    assert len(cluster.ready()) == 1


def test_a_node_that_joins_is_used(process, nodes, cluster, undisturbed):
    def join(round_num, done):
        if round_num == 1:
            nodes.add_node(num_cpus=1)
        if round_num == 2:
            wait_for_workers(cluster, 3)

    engine = RayEngine(process, cluster=cluster)
    check_same(run(engine, join), undisturbed)
    assert engine.record.workers == 3


@pytest.mark.timeout(400)
def test_poisoned_clients_are_left_out(process, cluster):
    """One with infinities, and one that never ends and so takes four workers with it."""
    engine = RayEngine(process, cluster=cluster, limits=Limits(client=12.0))
    state = engine.initialize()
    output = engine.run_round(state, clients(12, p3=NOT_FINITE, p7=ENDLESS), min_clients=10)
    assert sorted(output.failures) == [3, 7]
    assert "not finite" in output.failures[3]
    assert "took longer than it may" in output.failures[7]
    good = [client for i, client in enumerate(clients(12)) if i not in (3, 7)]
    with LocalEngine(process) as local:
        expected = local.run_round(local.initialize(), good)
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        engine.model_weights(output.state),
        local.model_weights(expected.state),
    )
    assert output.metrics["client_work"]["train"]["num_examples"] == 120
    with pytest.raises(TooFewClientsError, match="1 of at least 2 clients finished"):
        engine.run_round(state, clients(2, p0=NOT_FINITE), min_clients=2)


def test_without_any_node_a_round_ends_with_the_reason(process, nodes, cluster):
    engine = RayEngine(process, cluster=cluster, limits=Limits(worker=1.0))
    state = engine.initialize()
    for node in nodes.list_all_nodes()[1:]:
        nodes.remove_node(node, allow_graceful=False)
    with pytest.raises(TooFewClientsError, match="0 of at least 1 clients finished.*no node of the cluster"):
        engine.run_round(state, clients(3))


def test_clients_run_where_their_silo_is(process, nodes):
    """The worker of another node never gets them, and a silo whose node is gone is told."""
    with RayCluster(nodes.address) as joined:
        _, second = (nodes.add_node(num_cpus=1, resources={f"silo_{silo}": 1}) for silo in ("a", "b"))
        wait_for_workers(joined, 2)
        assert joined.silos() == {"a", "b"}
        where = joined.on_silos(ray_clusters.node_of)
        assert len(set(where.values())) == 2
        engine = RayEngine(
            process, cluster=joined, silo_fn=lambda client: "ab"[client["seed"] % 2], limits=Limits(worker=3.0)
        )
        state = engine.initialize()
        output = engine.run_round(state, clients(12))
        assert engine.record.steals == 0
        with LocalEngine(process) as local:
            expected = local.run_round(local.initialize(), clients(12))
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            engine.model_weights(output.state),
            local.model_weights(expected.state),
        )
        nodes.remove_node(second, allow_graceful=False)
        output = engine.run_round(output.state, clients(12), min_clients=6)
        assert sorted(output.failures) == [1, 3, 5, 7, 9, 11]
        assert "silo b" in output.failures[1]


PROGRAM = """
import sys, time
from tests import ray_clusters
from tff_tx.runtime import RayEngine
with RayEngine(ray_clusters.process(), threads=1) as engine:
    engine.run_round(engine.initialize(), ray_clusters.clients(2))
    print("ready", flush=True)
    if sys.argv[1] == "wait":
        time.sleep(600)
"""


CRASHES = """
import os, sys
if any(argument.endswith("default_worker.py") for argument in sys.orig_argv):
    try:
        os.close(os.open(os.environ["CRASHED"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    else:
        os._exit(1)
"""


def test_a_worker_that_dies_as_it_starts_is_made_up_for(tmp_path):
    """Ray starts another one after a minute, and none that its driver would wait for."""
    (tmp_path / "sitecustomize.py").write_text(CRASHES)
    crashed = tmp_path / "crashed"
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, "exit"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "CRASHED": str(crashed)},
        text=True,
        timeout=150,
    )
    assert program.stdout == "ready\n"
    assert crashed.exists()


@pytest.fixture
def place():
    """A directory with a name short enough for Ray's sockets."""
    directory = tempfile.mkdtemp(prefix="t", dir="/tmp")
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("end", ["exit", "kill", "terminate", "interrupt"])
def test_nothing_outlives_its_program(end, place):
    """However it ends: no process, no shared memory, no file."""
    memory = set(os.listdir("/dev/shm"))
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, end if end == "exit" else "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": place},
        text=True,
    )
    assert program.stdout.readline() == "ready\n"
    started = psutil.Process(program.pid).children(recursive=True)
    assert end == "exit" or any("raylet" in p.name() for p in started)
    signals = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
    if end in signals:
        program.send_signal(signals[end])
    program.communicate(timeout=60)  # ends only when nobody holds the pipe any more
    ray_clusters.wait_until(
        lambda: not [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], "all processes end"
    )
    ray_clusters.wait_until(lambda: not [n for n in os.listdir(place) if "ray" in n], "Ray's files are removed")
    assert set(os.listdir("/dev/shm")) <= memory
