"""Tensor quadrature for nonlinear problems: functions as dense arrays of values, integrals axis by axis.

Nonlinear terms are evaluated pointwise, on the tensor grid of Gauss points. What is integrated against basis functions
is then contracted one axis after the other (sum factorisation; Orszag, J. Comput. Phys. 37, 1980), cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, reduce
from math import prod
from typing import final

import numpy as np
import scipy.sparse

from sepnet.bases.basis import Basis, gauss_rule
from sepnet.coefficients import Coefficient
from sepnet.functions import CP
from sepnet.nonlinear import Jet
from sepnet.solvers.assembly import AxisAssembler
from sepnet.spaces import TensorSpace
from sepnet.univariate import Univariate, make_univariate

__all__ = ["AxisRule", "Grid"]


@final
class AxisRule:
    """Quadrature on one axis, as many points in every cell of the basis.

    Parameters
    ----------
    name : str
        Name of the axis, for messages.
    basis : Basis
        Of the unknown.
    functions : iterable of Univariate
        All that is integrated along with it.
    extra : int
        Degree of the polynomial in the basis functions that stands beside each of `functions`.
    at : float, optional
        Instead of integrals, values at this point.

    Attributes
    ----------
    points, weights : ndarray of shape (cells, q)
        Cells with fewer points than others are filled up with points of weight zero.
    index : ndarray of shape (cells, f)
        The basis functions of each cell, all different.
    """

    def __init__(
        self, name: str, basis: Basis, functions: Iterable[Univariate], extra: int, at: float | None = None
    ) -> None:
        self.basis, self.at = basis, at
        frame = ((basis.domain[0] + basis.domain[1]) / 2, (basis.domain[1] - basis.domain[0]) / 2)
        power = make_univariate([0.0] * extra + [1.0], (), frame)
        members = [f * power for f in {*functions, Univariate()}]
        if at is not None:
            self.points, self.weights = np.array([[at]]), np.ones((1, 1))
        else:
            rule = AxisAssembler(name, basis, members).rule
            cell = np.clip(np.searchsorted(basis.breaks, rule.points, side="right") - 1, 0, basis.breaks.size - 2)
            self.points, self.weights = _by_cell(rule.points, rule.weights, cell, basis.breaks.size - 1)
        used = _used(basis)
        if at is not None:
            used = used[[min(int(np.searchsorted(basis.breaks, at, side="right")) - 1, basis.breaks.size - 2)]]
        width = int(used.sum(axis=1).max())
        # The functions that are used come first in a stable sort; cells with fewer take others, which are zero there.
        self.index = np.sort(np.argsort(~used, axis=1, kind="stable")[:, :width], axis=1)
        self._local: dict[int, np.ndarray] = {}
        self._products: dict[tuple[int, int], np.ndarray] = {}
        self._sparse: dict[int, scipy.sparse.csr_array] = {}

    @property
    def size(self) -> int:
        """Number of points."""
        return self.points.size

    def table(self, order: int) -> np.ndarray:
        """Return the values of a derivative of all basis functions at all points, (points, size)."""
        return np.asarray(self.basis.values(self.points.reshape(-1), order))

    def sparse(self, order: int) -> scipy.sparse.csr_array:
        """Return the same, sparse."""
        if order not in self._sparse:
            self._sparse[order] = scipy.sparse.csr_array(self.table(order))
        return self._sparse[order]

    def products(self, test: int, trial: int) -> np.ndarray:
        """Return products of local functions' derivatives at the points, (cells, f * f, q)."""
        if (test, trial) not in self._products:
            left, right = self._cells(test), self._cells(trial)
            cells, count, width = left.shape
            both = np.einsum("cqi,cqj->cijq", left, right)
            self._products[test, trial] = both.reshape(cells, width * width, count)
        return self._products[test, trial]

    def _cells(self, order: int) -> np.ndarray:
        if order not in self._local:
            values = self.table(order).reshape(*self.points.shape, self.basis.size)
            self._local[order] = np.take_along_axis(values, self.index[:, None, :], axis=2)
        return self._local[order]


