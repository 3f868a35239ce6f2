"""Functional alternating least squares: one axis after the other, each a linear problem with one pass over the data."""

from __future__ import annotations

import numpy as np

from sepnet.backends.arrays import Array, namespace
from sepnet.solvers.fit_algebra import Cholesky, cholesky, flat, plus_diagonal
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_loss import Loss
from sepnet.solvers.fit_penalty import Penalty
from sepnet.solvers.fit_samples import Normal, Samples, normal

__all__ = ["axis_system", "half_step", "scaled_cholesky", "solve_symmetric", "sweep"]

# Directions that neither data nor penalty see are held where they are by this share of the diagonal.
RIDGE = 1e3 * float(np.finfo(np.float64).eps)
BEYOND = 1e100  # no finite matrix with a unit diagonal needs as much


def axis_system(
    samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty, axis: int
) -> tuple[Normal, Array, Array, Array]:
    """Return the linear problem of one axis: the data's share with the load for whole factors, and the penalty's.

    Returns
    -------
    data : Normal
        ``vector`` is the load for the factor itself, not for a step.
    own, rest, load : array
        See `Penalty.block`.
    """
    data = normal(samples, columns, factors, loss, axis=axis)
    vector = data.vector + data.matrix @ flat(factors[axis])
    return (Normal(data.matrix, vector, data.loss), *penalty.block(columns, factors, axis))


def half_step(samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty, axis: int) -> Array:
    """Return the best factor of one axis, the others held."""
    data, own, rest, load = axis_system(samples, columns, factors, loss, penalty, axis)
    matrix = data.matrix + penalty.weights[axis] * own + rest
    best = solve_symmetric(matrix, data.vector + load, flat(factors[axis]))
    return namespace(best).reshape(best, tuple(factors[axis].shape))


def sweep(samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty) -> Factors:
    """Return the factors after one pass over all axes, balanced."""
    factors = list(factors)
    for axis, active in enumerate(columns.active):
        if len(active):
            factors[axis] = half_step(samples, columns, factors, loss, penalty, axis)
    return columns.balanced(factors)


def solve_symmetric(matrix: Array, vector: Array, start: Array) -> Array:
    """Solve a positive semidefinite system; directions that it does not see keep the value they have in `start`."""
    factor, scale = scaled_cholesky(matrix)
    return start + factor.solve((vector - matrix @ start) / scale) / scale


def scaled_cholesky(matrix: Array) -> tuple[Cholesky, Array]:
    """Return the Cholesky factor of a positive semidefinite matrix with a unit diagonal, and the scale of its rows.

    A small ridge holds the directions that the matrix does not see; it grows where rounding makes them negative.

    Raises
    ------
    ArithmeticError
        If the matrix is not finite.
    """
    xp = namespace(matrix)
    diagonal = xp.linalg.diagonal(matrix)
    least = RIDGE * max(float(xp.max(diagonal)), np.finfo(float).tiny)
    scale = xp.sqrt(xp.maximum(diagonal, xp.full_like(diagonal, least)))
    scaled, ridge = matrix / (scale[:, None] * scale[None, :]), RIDGE
    while ridge < BEYOND:
        factor = cholesky(plus_diagonal(scaled, ridge))
        if factor is not None:
            return factor, scale
        ridge *= 100.0
    msg = "the normal equations of a fit are not finite: check the targets and weights for extreme numbers"
    raise ArithmeticError(msg)
