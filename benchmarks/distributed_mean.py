"""Distributed mean estimation: shares of discrete noise at several bits, beside the central Gaussian mechanism.

The setting of Kairouz et al. 2021, https://arxiv.org/abs/2102.06387, section 5: vectors on a sphere, one release, and
nobody drops out or colludes. All are accounted by Renyi divergences: the exact profile of the Gaussian mechanism, which
sums of shares have not, would need less noise. The error is the squared distance of the estimated mean from that of the
vectors, in units of the squared norm of a vector, with 95 % intervals over trials.
"""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf
from scipy import stats

from benchmarks import report
from tff_tx.aggregators.dp.discrete import GridQuery
from tff_tx.core.integer_grid import rotated_size
from tff_tx.federation.secure_sums.masks import Stream
from tff_tx.federation.secure_sums.noise import Noise
from tff_tx.privacy import Distributed, Gaussian, find_noise_multiplier

DELTA = 1e-5


def vectors(clients: int, size: int, trial: int) -> np.ndarray:
    """Of norm 1, uniformly distributed, float32 [clients, size]."""
    drawn = np.random.default_rng(trial).normal(size=[clients, size])
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def central_error(x: np.ndarray, epsilon: float, trial: int) -> float:
    """Of the Gaussian mechanism at a trusted server."""
    z = find_noise_multiplier(Gaussian(1.0), 1, epsilon, DELTA, "rdp")
    noise = np.random.default_rng([trial, 1]).normal(size=x.shape[1]) * z / len(x)
    return float(np.sum(noise**2))


def distributed_errors(noise: str, bits: int, epsilon: float, trials: list[np.ndarray]) -> list[float]:
    """Of shares of noise, one a trial."""
    clients, size = trials[0].shape
    mechanism = Distributed(1.0, noise, 1.0, clients, clients, rotated_size(size), bits)
    mechanism = mechanism.with_noise(find_noise_multiplier(mechanism, 1, epsilon, DELTA))
    query, share = GridQuery(mechanism.grid, size, seed=bits), Noise(noise, mechanism.share_variance)
    encode = tf.function(lambda x: query.preprocess_record((), x), input_signature=[tf.TensorSpec([size])])
    errors = []
    for trial, x in enumerate(trials):
        total, stream = np.zeros(mechanism.size, np.int64), Stream(trial.to_bytes(32, "big"))
        for row in x:
            total += encode(row).numpy() + share.draw(mechanism.size, stream)
        found = query.get_noised_result(tf.constant(total % 2**bits, tf.int32), ())[0].numpy() / clients
        errors.append(float(np.sum((found - x.mean(0)) ** 2)))
    return errors


def _shown(errors):
    half = stats.t.ppf(0.975, len(errors) - 1) * np.std(errors, ddof=1) / len(errors) ** 0.5
    return f"{np.mean(errors):.3g} ± {half:.2g}"


def main() -> None:
    """Runs all cases and prints the table."""
    parser = report.parser(__doc__, "benchmarks/results/distributed_mean.json")
    parser.add_argument("--clients", type=int, default=100, help="clients")
    parser.add_argument("--size", type=int, default=250, help="numbers of a vector")
    parser.add_argument("--trials", type=int, default=20, help="means that are estimated, of vectors of their own")
    options = parser.parse_args()
    trials = [vectors(options.clients, options.size, trial) for trial in range(options.trials)]
    results, rows, bits = [], [], (10, 12, 14, 16)
    for epsilon, noise in itertools.product((0.75, 1.5, 3.0, 6.0), ("skellam", "discrete_gaussian")):
        found = {b: distributed_errors(noise, b, epsilon, trials) for b in bits}
        central = [central_error(x, epsilon, trial) for trial, x in enumerate(trials)]
        results.append({"epsilon": epsilon, "noise": noise, "central": central, "distributed": found})
        rows.append((f"{epsilon:g}", noise, *(_shown(found[b]) for b in bits), _shown(central)))
        print(report.table(_HEADER, rows[-1:]).splitlines()[-1], flush=True)
    print(report.table(_HEADER, rows))
    report.write("distributed_mean", {"machine": report.machine(), "results": results}, options.output)


_HEADER = ("epsilon", "noise", "10 bits", "12 bits", "14 bits", "16 bits", "central Gaussian")

if __name__ == "__main__":
    main()
