"""Ratios, tables and growth."""

import json

import pytest

from benchmarks import bench, report, rounds


def turn(speed, memory=100, busy=2.0):
    return {
        "examples_per_second": speed,
        "peak_memory_bytes": memory,
        "busy_processors": busy,
        "first_round_seconds": 1.0,
    }


def test_ratios_are_of_the_same_repetition():
    summary = bench.summarize(
        {"ceiling": [turn(100), turn(10)], "local": [turn(80, 200), turn(8, 200)], "bare": [turn(40), turn(4)]}
    )
    assert summary["local"]["of_ceiling"] == pytest.approx([0.8, 0.8])
    assert summary["bare"]["local_is_times"] == pytest.approx([2.0, 2.0])
    assert summary["bare"]["memory_to_local"] == pytest.approx([0.5, 0.5])
    assert summary["local"]["cpu_seconds_per_1000_examples"] == pytest.approx([25.0, 250.0])


def test_a_failed_turn_leaves_its_repetition_out():
    summary = bench.summarize({"local": [turn(80), turn(60)], "flower": [None, turn(30)]})
    assert summary["flower"]["local_is_times"] == [2.0]
    assert summary["flower"]["of_ceiling"] == []
    assert "of the ceiling" not in bench.tell(summary)
    assert "| flower " in bench.tell(summary)


def test_spread_has_median_and_range():
    assert report.spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0-3.0)"
    assert report.spread([1e6], 0, 1e-3) == "1,000"
    assert report.spread([]) == "-"


def test_growth_compares_early_with_late_rounds():
    grown = rounds.growth([9.0] * 4 + [1.0] * 46 + [3.0] * 50, [0.1] * 50 + [0.2] * 50, list(range(1, 102)))
    assert grown["seconds"] == {"early": 1.0, "late": 3.0, "ratio": 3.0}
    assert grown["yards"]["ratio"] == pytest.approx(1.5)
    assert grown["memory_bytes"] == {"early": 51, "late": 101, "ratio": 101 / 51}


def test_json_is_written_whole(tmp_path):
    path = str(tmp_path / "new" / "result.json")
    assert report.write("unused", {"machine": report.machine()}, path) == path
    with open(path) as file:
        assert json.load(file)["machine"]["processors"] >= 1
