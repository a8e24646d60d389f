"""The benchmark of clients' states, with very few."""

import pytest

from benchmarks import client_states


@pytest.mark.slow
def test_all_algorithms_run():
    figures = client_states.measure(population=6, clients=3, rounds=2)
    assert {name: len(figures[name]) for name in client_states.CONTENDERS} == dict.fromkeys(client_states.CONTENDERS, 2)
    assert "| 6 " in client_states.describe([(6, figures)])
