"""One conformance test for all engines, and what each promises besides."""

import contextlib
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import ray_clusters, tiny
from tests.processes import Forked
from tff_tx import algorithms, cohorts, tasks
from tff_tx.aggregators import compression
from tff_tx.analysis.contribution import UpdateStore
from tff_tx.core.errors import UserError
from tff_tx.runtime import (
    ENGINES,
    ClientCompression,
    LocalEngine,
    NativeContext,
    RayCluster,
    RayEngine,
    Staleness,
    process_state,
)

OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate, momentum=0.9),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
)

PROCESSES = {
    "fed_avg": ("fed_avg", OPTIONS),
    "fed_adam": (
        "fed_avg",
        dataclasses.replace(OPTIONS, server_optimizer=algorithms.build_optimizer("adam", 0.1, epsilon=1e-3)),
    ),
    "scheduled": (
        "fed_avg",
        dataclasses.replace(OPTIONS, client_schedule=algorithms.build_schedule("linear", 0.1, 1, 5)),
    ),
    "fed_prox": ("fed_prox", dataclasses.replace(OPTIONS, transforms=(algorithms.proximal(0.1),))),
    "fed_gkd": ("fed_gkd", dataclasses.replace(OPTIONS, transforms=(algorithms.distill(2.0, 2.0, 2),))),
    "fed_sgd": ("fed_sgd", OPTIONS),
    "mime_lite": ("mime_lite", OPTIONS),
    "fed_ex": (
        "fed_ex",
        dataclasses.replace(
            OPTIONS,
            client_optimizer_fn=functools.partial(algorithms.build_optimizer, "sgd"),
            client_choices=tuple(
                (("learning_rate", rate), ("momentum", 0.5), ("clip_norm", 1.0), ("epochs", 0.7), ("dropout", 0.2))
                for rate in (0.01, 0.1)
            ),
        ),
    ),
    "delta_sgd": ("delta_sgd", OPTIONS),
    "unweighted": ("fed_avg", dataclasses.replace(OPTIONS, weighted=False)),
    "robust": (
        "fed_avg",
        dataclasses.replace(OPTIONS, aggregator=tff.learning.robust_aggregator(zeroing=True, clipping=True)),
    ),
    "adaptive clipping": (
        "fed_avg",
        dataclasses.replace(
            OPTIONS,
            weighted=False,
            aggregator=tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(
                0.0, 3.0, 0.5, clipped_count_stddev=0.0
            ),
        ),
    ),
}

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def clients(digits_task):
    ids = digits_task.train.client_ids[:3]
    return [tasks.client_arguments(ids, seed=1, round_num=r) for r in (1, 2, 3)]


@pytest.fixture(scope="module")
def process(digits_task):
    """FedAvg of a Transformer."""
    return digits_task.process(algorithms.build_fed_avg(digits_task.model, OPTIONS))


@pytest.fixture(scope="module")
def linear_process(digits_task):
    """FedAvg of a linear model."""
    task = tiny.linear_digits_task(digits_task)
    return task.process(algorithms.build_fed_avg(task.model, OPTIONS))


@pytest.fixture(scope="module")
def engine(compiled_once, process):
    with LocalEngine(process, threads=4) as engine:
        yield engine


@pytest.fixture(scope="module")
def ray_cluster():
    """A Ray cluster on this machine with two workers, for all engines."""
    with RayCluster(cpus=2) as cluster:
        ray_clusters.wait_for_workers(cluster, 2)
        yield cluster


def run(engine, rounds):
    """The weights after the rounds and the metrics of the last."""
    with engine:
        return run_open(engine, rounds)


def run_open(engine, rounds):
    """The same, in an engine that others go on to use."""
    state = engine.initialize()
    for clients_of_round in rounds:
        output = engine.run_round(state, clients_of_round)
        state = output.state
    return engine.model_weights(state), output.metrics, engine.traffic()


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_all_engines_give_the_same_state_and_metrics(name, digits_task, clients, ray_cluster):
    algorithm, options = PROCESSES[name]
    task = tiny.linear_digits_task(digits_task)
    check_conformance(task.process(algorithms.ALGORITHMS[algorithm].build(task.model, options)), clients, ray_cluster)


