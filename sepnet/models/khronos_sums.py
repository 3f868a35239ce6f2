"""Sums of functions of samples: the normal equations of an additive fit, which add up over batches.

With a fixed penalty and a fixed box an additive function is linear in its coefficients, so that nothing of earlier
samples is needed but a matrix and a vector. This is the only fit of this library of which that is true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from sepnet.functions.interaction import Interaction
from sepnet.solvers.fit_als import solve_symmetric
from sepnet.solvers.fit_columns import Columns
from sepnet.solvers.fit_data import Table
from sepnet.solvers.fit_gcv import influence_trace
from sepnet.solvers.fit_loss import Squared
from sepnet.solvers.fit_model import Model
from sepnet.solvers.fit_result import Fit, FitStatus
from sepnet.solvers.fit_samples import normal
from sepnet.solvers.fit_setup import Setup, function_of, set_up
from sepnet.solvers.fit_source import Units, source_of
from sepnet.spaces import TensorSpace

__all__ = ["Sums", "additive_fit", "additive_setup", "sums_of"]

EQUAL = 8.0 * np.finfo(float).eps  # targets that differ by less than that share of their mean are all the same


@final
@dataclass(frozen=True)
class Sums:
    """Weighted means over samples, of which an additive fit is made.

    Those of targets are of what they differ from an origin near their mean, lest small variations drown in their level.

    Parameters
    ----------
    matrix : ndarray of shape (P, P)
        Mean of products of basis functions; P counts the coefficients of all axes and, last, the constant.
    vector : ndarray of shape (P,)
        Of basis functions times targets.
    origin : float
        What is subtracted from the targets.
    level, squares : float
        Mean of the targets, and of their squares.
    weight : float
        Sum of the weights.
    share : float
        Sum of the squares of the weights, relative to the square of their sum.
    count : int
        Number of samples.
    """

    matrix: np.ndarray
    vector: np.ndarray
    origin: float = 0.0
    level: float = 0.0
    squares: float = 0.0
    weight: float = 0.0
    share: float = 0.0
    count: int = 0

    def __add__(self, other: Sums) -> Sums:
        """Return the means over the samples of both.

        Raises
        ------
        ValueError
            If the weights add up to infinity.
        """
        if not (self.count and other.count):
            return self if self.count else other
        total = self.weight + other.weight
        if not np.isfinite(total):
            msg = f"`sample_weight` adds up to {total}, expected a finite number: divide all weights by one number"
            raise ValueError(msg)
        a, b = self.weight / total, other.weight / total
        origin = self.origin + b * (other.origin - self.origin)
        one, two = self._about(origin), other._about(origin)
        return Sums(
            a * one.matrix + b * two.matrix,
            a * one.vector + b * two.vector,
            origin,
            a * one.level + b * two.level,
            a * one.squares + b * two.squares,
            total,
            a**2 * one.share + b**2 * two.share,
            self.count + other.count,
        )

    def _about(self, origin: float) -> Sums:
        h = self.origin - origin
        vector = self.vector + h * self.matrix[:, -1]  # the constant is one: its products are the basis functions
        squares = self.squares + 2.0 * h * self.level + h**2
        return replace(self, vector=vector, origin=origin, level=self.level + h, squares=squares)


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

    Raises
    ------
    ValueError
        If squares of the targets' variation are beyond float64, or the weights add up to infinity.
    """
    model = _zero(setup)
    there = np.isfinite(targets)
    X, y, w = points[there], targets[there], weights[there]
    if not len(y):
        return Sums(np.zeros((model.columns.size, model.columns.size)), np.zeros(model.columns.size))
    heaviest = float(w.max())
    w = w / heaviest
    total = float(w.sum())
    with np.errstate(over="ignore", invalid="ignore"):
        origin = float(y[0] + w @ (y - y[0]) / total)
        y = y - origin
        squares = float(w @ y**2 / total)
    # the mean of equal targets is off by round-off
    far = float(np.abs(y).max())
    if not squares < np.inf or (far > EQUAL * abs(origin) and squares < np.finfo(float).tiny):
        msg = f"`y` differs from {origin} by {far}, beyond the squares of float64: multiply or divide the targets"
        raise ValueError(msg)
    # at zero the residual is the target, and its derivatives are the basis functions
    data = normal(Table(X, y, w).samples(model.columns.axes), model.columns, model.factors, Squared())
    level, share = float(w @ y) / total, float(w @ w) / total**2
    return Sums(data.matrix, data.vector, origin, level, squares, heaviest * total, share, len(y))


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
        Without history; its errors come from the sums alone, and below ``1e-8`` of the targets' standard deviation
        they are round-off.
    """
    zero = _zero(setup)
    columns, matrix, vector = zero.columns, sums.matrix, sums.vector
    penalised = matrix + setup.penalty.terms(columns, zero.factors).matrix
    found = solve_symmetric(penalised, vector, np.zeros(columns.size))
    spread = float(np.sqrt(max(sums.squares - sums.level**2, 0.0)))
    constant = spread <= EQUAL * abs(sums.origin)
    if constant:
        found = np.append(np.zeros(columns.size - 1), sums.level)

    def loss(c: np.ndarray) -> float:
        return max(float(sums.squares - 2.0 * (c @ vector) + c @ (matrix @ c)), 0.0)

    value, count = loss(found), 1.0 / sums.share
    freedom = 1.0 if constant else max(influence_trace(matrix, penalised), 1.0)
    status = FitStatus.CONSTANT if constant else FitStatus.FITTED
    if not constant and columns.size > sums.count:
        status = FitStatus.UNDERDETERMINED
    inert = tuple(
        name
        for i, name in enumerate(setup.names)
        if constant or loss(_flattened(columns, found, i)) <= _chance(columns, i, sums.count) * value
    )
    in_units = replace(setup, units=Units(np.array([sums.origin]), np.ones(1)))
    return Fit(
        u=function_of(in_units, replace(zero, factors=columns.split(found))),
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


def _zero(setup: Setup) -> Model:
    """Return zero, as one column for each axis, and one for the constant, on an axis of its own."""
    d = len(setup.names)
    columns = Columns(setup.axes, ((d,), *((i,) for i in range(d))), (1,) * (d + 1))
    return Model(columns, [np.zeros((axis.size, 1)) for axis in setup.axes], setup.penalty)


def _flattened(columns: Columns, coefficients: np.ndarray, i: int) -> np.ndarray:
    """Return the coefficients with the mean of the function of an axis instead of it."""
    factors, axis = columns.split(coefficients.copy()), columns.axes[i]
    factors[-1] += axis.constant @ axis.mass @ factors[i]
    factors[i] = np.zeros_like(factors[i])
    return np.asarray(columns.join(factors))


def _chance(columns: Columns, i: int, count: int) -> float:
    """Return by what factor the loss may rise by chance if an inert axis is left out, as `sepnet.fit` has it."""
    return 1.0 + 3.0 * (columns.axes[i].size - 1) / count
