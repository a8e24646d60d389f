"""Hooks together: FedBuff, compression both ways, error feedback and stored updates, against the papers in NumPy."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tests.algorithms import test_lora as adapters
from tff_tx import algorithms, cohorts
from tff_tx.aggregators import compression
from tff_tx.analysis import contribution
from tff_tx.run.checkpoints import Checkpoints
from tff_tx.runtime import ClientCompression, LocalEngine, Staleness, TooFewClientsError, process_state

RATE, KEPT = 0.1, 5
SIZES = (4, 7, 12, 5)
DATA = [tiny.client_data(n, seed=n) for n in SIZES]
OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
    client_learning_rate=RATE,
)
ROUNDS = [[(0, 0), (1, 0)], [(2, 1), (0, 0)], [(3, 2), (1, 1)], [(2, 3), (3, 0), (0, 1)], [(1, 0), (2, 3)]]
"""Of each the clients and their staleness."""
IN_ORDER = [[(client, 0) for client, _ in arrivals] for arrivals in ROUNDS]
TOP = compression.TopK(KEPT / 18)


pytestmark = pytest.mark.usefixtures("compiled_once")


@functools.cache
def process(aggregator=None, download=None):
    """FedAvg with one step a client, over clients named by number."""
    distributor_fn = None
    if download is not None:
        distributor_fn = lambda initial: compression.build_delta_distributor(initial, download)  # noqa: E731
    options = dataclasses.replace(OPTIONS, aggregator=aggregator, distributor_fn=distributor_fn)
    return named(algorithms.build_fed_avg(tiny.linear_model(), options))


def named(built):
    """A process with clients named by number, whose data are `DATA`."""
    xs, ys = (np.stack([np.resize(d[i], [12, *d[i].shape[1:]]) for d in DATA]) for i in (0, 1))

    @tff.tensorflow.computation(collections.OrderedDict(client_id=np.str_, seed=tff.TensorType(np.int64, [2])))
    def batches(client):
        number = tf.strings.to_number(client["client_id"], tf.int32)
        size = tf.gather(tf.constant(SIZES), number)
        return tiny.batches(tf.gather(xs, number)[:size], tf.gather(ys, number)[:size], 100)

    return tff.simulation.compose_dataset_computation_with_learning_process(batches, built)


def feedback(directory, compressor=TOP):
    return ClientCompression(compressor, cohorts.ClientStore(str(directory / "residuals"), 10))


def cohort(arrivals, round_num, stale=True):
    def argument(client):
        return collections.OrderedDict(client_id=str(client).encode(), seed=np.array([round_num, client], np.int64))

    return [(argument(client), tau) if stale else argument(client) for client, tau in arrivals]


def run(engine, rounds=ROUNDS, stale=True, **options):
    """The states, from the first on, and the last output; each round is committed."""
    with engine:
        states = [engine.initialize()]
        for round_num, arrivals in enumerate(rounds, 1):
            output = engine.run_round(states[-1], cohort(arrivals, round_num, stale), **options)
            engine.commit_round(round_num, [str(client) for client, _ in arrivals])
            states.append(output.state)
    return states, output


def vector(state):
    return np.concatenate([w.reshape(-1) for w in tiny.weights_of(process_state(state))])


def top(v):
    return np.where(np.abs(v) >= np.sort(np.abs(v))[-KEPT], v, 0)


def gradient(weights, x, y):
    """Of softmax regression's mean loss; float64[18]."""
    logits = x @ weights[:15].reshape([5, 3]) + weights[15:]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    error = (p / p.sum(-1, keepdims=True) - np.eye(3)[y]) / len(x)
    return np.concatenate([(x.T @ error).reshape(-1), error.sum(0)])


def by_hand(upload=lambda v: v, download=lambda v: v, remembers=False):
    """FedBuff with codes both ways, which `upload` and `download` make and decode; the server's weights at the end."""
    weights = held = np.ones(18)
    versions, residuals = [], collections.defaultdict(float)
    for arrivals in ROUNDS:
        held = held + download(weights - held)
        versions.append(held)
        total = examples = 0.0
        for client, tau in arrivals:
            x, y = DATA[client]
            wanted = len(x) * RATE * gradient(versions[-1 - tau], x, y) + residuals[client]
            sent = upload(wanted)
            residuals[client] = wanted - sent if remembers else 0.0
            total = total + (1 + tau) ** -0.5 * sent
            examples += len(x)
        weights = weights - total / examples
    return weights