def _by_cell(points: np.ndarray, weights: np.ndarray, cell: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    counts = np.bincount(cell, minlength=cells)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.arange(points.size) - first[cell]
    there = np.repeat(points[first][:, None], counts.max(), axis=1)
    there[cell, place] = points
    measure = np.zeros_like(there)
    measure[cell, place] = weights
    return there, measure


@final
class Grid:
    """The tensor grid of Gauss points of a space, or of one of its faces.

    Parameters
    ----------
    space : TensorSpace
        Space of the unknown.
    data : sequence of Coefficient
        All coefficients and data that will be evaluated.
    extra : int
        How many further factors from the space an integrand has, beyond two basis functions and their coefficients.
    face : mapping of str to float
        Axes on which there is no integral but a value.
    """

    def __init__(self, space: TensorSpace, data: Sequence[Coefficient], extra: int, face: Mapping[str, float]) -> None:
        self.space, self.face = space, dict(face)
        functions: dict[str, set[Univariate]] = {name: set() for name in space.names}
        for term in (t for c in data for t in c.terms):
            for axis, factor in term.factors:
                functions[axis].add(factor.coefficient)
        self.axes = [
            AxisRule(name, basis, functions[name], extra * basis.degree, face.get(name)) for name, basis in space.items
        ]

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of points."""
        return tuple(axis.size for axis in self.axes)

    @cached_property
    def weights(self) -> np.ndarray:
        """Quadrature weights, of shape `shape`."""
        return reduce(np.multiply.outer, [axis.weights.reshape(-1) for axis in self.axes])

    def norm(self, values: np.ndarray) -> float:
        """Return the L2 norm of values on the grid."""
        return float(np.sqrt(np.sum(self.weights * values * values)))

    def data(self, data: Coefficient) -> np.ndarray:
        """Return the values of data; a constant as an array of shape ()."""
        if not data.axes:
            return np.array(sum(t.weight for t in data.terms))
        columns = []
        for name, axis in zip(self.space.names, self.axes, strict=True):
            x = axis.points.reshape(-1)
            columns.append(np.stack([t.factor(name).coefficient(x) for t in data.terms], axis=1))
        columns[0] = columns[0] * np.array([t.weight for t in data.terms])
        return self._finite(_summed(columns))

    def of_products(self, function: CP, jet: Jet, *, magnitude: bool = False) -> np.ndarray:
        """Return the values of a derivative of a CP function, of any basis, on the host.

        With `magnitude`, what is added up for them, in absolute value; so in the next two.
        """
        orders = dict(jet)
        columns = []
        for (name, basis), axis, factor in zip(function.space.items, self.axes, function.factors, strict=True):
            table = basis.tabulate(axis.points.reshape(-1), orders.get(name, 0))
            columns.append(abs(table) @ np.abs(factor) if magnitude else table @ factor)
        return self._finite(_summed(columns))

    def of_tensor(self, coefficients: np.ndarray, jet: Jet, *, magnitude: bool = False) -> np.ndarray:
        """Return the values of a derivative of the function with a dense array of coefficients."""
        tables = self._tables(jet)
        if magnitude:
            return _along(np.abs(coefficients), [abs(t) for t in tables])
        return _along(coefficients, tables)

    def _tables(self, jet: Jet) -> list[scipy.sparse.csr_array]:
        orders = dict(jet)
        return [axis.sparse(orders.get(name, 0)) for name, axis in zip(self.space.names, self.axes, strict=True)]

    def tested(self, values: np.ndarray, jet: Jet, *, magnitude: bool = False) -> np.ndarray:
        """Return ``sum over the points of values * (D^jet B_n)``, of shape ``space.shape``; weights are in them."""
        tables = [table.T for table in self._tables(jet)]
        return _along(values, [abs(t) for t in tables] if magnitude else tables)

    @staticmethod
    def _finite(values: np.ndarray) -> np.ndarray:
        if not np.isfinite(values).all():
            msg = "a coefficient or datum overflows or is NaN: scale it, or give finite values"
            raise ValueError(msg)
        return values


def _used(basis: Basis) -> np.ndarray:
    """Tell which functions are not zero in each cell, (cells, size)."""
    count = basis.degree + 1
    values = basis.values(gauss_rule(basis.breaks, count).points)
    return np.asarray((values != 0.0).reshape(-1, count, basis.size).any(axis=1))


def _summed(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return ``sum_r`` of the outer products of columns."""
    if len(columns) == 1:
        return np.asarray(columns[0].sum(axis=1))
    front = columns[0]
    for column in columns[1:-1]:
        front = (front[:, None, :] * column[None, :, :]).reshape(-1, column.shape[1])
    return np.asarray((front @ columns[-1].T).reshape([c.shape[0] for c in columns]))


def _along(tensor: np.ndarray, matrices: Sequence[scipy.sparse.sparray]) -> np.ndarray:
    """Apply one sparse matrix along every axis."""
    result = tensor
    for k, matrix in enumerate(matrices):
        moved = np.moveaxis(result, k, 0)
        image = matrix @ moved.reshape(moved.shape[0], prod(moved.shape[1:]))
        result = np.moveaxis(np.asarray(image).reshape(-1, *moved.shape[1:]), 0, k)
    return np.ascontiguousarray(result)
