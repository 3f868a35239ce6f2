"""Nonlinear expressions of a function in a low-rank format: trains of their values at Gauss points.

Products of functions are products of their values, point by point: the ranks multiply, and rounding brings them down.
Sums of hundreds of terms stay cheap that way, and their norms, by orthogonalisation, free of cancellation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TypeAlias, final

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from sepnet.bases import BSpline, Legendre
from sepnet.bases.basis import Basis
from sepnet.coefficients import Coefficient
from sepnet.functions import TensorTrain
from sepnet.functions.trains import add_trains, cp_to_train, round_train, train_norm, train_size
from sepnet.nonlinear import Jet, NonlinearOperator
from sepnet.solvers.nonlinear_grid import AxisRule, Grid
from sepnet.spaces import TensorSpace

__all__ = ["ValueTrains"]

Cores: TypeAlias = list[np.ndarray]

EPS = float(np.finfo(np.float64).eps)
# The highest degree of a spline, and so of a piecewise polynomial with given values.
HIGHEST = 15


@final
class ValueTrains:
    """An expression in the unknown, less its source, as trains of values at the Gauss points of a space or a face.

    Parameters
    ----------
    space : TensorSpace
        Space of the unknown without its lift.
    expression : NonlinearOperator
        The expression.
    source : Coefficient
        What is subtracted.
    others : sequence of Coefficient
        What else has to be integrated on the grid.
    lift : sequence of Coefficient
        Data with the breaks of the lift.
    tol : float
        Relative L2 error of each rounded product.
    """

    def __init__(
        self,
        space: TensorSpace,
        expression: NonlinearOperator,
        source: Coefficient,
        others: Sequence[Coefficient],
        lift: Sequence[Coefficient],
        tol: float,
    ) -> None:
        self.space, self.tol, self._source = space, tol, source
        self._monomials = dict(expression.monomials)
        face = dict(expression.face)
        everything = [source, *self._monomials.values(), *others, *lift]
        self.grid = Grid(space, everything, max(expression.degree - 1, 0), face)
        self._rules = dict(zip(space.names, self.grid.axes, strict=True))
        self._roots = {name: np.sqrt(rule.weights.reshape(-1)) for name, rule in self._rules.items()}

    def weighted(self, u: TensorTrain) -> Cores:
        """Return the values times the root of the weights: the Euclidean norm is the L2 norm."""
        order = u.order
        parts = []
        for jets, c in self._monomials.items():
            factors = [self._derivative(u, jet) for jet in jets]
            values = reduce(lambda a, b: self._product(a, b, order), factors) if factors else None
            parts.append(self._times(c, values, order))
        if self._source.terms:
            parts.append(self._times(-self._source, None, order))
        if not parts:
            return [np.zeros((1, self._rules[name].size, 1)) for name in order]
        return self._weigh(reduce(add_trains, parts), order)

    def unweighted(self, cores: Cores, order: Sequence[str]) -> Cores:
        """Return the values themselves."""
        inverse = {n: np.divide(1.0, r, out=np.zeros_like(r), where=r > 0) for n, r in self._roots.items()}
        return [core * inverse[name][None, :, None] for core, name in zip(cores, order, strict=True)]

    def _weigh(self, cores: Cores, order: Sequence[str]) -> Cores:
        return [core * self._roots[name][None, :, None] for core, name in zip(cores, order, strict=True)]

    def _derivative(self, u: TensorTrain, jet: Jet) -> Cores:
        orders = dict(jet)
        result = []
        for name, core in zip(u.order, u.cores, strict=True):
            table = u.space.axes[name].tabulate(self._rules[name].points.reshape(-1), orders.get(name, 0))
            result.append(_applied(table, np.asarray(core)))
        return result

    def _product(self, a: Cores, b: Cores, order: Sequence[str]) -> Cores:
        both = [
            np.einsum("amb,cmd->acmbd", x, y).reshape(x.shape[0] * y.shape[0], x.shape[1], -1)
            for x, y in zip(a, b, strict=True)
        ]
        cores = self._weigh(both, order)
        rounded, _ = round_train(cores, tol=self.tol * train_norm(cores))
        return self.unweighted(rounded, order)

    def _times(self, c: Coefficient, values: Cores | None, order: Sequence[str]) -> Cores:
        columns = []
        for name in order:
            x = self._rules[name].points.reshape(-1)
            columns.append(np.stack([term.factor(name).coefficient(x) for term in c.terms], axis=1))
        columns[0] = columns[0] * np.array([term.weight for term in c.terms])
        if values is None:
            return [np.asarray(core) for core in cp_to_train(columns)]
        if len(c.terms) == 1:
            return [core * column[None, :, 0, None] for core, column in zip(values, columns, strict=True)]
        return self._product([np.asarray(core) for core in cp_to_train(columns)], values, order)

    def tested(self, cores: Cores, order: Sequence[str], jet: Jet, c: Coefficient) -> Cores:
        """Return the train of integrals of weighted values against ``c D^jet`` of all basis functions."""
        orders = dict(jet)
        parts: list[Cores] = []
        for term in c.terms:
            part = []
            for name, core in zip(order, cores, strict=True):
                rule = self._rules[name]
                scale = self._roots[name] * term.factor(name).coefficient(rule.points.reshape(-1))
                part.append(_applied(rule.sparse(orders.get(name, 0)).T, core * scale[None, :, None]))
            part[0] = part[0] * term.weight
            parts.append(part)
        return reduce(add_trains, parts)

    def data(self, cores: Cores, order: Sequence[str], share: float) -> Coefficient:
        """Return weighted values, rounded to a share of their norm, as data: piecewise polynomials that take them."""
        norm = train_norm(cores)
        if norm == 0.0:
            return Coefficient()
        rounded, _ = round_train(cores, tol=share * norm)
        values = self.unweighted([np.asarray(core) for core in rounded], order)
        bases: dict[str, Basis] = {}
        result: Cores = []
        carried = np.ones((1, 1))
        for name, core in zip(order, values, strict=True):
            rule = self._rules[name]
            if rule.at is not None:
                carried = carried @ core[:, 0, :]
                continue
            bases[name], fit = _polynomials(rule)
            result.append(np.tensordot(carried, _applied(fit, core), axes=1))
            carried = np.eye(result[-1].shape[2])
        result[-1] = np.tensordot(result[-1], carried, axes=1)
        return TensorTrain(TensorSpace(**bases), result).compress(EPS).as_coefficient()

    def norm(self, cores: Cores) -> tuple[float, float]:
        """Return the norm of a train and its round-off."""
        return train_norm(cores), EPS * train_size(cores)


def _applied(matrix: scipy.sparse.sparray | np.ndarray, core: np.ndarray) -> np.ndarray:
    """Apply a matrix to the middle axis of a core."""
    r, n, s = core.shape
    image = matrix @ core.transpose(1, 0, 2).reshape(n, r * s)
    return np.asarray(image).reshape(-1, r, s).transpose(1, 0, 2)


def _polynomials(rule: AxisRule) -> tuple[Basis, scipy.sparse.csc_array | np.ndarray]:
    """Return a basis of piecewise polynomials, and the matrix from values at the points to their projection on it."""
    count = int((rule.weights > 0).sum(axis=1).min())
    if rule.basis.kind == "dense":
        basis: Basis = Legendre(rule.basis.domain, count - 1)
    else:
        basis = BSpline(breaks=rule.basis.breaks, degree=min(count - 1, HIGHEST), continuity=-1)
    table = scipy.sparse.csc_array(basis.tabulate(rule.points.reshape(-1)))
    weighted = (table * rule.weights.reshape(-1)[:, None]).T
    gram = scipy.sparse.csc_array(weighted @ table)
    solve = scipy.sparse.linalg.splu(gram).solve
    return basis, solve(weighted.toarray())