class TestAgainstThePapers:
    """Each combination in float64 NumPy."""

    @staticmethod
    def check(engine, expected):
        states, _ = run(engine)
        np.testing.assert_allclose(vector(states[-1]), expected, atol=3e-6)
        assert np.abs(expected - by_hand()).max() > 1e-4

    @pytest.mark.slow
    @pytest.mark.parametrize("where", ["process", "client"])
    def test_compression_with_staleness(self, where):
        """What is decoded is scaled, wherever it was encoded."""
        aggregator = compression.WeightedCompressedFactory(TOP, tff.aggregators.MeanFactory())
        hooks = {"process": [Staleness()], "client": [Staleness(), ClientCompression(TOP)]}[where]
        engine = LocalEngine(process(aggregator if where == "process" else None), hooks=hooks)
        self.check(engine, by_hand(upload=top))

    def test_error_feedback_with_staleness(self, tmp_path):
        """Residuals are not scaled: they are the client's."""
        engine = LocalEngine(process(), hooks=[Staleness(), feedback(tmp_path)])
        self.check(engine, by_hand(upload=top, remembers=True))

    def test_compressed_download_with_staleness(self):
        """A client starts from what clients had decoded in the round it started in."""
        self.check(LocalEngine(process(download=TOP), hooks=[Staleness()]), by_hand(download=top))

    def test_all_of_it(self, tmp_path):
        hooks = [Staleness(), feedback(tmp_path), contribution.UpdateStore(str(tmp_path))]
        engine = LocalEngine(process(download=TOP), encode=compression.encode, hooks=hooks)
        self.check(engine, by_hand(top, top, remembers=True))


def test_bytes_are_those_of_the_code_and_of_the_delta():
    """As much as without staleness: five values and their indices each way, and a few numbers besides."""
    sizes = {}
    for stale in (True, False):
        hooks = [ClientCompression(TOP), *([Staleness()] if stale else [])]
        engine = LocalEngine(process(download=TOP), encode=compression.encode, hooks=hooks)
        _, output = run(engine, IN_ORDER, stale)
        sizes[stale] = output.upload_bytes, output.download_bytes
    assert sizes[True] == sizes[False]
    _, plain = run(LocalEngine(process(), encode=compression.encode), IN_ORDER, stale=False)
    assert KEPT * 8 <= sizes[True][1] < sizes[True][0] < plain.upload_bytes - 18 * 4 + KEPT * 8 + 40
    assert plain.download_bytes is None


def test_neither_threads_nor_costs_nor_the_order_of_hooks_change_anything(tmp_path):
    results = []
    for number, (threads, cost_fn) in enumerate([(1, None), (4, None), (4, cost)]):
        hooks = [feedback(tmp_path / str(number), compression.RandomK(0.3, scaled=False)), Staleness()]
        engine = LocalEngine(process(), threads, hooks=hooks[:: (-1) ** number], cost_fn=cost_fn)
        states, _ = run(engine)
        results.append(vector(states[-1]))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def cost(client):
    return {0: 1.0, 1: 50.0, 2: 0.0, 3: 7.0}[int(client["client_id"])]


@pytest.mark.parametrize("hooks", ["staleness", "feedback", "both"])
def test_stored_updates_replay_the_rounds(tmp_path, hooks):
    """By an engine of the process alone: a stored update is what was added up, after decoding and scaling."""
    made = {"staleness": [Staleness()], "feedback": [feedback(tmp_path)], "both": [feedback(tmp_path), Staleness()]}
    store, stale = contribution.UpdateStore(str(tmp_path)), hooks != "feedback"
    states, _ = run(LocalEngine(process(), hooks=[*made[hooks], store]), stale=stale)
    with LocalEngine(process()) as engine:
        for round_num, arrivals in enumerate(ROUNDS, 1):
            clients, state, contributions = store.read(round_num)
            assert clients == [str(client) for client, _ in arrivals]
            combined = engine.combine(engine.unflatten_state(state), contributions)
            expected = process_state(states[round_num])
            tf.nest.map_structure(np.testing.assert_array_equal, combined, expected)
        with pytest.raises(ValueError, match="leaves"):
            engine.unflatten_state([0, *store.read(1)[1]])


def test_clients_of_fed_buff_are_valued(tmp_path):
    """Their values sum to what the rounds gained."""
    store = contribution.UpdateStore(str(tmp_path))
    states, _ = run(LocalEngine(process(), hooks=[Staleness(), store]))
    target = vector(states[-1])
    with LocalEngine(process()) as engine:

        def utility(weights):
            return -np.linalg.norm(np.concatenate([w.reshape(-1) for w in weights.trainable]) - target)

        table = contribution.value_clients(engine, store, utility, "exact")
    assert table["value"].sum() == pytest.approx(np.linalg.norm(vector(states[0]) - target), rel=1e-5)
    assert dict(table["rounds"]) == {"0": 3, "1": 3, "2": 3, "3": 2}


