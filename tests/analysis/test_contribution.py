"""Values of clients: against brute force, laws of the Shapley value, and a real run with a silo of shuffled labels."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_tx import algorithms
from tff_tx.analysis import contribution
from tff_tx.analysis.contribution import Game, exact_shapley, gtg_shapley, leave_one_out, truncated_monte_carlo
from tff_tx.cohorts import devices as participation
from tff_tx.core.errors import UserError
from tff_tx.run import loop
from tff_tx.run.checkpoints import Checkpoints
from tff_tx.run.evaluation import Evaluator
from tff_tx.runtime import LocalEngine


def random_game(num_players, seed=0):
    rng = np.random.default_rng(seed)
    utilities = {
        c: rng.normal() for size in range(num_players + 1) for c in itertools.combinations(range(num_players), size)
    }
    return Game(num_players, utilities.__getitem__)


def saturating_game(num_players):
    """Everyone adds, the later the less, some more than others: as data do."""
    weights = np.linspace(1, 3, num_players)
    return Game(num_players, lambda c: 1 - np.exp(-sum(weights[list(c)])))


def brute_force(game):
    """The mean over all orders, as Shapley defined it."""
    orders = list(itertools.permutations(range(game.num_players)))
    values = np.zeros(game.num_players)
    for order in orders:
        for position, player in enumerate(order):
            values[player] += game.utility(order[: position + 1]) - game.utility(order[:position])
    return values / len(orders)


@pytest.mark.parametrize("num_players", [1, 2, 3, 4])
def test_exact_values_are_the_mean_over_all_orders(num_players):
    game = random_game(num_players)
    found = exact_shapley(game)
    np.testing.assert_allclose(found.values, brute_force(game), atol=1e-12)
    assert found.values.sum() == pytest.approx(game.gain)
    assert game.evaluations == 2**num_players


@pytest.mark.parametrize("method", [truncated_monte_carlo, gtg_shapley])
def test_without_truncation_an_order_that_is_as_good_as_all_halfway_is_evaluated_to_its_end(method):
    """Accuracies of few held-out rows are often equal: after player 0, player 1 does harm that player 2 makes good."""
    utilities = {(): 0, (0,): 1, (1,): 0, (2,): 0, (0, 1): 0, (0, 2): 1, (1, 2): 0, (0, 1, 2): 1}
    game = Game(3, utilities.__getitem__)
    np.testing.assert_allclose(method(game, 1, tolerance=0.0, max_sweeps=400).values, brute_force(game), atol=0.03)


def test_the_glove_game():
    """Two with a left glove, one with a right: 1/6, 1/6 and 2/3."""
    game = Game(3, lambda c: float(2 in c and len(c) > 1))
    np.testing.assert_allclose(exact_shapley(game).values, [1 / 6, 1 / 6, 2 / 3])
    np.testing.assert_allclose(leave_one_out(game).values, [0, 0, 1])


@pytest.mark.parametrize("method", [gtg_shapley, truncated_monte_carlo])
@pytest.mark.parametrize("make", [random_game, saturating_game])
def test_sampling_comes_within_its_errors_of_the_exact_values(method, make):
    exact = exact_shapley(make(6)).values
    game = make(6)
    found = method(game, seed=1, tolerance=0.0, max_sweeps=200)
    assert found.orders == 200 * 6
    assert np.max(np.abs(found.values - exact) / found.standard_errors) < 4
    assert np.max(found.standard_errors) < 0.1 * np.max(np.abs(exact))
    assert found.values.sum() == pytest.approx(game.gain)


@pytest.mark.parametrize("method", [gtg_shapley, truncated_monte_carlo])
def test_the_seed_decides_and_sampling_stops_when_it_is_sure(method):
    first, again = (method(saturating_game(5), seed=1, tolerance=0.2) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.array_equal(first.values, method(saturating_game(5), seed=2, tolerance=0.2).values)
    assert 15 <= first.orders < 250
    assert np.max(first.standard_errors) <= 0.2 * np.max(first.values)


def test_standard_errors_are_those_of_repetitions():
    runs = [truncated_monte_carlo(random_game(5), seed, tolerance=0.0, max_sweeps=20) for seed in range(60)]
    between = np.std([r.values for r in runs], axis=0, ddof=1)
    told = np.sqrt(np.mean([r.standard_errors**2 for r in runs], axis=0))
    np.testing.assert_allclose(told, between, rtol=0.4)


def test_truncation_saves_evaluations_and_keeps_the_sum():
    whole, cut = saturating_game(8), saturating_game(8)
    gtg_shapley(whole, seed=1, max_sweeps=5, tolerance=0.0)
    found = gtg_shapley(cut, seed=1, truncation=0.05, max_sweeps=5, tolerance=0.0)
    assert cut.evaluations < 0.7 * whole.evaluations
    assert found.values.sum() == pytest.approx(cut.gain)
    np.testing.assert_allclose(found.values, exact_shapley(whole).values, atol=0.03)
    still = Game(4, lambda c: 0.001 * len(c))
    found = gtg_shapley(still, seed=1, round_truncation=0.01)
    np.testing.assert_allclose(found.values, 0.001)
    assert still.evaluations == 2


def test_each_player_comes_first_once_a_sweep():
    game = saturating_game(5)
    gtg_shapley(game, seed=1, max_sweeps=1)
    assert {(i,) for i in range(5)} <= set(game._known)


class TestRun:
    """Silos a, b, c and c's double d; e has shuffled labels; two rounds of all of them."""

    silos = ("a", "b", "c", "d", "e")

    @pytest.fixture(scope="class")
    def data(self):
        rng = np.random.default_rng(3)
        true = rng.normal(size=[5, 3])

        def draw(n):
            x = rng.normal(size=[n, 5]).astype(np.float32)
            return x, np.argmax(x @ true, axis=1).astype(np.int32)

        found = {name: draw(40) for name in "abc"}
        found["d"] = found["c"]
        x, y = draw(40)
        found["e"] = (x, rng.permutation(y))
        return found, draw(300)

    @pytest.fixture(scope="class")
    def engine(self, data):
        xs, ys = (np.stack([data[0][name][i] for name in self.silos]) for i in (0, 1))

        @tff.tensorflow.computation(collections.OrderedDict(client_id=np.str_))
        def batches(client):
            index = tf.argmax(tf.equal(client["client_id"], list(self.silos)))
            return tiny.batches(tf.gather(xs, index), tf.gather(ys, index), 10)

        options = algorithms.Options(
            client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
            server_optimizer=algorithms.build_optimizer("sgd", 1.0, momentum=0.5),
            client_learning_rate=0.3,
        )
        process = algorithms.build_fed_avg(tiny.linear_model(), options)
        process = tff.simulation.compose_dataset_computation_with_learning_process(batches, process)
        with LocalEngine(process) as engine:
            yield engine

    @pytest.fixture(scope="class")
    def run(self, engine, tmp_path_factory):
        directory = tmp_path_factory.mktemp("run")
        store = contribution.UpdateStore(str(directory))
        with LocalEngine(engine.process, hooks=[store]) as storing:
            return directory, store, self.train(storing, directory)

    def train(self, engine, directory, rounds=2):
        def arguments(ids, _):
            return [collections.OrderedDict(client_id=c.encode()) for c in ids]

        loop.train(
            engine,
            str(directory),
            loop.Schedule(rounds, rounds_per_checkpoint=1),
            cohort_fn=participation.build_cohort_fn(lambda _, attempt=0: list(self.silos), arguments),
            show_progress=False,
        )
        return Checkpoints(str(directory / "checkpoints")).load_latest(engine.initialize())[0]

    @pytest.fixture(scope="class")
    def utility(self, data):
        x, y = data[1]
        evaluator = Evaluator(tiny.linear_model(), lambda _: tiny.batches(x, y, 100), threads=1)
        return lambda weights: -evaluator.metrics(weights, ["all"])["loss"]

    def test_stored_rounds_lead_to_the_states_of_the_run(self, engine, run):
        _, store, final = run
        assert store.rounds() == [1, 2]
        for round_num, after in ((1, None), (2, final)):
            clients, state, contributions = store.read(round_num)
            assert clients == list(self.silos)
            combined = engine.combine(engine.unflatten_state(state), contributions)
            expected = store.read(2)[1] if after is None else engine.flatten_state(after)
            for ours, theirs in zip(engine.flatten_state(combined), expected):
                np.testing.assert_array_equal(ours, theirs)

    def test_keeping_updates_changes_nothing_and_takes_what_is_said(self, engine, run, tmp_path):
        state = self.train(engine, tmp_path)
        for ours, theirs in zip(engine.flatten_state(state), engine.flatten_state(run[2])):
            np.testing.assert_array_equal(ours, theirs)
        size = sum(p.stat().st_size for p in (run[0] / contribution.UPDATES).rglob("*") if p.is_file())
        assert size <= contribution.bytes_of_run(engine.process, 2, len(self.silos))

    @pytest.mark.parametrize("method", ["exact", "gtg_shapley", "truncated_monte_carlo"])
    def test_the_laws_of_the_shapley_value_hold_in_a_run(self, engine, run, utility, method):
        options = {} if method == "exact" else {"tolerance": 0.02, "max_sweeps": 30}
        table = contribution.value_clients(engine, run[1], utility, method, seed=1, **options)
        assert table.index[-1] == "e"
        assert table.loc["e", "value"] < 0 < table.drop("e")["value"].min()
        first, last = (engine.unflatten_state(run[1].read(1)[1]), run[2])
        gain = utility(engine.model_weights(last)) - utility(engine.model_weights(first))
        assert table["value"].sum() == pytest.approx(gain, rel=1e-5)
        assert table.attrs["gain"] == pytest.approx(gain, rel=1e-5)
        if method == "exact":
            assert table.loc["c", "value"] == pytest.approx(table.loc["d", "value"], rel=1e-4)
            assert table.attrs["evaluations"] == 2 * 2**5
            alone = contribution.value_clients(engine, run[1], utility, "exact", rounds=[1])
            assert set(alone["rounds"]) == {1}
        else:
            errors = table.loc[["c", "d"], "standard_error"]
            assert abs(table.loc["c", "value"] - table.loc["d", "value"]) <= 4 * np.sqrt(np.sum(errors**2)) + 1e-6

    def test_leaving_one_out_also_finds_the_shuffled_one(self, engine, run, utility):
        table = contribution.value_clients(engine, run[1], utility, "leave_one_out")
        assert table.index[-1] == "e"
        assert table.attrs["evaluations"] == 2 * 7

    def test_damaged_and_missing_updates_are_reported(self, engine, tmp_path):
        with pytest.raises(UserError, match="has no updates: train with run.keep_updates"):
            contribution.UpdateStore(str(tmp_path)).rounds()
        store = contribution.UpdateStore(str(tmp_path))

        def attempt(*contributions, failures=()):
            store.start_round(engine, engine.initialize(), [], [])
            for position, value in contributions:
                store.on_counted(position, [np.full(3, value)])
            store.end_round(dict.fromkeys(failures, "failed later"))

        attempt((5, 0.0))
        attempt((2, 2.0), (0, 0.0), (3, 3.0), failures=[0, 1])
        assert not (tmp_path / contribution.UPDATES / "round_000001").exists()
        store.commit(1, ["x", "y"])
        clients, state, contributions = store.read(1)
        assert clients == ["x", "y"]
        assert [leaf[0] for (leaf,) in contributions] == [2.0, 3.0]
        assert len(state) == len(engine.flatten_state(engine.initialize()))
        path = tmp_path / contribution.UPDATES / "round_000001" / "client_000002.tftx"
        path.write_bytes(path.read_bytes()[:-2])
        with pytest.raises(UserError, match="round_000001 is damaged .*says it has"):
            store.read(1)
        path.unlink()
        with pytest.raises(UserError, match="round_000001 is damaged .*1 contributions of 2 clients"):
            store.read(1)
        attempt((0, 0.0))
        with pytest.raises(ValueError, match="1 contributions came of 2 clients"):
            store.commit(1, ["x", "y"])
