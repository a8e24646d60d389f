"""The draw of the soak."""

import random

from benchmarks import chaos


def test_a_short_soak_meets_every_engine():
    drawn = chaos.Deck(random.Random(0), chaos.ENGINES)
    for _ in range(3):
        assert {drawn() for _ in chaos.ENGINES} == {*chaos.ENGINES}
