"""The weight of the roughness: the exact trace, and cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
from fit_support import AXES, jacobian, random_columns, random_table, values_at
from hypothesis import given
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.solvers.fit_gcv import choose_weights, conditional, freedom
from sepnet.solvers.fit_loss import Squared
from sepnet.solvers.fit_penalty import Penalty
from sepnet.solvers.fit_samples import normal


@dev_size
@given(seed=st.integers(0, 2**31), weight=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 1e3]))
def test_residual_and_trace_are_those_of_the_influence_matrix(seed: int, weight: float) -> None:
    """Brute force: the linear problem of one axis, solved for every unit vector of targets."""
    columns, factors = random_columns(seed)
    table = random_table(seed, 60)
    penalty = Penalty((1e-2, 1e-3, 1e-4, 1e-3, 0.0), ridge=1e-3, apart=1e-3)
    share = table.weights / table.weights.sum()
    J = jacobian(columns, factors, table.points)
    for i, active in enumerate(columns.active):
        if not len(active):
            continue
        mine = slice(columns.offsets[i], columns.offsets[i + 1])
        A, passive = J[:, mine], values_at(columns, [f * float(j != i) for j, f in enumerate(factors)], table.points)
        own, rest, load = penalty.block(columns, factors, i)
        system = A.T @ (share[:, None] * A) + weight * own + rest
        c = np.linalg.solve(system, A.T @ (share * (table.targets - passive)) + load)
        influence = A @ np.linalg.solve(system, A.T * share)
        residual, trace = conditional(table.samples(AXES), columns, factors, Squared(), penalty, i).fit(weight)
        # the ridge of the eigenvectors is 1e4 eps of the diagonal; the least of the rest is 1e-3
        assert abs(trace - np.trace(influence)) <= 1e-6 * (1 + trace)
        assert abs(residual - share @ (table.targets - passive - A @ c) ** 2) <= 1e-6


SPACE = sn.TensorSpace(a=sn.BSpline((0, 1), cells=10), b=sn.BSpline((0, 1), cells=10))


def truth(X: np.ndarray) -> np.ndarray:
    return np.sin(6 * X[:, 0]) * np.exp(X[:, 1])


def error(X: np.ndarray, y: np.ndarray, points: np.ndarray, values: np.ndarray, penalty: float | str) -> float:
    fit = sn.fit(X, y, SPACE, rank=1, penalty=penalty)
    return float(np.sqrt(np.mean((fit.u(points) - values) ** 2)))


def test_as_good_as_cross_validation() -> None:
    """GCV is no worse than the best of nine weights by 5-fold cross-validation, and far better than none or too much.

    One weight serves both axes in the latter, GCV chooses two: it may be better, and estimates that differ by chance
    may make it a quarter worse.
    """
    rng = np.random.default_rng(1)
    X, points = rng.random((240, 2)), rng.random((1000, 2))
    y = truth(X) + 0.5 * rng.standard_normal(240)
    folds = np.arange(240) % 5
    weights, checked = 10.0 ** np.arange(-8, 1), []
    for weight in weights:
        kept = [(folds != k, folds == k) for k in range(5)]
        checked.append(sum(error(X[a], y[a], X[b], y[b], weight) ** 2 for a, b in kept))
    held_out = [error(X, y, points, truth(points), p) for p in weights]
    ours = error(X, y, points, truth(points), "gcv")
    assert ours <= 1.25 * held_out[int(np.argmin(checked))]
    assert ours <= 0.9 * held_out[0]
    assert ours <= 0.5 * held_out[-1]


def test_more_noise_is_smoothed_more() -> None:
    rng = np.random.default_rng(2)
    X, noise = rng.random((300, 2)), rng.standard_normal(300)
    fits = [sn.fit(X, truth(X) + s * noise, SPACE, rank=1) for s in (1e-3, 1e-1, 1.0)]
    for axis in "ab":
        chosen = [fit.penalty[axis] for fit in fits]
        assert chosen[0] < chosen[-1]
    # the noise is found again: of 300 samples to 1 / sqrt(2 * 300) = 4 %, three times that
    for fit, s in zip(fits[1:], (1e-1, 1.0), strict=True):
        assert abs(fit.noise - s) <= 0.12 * s
    freedoms = [fit.freedom for fit in fits]
    assert freedoms == sorted(freedoms, reverse=True)


def test_a_straight_line_is_found_under_noise() -> None:
    """Nothing rough is left where there is nothing rough: a line has two degrees of freedom, and noise adds a few."""
    found = []
    for seed in range(9):
        rng = np.random.default_rng(seed)
        X = rng.random((200, 1))
        fit = sn.fit(X, 1 + 2 * X[:, 0] + 0.3 * rng.standard_normal(200), rank=1, cells=12)
        found.append(fit.freedom)
    # GCV undersmooths now and then by chance: the median does not
    assert np.median(found) < 4


def test_others_are_left_alone() -> None:
    """The ridges of a penalty stay; axes without roughness keep their weight."""
    columns, factors = random_columns(3)
    table = random_table(3, 80)
    given_ = Penalty((1e-3, 1e-3, 1e-3, 1e-3, 0.0), ridge=0.25, apart=0.5)
    chosen = choose_weights(table.samples(AXES), columns, factors, Squared(), given_, 80.0)
    assert (chosen.ridge, chosen.apart, chosen.weights[4]) == (0.25, 0.5, 0.0)


def test_freedom_is_the_trace_of_all_factors_together() -> None:
    columns, factors = random_columns(4)
    samples = random_table(4, 90).samples(AXES)
    penalty = Penalty((1e-2, 1e-2, 1e-2, 1e-2, 0.0), ridge=0.1)
    data, terms = normal(samples, columns, factors, Squared()), penalty.terms(columns, factors)
    expected = np.trace(np.linalg.pinv(data.matrix + terms.matrix, rcond=1e-11, hermitian=True) @ data.matrix)
    # the ridge that holds directions nobody sees also takes a little of those that are hardly seen
    assert freedom(samples, columns, factors, Squared(), penalty) == pytest.approx(float(expected), rel=1e-4)
