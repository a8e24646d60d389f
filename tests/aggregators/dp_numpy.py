"""The mechanisms' matrices, written down."""

import numpy as np


def honaker_sums(releases):
    """The noise of running sums with tree aggregation as a matrix over independent node noises, [releases, nodes].

    A node's estimate is its own noise averaged with its children's estimates by inverse variance (Honaker 2015):
    v = n + (l + r) / 2, weighted 1 / (2 - 2^-height) when used, height 0 for leaves. A sum over t leaves uses one node
    a binary digit of t.
    """
    nodes = []

    def estimate(height, position):
        """The unweighted estimate of a node as coefficients by node."""
        own = {(height, position): 1.0}
        if height:
            for child in (2 * position, 2 * position + 1):
                for node, weight in estimate(height - 1, child).items():
                    own[node] = own.get(node, 0.0) + 0.5 * weight
        return own

    rows = []
    for t in range(1, releases + 1):
        row, start = {}, 0
        for height in reversed(range(t.bit_length())):
            if t >> height & 1:
                for node, weight in estimate(height, start >> height).items():
                    row[node] = row.get(node, 0.0) + weight / (2 - 0.5**height)
                start += 1 << height
        rows.append(row)
        nodes += [node for node in row if node not in nodes]
    return np.array([[row.get(node, 0.0) for node in nodes] for row in rows])


def tree_increments(releases, restart_every=None):
    """What the noise of running sums grows by, as a matrix over independent noises, [releases, noises]."""
    length = restart_every or releases
    block = honaker_sums(length)
    block = np.diff(block, axis=0, prepend=np.zeros_like(block[:1]))
    trees = -(-releases // length)
    return np.kron(np.eye(trees), block)[:releases]


def dense(strategy):
    """A strategy's bands [n, b] as the lower-triangular matrix [n, n]."""
    n, bands = strategy.shape
    matrix = np.zeros([n, n])
    for t in range(n):
        for j in range(min(bands, t + 1)):
            matrix[t, t - j] = strategy[t, j]
    return matrix
