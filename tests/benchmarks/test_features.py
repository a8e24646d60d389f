"""What the benchmark of features makes of its figures."""

from benchmarks import features


def test_ratios_are_of_the_same_turn():
    figures = {
        "texts": {"first_seconds": 3.0, "seconds": [2.0, 4.0, 3.0]},
        "features": {"first_seconds": 3.5, "seconds": [0.1, 0.1, 0.1], "bytes": 2_000_000, "difference": 1e-7},
    }
    texts, kept = features.tell(figures).splitlines()[2:]
    assert "3.000 (2.000-4.000)" in texts
    assert "30.0 (20.0-40.0)" in kept
    assert "2.00" in kept
    assert "1.0e-07" in kept
