"""The banded factorization: optimal, as sensitive as told, and the noise that it makes."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import threadpoolctl

from tests.privacy.patterns import patterns
from tests.privacy.patterns import squared_sensitivity as by_force
from tff_tx.core.errors import UserError
from tff_tx.privacy import BandedMatrix, Participation, matrix_factorization, optimize_banded, tree, workload


def error_of(dense, target):
    return float(np.sum((target @ np.linalg.inv(dense)) ** 2))


class TestOptimum:
    """Against other ways to the same minimum."""

    def test_two_rounds_by_hand(self):
        # min (3 - 2 x) / (1 - x^2) is at x = (3 - sqrt 5) / 2.
        matrix = optimize_banded(2, 2)
        assert matrix.sum_variances().sum() == pytest.approx((3 + 5**0.5) / 2)
        assert (matrix.dense().T @ matrix.dense())[0, 1] == pytest.approx((3 - 5**0.5) / 2, abs=1e-4)

    @pytest.mark.parametrize("rounds", [5, 32])
    def test_all_bands_as_the_fixed_point(self, rounds):
        # Denisov et al. 2022, Theorem 3.2 and Section 3: the optimum's dual variables v are a fixed point of
        # v = diag((diag(v)^1/2 A^T A diag(v)^1/2)^1/2), and it is their sum.
        target = np.tri(rounds)
        gram, v = target.T @ target, np.ones(rounds)
        for _ in range(300):
            root = np.sqrt(v)
            v = np.diag(scipy.linalg.sqrtm(root[:, None] * gram * root)).real
        assert optimize_banded(rounds, rounds, tolerance=1e-12).sum_variances().sum() == pytest.approx(
            v.sum(), rel=1e-6
        )

    @pytest.mark.parametrize(("rounds", "bands"), [(5, 2), pytest.param(6, 3, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_a_second_optimizer(self, rounds, bands, momentum):
        # Over X = C^T C itself, without gradients of ours, and from X = I.
        target = workload(rounds, momentum)
        gram = target.T @ target
        free = [(i, j) for i in range(rounds) for j in range(i) if i - j < bands]

        def error(values):
            x = np.eye(rounds)
            for (i, j), value in zip(free, values):
                x[i, j] = x[j, i] = value
            if np.linalg.eigvalsh(x)[0] <= 1e-9:
                return 1e6
            return np.trace(np.linalg.solve(x, gram))

        options = {"maxiter": 40_000, "maxfev": 40_000, "xatol": 1e-9, "fatol": 1e-10, "adaptive": True}
        found = scipy.optimize.minimize(error, np.zeros(len(free)), method="Nelder-Mead", options=options)
        matrix = optimize_banded(rounds, bands, target, tolerance=1e-13)
        assert matrix.sum_variances(target).sum() == pytest.approx(found.fun, rel=1e-6)

    def test_the_gradient(self, rng):
        rows = np.where(matrix_factorization._inside(9, 4), rng.normal(size=(9, 4)), 0.0)
        rows[:, 0] = 1.0
        target = workload(9, 0.5, rng.uniform(0.5, 1, 9))
        _, gradient = matrix_factorization._squared_error(rows, target)
        for place in [(1, 1), (5, 3), (8, 1), (8, 3)]:
            moved = [rows.copy(), rows.copy()]
            moved[0][place] += 1e-6
            moved[1][place] -= 1e-6
            up, down = (matrix_factorization._squared_error(m, target)[0] for m in moved)
            assert gradient[place] == pytest.approx((up - down) / 2e-6, rel=1e-4)

    def test_the_error_is_that_of_the_dense_matrix(self, rng):
        target = np.tril(rng.normal(size=(150, 150)))
        matrix = optimize_banded(150, 5, max_steps=3)
        assert matrix.sum_variances(target).sum() == pytest.approx(error_of(matrix.dense(), target))
        np.testing.assert_allclose(matrix.sum_variances(), matrix.sum_variances(np.tri(150)))

    def test_more_bands_are_never_worse(self):
        errors = [optimize_banded(64, bands).sum_variances().sum() for bands in (1, 2, 4, 8, 16, 64)]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] == pytest.approx(64 * 65 / 2)  # no correlation

    def test_it_is_the_same_whatever_the_number_of_threads(self):
        found = []
        for threads in (1, 2):
            with threadpoolctl.threadpool_limits(threads):
                found.append(optimize_banded(300, 40).rows)
        np.testing.assert_array_equal(*found)

    def test_columns_have_norm_one(self):
        np.testing.assert_allclose(np.linalg.norm(optimize_banded(30, 7).dense(), axis=0), 1.0)

    def test_it_is_the_best_for_its_own_workload(self):
        target = workload(24, 0.9, np.linspace(1, 0.1, 24))
        plain, own = optimize_banded(24, 6), optimize_banded(24, 6, target)
        assert own.sum_variances(target).sum() < plain.sum_variances(target).sum()
        assert own.sum_variances().sum() > plain.sum_variances().sum()


class TestBounds:
    """Between what nobody can do better and published factorizations."""

    @pytest.mark.parametrize("rounds", [16, 64, pytest.param(200, marks=pytest.mark.slow)])
    def test_between_the_spectral_bound_and_the_square_root(self, rounds):
        # ||A||_* <= ||B||_F ||C||_F for any B C = A; singular values of running sums are 1 / (2 sin(.)).
        angles = (2 * np.arange(1, rounds + 1) - 1) * np.pi / (4 * rounds + 2)
        lowest = np.sum(1 / (2 * np.sin(angles))) ** 2 / rounds
        best = optimize_banded(rounds, rounds).sum_variances().sum()
        square_root = matrix_factorization.square_root_bands(rounds, rounds).sum_variances().sum()
        # Fichtenberger, Henzinger and Upadhyay 2022, Theorem 1: at most 1 + ln(4 n / 5) / pi for each factor.
        assert lowest < best < square_root < rounds * (1 + np.log(4 * rounds / 5) / np.pi) ** 2
        assert best < 1.1 * lowest

    def test_the_square_root_is_one(self):
        rows = matrix_factorization.square_root_bands(20, 20)
        unscaled = rows.dense() / rows.rows[:, 0][None, :]
        np.testing.assert_allclose(unscaled @ unscaled, np.tri(20), atol=1e-12)

    @pytest.mark.parametrize(
        ("rounds", "separation"), [(64, 64), (128, 16), (300, 50), pytest.param(512, 32, marks=pytest.mark.slow)]
    )
    def test_no_worse_than_the_tree_and_the_tree_than_independent_noise(self, rounds, separation):
        # Mean squared error of the running sums at the same privacy: variances times squared sensitivity.
        participation = Participation(separation)
        matrix = optimize_banded(rounds, separation)
        banded = matrix.sum_variances().mean() * matrix.sensitivity(participation) ** 2
        by_tree = tree.sum_variances(rounds).mean() * tree.squared_sensitivity(rounds, participation)
        independent = (rounds + 1) / 2 * participation.count(rounds)
        assert banded < by_tree < independent

    def test_one_band_is_independent_noise(self):
        matrix = optimize_banded(10, 1)
        np.testing.assert_array_equal(matrix.dense(), np.eye(10))


class TestSensitivity:
    """Under (k, b)-participation."""

    @pytest.mark.parametrize("participation", [Participation(3), Participation(4, 2), Participation(9)])
    def test_exact_where_rounds_are_as_far_apart_as_bands(self, participation, rng):
        rows = rng.normal(size=(9, 3))
        rows[:, 0] = np.abs(rows[:, 0]) + 0.1
        matrix = BandedMatrix(rows)
        for rounds in (1, 4, 9):
            expected = by_force(matrix.dense()[:rounds, :rounds], participation)
            assert matrix.sensitivity(participation, rounds) ** 2 == pytest.approx(expected)

    @pytest.mark.parametrize("participation", [Participation(), Participation(2), Participation(2, 3)])
    def test_a_bound_elsewhere(self, participation, rng):
        rows = rng.normal(size=(8, 4))
        rows[:, 0] = np.abs(rows[:, 0]) + 0.1
        matrix = BandedMatrix(rows)
        exact = by_force(matrix.dense(), participation)
        assert exact <= matrix.sensitivity(participation) ** 2 * (1 + 1e-12)
        same_signs = BandedMatrix(np.abs(rows))
        assert same_signs.sensitivity(participation) ** 2 <= 1.5 * by_force(same_signs.dense(), participation)

    def test_of_the_optimum(self):
        matrix = optimize_banded(100, 10)
        assert matrix.sensitivity(Participation(10)) == pytest.approx(10**0.5)
        assert matrix.sensitivity(Participation(20)) == pytest.approx(5**0.5)
        by_round = [matrix.sensitivity(Participation(10), r) for r in range(1, 101)]
        assert by_round == sorted(by_round)
        assert by_round[0] < 1

    def test_the_largest_sum(self, rng):
        values = rng.uniform(size=(3, 11))
        for participation in (Participation(), Participation(3), Participation(2, 3), Participation(20)):
            expected = [max(sum(row[c] for c in chosen) for chosen in patterns(11, participation)) for row in values]
            found = matrix_factorization.largest_sum(values, participation)
            np.testing.assert_allclose(found, expected)

    def test_no_noise_for_more_rounds(self):
        with pytest.raises(UserError, match="rounds=11 is more than the 10 rounds that the noise was made for"):
            optimize_banded(10, 2).sensitivity(Participation(2), 11)


class TestNoise:
    """What the rows are for."""

    def test_the_recursion_makes_the_noise(self, rng):
        matrix = optimize_banded(40, 6)
        z, noise = rng.normal(size=(40, 3)), np.zeros((40, 3))
        for t in range(40):
            earlier = sum(matrix.rows[t, j] * noise[t - j] for j in range(1, min(6, t + 1)))
            noise[t] = (z[t] - earlier) / matrix.rows[t, 0]
        np.testing.assert_allclose(matrix.dense() @ noise, z, atol=1e-12)

    @pytest.mark.parametrize("rows", [np.ones(3), np.zeros((3, 2)), np.array([[1.0], [-1.0]]), np.array([[np.nan]])])
    def test_what_is_no_such_matrix_is_refused(self, rows):
        with pytest.raises(ValueError, match="rows must be"):
            BandedMatrix(rows)


class TestWorkload:
    """What the server makes of the updates."""

    def test_it_is_what_momentum_does(self, rng):
        updates, rates = rng.normal(size=12), rng.uniform(0.1, 1, 12)
        weights, velocity, expected = 0.0, 0.0, []
        for update, rate in zip(updates, rates):
            velocity = 0.9 * velocity + update
            weights += rate * velocity
            expected.append(weights)
        np.testing.assert_allclose(workload(12, 0.9, rates) @ updates, expected)

    def test_running_sums_by_default(self):
        np.testing.assert_array_equal(workload(5), np.tri(5))

    @pytest.mark.parametrize(
        ("arguments", "sentence"), [((0,), "rounds=0: must"), ((3, 1.0), "server.momentum=1.0: must be at least 0")]
    )
    def test_what_means_nothing_is_refused(self, arguments, sentence):
        with pytest.raises(UserError, match=sentence):
            workload(*arguments)


def test_no_bands_are_refused():
    with pytest.raises(UserError, match="rounds=3 and bands=0: must both be at least 1"):
        optimize_banded(3, 0)