@pytest.mark.parametrize("after", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_state_is_what_it_was_after_a_checkpoint(tmp_path, after):
    """All hooks, and residuals of rounds after the checkpoint, which must not count."""

    def engine(name):
        return LocalEngine(process(download=TOP), hooks=[Staleness(), feedback(tmp_path / name)])

    whole, _ = run(engine("whole"))
    states, _ = run(engine("killed"), ROUNDS[:4])
    Checkpoints(str(tmp_path / "checkpoints")).save(states[after], after)
    with engine("killed") as resumed:
        state, round_num = Checkpoints(str(tmp_path / "checkpoints")).load_latest(resumed.initialize())
        for number in range(round_num, len(ROUNDS)):
            state = resumed.run_round(state, cohort(ROUNDS[number], number + 1)).state
    np.testing.assert_array_equal(vector(state), vector(whole[-1]))


@pytest.mark.parametrize("error", [KeyboardInterrupt, TooFewClientsError])
def test_a_round_that_does_not_count_leaves_nothing(tmp_path, error):
    store = contribution.UpdateStore(str(tmp_path))
    with LocalEngine(process(), hooks=[feedback(tmp_path), Staleness(), store]) as engine:
        state = engine.run_round(engine.initialize(), cohort(ROUNDS[0], 1)).state
        engine.commit_round(1, ["0", "1"])
        expected = engine.run_round(state, cohort(ROUNDS[1], 2)).state

        def interrupt(done):
            if error is KeyboardInterrupt:
                raise error

        with pytest.raises(error):
            engine.run_round(state, cohort([(0, 1), (3, 0)], 2), min_clients=3, on_progress=interrupt)
        again = engine.run_round(state, cohort(ROUNDS[1], 2)).state
        following = engine.run_round(again, cohort([(3, 0)], 3)).state
        np.testing.assert_array_equal(vector(again), vector(expected))
        # Client 3 has taken part in no round that counts.
        first_time = engine.run_round(expected, cohort([(3, 0)], 3)).state
        np.testing.assert_array_equal(vector(following), vector(first_time))
    assert store.rounds() == [1]


class TestAdapters:
    """Products of factors are formed as contributions come in: what is stored are the factors."""

    @pytest.mark.slow
    @pytest.mark.parametrize("aggregation", algorithms.LORA_AGGREGATIONS)
    def test_stored_updates_replay_the_round(self, tmp_path, aggregation):
        store = contribution.UpdateStore(str(tmp_path))
        run = adapters.Run(aggregation, functools.partial(LocalEngine, hooks=[store]))
        with run.engine as engine:
            state = run.round(engine.initialize(), run.clients())
            after = run.round(state, run.clients())
            engine.commit_round(2, ["a", "b", "c"])
            _, leaves, contributions = store.read(2)
            combined = engine.combine(engine.unflatten_state(leaves), contributions)
        tf.nest.map_structure(np.testing.assert_array_equal, combined, after)

    @pytest.mark.parametrize("aggregation", ["residual", pytest.param("stack", marks=pytest.mark.slow)])
    def test_a_stale_client_starts_from_the_residual_of_its_round(self, aggregation):
        """The same work on the same model is the same update, one round later."""
        run = adapters.Run(aggregation, functools.partial(LocalEngine, hooks=[Staleness(1, 0.0)]))
        seen = []
        with run.engine as engine:
            state = run.round(engine.initialize(), [(client, 0) for client in run.clients()])
            for tau in (0, 1):
                state = engine.run_round(
                    state, [(run.clients()[0], tau)], on_contribution=lambda _, leaves: seen.append(leaves)
                ).state
        for first, second in zip(*seen):
            np.testing.assert_array_equal(first, second)


class TestOrder:
    """Clients that start out of order."""

    @pytest.mark.parametrize("threads", [1, 4])
    def test_memory_is_bounded_and_sums_are_in_order(self, threads):
        """However wrong costs are, a few clients are under way and the turn of each comes."""
        clients = [(p % 4, 0) for p in range(40)]
        costs = iter(np.random.default_rng(threads).permutation(40.0**2 - np.arange(40.0) ** 2))
        most, under_way, seen = 0, set(), []
        with LocalEngine(process(), threads, cost_fn=lambda _: next(costs)) as engine:
            open_client = engine._open

            def opening(job):
                nonlocal most
                under_way.add(id(job))
                most = max(most, len(under_way) - len(seen))
                return open_client(job)

            engine._open = opening
            engine.run_round(
                engine.initialize(), cohort(clients, 1, stale=False), on_contribution=lambda p, _: seen.append(p)
            )
        assert seen == list(range(40))
        assert 1 <= most <= 3 * threads

    def test_the_largest_of_the_last_starts_first(self):
        started = []
        with LocalEngine(process(), 1, cost_fn=cost) as engine:
            open_client = engine._open
            engine._open = lambda job: started.append(int(job.client["client_id"])) or open_client(job)
            engine.run_round(engine.initialize(), cohort([(2, 0), (0, 0), (1, 0)], 1, stale=False))
        assert started == [2, 1, 0]
