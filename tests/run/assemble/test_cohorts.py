"""Samplers, devices and cohorts of a configuration."""

import json
import types

import pytest

from tff_tx.cohorts import Devices
from tff_tx.config import RunConfig
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.run.assemble import cohorts

IDS = [f"client{i}" for i in range(40)]
SIZES = {c: i for i, c in enumerate(IDS)}
DIURNAL = {"devices.availability": "diurnal", "devices.seconds_per_example": 0.1}
BUFFERED = {"cohort.buffer_size": 4, "devices.seconds_per_example": 0.1}


def sampler(values, seed=1):
    return cohorts.build_sampler(RunConfig.of(values), IDS, SIZES, seed)


def record(tmp_path, rounds):
    path = tmp_path / "cohorts.jsonl"
    path.write_text("".join(json.dumps({"round_num": r, "clients": IDS[r : r + 9]}) + "\n" for r in rounds))
    return {"cohort.sampling": "fixed", "cohort.cohorts": str(path), "run.rounds": 3}


def test_defaults_sample_uniformly_and_simulate_nothing():
    config = RunConfig.of({"run.seed": 7})
    assert cohorts.build_devices(config) == Devices(seed=7)
    assert cohorts.num_sampled(config) == cohorts.largest_cohort(config) == 5
    assert cohorts.stored_model_bytes(config, 100) == 0
    assert len(sampler({}, 7)(1)) == 5
    assert sampler({}, 7)(1) == sampler({}, 7)(1) != sampler({}, 8)(1)


def test_every_setting_of_devices_reaches_them():
    values = {
        "dropout_rate": 0.1,
        "report_deadline": 60.0,
        "seconds_per_example": 0.1,
        "speed_spread": 0.5,
        "bytes_per_second": 1e6,
        "round_overhead_seconds": 2.0,
        "availability": "diurnal",
    }
    config = RunConfig.of({**{f"devices.{k}": v for k, v in values.items()}, "cohort.over_selection": 1.3})
    assert cohorts.build_devices(config) == Devices(**values, over_selection=1.3, seed=1)


def test_over_selection_samples_more():
    values = {"cohort.clients_per_round": 10, "cohort.over_selection": 1.3, "devices.dropout_rate": 0.1}
    assert cohorts.num_sampled(RunConfig.of(values)) == 13
    assert len(sampler(values)(1)) == 13


@pytest.mark.parametrize(("clients", "drawn"), [(4, 20), (20, 40)])
def test_enough_are_drawn_to_find_some_that_are_available(clients, drawn):
    values = {"cohort.clients_per_round": clients, **DIURNAL}
    assert cohorts.num_sampled(RunConfig.of(values)) == clients
    assert len(sampler(values)(1)) == drawn


def test_poisson_counts_all_it_draws():
    values = {"cohort.sampling": "poisson", **DIURNAL}
    assert cohorts.num_sampled(RunConfig.of(values)) is None
    assert cohorts.largest_cohort(RunConfig.of(values)) == 10
    sample = sampler(values)
    assert 4 < sum(len(sample(r)) for r in range(1, 201)) / 200 < 6


def test_by_size_draws_from_clients_with_examples():
    assert set(sampler({"cohort.sampling": "by_size", "cohort.clients_per_round": 39})(1)) == set(IDS[1:])


def test_fixed_replays_whatever_the_size(tmp_path):
    values = record(tmp_path, [1, 2, 3])
    assert cohorts.num_sampled(RunConfig.of(values)) is None
    assert sampler(values)(2) == IDS[2:11]
    with pytest.raises(UserError, match="no cohort for round 3"):
        sampler(record(tmp_path, [1, 2]))


@pytest.mark.parametrize(("values", "separation"), [({}, 8), ({"cohort.min_separation": 3}, 3)])
def test_separation_is_as_configured_or_as_long_as_possible(values, separation):
    values = {"cohort.sampling": "min_separation", **values}
    assert cohorts.min_separation(RunConfig.of(values), len(IDS)) == separation
    sample = sampler(values)
    rounds = [r for r in range(1, 200) if IDS[0] in sample(r)]
    assert min(b - a for a, b in zip(rounds, rounds[1:])) % separation == 0


