"""Simulated time to accuracy of client sampling: `python -m benchmarks.samplers`.

A softmax regression on the digits of scikit-learn, in NumPy, with the project's own samplers and simulated devices
whose speeds differ: 100 clients of a Dirichlet partition, cohorts of 10, three local epochs. Prints for each sampler
the simulated seconds until an accuracy on held-out data, as mean and standard deviation over three seeds.
"""

from __future__ import annotations

import tempfile

import numpy as np
import sklearn.datasets

from tff_tx.cohorts import ADAPTIVE, Devices, Feedback, Known, build_sampler

CLIENTS, COHORT, EPOCHS, RATE = 100, 10, 3, 0.3
SAMPLERS = ("uniform", "by_size", *ADAPTIVE)


def federation(seed: int) -> tuple[dict, tuple]:
    """Examples (x, y) by client, float64 [n, 64] and int [n], and those that are held out."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    x, y = x[order] / 16.0, y[order]
    held_out, x, y = (x[:400], y[:400]), x[400:], y[400:]
    owners = np.zeros(len(y), int)
    for label in range(10):
        shares = rng.dirichlet(np.full(CLIENTS, 0.3))
        owners[y == label] = rng.choice(CLIENTS, (y == label).sum(), p=shares)
    parts = {f"c{c:03}": (x[owners == c], y[owners == c]) for c in range(CLIENTS)}
    return {c: part for c, part in parts.items() if len(part[1])}, held_out


def _probabilities(weights, x):
    logits = x @ weights[:-1] + weights[-1]
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def _train(weights, x, y):
    """(weights after local epochs of full batches, mean loss before each of them)."""
    losses = []
    for _ in range(EPOCHS):
        found = _probabilities(weights, x)
        losses.append(-np.log(np.maximum(found[np.arange(len(y)), y], 1e-12)).mean())
        error = (found - np.eye(10)[y]) / len(y)
        weights = weights - RATE * np.vstack([x.T @ error, error.sum(0)])
    return weights, float(np.mean(losses))


def seconds_to(name: str, seed: int, goal: float, most_rounds: int = 400) -> float:
    """Simulated seconds until a sampler's run reaches an accuracy; infinite if it does not within the rounds."""
    data, (x, y) = federation(seed)
    sizes = {c: len(part[1]) for c, part in data.items()}
    devices = Devices(seconds_per_example=0.1, speed_spread=1.0, seed=seed)
    seconds = {c: devices.duration(c, EPOCHS * n, 0) for c, n in sizes.items()}
    with tempfile.TemporaryDirectory() as directory:
        feedback = Feedback(directory)
        sample = build_sampler(name, list(data), COHORT, seed, sizes=sizes, known=Known(feedback, sizes, seconds))
        weights, elapsed = np.zeros((65, 10)), 0.0
        for round_num in range(1, most_rounds + 1):
            cohort = sample(round_num)
            trained = {c: _train(weights, *data[c]) for c in cohort}
            weights = np.average([w for w, _ in trained.values()], 0, weights=[sizes[c] for c in cohort])
            feedback.append(round_num, {c: loss for c, (_, loss) in trained.items()})
            elapsed += max(seconds[c] for c in cohort)
            if (_probabilities(weights, x).argmax(1) == y).mean() >= goal:
                return elapsed
    return np.inf


def main() -> None:
    """Prints the table."""
    goals, seeds = (0.8, 0.85, 0.9), (1, 2, 3)
    print(f"{'':16}" + "".join(f"{goal:>15.0%}" for goal in goals))
    for name in SAMPLERS:
        found = [[seconds_to(name, seed, goal) for seed in seeds] for goal in goals]
        shown = [f"{np.mean(values):,.0f} ± {np.std(values, ddof=1):,.0f}" for values in found]
        print(f"{name:16}" + "".join(f"{text:>15}" for text in shown))


if __name__ == "__main__":
    main()
