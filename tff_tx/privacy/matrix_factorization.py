"""Banded matrix factorization: noise that cancels over the rounds, for clients with a minimum separation.

The sums that a server optimizer makes of the rounds' updates are A x, x the updates by round. C x + Z with independent
Gaussian Z is released once and for all, and with it A C^-1 (C x + Z) = A (x + C^-1 Z): so that every round's noise is a
row of C^-1 Z. Choquette-Choo et al., "(Amplified) Banded Matrix Factorization: A unified approach to private training",
2023, https://arxiv.org/abs/2306.08153.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.linalg
import scipy.optimize
import threadpoolctl

from tff_tx.core.errors import UserError, setting
from tff_tx.privacy.mechanism import Participation, largest_sum


@dataclasses.dataclass(frozen=True, eq=False)
class BandedMatrix:
    """A lower-triangular matrix C by its bands.

    Attributes:
      rows: [rounds, bands] float64: rows[t, j] = C[t, t - j], 0 where that is outside of C. So the noise of round t is
        (Z[t] - sum_{j >= 1} rows[t, j] noise[t - j]) / rows[t, 0].

    Raises:
      ValueError: If it is no matrix, or its diagonal is not above 0.
    """

    rows: np.ndarray

    def __post_init__(self):
        rows = np.asarray(self.rows, np.float64)
        if rows.ndim != 2 or not np.all(np.isfinite(rows)) or not np.all(rows[:, 0] > 0):
            raise ValueError("rows must be [rounds, bands], finite, with a first column (the diagonal) above 0.")
        outside = np.arange(rows.shape[1]) > np.arange(len(rows))[:, None]
        rows = np.where(outside, 0.0, rows)
        rows.flags.writeable = False
        object.__setattr__(self, "rows", rows)

    @property
    def rounds(self) -> int:
        """Rounds that there is noise for."""
        return self.rows.shape[0]

    @property
    def bands(self) -> int:
        """b, the diagonal included."""
        return self.rows.shape[1]

    def dense(self) -> np.ndarray:
        """C, [rounds, rounds] float64."""
        return _dense(self.rows)

    def sensitivity(self, participation: Participation, rounds: int | None = None) -> float:
        """By how much the updates of one client, of norm 1 at most, change the first rows of C x, in L2 norm.

        Exact where a client's rounds are at least as far apart as C has bands, since columns of C that far apart are
        orthogonal (Choquette-Choo et al. 2023, Theorem 2). Otherwise an upper bound: for a pattern u, u^T |C^T C| u is
        at most the sum over the rounds i of u of the largest sum over j of |C^T C|[i, j] that any pattern has.

        Args:
          participation: The rounds that a client may take part in.
          rounds: How many rounds have been released; default: all.

        Raises:
          UserError: If there are fewer rounds.
        """
        rounds = self.rounds if rounds is None else rounds
        if rounds > self.rounds:
            raise UserError(f"rounds={rounds} is more than the {self.rounds} rounds that the noise was made for.")
        if self.bands <= participation.min_separation:
            return float(np.sqrt(largest_sum(_squared_column_norms(self.rows[:rounds]), participation)))
        released = _dense(self.rows[:rounds])
        by_round = largest_sum(np.abs(released.T @ released), participation)
        return float(np.sqrt(largest_sum(by_round, participation)))

    def sum_variances(self, workload: np.ndarray | None = None) -> np.ndarray:
        """Variances of the noise in the rows of A x, [rounds], for Z of variance 1.

        Args:
          workload: A, [rounds, rounds]; default: running sums.
        """
        if workload is not None:
            return np.sum(_right_solve(self.rows, np.asarray(workload, float)) ** 2, axis=1)
        return self._running_sum_variances.copy()

    @functools.cached_property
    def _running_sum_variances(self):
        return np.sum(_right_solve(self.rows, np.tri(self.rounds)) ** 2, axis=1)


def workload(rounds: int, momentum: float = 0.0, learning_rates: np.ndarray | None = None) -> np.ndarray:
    """A: the linear map of a server optimizer from updates to weights, [rounds, rounds] float64.

    Row t are the weights after round t: A[t, j] = sum_{s=j..t} rate[s] momentum^(s-j) (Denisov et al. 2022,
    https://arxiv.org/abs/2202.08312, Section 4); running sums with the defaults.

    Args:
      rounds: Number of rounds, at least 1.
      momentum: Of SGD on the server, 0 or more and below 1.
      learning_rates: Of SGD on the server by round, [rounds]; default: 1.

    Raises:
      UserError: If a value is out of range.
    """
    if rounds < 1:
        raise UserError(f"rounds={rounds}: must be at least 1.")
    if not 0 <= momentum < 1:
        raise UserError(f"{setting('server.momentum')}={momentum}: must be at least 0 and below 1.")
    rates = np.ones(rounds) if learning_rates is None else np.asarray(learning_rates, float)
    if rates.shape != (rounds,):
        raise ValueError(f"learning_rates has the shape {rates.shape}, not ({rounds},).")
    ages = np.subtract.outer(np.arange(rounds), np.arange(rounds))
    powers = np.where(ages >= 0, momentum ** np.maximum(ages, 0), 0.0)
    return np.cumsum(rates[:, None] * powers, axis=0)


def square_root_bands(rounds: int, bands: int) -> BandedMatrix:
    """The first bands of the square root of the matrix of running sums, with columns of norm 1.

    C[t, t - j] = binom(2j, j) / 4^j before the columns are scaled: Fichtenberger, Henzinger and Upadhyay, "Constant
    matters", 2022, https://arxiv.org/abs/2202.11205. The optimum is sought from there.
    """
    factors = np.ones(bands)
    for j in range(1, bands):
        factors[j] = factors[j - 1] * (2 * j - 1) / (2 * j)
    return BandedMatrix(_unit_columns(np.where(_inside(rounds, bands), factors, 0.0))[0])


def optimize_banded(
    rounds: int, bands: int, target: np.ndarray | None = None, tolerance: float = 1e-7, max_steps: int = 500
) -> BandedMatrix:
    """The banded matrix with columns of norm 1 that has least squared error: min ||A C^-1||_F^2.

    With rounds of a client at least `bands` apart its sensitivity is the root of their number, whatever its values; so
    this is the best of all banded matrices (Choquette-Choo et al. 2023, Section 4). In X = C^T C the problem is convex;
    C = L diag(||L[:, j]||)^-1 with ones on the diagonal of L reaches every X exactly once and needs no
    constraint, so that L-BFGS, which stops at a stationary point in L, stops at the optimum.

    Time grows with rounds^2 bands: a second or two for 500 rounds with 20 bands, about a minute for 2,000. One thread
    computes, as sums over several come in another order, and a run that is resumed has to find the same matrix.

    Args:
      rounds: Size of C, at least 1.
      bands: Bands of C, the diagonal included; as many as the separation of a client's rounds, or fewer for less memory
        and time; at most as many as rounds count.
      target: A, [rounds, rounds] lower-triangular; default: running sums.
      tolerance: It ends when a step decreases the error by less than this, relatively.
      max_steps: Maximum number of steps.

    Raises:
      UserError: If there is no such matrix.
    """
    if rounds < 1 or bands < 1:
        raise UserError(f"rounds={rounds} and bands={bands}: must both be at least 1.")
    bands = min(bands, rounds)
    target = np.tri(rounds) if target is None else np.asarray(target, float)
    if target.shape != (rounds, rounds):
        raise ValueError(f"target has the shape {target.shape}, not ({rounds}, {rounds}).")
    start = square_root_bands(rounds, bands)
    free = _inside(rounds, bands)
    free[:, 0] = False
    if not free.any():
        return start

    # With a column scaled to 1 at the diagonal.
    start_rows = start.rows / _by_column(start.rows[:, 0], bands)

    def rows_of(values):
        rows = np.zeros((rounds, bands))
        rows[:, 0] = 1.0
        rows[free] = values
        return rows

    def squared_error(values):
        error, gradient = _squared_error(rows_of(values), target)
        return error, gradient[free]

    with threadpoolctl.threadpool_limits(1):
        scale = squared_error(start_rows[free])[0]
        found = scipy.optimize.minimize(
            lambda values: tuple(part / scale for part in squared_error(values)),
            start_rows[free],
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_steps, "maxfun": 2 * max_steps, "ftol": tolerance, "gtol": 0.0, "maxcor": 20},
        )
    return BandedMatrix(_unit_columns(rows_of(found.x))[0])


def _squared_error(rows: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """||A C^-1||_F^2 for C = L with columns scaled to norm 1, and its gradient in the bands of L.

    B = A C^-1 = A diag(s) L^-1 with the norms s of L's columns. From dB = A diag(ds) L^-1 - B dL L^-1 the gradient is
    2 (s_j^-1 L[i, j] (R A)[j, j] - (R B)[j, i]) with R = L^-1 B^T.
    """
    norms = _unit_columns(rows)[1]
    b = _right_solve(rows, target * norms)
    r = _left_solve(rows, b.T)
    bands, by_column = rows.shape[1], np.einsum("jt,tj->j", r, target) / norms
    gradient = 2 * (rows * _by_column(by_column, bands) - _band_of_product(r, b, bands))
    return float(np.sum(b**2)), gradient


def _band_of_product(left: np.ndarray, right: np.ndarray, bands: int) -> np.ndarray:
    """(left @ right)[j, i] at [i, i - j], for the i - j that are a band and a lower-triangular right."""
    size, block = len(left), max(bands, 64)
    result = np.zeros((size, bands))
    for start in range(0, size, block):
        end, reach = min(start + block, size), min(start + block + bands - 1, size)
        product = left[start:end, start:] @ right[start:, start:reach]
        for j in range(bands):
            count = min(end, size - j) - start
            if count > 0:
                result[start + j : start + j + count, j] = np.diagonal(product, j)[:count]
    return result


def _left_solve(rows: np.ndarray, right: np.ndarray) -> np.ndarray:
    """C^-1 right, block by block, so that almost all of it is products of matrices."""
    size, bands = rows.shape
    dense, block = _dense(rows), max(bands, 64)
    solution = np.empty((size, right.shape[1]))
    for start in range(0, size, block):
        end, reach = min(start + block, size), max(0, start - bands + 1)
        rest = right[start:end] - dense[start:end, reach:start] @ solution[reach:start]
        solution[start:end] = scipy.linalg.solve_triangular(dense[start:end, start:end], rest, lower=True)
    return solution


def _right_solve(rows: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Left C^-1: the transpose of C^-T left^T, with both axes in reverse a lower-triangular problem again."""
    return _left_solve(_reversed_transpose(rows), left.T[::-1]).T[:, ::-1]


def _reversed_transpose(rows):
    """The bands of J C^T J, J the matrix that reverses: [i, j] is C[n - 1 - i + j, n - 1 - i]."""
    size, bands = rows.shape
    result = np.zeros_like(rows)
    for j in range(bands):
        result[j:, j] = rows[j:, j][::-1]
    return result


def _unit_columns(rows):
    """The bands of the matrix with columns of norm 1, and the norms before."""
    norms = np.sqrt(_squared_column_norms(rows))
    return rows / _by_column(norms, rows.shape[1]), norms


def _squared_column_norms(rows):
    size, bands = rows.shape
    squares = np.zeros(size)
    for j in range(min(bands, size)):
        squares[: size - j] += rows[j:, j] ** 2
    return squares


def _by_column(values, bands):
    """values[j] at [i, i - j]."""
    return values[np.maximum(np.arange(len(values))[:, None] - np.arange(bands), 0)]


def _inside(rounds, bands):
    return np.arange(rounds)[:, None] >= np.arange(bands)


def _dense(rows):
    size, bands = rows.shape
    dense = np.zeros((size, size))
    for j in range(bands):
        dense[np.arange(j, size), np.arange(size - j)] = rows[j:, j]
    return dense
