"""Functions at the points of a tensor quadrature rule, with what their evaluation adds up.

A sampled function is a sum of products (columns an axis) and of tensor trains (cores an axis). Norms are upper bounds:
the round-off of the evaluation and of the summation is added to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import sqrt
from typing import NamedTuple, final

import numpy as np

from sepnet.coefficients import Coefficient
from sepnet.functions import CP
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.trains import add_trains, cp_to_train, train_inner, train_norm, train_size
from sepnet.operators import Operator
from sepnet.separable_norm import MANY_COLUMNS, gram_square, separable_norm
from sepnet.solvers.assembly import AxisAssembler
from sepnet.terms import Factor, Term

__all__ = [
    "EPS",
    "UNITS",
    "Function",
    "Sampled",
    "Train",
    "roots",
    "sample_coefficient",
    "sample_function",
    "sample_image",
]

Function = CP | TensorTrain
Axes = Mapping[str, AxisAssembler]

# The Gram formula serves where its round-off, which is added, is at most this share of the square: an error of 5e-4.
GRAM_ACCURACY = 1e-3
# Round-off of a value, in units of round-off of what is added up for it.
UNITS = 16.0
EPS = float(np.finfo(np.float64).eps)


class Train(NamedTuple):
    """Cores (r, m_k, r') of a sampled train, and cores of what their evaluation adds up."""

    cores: tuple[np.ndarray, ...]
    magnitudes: tuple[np.ndarray, ...]


@final
@dataclass(frozen=True, eq=False)
class Sampled:
    """The function ``sum_r prod_k values_k[:, r]`` plus trains, at the points of a tensor rule.

    Parameters
    ----------
    values : tuple of ndarray (m_k, R)
        Values, an axis each.
    magnitudes : tuple of ndarray (m_k, R)
        What the evaluation of the values added up, in absolute value: round-off is proportional to it.
    trains : tuple of Train
        Further summands.
    """

    values: tuple[np.ndarray, ...]
    magnitudes: tuple[np.ndarray, ...]
    trains: tuple[Train, ...] = ()

    @classmethod
    def zero(cls, points: Sequence[int]) -> Sampled:
        """Return the zero function, for a number of points an axis."""
        nothing = tuple(np.zeros((m, 0)) for m in points)
        return cls(nothing, nothing)

    def __add__(self, other: Sampled) -> Sampled:
        """Add."""
        join = [np.concatenate([a, b], axis=1) for a, b in zip(self.values, other.values, strict=True)]
        sizes = [np.concatenate([a, b], axis=1) for a, b in zip(self.magnitudes, other.magnitudes, strict=True)]
        return Sampled(tuple(join), tuple(sizes), self.trains + other.trains)

    def __mul__(self, other: Sampled) -> Sampled:
        """Multiply a sum of products (no trains) with any sampled function: the ranks multiply."""
        trains = tuple(
            _times(train, [v[:, r] for v in self.values], [v[:, r] for v in self.magnitudes])
            for train in other.trains
            for r in range(self.values[0].shape[1])
        )
        return Sampled(
            tuple(_pairs(a, b) for a, b in zip(self.values, other.values, strict=True)),
            tuple(_pairs(a, b) for a, b in zip(self.magnitudes, other.magnitudes, strict=True)),
            trains,
        )

    def weighted(self, rows: Sequence[np.ndarray], sizes: Sequence[np.ndarray] | None = None) -> Sampled:
        """Multiply by a product of functions, given by their values (m_k,) an axis, and by what these add up."""
        sizes = [np.abs(w) for w in rows] if sizes is None else sizes
        return Sampled(
            tuple(v * w[:, None] for v, w in zip(self.values, rows, strict=True)),
            tuple(v * w[:, None] for v, w in zip(self.magnitudes, sizes, strict=True)),
            tuple(_times(train, rows, sizes) for train in self.trains),
        )

    def scaled(self, weight: float) -> Sampled:
        """Multiply by a number."""
        rows = [np.ones(v.shape[0]) for v in self.values]
        return self.weighted([weight * rows[0], *rows[1:]])

    def norm(self) -> float:
        """Return the Euclidean norm with its round-off added: not below the norm of the exact values."""
        doubt = UNITS * EPS * self.size
        square, noise = self._gram()
        if noise <= GRAM_ACCURACY * square or self._rank() > MANY_COLUMNS:
            return sqrt(square + noise) + doubt
        if not self.trains:
            return separable_norm(self.values) + doubt
        return train_norm(reduce(add_trains, self._as_trains())) + doubt

    def inner(self, other: Sampled) -> tuple[float, float]:
        """Return the Euclidean inner product with another function, and its round-off."""
        mine, theirs = self._as_trains(), other._as_trains()
        value = sum(train_inner(a, b) for a in mine for b in theirs)
        return value, UNITS * EPS * self.size * other.size

    @property
    def size(self) -> float:
        """The sum of the norms of all that the evaluation adds up."""
        return self._sizes(self.magnitudes, [t.magnitudes for t in self.trains])

    def _rank(self) -> int:
        return int(self.values[0].shape[1]) + sum(max(int(c.shape[2]) for c in t.cores) for t in self.trains)

    def _as_trains(self) -> list[list[np.ndarray]]:
        columns = [cp_to_train(self.values)] if self.values[0].shape[1] else []
        return [*columns, *(list(t.cores) for t in self.trains)] or [cp_to_train(self.values)]

    @staticmethod
    def _sizes(columns: Sequence[np.ndarray], trains: Sequence[Sequence[np.ndarray]]) -> float:
        norms = np.ones(columns[0].shape[1])
        for column in columns:
            norms = norms * np.linalg.norm(column, axis=0)
        return float(norms.sum()) + sum(train_size(t) for t in trains)

    def _gram(self) -> tuple[float, float]:
        """Return the squared norm by the Gram formula, and its round-off."""
        square, noise = gram_square(self.values)
        if not self.trains:
            return square, noise
        cores = [t.cores for t in self.trains]
        for k, a in enumerate(cores):
            carried = np.ones((self.values[0].shape[1], 1))
            for columns, core in zip(self.values, a, strict=True):
                carried = np.einsum("Rr,rms,mR->Rs", carried, core, columns, optimize=True)
            square += 2 * float(carried.sum()) + train_inner(a, a) + 2 * sum(train_inner(a, b) for b in cores[:k])
        return max(square, 0.0), 4 * EPS * self._sizes(self.values, cores) ** 2


def _times(train: Train, rows: Sequence[np.ndarray], sizes: Sequence[np.ndarray]) -> Train:
    cores = tuple(c * w[None, :, None] for c, w in zip(train.cores, rows, strict=True))
    return Train(cores, tuple(c * w[None, :, None] for c, w in zip(train.magnitudes, sizes, strict=True)))


def _pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((a[:, :, None] * b[:, None, :]).reshape(a.shape[0], a.shape[1] * b.shape[1]))


def roots(axes: Axes, fixed: Mapping[str, float]) -> list[np.ndarray]:
    """Return the square roots of the weights; on a `fixed` axis, along which all is constant, their sum is one."""
    result = []
    for name, axis in axes.items():
        weights = axis.rule.weights
        result.append(np.sqrt(weights / weights.sum() if name in fixed else weights))
    return result


def sample_coefficient(coefficient: Coefficient, axes: Axes) -> Sampled:
    """Return a coefficient at the quadrature points."""
    values, sizes = [], []
    for k, (name, axis) in enumerate(axes.items()):
        functions = [t.factor(name).coefficient for t in coefficient.terms]
        weights = np.array([t.weight for t in coefficient.terms]) if k == 0 else np.ones(len(functions))
        shape = (len(functions), axis.rule.points.size)
        values.append(np.array([axis.data(f) for f in functions]).reshape(shape).T * weights)
        sizes.append(np.array([f.magnitude(axis.rule.points) for f in functions]).reshape(shape).T * np.abs(weights))
    return Sampled(tuple(values), tuple(sizes))


def sample_function(
    u: Function, axes: Axes, orders: Mapping[str, int] | None = None, fixed: Mapping[str, float] | None = None
) -> Sampled:
    """Return a derivative of a function at the quadrature points; on `fixed` axes its value there, constant."""
    values: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    arrays = u.factors if isinstance(u, CP) else u.cores
    for (name, basis), array in zip(u.space.items, arrays, strict=True):
        points = axes[name].rule.points
        at = (fixed or {}).get(name)
        table = basis.tabulate(points if at is None else np.full_like(points, at), (orders or {}).get(name, 0))
        flat = array if array.ndim == 2 else array.transpose(1, 0, 2).reshape(basis.size, -1)
        for matrix, columns, result in ((table, flat, values), (abs(table), np.abs(flat), sizes)):
            moved = np.asarray(matrix @ columns)
            if array.ndim == 3:
                moved = moved.reshape(points.size, array.shape[0], array.shape[2]).transpose(1, 0, 2)
            result.append(moved)
    if isinstance(u, CP):
        return Sampled(tuple(values), tuple(sizes))
    nothing = Sampled.zero([axis.rule.points.size for axis in axes.values()])
    return Sampled(nothing.values, nothing.magnitudes, (Train(tuple(values), tuple(sizes)),))


def sample_image(operator: Operator, u: Function, axes: Axes) -> Sampled:
    """Return ``operator u`` at the quadrature points; evaluated on a face, it is constant along that axis."""
    total = Sampled.zero([axis.rule.points.size for axis in axes.values()])
    for term in operator.terms:
        weight, kept, orders, fixed = term.weight, [], {}, {}
        for name, factor in term.factors:
            orders[name] = factor.order
            if factor.at is None:
                kept.append((name, Factor(factor.coefficient)))
            else:
                fixed[name] = factor.at
                weight *= float(factor.coefficient(np.array([factor.at]))[0])
        image = sample_function(u, axes, orders, fixed)
        total = total + sample_coefficient(Coefficient((Term(weight, tuple(kept)),)), axes) * image
    return total
