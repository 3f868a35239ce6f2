"""Functional alternating least squares: one axis after the other, each a linear problem with one pass over the data."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_loss import Loss
from sepnet.solvers.fit_penalty import Penalty
from sepnet.solvers.fit_samples import Normal, Samples, normal

__all__ = ["axis_system", "half_step", "scaled_cholesky", "solve_symmetric", "sweep"]

# Directions that neither data nor penalty see are held where they are by this share of the diagonal.
RIDGE = 1e3 * np.finfo(np.float64).eps


def axis_system(
    samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty, axis: int
) -> tuple[Normal, np.ndarray, np.ndarray, np.ndarray]:
    """Return the linear problem of one axis: the data's share with the load for whole factors, and the penalty's.

    Returns
    -------
    data : Normal
        ``vector`` is the load for the factor itself, not for a step.
    own, rest, load : ndarray
        See `Penalty.block`.
    """
    data = normal(samples, columns, factors, loss, axis=axis)
    vector = data.vector + data.matrix @ factors[axis].ravel()
    return (Normal(data.matrix, vector, data.loss), *penalty.block(columns, factors, axis))


def half_step(
    samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty, axis: int
) -> np.ndarray:
    """Return the best factor of one axis, the others held."""
    data, own, rest, load = axis_system(samples, columns, factors, loss, penalty, axis)
    matrix = data.matrix + penalty.weights[axis] * own + rest
    return solve_symmetric(matrix, data.vector + load, factors[axis].ravel()).reshape(factors[axis].shape)


def sweep(samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty) -> Factors:
    """Return the factors after one pass over all axes, balanced."""
    factors = list(factors)
    for axis, active in enumerate(columns.active):
        if len(active):
            factors[axis] = half_step(samples, columns, factors, loss, penalty, axis)
    return columns.balanced(factors)


def solve_symmetric(matrix: np.ndarray, vector: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Solve a positive semidefinite system; directions that it does not see keep the value they have in `start`."""
    factor, scale = scaled_cholesky(matrix)
    step = scipy.linalg.cho_solve(factor, (vector - matrix @ start) / scale, check_finite=False)
    return np.asarray(start + step / scale)


def scaled_cholesky(matrix: np.ndarray) -> tuple[tuple[np.ndarray, bool], np.ndarray]:
    """Return the Cholesky factor of a positive semidefinite matrix with a unit diagonal, and the scale of its rows.

    A small ridge holds the directions that the matrix does not see; it grows where rounding makes them negative.
    """
    scale = np.sqrt(np.maximum(np.diag(matrix), RIDGE * max(float(np.diag(matrix).max()), np.finfo(float).tiny)))
    scaled = matrix / np.outer(scale, scale)
    ridge = RIDGE
    while True:
        try:
            held = scaled + ridge * np.eye(len(scale))
            return scipy.linalg.cho_factor(held, lower=True, check_finite=False), scale
        except np.linalg.LinAlgError:
            ridge *= 100.0
