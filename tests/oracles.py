"""Slow plain-NumPy answers that every fast one is compared with. Nothing here shares code with sepnet."""

from __future__ import annotations

import math

import numpy as np
from scipy.interpolate import BSpline


def spline_axis(breaks: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray, BSpline]:
    """Knots of the smoothest splines on `breaks`, their table, and scipy's basis.

    Returns
    -------
    knots : array of shape (cells + 2 degree + 1,)
    table : array of shape (cells, degree + 1, degree + 1)
        From scipy's derivatives in the middle of each cell: the Taylor coefficients in s.
    basis : BSpline with the identity as coefficients
    """
    cells = len(breaks) - 1
    knots = np.concatenate([[breaks[0]] * degree, breaks, [breaks[-1]] * degree])
    basis = BSpline(knots, np.eye(cells + degree), degree)
    table = np.empty((cells, degree + 1, degree + 1))
    for c in range(cells):
        middle, half = (breaks[c] + breaks[c + 1]) / 2, (breaks[c + 1] - breaks[c]) / 2
        for m in range(degree + 1):
            values = basis(middle, nu=m)[c : c + degree + 1]
            table[c, m] = values * half**m / math.factorial(m)
    return knots, table, basis


def cell_of(x: float, breaks: np.ndarray) -> int:
    """The cell of x: right of an interior break, left of the last one."""
    return int(min(max(np.sum(breaks <= x) - 1, 0), len(breaks) - 2))


def jet(x: float, breaks: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value, first and second derivative of each polynomial (3, q), and the sums of their terms' magnitudes."""
    c = cell_of(x, breaks)
    left, right = float(breaks[c]), float(breaks[c + 1])
    s, slope = 2 * (float(x) - left) / (right - left) - 1, 2 / (right - left)
    values, sizes = np.zeros((3, table.shape[2])), np.zeros((3, table.shape[2]))
    for m in range(table.shape[1]):
        for k in range(min(m, 2) + 1):
            # |s| counts as 1: round-off of s is absolute
            term = math.perm(m, k) * slope**k * table[c, m].astype(float)
            values[k] += term * s ** (m - k)
            sizes[k] += np.abs(term)
    return values, sizes


def cp(
    points: np.ndarray, breaks: list[np.ndarray], tables: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """[value, gradient, Hessian] of a CP function, and the magnitudes of what is summed, by definition."""
    n, d = points.shape
    shapes = [(n,), (n, d), (n, d, d)]
    results, sizes = [np.zeros(s) for s in shapes], [np.zeros(s) for s in shapes]
    for k in range(n):
        jets = [jet(points[k, i], breaks[i], tables[i]) for i in range(d)]
        for which, target in ((0, results), (1, sizes)):

            def product(orders: list[int], which: int = which, jets: list[tuple[np.ndarray, ...]] = jets) -> float:
                return float(np.sum(np.prod([jets[i][which][o] for i, o in enumerate(orders)], axis=0)))

            unit = np.eye(d, dtype=int)
            target[0][k] = product([0] * d)
            for i in range(d):
                target[1][k, i] = product(list(unit[i]))
                for j in range(d):
                    target[2][k, i, j] = product(list(unit[i] + unit[j]))
    return results, sizes


def kronecker_sum(matrices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_j kron(A_j, W_j)."""
    size = matrices.shape[1] * weights.shape[1]
    total = np.zeros((size, size))
    for a, w in zip(matrices, weights, strict=True):
        total += np.kron(a, w)
    return total


def lower_band(matrix: np.ndarray, height: int) -> np.ndarray:
    """LAPACK's lower band of a dense matrix."""
    band = np.zeros((height, matrix.shape[0]))
    for column in range(matrix.shape[0]):
        for row in range(column, min(column + height, matrix.shape[0])):
            band[row - column, column] = matrix[row, column]
    return band
