"""The round loop: what it writes, and that being killed makes no difference."""

import functools
import resource
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_tx as ft
from tests import tiny
from tff_tx import algorithms, tasks
from tff_tx.aggregators import dp
from tff_tx.cohorts import devices as participation
from tff_tx.cohorts.client_store import ClientStore
from tff_tx.cohorts.feedback import FEEDBACK, Feedback
from tff_tx.config import RunConfig
from tff_tx.core import interruption
from tff_tx.core.errors import Interrupted, UserError
from tff_tx.privacy import outputs
from tff_tx.run import loop
from tff_tx.run.callbacks import Callback, EarlyStopping, HasConfig, KeepBest, MetricsCsv, TensorBoard
from tff_tx.run.evaluation import Evaluator, spread
from tff_tx.runtime import Hook, LocalEngine


class Killed(BaseException):
    """Stands for the process' end: nothing in the loop may catch it."""


@pytest.fixture(scope="module")
def task(digits_task):
    return tiny.linear_digits_task(digits_task)


@pytest.fixture(scope="module")
def engine(task):
    options = algorithms.Options(
        client_optimizer_fn=lambda r: algorithms.build_optimizer("sgd", r),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0, momentum=0.9),
    )
    with LocalEngine(task.process(algorithms.build_fed_avg(task.model, options)), 2) as engine:
        yield engine


def arguments(client_ids, round_num):
    return tasks.client_arguments(client_ids, 1, round_num)


@functools.cache
def evaluator_of(task):
    return Evaluator(task.model, task.eval_batches_fn(task.test), threads=2)


def run(engine, task, directory, rounds=6, dies_in=None, error=Killed, every=2, callbacks=None, **options):
    """Runs in `directory`; raises `error` when it comes to the cohort of round `dies_in`."""
    sample = tff.simulation.build_uniform_sampling_fn(task.train.client_ids, random_seed=1)
    evaluator = evaluator_of(task)

    def sampler(round_num, attempt=0):
        if round_num == dies_in:
            raise error
        return sample(round_num, 3)

    return loop.train(
        engine,
        str(directory),
        loop.Schedule(rounds, rounds_per_evaluation=3, rounds_per_checkpoint=every),
        cohort_fn=participation.build_cohort_fn(sampler, arguments),
        evaluate_fn=lambda weights: evaluator.metrics(weights, task.test.client_ids),
        callbacks=callbacks or [MetricsCsv(), TensorBoard()],
        show_progress=False,
        **options,
    )


def rows(directory):
    table = pd.read_csv(directory / "metrics.csv", dtype=str)
    return table[[c for c in table if not c.startswith("time/")]]


def figures(directory):
    """(round, name, number) of all that TensorBoard shows, but times."""
    found = []
    for path in (directory / "tensorboard").glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            shown = (value for value in event.summary.value if not value.tag.startswith("time/"))
            found += [(event.step, value.tag, tf.make_ndarray(value.tensor).item()) for value in shown]
    return sorted(found)


@pytest.fixture(scope="module")
def undisturbed(engine, task, tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, run(engine, task, directory)


def test_metrics_have_the_promised_columns(undisturbed):
    table = pd.read_csv(undisturbed[0] / "metrics.csv")
    assert table["round_num"].tolist() == [1, 2, 3, 4, 5, 6]
    for column in (
        *("train/loss", "train/accuracy", "eval/loss", "time/round_seconds"),
        *("comm/upload_bytes_per_client", "comm/download_bytes_per_client"),
    ):
        assert column in table
    private = RunConfig.of({"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0})
    assert [column for column in table if outputs.mark_of(column, private) is None] == []
    assert table["eval/loss"].notna().tolist() == [False, False, True, False, False, True]
    assert any((undisturbed[0] / "tensorboard").iterdir())


@pytest.mark.parametrize("dies_in", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 6))])
def test_a_killed_run_goes_on_to_the_same_end(engine, task, undisturbed, tmp_path, dies_in):
    with pytest.raises(Killed):
        run(engine, task, tmp_path, dies_in=dies_in)
    weights = run(engine, task, tmp_path)
    pd.testing.assert_frame_equal(rows(tmp_path), rows(undisturbed[0]))
    assert figures(tmp_path) == figures(undisturbed[0])
    for ours, theirs in zip(weights.trainable, undisturbed[1].trainable):
        np.testing.assert_array_equal(ours, theirs)


