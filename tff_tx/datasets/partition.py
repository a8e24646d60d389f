"""Who owns which example, when the data do not say: pure functions from labels or sizes to owners.

Each returns one int64 client index per example, in [0, num_clients), and every client gets at least
one example. The same generator state gives the same answer.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import numpy as np

from tff_tx.core.errors import UserError, setting


def iid(num_examples: int, num_clients: int, rng: np.random.Generator) -> np.ndarray:
    """Spreads the examples at random, sizes equal up to one."""
    _check_enough(num_examples, num_clients)
    return rng.permutation(np.arange(num_examples) % num_clients)


def power_law(num_examples: int, num_clients: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Spreads the examples at random, client i getting a share of (i + 1) ** -exponent.

    Every client has one example before the rest is shared out, so `exponent=0` gives equal sizes.
    """
    _check_enough(num_examples, num_clients)
    weights = np.arange(1, num_clients + 1, dtype=np.float64) ** -exponent
    shares = (num_examples - num_clients) * weights / weights.sum()
    sizes = np.floor(shares).astype(np.int64)
    left = num_examples - num_clients - sizes.sum()
    sizes[np.argsort(sizes - shares, kind="stable")[:left]] += 1
    return rng.permutation(np.repeat(np.arange(num_clients), sizes + 1))


def dirichlet(labels: np.ndarray, num_clients: int, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """Gives every client a label distribution of its own, drawn from Dirichlet(alpha * prior).

    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification"
    (2019), section 3: clients of equal size draw without replacement; a label that runs out is dropped from the
    distributions of the clients still to be served. `alpha`, above 0, to infinity gives every client the overall
    distribution, `alpha` to 0 a single label each. Labels are int [examples].
    """
    _check_enough(len(labels), num_clients)
    pools = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    left = np.array([len(pool) for pool in pools])
    prior = left / left.sum()
    owners = np.empty(len(labels), dtype=np.int64)
    sizes = np.full(num_clients, len(labels) // num_clients)
    sizes[: len(labels) % num_clients] += 1
    # A gamma draw per label and division by the sum is a Dirichlet draw; kept as logarithms, tiny
    # alphas do not underflow to 0 / 0 (Gamma(a) = Gamma(a + 1) * U ** (1 / a)).
    shape = alpha * prior
    for client, size in enumerate(sizes):
        log_weights = np.log(rng.gamma(shape + 1)) + np.log(rng.uniform(size=len(prior))) / shape
        while size:
            logs = np.where(left > 0, log_weights, -np.inf)
            weights = np.exp(logs - logs.max())
            counts = np.minimum(rng.multinomial(size, weights / weights.sum()), left)
            for label in np.flatnonzero(counts):
                end = left[label]
                owners[pools[label][end - counts[label] : end]] = client
            left -= counts
            size -= counts.sum()
    return owners


def shards(labels: np.ndarray, num_clients: int, shards_per_client: int, rng: np.random.Generator) -> np.ndarray:
    """Sorts by label, cuts into equal shards, deals each client `shards_per_client` of them.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017), section 3: the
    "pathological non-IID" partition; most clients see as many labels.
    """
    _check_enough(len(labels), num_clients)
    num_shards = num_clients * shards_per_client
    if num_shards > len(labels):
        raise UserError(
            f"{setting('data.num_clients')}={num_clients} times "
            f"{setting('data.shards_per_client')}={shards_per_client} makes {num_shards} shards of {len(labels)} "
            "examples; lower one of them."
        )
    # Shuffled first, so that the shards within a label do not depend on the order of the file.
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    dealt = rng.permutation(np.arange(num_shards) % num_clients)
    owners = np.empty(len(labels), dtype=np.int64)
    for client, shard in zip(dealt, np.array_split(order, num_shards)):
        owners[shard] = client
    return owners


def _check_enough(num_examples: int, num_clients: int) -> None:
    if num_clients > num_examples:
        raise UserError(
            f"{setting('data.num_clients')}={num_clients} is more than the {num_examples} examples there are, and "
            f"every client needs one; give at most {num_examples}."
        )


@dataclasses.dataclass(frozen=True)
class Partition:
    """A way of dealing examples to clients.

    Attributes:
      deal: (rows with `num_rows` and, as needed, `labels` or `clients`, int [rows]; number of clients; `DataSpec`;
        generator) -> owners, int64 [rows].
      by_label: Whether it goes by the labels.
    """

    deal: Callable[[Any, int, Any, np.random.Generator], np.ndarray]
    by_label: bool = False


COLUMN = Partition(lambda rows, clients, spec, rng: rows.clients.astype(np.int64))
"""The data's own clients."""

AUTO = COLUMN
"""If the data have clients; else `IID`."""

IID = Partition(lambda rows, clients, spec, rng: iid(rows.num_rows, clients, rng))
DIRICHLET = Partition(
    lambda rows, clients, spec, rng: dirichlet(rows.labels, clients, spec.dirichlet_alpha, rng), by_label=True
)
SHARDS = Partition(
    lambda rows, clients, spec, rng: shards(rows.labels, clients, spec.shards_per_client, rng), by_label=True
)
POWER_LAW = Partition(lambda rows, clients, spec, rng: power_law(rows.num_rows, clients, spec.power_law_exponent, rng))
