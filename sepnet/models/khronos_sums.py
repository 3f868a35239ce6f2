"""Sums of functions of samples: the normal equations of an additive fit, which add up over batches.

With a fixed penalty and a fixed box an additive function is linear in its coefficients, so that nothing of earlier
samples is needed but a matrix and a vector. This is the only fit of this library of which that is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from sepnet.functions import CP
from sepnet.functions.interaction import Interaction
from sepnet.functions.sna import SNA
from sepnet.solvers.fit_als import solve_symmetric
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_data import Table
from sepnet.solvers.fit_gcv import influence_trace
from sepnet.solvers.fit_loss import Squared
from sepnet.solvers.fit_result import Fit, FitStatus
from sepnet.solvers.fit_samples import normal
from sepnet.solvers.fit_setup import Setup, set_up
from sepnet.solvers.fit_source import source_of
from sepnet.spaces import TensorSpace

__all__ = ["Sums", "additive_fit", "additive_setup", "sums_of"]


@final
@dataclass(frozen=True)
class Sums:
    """Sums over samples, of which an additive fit is made.

    Parameters
    ----------
    matrix : ndarray of shape (P, P)
        Of products of basis functions, times the weights; P counts the coefficients of all axes and the constant.
    vector : ndarray of shape (P,)
        Of basis functions times targets.
    weight, weight_squares : float
        Of the weights, and of their squares.
    level, squares : float
        Of the targets, and of their squares.
    count : int
        Number of samples.
    """

    matrix: np.ndarray
    vector: np.ndarray
    weight: float = 0.0
    weight_squares: float = 0.0
    level: float = 0.0
    squares: float = 0.0
    count: int = 0

    def __add__(self, other: Sums) -> Sums:
        """Return the sums over the samples of both."""
        return Sums(
            self.matrix + other.matrix,
            self.vector + other.vector,
            self.weight + other.weight,
            self.weight_squares + other.weight_squares,
            self.level + other.level,
            self.squares + other.squares,
            self.count + other.count,
        )


def additive_setup(space: TensorSpace, points: np.ndarray, penalty: Any, ridge: float) -> Setup:
    """Return the setup that `sepnet.fit` has for an additive function of the axes of a space.

    Raises
    ------
    ValueError
        If points are outside the box, or the penalty is none.
    """
    # of the targets the setup notes their spread alone, by which a linear problem may be divided or not
    summary = source_of(points, np.zeros(len(points)), None).summary()
    return set_up(
        summary, space, interaction=Interaction(1), rank=None, cells=None, degree=1, penalty=penalty, ridge=ridge,
        names=None, squared=True,
    )  # fmt: skip


def sums_of(setup: Setup, points: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Sums:
    """Return the sums over samples.

    Parameters
    ----------
    setup : Setup
    points : ndarray of shape (n, d)
        In the box.
    targets : ndarray of shape (n,)
        NaN where one is missing: the sample then does not count.
    weights : ndarray of shape (n,)
        Positive.

    Returns
    -------
    Sums
    """
    columns = _columns(setup)
    there = np.isfinite(targets)
    X, y, w = points[there], targets[there], weights[there]
    if not len(y):
        return Sums(np.zeros((columns.size, columns.size)), np.zeros(columns.size))
    # at zero the residual is the target, and its derivatives are the basis functions
    data = normal(Table(X, y, w).samples(columns.axes), columns, _zeros(columns), Squared())
    total = float(w.sum())
    return Sums(data.matrix * total, data.vector * total, total, float(w @ w), float(w @ y), float(w @ y**2), len(y))


def additive_fit(setup: Setup, sums: Sums) -> Fit:
    """Return the additive function that fits the samples of sums best.

    It minimises what `sepnet.fit` does with ``interaction=sn.Interaction(1)`` and the same penalty: the mean square of
    ``u - y`` and the roughness.

    Parameters
    ----------
    setup : Setup
    sums : Sums
        Of at least one sample.

    Returns
    -------
    Fit
        Without history; its errors come from the sums alone, and below ``1e-8`` of the targets' size they are
        round-off.
    """
    columns = _columns(setup)
    matrix, vector = sums.matrix / sums.weight, sums.vector / sums.weight
    penalised = matrix + setup.penalty.terms(columns, _zeros(columns)).matrix
    found = solve_symmetric(penalised, vector, np.zeros(columns.size))
    mean, size = sums.level / sums.weight, sums.squares / sums.weight
    spread = float(np.sqrt(max(size - mean**2, 0.0)))
    # below this the difference is round-off of the sums
    constant = spread <= np.sqrt(16.0 * np.finfo(float).eps * size)
    if constant:
        found = columns.join([*_zeros(columns)[:-1], np.array([[mean]])])

    def loss(c: np.ndarray) -> float:
        return max(float(size - 2.0 * (c @ vector) + c @ (matrix @ c)), 0.0)

    value, count = loss(found), sums.weight**2 / sums.weight_squares
    freedom = 1.0 if constant else max(influence_trace(matrix, penalised), 1.0)
    status = FitStatus.CONSTANT if constant else FitStatus.FITTED
    if not constant and columns.size > sums.count:
        status = FitStatus.UNDERDETERMINED
    inert = tuple(
        name
        for i, name in enumerate(setup.names)
        if constant or loss(_flattened(columns, found, i)) <= _chance(columns, i, sums.count) * value
    )
    return Fit(
        u=_function(setup, columns.split(found)),
        status=status,
        error=0.0 if constant else float(np.sqrt(value) / spread),
        noise=float(np.sqrt(value * count / max(count - freedom, 1.0))),
        freedom=freedom,
        gcv=0.0 if constant else float(value / max(1.0 - freedom / count, 1.0 / count) ** 2 / spread**2),
        penalty=dict(zip(setup.names, setup.penalty.weights, strict=False)),
        ridge=setup.penalty.ridge,
        inert=inert,
        count=sums.count,
    )


def _columns(setup: Setup) -> Columns:
    """Return one column for each axis, and one for the constant, on an axis of its own."""
    d = len(setup.names)
    return Columns(setup.axes, ((d,), *((i,) for i in range(d))), (1,) * (d + 1))


def _zeros(columns: Columns) -> Factors:
    return [np.zeros((axis.size, 1)) for axis in columns.axes]


def _flattened(columns: Columns, coefficients: np.ndarray, i: int) -> np.ndarray:
    """Return the coefficients with the mean of the function of an axis instead of it."""
    factors = columns.split(coefficients.copy())
    axis = columns.axes[i]
    mean = axis.constant @ axis.mass @ factors[i]
    factors[i] = axis.constant[:, None] * mean
    return columns.join(factors)


def _chance(columns: Columns, i: int, count: int) -> float:
    """Return by what factor the loss may rise by chance if an inert axis is left out, as `sepnet.fit` has it."""
    return 1.0 + 3.0 * (columns.axes[i].size - 1) / count


def _function(setup: Setup, factors: Factors) -> SNA:
    bases: dict[str, Any] = {name: axis.basis for name, axis in zip(setup.names, setup.axes, strict=False)}
    parts: dict[tuple[str, ...], Any] = {
        (name,): CP(TensorSpace(**{name: basis}), [factor])
        for (name, basis), factor in zip(bases.items(), factors, strict=False)
    }
    return SNA(TensorSpace(**bases), parts, constant=float(factors[-1][0, 0]))
