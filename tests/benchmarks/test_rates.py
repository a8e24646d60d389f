"""The table of learning rates: the configurations of its runs, and runs that are done."""

import json

import pytest

from benchmarks import comparisons, rates


@pytest.mark.parametrize("name", [*rates.METRICS, *rates.RANDOM])
def test_flags_of_presets_are_a_configuration(name):
    """The last of each flag counts."""
    preset = comparisons.CASES[name].preset if name in rates.METRICS else name
    lines = comparisons.preset_flags(preset, all_of_it=name in rates.RANDOM)
    found = rates.configuration([*lines, "--client_learning_rate=0.1", "--client_learning_rate=0.2", "--rounds=3"])
    assert (found.client.learning_rate, found.run.rounds) == (0.2, 3)
    assert (found.data.dataset == "file") == (name in rates.METRICS)


def test_a_run_that_is_done_is_read_and_shown(tmp_path):
    for rate in rates.RANDOM_RATES:
        directory = tmp_path / f"random_weights-{rate:g}"
        directory.mkdir()
        (directory / "results.json").write_text(json.dumps({"test": {"accuracy": rate}}))
    found = {rate: rates._run([], rate, str(tmp_path), "random weights", 1) for rate in rates.RANDOM_RATES}
    assert "| 0.002                  | 0.002            |" in rates.tell({}, {"digits": found})
