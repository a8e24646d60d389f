"""The benchmark of clients' states, with very few."""

import pytest

from benchmarks import client_states


@pytest.mark.slow
def test_both_algorithms_run():
    figures = client_states.measure(population=6, clients=3, rounds=2)
    assert len(figures["fed_avg"]) == len(figures["scaffold"]) == 2
    assert "| 6 " in client_states.describe([(6, figures)])