class Dies(Callback):
    """Keeps the model of a round, and ends the process before its checkpoint."""

    def on_round_end(self, result):
        self.released = result.weights()
        raise Killed


@pytest.mark.slow
def test_a_killed_round_is_not_released_again_with_other_noise(task, tmp_path):
    """Two noised releases of one round, counted once, would have half the noise in their mean."""
    released, keys = [], [dp.noise_key(), dp.noise_key()]  # a process draws a key when it starts
    for key in keys:
        options = algorithms.Options(
            client_optimizer_fn=lambda r: algorithms.build_optimizer("sgd", r),
            server_optimizer=algorithms.build_optimizer("sgd", 1.0),
            weighted=False,
            aggregator=dp.fixed_clip_aggregator(1.0, 3, dp.independent_noise(1.0, key)),
        )
        dies = Dies()
        with LocalEngine(task.process(algorithms.build_fed_avg(task.model, options)), 2) as own, pytest.raises(Killed):
            loop.train(
                own,
                str(tmp_path),
                loop.Schedule(3, 0, 100, min_clients=0, releases_once=True),
                cohort_fn=participation.build_cohort_fn(lambda n, attempt=0: task.train.client_ids[:2], arguments),
                callbacks=[dies],
                show_progress=False,
            )
        released.append(dies.released.trainable)
    for first, second in zip(*released):
        np.testing.assert_array_equal(first, second)


def test_an_interrupted_run_keeps_every_whole_round(engine, task, undisturbed, tmp_path):
    with pytest.raises(Interrupted, match="after round 4 of 6"):
        run(engine, task, tmp_path, dies_in=5, error=KeyboardInterrupt, every=100)
    assert (tmp_path / "checkpoints" / "round_4").exists()
    run(engine, task, tmp_path)
    pd.testing.assert_frame_equal(rows(tmp_path), rows(undisturbed[0]))


@pytest.mark.parametrize(
    "becomes", [RuntimeError("KeyboardInterrupt: <EMPTY MESSAGE>"), None], ids=["error", "nothing"]
)
def test_an_interrupt_that_became_another_error_or_got_lost_is_one(
    engine, task, undisturbed, tmp_path, monkeypatch, becomes
):
    class Signal(ft.Callback):
        def on_round_end(self, result):
            if result.round_num == 5:
                interruption.received.append(signal.SIGTERM)
                if becomes:
                    raise becomes

    monkeypatch.setattr(interruption, "received", [])
    with pytest.raises(Interrupted, match=f"after round {4 if becomes else 5} of 6"):
        run(engine, task, tmp_path, every=100, callbacks=[MetricsCsv(), TensorBoard(), Signal()])
    interruption.received.clear()
    run(engine, task, tmp_path)
    pd.testing.assert_frame_equal(rows(tmp_path), rows(undisturbed[0]))


def test_a_round_with_an_interrupted_client_does_not_count(engine, task, undisturbed, tmp_path, monkeypatch):
    measured = []

    def drops(*arguments, **options):
        measured.append(1)
        if len(measured) == 5:
            interruption.received.append(signal.SIGTERM)
        return LocalEngine.run_round(engine, *arguments, **options)

    monkeypatch.setattr(interruption, "received", [])
    monkeypatch.setattr(engine, "run_round", drops)
    with pytest.raises(Interrupted, match="after round 4 of 6"):
        run(engine, task, tmp_path, every=100)
    monkeypatch.undo()
    run(engine, task, tmp_path)
    pd.testing.assert_frame_equal(rows(tmp_path), rows(undisturbed[0]))


