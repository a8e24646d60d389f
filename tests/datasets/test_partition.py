"""Laws of dealing examples to clients."""

import numpy as np
import pytest

from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec, partition

LABELS = np.repeat(np.arange(10), 60)
METHODS = {
    "iid": lambda clients, rng: partition.iid(len(LABELS), clients, rng),
    "power_law": lambda clients, rng: partition.power_law(len(LABELS), clients, 1.5, rng),
    "dirichlet": lambda clients, rng: partition.dirichlet(LABELS, clients, 0.3, rng),
    "dirichlet_tiny": lambda clients, rng: partition.dirichlet(LABELS, clients, 1e-6, rng),
    "shards": lambda clients, rng: partition.shards(LABELS, clients, 2, rng),
}


def label_shares(owners, clients):
    counts = np.zeros((clients, 10))
    np.add.at(counts, (owners, LABELS), 1)
    return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("clients", [1, 7, 300])
def test_every_example_has_an_owner_and_every_client_an_example(method, clients):
    owners = METHODS[method](clients, np.random.default_rng(0))
    assert owners.shape == LABELS.shape
    assert set(owners) == set(range(clients))


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides(method):
    first, again, other = (METHODS[method](20, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("method", ["iid", "dirichlet", "shards"])
def test_equal_sizes(method):
    sizes = np.bincount(METHODS[method](25, np.random.default_rng(0)))
    assert sizes.tolist() == [24] * 25


def test_power_law_sizes():
    def sizes(exponent):
        return np.bincount(partition.power_law(600, 20, exponent, np.random.default_rng(0)))

    assert sizes(0).tolist() == [30] * 20
    assert (np.diff(sizes(1.5)) <= 0).all()
    # Beyond the one example that each has, client i has (i + 1) ** -1.5 of the first one's.
    shares = (sizes(1.5) - 1) / (sizes(1.5)[0] - 1)
    np.testing.assert_allclose(shares, np.arange(1.0, 21) ** -1.5, atol=0.01)


def test_dirichlet_with_large_alpha_is_the_overall_distribution():
    labels = np.repeat(np.arange(10), 2000)
    owners = partition.dirichlet(labels, 5, 1e9, np.random.default_rng(0))
    counts = np.bincount(owners * 10 + labels).reshape(5, 10)
    # Four standard deviations, for the client that gets what four draws of 4,000 have left.
    np.testing.assert_allclose(counts / 4000, 0.1, atol=4 * 2 * (0.1 * 0.9 / 4000) ** 0.5)


def test_dirichlet_with_small_alpha_gives_most_clients_one_label():
    shares = label_shares(partition.dirichlet(LABELS, 60, 1e-4, np.random.default_rng(0)), 60)
    assert np.median(shares.max(axis=1)) == 1.0
    assert np.mean(shares.max(axis=1)) > 0.9


def test_dirichlet_concentrates_as_alpha_falls():
    def largest_share(alpha):
        owners = partition.dirichlet(LABELS, 30, alpha, np.random.default_rng(3))
        return label_shares(owners, 30).max(axis=1).mean()

    shares = [largest_share(alpha) for alpha in (100.0, 1.0, 0.1)]
    assert shares[0] < shares[1] < shares[2]


def test_shards_give_few_labels():
    owners = partition.shards(LABELS, 30, 2, np.random.default_rng(0))
    assert (label_shares(owners, 30) > 0).sum(axis=1).max() == 2


@pytest.mark.parametrize("method", METHODS)
def test_more_clients_than_examples_are_refused(method):
    with pytest.raises(UserError, match=r"data\.num_clients=601.*600 examples.*at most 600"):
        METHODS[method](601, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("deal", "message"),
    [
        (lambda rng: DataSpec(dirichlet_alpha=0.0), r"data\.dirichlet_alpha=0\.0: must be at least 1e-09"),
        (lambda rng: DataSpec(power_law_exponent=-1.0), r"data\.power_law_exponent=-1\.0: must be at least 0"),
        (lambda rng: DataSpec(shards_per_client=0), r"data\.shards_per_client=0: must be at least 1"),
        (lambda rng: partition.shards(LABELS, 400, 2, rng), r"data\.num_clients=400.*800.*600.*lower"),
        (lambda rng: DataSpec(num_clients=0), r"data\.num_clients=0: must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(deal, message):
    with pytest.raises(UserError, match=message):
        deal(np.random.default_rng(0))


@pytest.mark.parametrize("alpha", [1e-9, 1e9])
def test_every_dirichlet_concentration_deals_all_examples(alpha):
    owners = partition.dirichlet(LABELS, 7, alpha, np.random.default_rng(0))
    assert sorted(np.unique(owners)) == list(range(7))


@pytest.mark.parametrize("exponent", [0.0, 100.0])
def test_every_exponent_gives_all_clients_an_example(exponent):
    owners = partition.power_law(50, 7, exponent, np.random.default_rng(0))
    assert np.bincount(owners).min() >= 1
    assert len(owners) == 50
