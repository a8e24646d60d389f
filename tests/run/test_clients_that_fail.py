"""Clients whose data cannot be read: the round goes on without them, or is tried again with others."""

import collections
import json

import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_tx import algorithms, tasks
from tff_tx.cohorts import devices as participation
from tff_tx.core.errors import Interrupted, UserError
from tff_tx.run import loop
from tff_tx.run.callbacks import MetricsCsv
from tff_tx.runtime import LocalEngine, TooFewClientsError


def train_with_failures(engine, directory, failing, rounds=3, **schedule):
    """Trains on cohorts in which, at the rounds and attempts in `failing`, two of three clients fail."""
    sample = tff.simulation.build_uniform_sampling_fn([f"client_{i}" for i in range(8)], random_seed=1)

    def sampler(round_num, attempt=0):
        ids = sample(round_num + 100 * attempt, 3)
        return ["client_no_such", "client_nor_such", ids[2]] if (round_num, attempt) in failing else ids

    return loop.train(
        engine,
        str(directory),
        loop.Schedule(rounds, rounds_per_checkpoint=100, **schedule),
        cohort_fn=participation.build_cohort_fn(
            sampler, lambda ids, round_num: tasks.client_arguments(ids, 1, round_num)
        ),
        callbacks=[MetricsCsv()],
        show_progress=False,
    )


@pytest.fixture(scope="module")
def failing_engine(digits_task):
    """Clients whose names have "such" in them have data that cannot be read."""
    task = tiny.linear_digits_task(digits_task)
    batches = task.train_batches

    @tff.tensorflow.computation(batches.type_signature.parameter)
    def some_fail(client):
        wrong = tf.strings.regex_full_match(client["client_id"], ".*such")
        known = tf.where(wrong, "client_0", client["client_id"])
        data = batches(collections.OrderedDict(client, client_id=known))
        return data.map(lambda x, y: (x, y + tf.strings.to_number(tf.where(wrong, "corrupt", "0"), tf.int32)))

    options = algorithms.Options(
        client_optimizer_fn=lambda r: algorithms.build_optimizer("sgd", r),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
    )
    process = algorithms.build_fed_avg(task.model, options)
    process = tff.simulation.compose_dataset_computation_with_learning_process(some_fail, process)
    with LocalEngine(process) as engine:
        yield engine


@pytest.mark.slow
def test_a_round_is_tried_again_with_another_cohort(failing_engine, tmp_path, caplog):
    train_with_failures(failing_engine, tmp_path, {(2, 0), (2, 1)}, min_clients=2)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table["clients/retries"].tolist() == [0, 2, 0]
    assert table["clients/failed"].tolist() == [0, 0, 0]
    assert "client client_no_such is left out: InvalidArgumentError: {{function_node" in caplog.text
    assert "round 2 is tried again with another cohort: 1 of at least 2 clients finished" in caplog.text
    log = [json.loads(line) for line in (tmp_path / "cohorts.jsonl").read_text().splitlines()]
    assert [line["attempt"] for line in log] == [0, 2, 0]


def test_clients_that_fail_are_counted_and_recorded(failing_engine, tmp_path):
    train_with_failures(failing_engine, tmp_path, {(2, 0)}, min_clients=1)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table["clients/failed"].tolist() == [0, 2, 0]
    assert table["clients/finished"].tolist() == [3, 1, 3]
    record = json.loads((tmp_path / "cohorts.jsonl").read_text().splitlines()[1])
    assert set(record["failed"]) == {"client_no_such", "client_nor_such"}
    assert len(record["reported"]) == 1


def test_too_few_clients_too_often_end_the_run_with_a_checkpoint(failing_engine, tmp_path):
    failing = {(3, attempt) for attempt in range(3)}
    with pytest.raises(Interrupted, match="after round 2 of 3, as in 3 attempts at the next 1 of at least 2"):
        train_with_failures(failing_engine, tmp_path, failing, min_clients=2, max_retries=2)
    assert (tmp_path / "checkpoints" / "round_2").exists()
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == 2


def test_cohorts_that_are_too_small_end_the_run_with_what_to_change(failing_engine, tmp_path):
    """The same command would draw them again."""
    sentence = (
        r"round 1: 3 of at least 4 clients finished, in the last of 2 attempts, as no more of its cohort reported: "
        r"lower cohort\.min_clients, or raise cohort\.max_round_retries, and resume it\.$"
    )
    with pytest.raises(UserError, match=sentence):
        train_with_failures(failing_engine, tmp_path, set(), min_clients=4, max_retries=1)


def test_dropouts_that_a_secure_sum_does_not_withstand_end_the_run_with_what_to_change(
    failing_engine, tmp_path, monkeypatch
):
    run_round = failing_engine.run_round

    def too_few_in_the_second(*arguments, **options):
        if (tmp_path / "metrics.csv").exists() and len(pd.read_csv(tmp_path / "metrics.csv")):
            raise TooFewClientsError(3, 4, {})
        return run_round(*arguments, **options)

    monkeypatch.setattr(failing_engine, "run_round", too_few_in_the_second)
    sentence = (
        r"round 2: 3 of at least 4 .* the last of 1 attempt, .* aggregation\.secure_dropping: raise it, or lower "
        r"devices\.dropout_rate, in another run\.directory; the state after round 1 is in "
    )
    with pytest.raises(UserError, match=sentence):
        train_with_failures(failing_engine, tmp_path, set(), min_clients=0, max_retries=0)
    assert (tmp_path / "checkpoints" / "round_1").exists()