@pytest.mark.slow
def test_all_engines_give_the_same_state_and_metrics_of_a_transformer(process, clients, ray_cluster):
    check_conformance(process, clients, ray_cluster)


def check_conformance(process, clients, ray_cluster):
    reference = run(ENGINES["tff_native"](process), clients)
    for engine in set(ENGINES) - {"tff_native"}:
        where = {"cluster": ray_cluster} if engine == "ray" else {}
        weights, metrics, traffic = run(ENGINES[engine](process, **where), clients)
        tf.nest.map_structure(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6), weights, reference[0]
        )
        tf.nest.map_structure(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5), metrics, reference[1]
        )
        assert traffic == reference[2]


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing(process, engine, clients):
    one, _, _ = run(LocalEngine(process, threads=1), clients)
    four, _, _ = run_open(engine, clients)
    tf.nest.map_structure(np.testing.assert_array_equal, one, four)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(digits_task, linear_process, ray_cluster):
    """More clients than leaves, so that leaves have several; costs that are not what the clients take."""
    rounds = [tasks.client_arguments(digits_task.train.client_ids, seed=1, round_num=r) for r in (1, 2)]
    sizes = digits_task.train.sizes()
    used, found = [], []
    for workers, most_leaves in ((1, 5), (2, 5), (2, 100)):
        engine = RayEngine(
            linear_process,
            cluster=ray_cluster,
            max_workers=workers,
            most_leaves=most_leaves,
            cost_fn=lambda client: sizes[client["client_id"].decode()],
        )
        found.append(run_open(engine, rounds))
        used.append(engine.record.workers)
    assert used[:2] == [1, 2]
    tf.nest.map_structure(np.testing.assert_array_equal, found[0][:2], found[1][:2])
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found[1][0], found[2][0])
    with LocalEngine(linear_process) as local:
        weights, metrics, _ = run_open(local, rounds)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found[0][0], weights)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found[0][1], metrics)


def test_hooks_on_a_cluster_are_those_of_one_machine(digits_task, linear_process, ray_cluster, tmp_path):
    """Stale clients, bytes that are measured and updates that are stored; several clients a leaf."""
    ids = digits_task.train.client_ids
    rounds = [list(zip(tasks.client_arguments(ids, 1, r), taus)) for r, taus in ((1, [0] * 8), (2, [0, 1] * 4))]
    outputs, stored = [], []
    for engine_class, options in ((LocalEngine, {}), (RayEngine, {"cluster": ray_cluster, "most_leaves": 3})):
        store = UpdateStore(str(tmp_path / engine_class.__name__))
        hooks = [Staleness(1), store]
        with engine_class(linear_process, encode=compression.encode, hooks=hooks, **options) as engine:
            state = engine.initialize()
            for round_num, clients in enumerate(rounds, 1):
                before, output = state, engine.run_round(state, clients)
                engine.commit_round(round_num, ids)
                state = output.state
            outputs.append(output)
            stored.append([store.read(r) for r in (1, 2)])
            combined = engine.combine(before, stored[-1][1][2])
            check_close(engine.model_weights(combined), engine.model_weights(state))
    local, ray = outputs
    check_close(process_state(ray.state).global_model_weights, process_state(local.state).global_model_weights)
    check_close(ray.state["past"], local.state["past"])
    assert ray.upload_bytes == pytest.approx(local.upload_bytes, rel=0.01)
    assert ray.metrics["staleness"] == local.metrics["staleness"] == {"mean": 0.5, "max": 1}
    for ours, theirs in zip(stored[1], stored[0]):
        assert ours[0] == theirs[0] == list(ids)
        check_close(ours[2], theirs[2])


def check_close(ours, theirs):
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, theirs)


def test_what_stays_with_a_client_does_not_run_on_a_cluster(linear_process, ray_cluster, tmp_path):
    feedback = ClientCompression(compression.TopK(0.1), cohorts.ClientStore(str(tmp_path), 1))
    with pytest.raises(UserError, match="does not run on a cluster: with error feedback a client's residual"):
        RayEngine(linear_process, cluster=ray_cluster, hooks=[feedback])


