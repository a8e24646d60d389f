"""The rules in NumPy, from their papers' definitions, in float64: loops over clients, nothing streamed or chunked.

Each takes x [n, d] and the clients' weights [n], and gives [d].
"""

from __future__ import annotations

import numpy as np


def mean(x, w):
    return (w[:, None] * x).sum(0) / w.sum()


def attention(x, w, layers, temperature=1.0, step_size=1.0, floor=0.0, losses=None):
    """Layers are slices of the columns."""
    result = np.zeros(x.shape[1])
    for layer in layers:
        score = np.linalg.norm(x[:, layer], axis=1) if losses is None else -np.asarray(losses, np.float64)
        e = w * np.exp((score - score.max()) / temperature)
        alpha = (1 - floor) * e / e.sum() + floor * w / w.sum()
        result[layer] = step_size * alpha @ x[:, layer]
    return result


def median(x, w):
    return np.median(x, axis=0)


def trimmed_mean(x, w, f):
    return np.sort(x, axis=0)[f : len(x) - f].mean(0)


def krum_score(i, present, x, f):
    distances = sorted(((x[i] - x[j]) ** 2).sum() for j in present if j != i)
    return sum(distances[: max(1, len(present) - f - 2)])


def krum(x, w, f, m=1):
    everyone = range(len(x))
    best = sorted(everyone, key=lambda i: krum_score(i, everyone, x, f))
    return x[best[:m]].mean(0)


def bulyan(x, w, f):
    left, chosen = list(range(len(x))), []
    while len(chosen) < len(x) - 2 * f:
        best = min(left, key=lambda i: krum_score(i, left, x, f))
        left.remove(best)
        chosen.append(best)
    result = []
    for column in x[chosen].T:
        middle = np.median(column)
        result.append(np.mean(sorted(column, key=lambda v: abs(v - middle))[: len(chosen) - 2 * f]))
    return np.array(result)


def geometric_median(x, w, iterations, smoothing=1e-6):
    v = mean(x, w)
    for _ in range(iterations):
        beta = w / w.sum() / np.maximum(smoothing, np.linalg.norm(x - v, axis=1))
        v = mean(x, beta)
    return v


def centered_clipping(rounds, radius):
    """The last of several rounds, each (x, w)."""
    v = 0.0
    for x, w in rounds:
        scale = np.minimum(1.0, radius / np.linalg.norm(x - v, axis=1))
        v = v + mean((x - v) * scale[:, None], w)
    return v


def sum_of_distances(v, x, w):
    """What the geometric median makes least."""
    return (w * np.linalg.norm(x - v, axis=1)).sum()
