"""The grid of distributed noise is TFF's, and so is what a client may change."""

import math

import pytest
from tensorflow_federated.python.aggregators import discretization, distributed_dp

from tff_tx.core.integer_grid import IntegerGrid, rotated_size, rotation_block

EXPECTED, SIZE = 4, 1000


@pytest.mark.parametrize("noise", [0.0, 1.2])
def test_the_grid_is_tffs(noise):
    grid = IntegerGrid.for_sums(0.5, noise, EXPECTED, SIZE, 18)
    deviations = distributed_dp._clip_prob_to_num_stddevs(1e-4)
    theirs = distributed_dp._heuristic_scale_factor(noise * 0.5 / EXPECTED**0.5, 0.5, 18, EXPECTED, SIZE, deviations)
    assert grid.scale == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("bits", [8, 18])
@pytest.mark.parametrize("beta", [0.0, 0.3, math.exp(-0.5)])
def test_sensitivities_are_tffs(bits, beta):
    grid = IntegerGrid.for_sums(0.5, 1.2, EXPECTED, SIZE, bits, beta)
    bound = discretization.inflated_l2_norm_bound(0.5, 1 / grid.scale, beta, SIZE)
    assert grid.l2_sensitivity == pytest.approx(float(bound) * grid.scale, rel=2e-5)
    assert grid.l1_sensitivity == pytest.approx(grid.l2_sensitivity * min(grid.l2_sensitivity, 1000**0.5))


def test_vectors_become_whole_blocks():
    assert [rotated_size(n) for n in (1, 2, 3, 4096, 4097)] == [2, 2, 4, 4096, 8192]
    assert [rotation_block(n) for n in (1, 5, 9000)] == [2, 8, 4096]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"clip": math.inf}, "clip=inf"),
        ({"size": 0}, "size=0"),
        ({"bits": 31}, "bits=31"),
        ({"beta": 1.0}, "beta=1"),
        ({"scale": 0.0}, "scale=0"),
    ],
)
def test_what_is_out_of_range_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        IntegerGrid(**{"clip": 1.0, "scale": 1.0, "size": 8, "bits": 16, **wrong})


def test_bits_must_hold_the_sum():
    with pytest.raises(ValueError, match="3 bits do not hold the sum of 5 clients"):
        IntegerGrid.for_sums(1.0, 1.0, 5, 8, 3)