def test_dropout_differs_between_clients_rounds_and_steps(digits_task):
    """A model that is dropout alone shows the masks: client, round and batch each change them."""
    seeds = set()
    for round_num in (1, 2):
        for client in tasks.client_arguments(digits_task.train.client_ids[:2], 1, round_num):
            for x, _ in digits_task.client_batches(client):
                seeds.add(tuple(x["seed"].numpy()))
    batches = -(-min(40, digits_task.train.num_examples(digits_task.train.client_ids[0])) // 16)
    assert batches > 1
    assert len(seeds) == 4 * batches


def test_traffic_counts_what_is_sent(digits_task, engine):
    """Down the weights; up the update, its weight (4 bytes), four sums of metrics, and three of each of ten classes."""
    size = sum(w.nbytes for w in digits_task.model.initial_weights[0])
    assert engine.traffic().download_bytes == size
    assert engine.traffic().upload_bytes == size + 4 + (4 + 3 * 8) + 3 * 10 * 8


def test_progress_counts_clients(engine, clients):
    seen = []
    engine.run_round(engine.initialize(), clients[0], on_progress=seen.append)
    assert seen == [1, 2, 3]


def workers_below(pid):
    return [p for p in psutil.Process(pid).children(recursive=True) if "worker" in p.name() or p.name() == "sh"]


@contextlib.contextmanager
def started(path, argument):
    """A program that is started, the reading end of its output, and what waits for its end."""
    program = subprocess.Popen(
        [sys.executable, "-m", MODULE, argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        text=True,
    )
    with program.stdout as out:
        yield program.pid, out, program.wait


@contextlib.contextmanager
def forked(path, argument):
    """The same of one that is forked."""
    os.mkfifo(path)
    program = Forked(MODULE, [argument], os.getcwd(), path)
    with open(path) as out:
        yield program.pid, out, program.wait


MODULE = "tests.runtime.native_program"
ENDS = {"kill": forked, "close": forked, "exit": started, "terminate": started, "interrupt": started}
"""What is forked ends without what the interpreter does at its end, and shares the handlers of signals."""


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_no_worker_outlives_its_program(tmp_path, end):
    """However the program ends, and without keeping the pipe of its output open."""
    argument = end if end in ("exit", "close") else "wait"
    with ENDS[end](tmp_path / "output", argument) as (pid, out, wait):
        while "ready" not in (line := out.readline()):
            assert line, "it has ended"
        workers = workers_below(pid) if argument == "wait" else []
        assert argument != "wait" or any("worker_binary" in p.name() for p in workers)
        signals = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
        if end in signals:
            os.kill(pid, signals[end])
        assert has_ended(out, 60)  # only when nobody holds the pipe any more
        wait(60)
    deadline = time.monotonic() + 20
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in workers):
        assert time.monotonic() < deadline, workers
        time.sleep(0.1)


def has_ended(pipe, seconds):
    """Whether what writes to a pipe ends in time."""
    reading = threading.Thread(target=pipe.read, daemon=True)
    reading.start()
    reading.join(seconds)
    return not reading.is_alive()


def native_worker(context):
    """The worker below a context's shell; TFF's own contexts have others, below this process itself."""
    shell = psutil.Process(context._process.pid)
    (worker,) = (p for p in shell.children() if "worker_binary" in p.name())
    return worker


def test_a_worker_whose_shell_was_killed_ends_with_its_context():
    with NativeContext(1) as context:
        worker = native_worker(context)
        worker.parent().kill()
    psutil.wait_procs([worker], timeout=20)
    assert not worker.is_running()


@pytest.mark.slow
def test_a_killed_worker_of_tff_is_a_sentence():
    """TFF would try to reach it for ever."""

    @tff.tensorflow.computation(np.int32)
    def double(x):
        return 2 * x

    with NativeContext(1) as call:
        assert call(double, 2) == 4
        native_worker(call).kill()
        with pytest.raises(UserError, match="TFF's worker has ended .*the same command again"):
            call(double, 2)
