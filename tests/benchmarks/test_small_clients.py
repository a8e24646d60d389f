"""The benchmark of small clients, with very few."""

import pytest

from benchmarks import small_clients


@pytest.mark.slow
def test_both_ways_run_and_train_the_same():
    figures = small_clients.measure(clients=3, rounds=2)
    usual, simple = (figures[way] for way in (small_clients.USUAL, small_clients.SIMPLE))
    assert usual["weights"] == simple["weights"]
    assert len(set(usual["weights"])) > 10
    assert len(usual["seconds"]) == len(simple["processor_seconds"]) == 2
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in small_clients.tell(figures, 3).splitlines()]
    assert [line[0] for line in lines[2:]] == [small_clients.USUAL, small_clients.SIMPLE]
    assert lines[2][2] == "1.00 (1.00-1.00)"
    assert lines[3][-1] == "0e+00"
