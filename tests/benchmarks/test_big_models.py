"""The table of the large model, and that its contender runs."""

import pytest

from benchmarks import big_models, processes


@pytest.mark.slow
def test_the_contender_runs_and_learns_the_same_in_all_ways():
    shared = ["--size=tiny", "--clients=2", "--batch_size=4", "--length=8"]
    runs = {
        way: processes.run("benchmarks.contenders.big_model", [*shared, *big_models.WAYS[way]])
        for way in ("as it is", "all three")
    }
    assert all(run["failures"] == 0 for run in runs.values())
    assert abs(runs["as it is"]["loss"] - runs["all three"]["loss"]) < 0.1
    lines = big_models.tell(runs).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["clients compute", "-" * 17, "as it is", "all three"]
    assert lines[2].split("|")[3].strip() == "1.00"