def test_other_samplers_keep_no_separation():
    assert cohorts.min_separation(RunConfig(), len(IDS)) == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"cohort.clients_per_round": 41},
            "cohort.clients_per_round=41 is more than the 40 training clients with examples: lower it, or raise",
        ),
        (
            {"cohort.clients_per_round": 39, "cohort.over_selection": 1.3},
            "cohort.clients_per_round=39 times cohort.over_selection=1.3 is 51 clients per round, more than the 40",
        ),
        (
            {"cohort.clients_per_round": 40, "cohort.sampling": "by_size"},
            "more than the 39 training clients with examples: lower",
        ),
        ({"cohort.clients_per_round": 41, "cohort.sampling": "poisson"}, "clients_per_round=41 is more than the 40"),
        ({"cohort.sampling": "min_separation", "cohort.min_separation": 9}, "min_separation=9 leaves 4 of the 40"),
        ({"cohort.clients_per_round": 41, **DIURNAL}, "cohort.clients_per_round=41 is more than the 40 training"),
        ({**BUFFERED, "cohort.concurrency": 41}, "cohort.concurrency=41 is more than the 40 training clients"),
        (
            {**BUFFERED, "cohort.clients_per_round": 41},
            "cohort.clients_per_round=41 is more than the 40 training clients",
        ),
        ({**BUFFERED, "cohort.buffer_size": 41}, "cohort.buffer_size=41 is more than the 40 training clients"),
        (
            {**BUFFERED, "cohort.sampling": "by_size", "cohort.buffer_size": 40},
            "cohort.buffer_size=40 is more than the 39 training clients",
        ),
    ],
)
def test_more_clients_than_there_are_are_rejected(values, sentence):
    with pytest.raises(UserError, match=sentence):
        sampler(values)


def task():
    clients = types.SimpleNamespace(client_ids=IDS, sizes=lambda: SIZES)
    return types.SimpleNamespace(train=clients, local=ClientConfig(batch_size=2))


def rounds(values, seed=1):
    config = RunConfig.of({**values, "run.seed": seed})
    cohort_fn = cohorts.build_cohort_fn(config, task(), types.SimpleNamespace(download_bytes=30, upload_bytes=10))
    return [cohort_fn(r, 0, 0.0) for r in range(1, 6)]


def test_synchronous_cohorts_take_the_time_of_their_slowest_client():
    for cohort in rounds({"devices.seconds_per_example": 1, "devices.bytes_per_second": 20}):
        assert len(cohort.selected) == 5
        assert [argument["client_id"].decode() for argument in cohort.arguments] == cohort.reported
        assert cohort.seconds == 2 + max(SIZES[c] for c in cohort.reported)


def test_over_selected_cohorts_end_with_the_first_reports():
    values = {"cohort.over_selection": 2, "devices.seconds_per_example": 1}
    for cohort in rounds(values):
        assert (len(cohort.selected), len(cohort.reported), len(cohort.stragglers)) == (10, 5, 5)


@pytest.mark.parametrize(("values", "concurrency"), [({}, 5), ({"cohort.concurrency": 12}, 12)])
def test_buffered_cohorts_are_pairs_of_argument_and_staleness(values, concurrency):
    values = {**BUFFERED, **values, "cohort.max_staleness": 2}
    assert cohorts.stored_model_bytes(RunConfig.of(values), 100) == 200
    assert len(sampler(values)(1)) == concurrency + 3
    for cohort in rounds(values):
        assert len(cohort.reported) == 4
        assert [argument["client_id"].decode() for argument, _ in cohort.arguments] == cohort.reported
        assert all(0 <= staleness <= 2 for _, staleness in cohort.arguments)
    assert [c.reported for c in rounds(values)] == [c.reported for c in rounds(values)]
    assert [c.reported for c in rounds(values)] != [c.reported for c in rounds(values, seed=2)]


def test_buffered_by_size_starts_clients_with_examples():
    values = {**BUFFERED, "cohort.sampling": "by_size", "cohort.clients_per_round": 39}
    assert set(sampler(values)(1)) == set(IDS[1:])


def test_a_private_run_goes_on_with_its_own_key_or_not_at_all(tmp_path):
    """A new key, or none, would draw other cohorts: clients come too often, and an empty key everybody has."""
    values = {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1, "run.directory": str(tmp_path)}
    config, key = RunConfig.of(values), tmp_path / "checkpoints" / "sampling_key"
    first = cohorts.sampling_seed(config)
    assert cohorts.sampling_seed(config) == first
    (tmp_path / "checkpoints" / "round_3").mkdir()
    assert cohorts.sampling_seed(config) == first
    for damage in ("", first[:-1], first + "\n"):
        key.write_text(damage)
        with pytest.raises(UserError, match="sampling_key, the key that .* is missing or damaged"):
            cohorts.sampling_seed(config)
    key.unlink()
    with pytest.raises(UserError, match="restore it, or start anew"):
        cohorts.sampling_seed(config)