@pytest.mark.parametrize("trouble", ["full", "gone", "emptied"])
def test_a_full_disk_and_a_vanished_directory_are_told(engine, task, undisturbed, tmp_path, trouble):
    config = tmp_path / "config.json"
    config.touch()
    limits, kept = resource.getrlimit(resource.RLIMIT_FSIZE), tmp_path.parent / f"{tmp_path.name}_kept"

    class Trouble(ft.Callback):
        def on_round_end(self, result):
            if result.round_num == 5 and trouble == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
            elif result.round_num == 5 and trouble == "gone":
                tmp_path.rename(kept)
            elif result.round_num == 5:
                config.unlink()

    try:
        with pytest.raises(UserError, match=r"run\.directory=.* cannot be written \((File too large|No such file)"):
            run(engine, task, tmp_path, callbacks=[HasConfig(), Trouble(), MetricsCsv(), TensorBoard()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if kept.exists():
        shutil.rmtree(tmp_path, ignore_errors=True)
        kept.rename(tmp_path)
    run(engine, task, tmp_path)
    pd.testing.assert_frame_equal(rows(tmp_path), rows(undisturbed[0]))


def test_half_written_checkpoints_are_neither_read_nor_kept(engine, task, undisturbed, tmp_path):
    with pytest.raises(Killed):
        run(engine, task, tmp_path, dies_in=4)
    half = tmp_path / "checkpoints" / ".round_3.tmp"
    half.mkdir()
    run(engine, task, tmp_path)
    assert not half.exists()
    pd.testing.assert_frame_equal(rows(tmp_path), rows(undisturbed[0]))


def drop_lines(name, *numbers):
    def damage(directory):
        lines = (directory / name).read_text().splitlines(keepends=True)
        (directory / name).write_text("".join(line for i, line in enumerate(lines) if i not in numbers))

    return damage


def change(path, before, after):
    path.write_bytes(path.read_bytes().replace(before, after))


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda d: (d / "checkpoints" / "round_4" / "saved_model.pb").unlink(),
        drop_lines("metrics.csv", 4, 5),
        drop_lines("cohorts.jsonl", 3),
    ],
)
def test_a_run_goes_back_to_the_checkpoint_before_a_damaged_one(engine, task, undisturbed, tmp_path, damage, caplog):
    with pytest.raises(Killed):
        run(engine, task, tmp_path, dies_in=6)
    damage(tmp_path)
    run(engine, task, tmp_path)
    assert "going back to the checkpoint of round 2" in caplog.text
    pd.testing.assert_frame_equal(rows(tmp_path), rows(undisturbed[0]))
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"round_4", "round_6"}


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metrics.csv", drop_lines("metrics.csv", 1)),
        ("metrics.csv", lambda d: (d / "metrics.csv").write_text("")),
        ("metrics.csv", lambda d: pd.read_csv(d / "metrics.csv").replace(1, 7).to_csv(d / "metrics.csv", index=False)),
        ("cohorts.jsonl", lambda d: (d / "cohorts.jsonl").unlink()),
        ("feedback.jsonl", lambda d: change(d / "feedback.jsonl", b"0.5", b"0.4")),
        ("residuals", lambda d: next((d / "residuals").glob("*/round_1")).unlink()),
        ("personal", lambda d: next((d / "personal").glob("*/round_1")).write_bytes(b"")),
    ],
)
def test_what_cannot_be_made_again_is_missed(engine, task, tmp_path, monkeypatch, name, damage):
    stores = [ClientStore(str(tmp_path / store), 10) for store in ("residuals", "personal")]
    Feedback(str(tmp_path)).append(1, {"a": 0.5})
    for store in stores:
        store.write("a", 1, [np.zeros(2, np.float32)])

    class Stored(Hook):
        def checksums(self, round_num):
            found = {store.name: store.checksum(round_num) for store in stores}
            return {FEEDBACK: Feedback(str(tmp_path)).checksum(round_num), **found}

    monkeypatch.setattr(engine, "hooks", (Stored(),))
    with pytest.raises(Killed):
        run(engine, task, tmp_path, dies_in=6)
    damage(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    with pytest.raises(
        UserError, match=f"{name} is not as it was when .*round_4 was saved; .*round_2 was saved: restore"
    ):
        run(engine, task, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_a_finished_run_is_not_run_again(engine, task, undisturbed):
    before = (undisturbed[0] / "metrics.csv").read_bytes()
    weights = run(engine, task, undisturbed[0], dies_in=7)
    assert (undisturbed[0] / "metrics.csv").read_bytes() == before
    np.testing.assert_array_equal(weights.trainable[0], undisturbed[1].trainable[0])


def test_a_model_that_is_not_finite_ends_the_run_with_the_one_before(engine, task, tmp_path):
    class Diverging(LocalEngine):
        """The server's step is infinitely long in the third round."""

        rounds = 0

        def run_round(self, state, clients, **options):
            self.rounds += 1
            if self.rounds == 3:
                state.finalizer["learning_rate"] = np.float32(np.inf)
            return super().run_round(state, clients, **options)

    not_finite = r"round 3 made a model that is not finite, of a model of norm \d.* after round 2, with train/loss \d"
    with Diverging(engine.process) as diverging, pytest.raises(UserError, match=not_finite):
        run(diverging, task, tmp_path, every=100)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["round_2"]
    assert len(rows(tmp_path)) == 2


def test_updates_that_are_not_finite_end_the_run_with_what_to_lower(task, tmp_path):
    """The same command would make them again."""
    options = algorithms.Options(
        client_optimizer_fn=lambda r: algorithms.build_optimizer("sgd", 1e38),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
    )
    sentence = (
        r"round 1: 0 of at least 1 clients finished \(NotFiniteError: its update is not finite\), in the last of 4 "
        r"attempts: lower client\.learning_rate.* client\.clip_norm or .* in another run\.directory\.$"
    )
    process = algorithms.build_fed_avg(task.model, options)
    with LocalEngine(task.process(process)) as engine, pytest.raises(loop.NotFiniteError, match=sentence):
        run(engine, task, tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_mean_that_is_not_finite_ends_the_run(task, tmp_path):
    """The server leaves it out, so that the model would stay as it is for as many rounds as there are."""
    noise = tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(10.0, 3, clip=3e37)
    options = algorithms.Options(
        client_optimizer_fn=lambda r: algorithms.build_optimizer("sgd", r),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        weighted=False,
        aggregator=noise,
    )
    process, sentence = algorithms.build_fed_avg(task.model, options), "round 1 made a mean of updates that is not fin"
    with LocalEngine(task.process(process)) as engine, pytest.raises(UserError, match=sentence):
        run(engine, task, tmp_path)


def test_a_run_stops_early_and_ends_with_its_best_model(engine, task, tmp_path):
    """After two evaluations without improvement; started again, it does not train on."""
    losses, seen = iter([3.0, 1.0, 2.0, 2.5, 0.0]), []

    def train():
        return loop.train(
            engine,
            str(tmp_path),
            loop.Schedule(5, rounds_per_evaluation=1),
            cohort_fn=participation.build_cohort_fn(lambda n, attempt=0: task.train.client_ids[:2], arguments),
            evaluate_fn=lambda weights: seen.append(weights) or {"loss": next(losses)},
            callbacks=[EarlyStopping("loss", False, 2), KeepBest("loss", False), MetricsCsv()],
            show_progress=False,
        )

    for weights in (train(), train()):
        assert len(seen) == len(pd.read_csv(tmp_path / "metrics.csv")) == 4
        tf.nest.map_structure(np.testing.assert_array_equal, weights, seen[1])


def test_a_trace_is_written_when_asked_for(engine, task, tmp_path):
    run(engine, task, tmp_path, rounds=2, profiled=True)
    assert list((tmp_path / "tensorboard").rglob("*.xplane.pb"))


def test_evaluation_pools_examples_and_spreads_clients(digits_task):
    """The pooled accuracy is the clients' mean weighted by examples; NumPy over all logits agrees."""
    evaluator = evaluator_of(digits_task)
    weights = tff.learning.models.ModelWeights(*digits_task.model.initial_weights)
    ids = digits_task.test.client_ids
    pooled, by_client = evaluator.evaluate(weights, ids)
    assert pooled == evaluator.metrics(weights, ids, show_progress=True)
    counts = by_client["num_examples"]
    assert counts.tolist() == [digits_task.test.num_examples(c) for c in ids]
    assert pooled["accuracy"] == pytest.approx(np.average(by_client["accuracy"], weights=counts))
    right = 0
    for client in ids:
        for x, y in digits_task.eval_batches_fn(digits_task.test)(client):
            logits = digits_task.model.keras_model(x["pixel_values"], training=False).logits
            right += (np.argmax(logits, -1) == y.numpy()).sum()
    assert pooled["accuracy"] == pytest.approx(right / counts.sum())
    table = spread(by_client, digits_task.metrics)
    assert table.loc["accuracy", "worst"] == by_client["accuracy"].min()
    assert table.loc["loss", "worst"] == by_client["loss"].max()
    assert table.loc["loss", "p50"] == pytest.approx(np.percentile(by_client["loss"], 50))
