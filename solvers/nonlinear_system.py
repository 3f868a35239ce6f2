"""A nonlinear problem on the full tensor space: residual, its gradient, and the linearised system as a band matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import hypot
from typing import final

import numpy as np

from sepnet.bases import BSpline
from sepnet.coefficients import Coefficient, as_coefficient
from sepnet.forms import as_linear_form
from sepnet.functions import CP
from sepnet.nonlinear import Jet, NonlinearOperator
from sepnet.nonlinear_forms import NonlinearForm
from sepnet.operators import Operator
from sepnet.problems import Galerkin, LeastSquares
from sepnet.solvers.nonlinear_band import Band
from sepnet.solvers.nonlinear_grid import Grid
from sepnet.spaces import TensorSpace
from sepnet.terms import Factor, Term

__all__ = [
    "Expression",
    "FullSystem",
    "GalerkinSystem",
    "LeastSquaresSystem",
    "breaks_of",
    "make_full_system",
    "split_term",
]


@final
class Expression:
    """An expression in the unknown on a grid, with the lifted data added to the unknown.

    Parameters
    ----------
    expression : NonlinearOperator
        The expression; without its face, which is that of the grid.
    grid : Grid
        Where it is evaluated.
    source : Coefficient
        What is subtracted.
    lift : CP or None
        What is added to the unknown.
    """

    def __init__(self, expression: NonlinearOperator, grid: Grid, source: Coefficient, lift: CP | None) -> None:
        self.grid, self.jets = grid, expression.jets
        self._coefficients = {jets: grid.data(c) for jets, c in expression.monomials.items()}
        self._source = grid.data(source)
        self._function = lift
        self._lift = {jet: grid.of_products(lift, jet) for jet in self.jets} if lift is not None else {}

    def derivatives(self, tensor: np.ndarray | None) -> dict[Jet, np.ndarray]:
        """Return the values of all derivatives of lift plus unknown; of the lift alone without `tensor`."""
        zero = np.zeros(self.grid.shape)
        values = {jet: self._lift.get(jet, zero) for jet in self.jets}
        if tensor is None:
            return values
        return {jet: values[jet] + self.grid.of_tensor(tensor, jet) for jet in self.jets}

    def magnitude(self, tensor: np.ndarray | None) -> np.ndarray:
        """Return what is added up for the values of expression less source, in absolute value."""
        known = {jet: np.zeros(self.grid.shape) for jet in self.jets}
        for jet in self.jets:
            if self._function is not None:
                known[jet] = known[jet] + self.grid.of_products(self._function, jet, magnitude=True)
            if tensor is not None:
                known[jet] = known[jet] + self.grid.of_tensor(tensor, jet, magnitude=True)
        return self.value(known, magnitude=True)

    def value(self, known: dict[Jet, np.ndarray], *, magnitude: bool = False) -> np.ndarray:
        """Return the values of expression less source; with `magnitude`, all signs positive."""
        total = np.abs(self._source) if magnitude else -self._source
        for jets, c in self._coefficients.items():
            total = total + _times([np.abs(c) if magnitude else c, *(known[jet] for jet in jets)])
        return np.broadcast_to(total, self.grid.shape)

    def partials(self, known: dict[Jet, np.ndarray]) -> dict[Jet, np.ndarray]:
        """Return the derivative of the expression with respect to each derivative of the unknown."""
        result: dict[Jet, np.ndarray] = {}
        for jets, c in self._coefficients.items():
            for jet in set(jets):
                others = list(jets)
                others.remove(jet)
                part = jets.count(jet) * _times([c, *(known[j] for j in others)])
                result[jet] = result.get(jet, np.zeros(())) + part
        return result


def _times(factors: Sequence[np.ndarray]) -> np.ndarray:
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result


class FullSystem(ABC):
    """A nonlinear problem in the coefficients of the unknown ``v = u - lift``, an array of shape ``space.shape``.

    Parameters
    ----------
    space : TensorSpace
        Space of v.
    """

    symmetric: bool

    def __init__(self, space: TensorSpace) -> None:
        self.space = space

    @abstractmethod
    def residual(self, v: np.ndarray | None) -> float:
        """Return the norm of the residual; at v = 0 without v."""

    @abstractmethod
    def noise(self, v: np.ndarray | None) -> float:
        """Return the norm of what the residual adds up: it is zero if it is round-off of that."""

    @abstractmethod
    def step(self, v: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the Newton step, and the square of the residual that it would take away if the problem were linear.

        Raises
        ------
        SingularError
            If the linearised system cannot be solved.
        """


@final
class LeastSquaresSystem(FullSystem):
    """``|| R(lift + v) - f ||**2`` over the box, with all conditions; its steps are those of Gauss and Newton."""

    symmetric = True

    def __init__(self, problem: LeastSquares, space: TensorSpace, lift: CP | None) -> None:
        super().__init__(space)
        self._blocks = []
        for operator, source, name in problem.blocks:
            expression = (
                space.unknown.under(operator.on(space)) if isinstance(operator, Operator) else operator.on(space)
            )
            data = as_coefficient(source, name)
            everything = [data, *expression.monomials.values(), *breaks_of(lift)]
            grid = Grid(space, everything, expression.degree - 1, dict(expression.face))
            self._blocks.append(Expression(expression, grid, data, lift))

    def residual(self, v: np.ndarray | None) -> float:
        """Return the norm of the residual; at v = 0 without v."""
        return hypot(*(block.grid.norm(block.value(block.derivatives(v))) for block in self._blocks))

    def noise(self, v: np.ndarray | None) -> float:
        """Return the norm of what the residual adds up."""
        return hypot(*(block.grid.norm(block.magnitude(v)) for block in self._blocks))

    def step(self, v: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the Gauss-Newton step, and the square of the residual that it would take away if R were linear."""
        band = Band(self.space, symmetric=True)
        gradient = np.zeros(self.space.shape)
        for block in self._blocks:
            known = block.derivatives(v)
            residual, partials = block.grid.weights * block.value(known), block.partials(known)
            pairs = {}
            for a, b in combinations_with_replacement(sorted(partials), 2):
                # Both orders of a pair at once: only the symmetric part of the matrix is kept.
                pairs[a, b] = (1.0 if a == b else 2.0) * block.grid.weights * partials[a] * partials[b]
            band.add(block.grid, pairs)
            for jet, partial in partials.items():
                gradient += block.grid.tested(partial * residual, jet)
        step = -band.solve(gradient)
        return step, -float(np.sum(step * gradient))


@final
class GalerkinSystem(FullSystem):
    """``a(lift + v; w) - f(w)`` for all basis functions w."""

    def __init__(self, problem: Galerkin, space: TensorSpace, lift: CP | None) -> None:
        super().__init__(space)
        form = problem.form
        assert isinstance(form, NonlinearForm)
        zero = NonlinearOperator(space, {})
        parts = [(e.on(space), Coefficient(), test.on(space)) for e, test in form.parts]
        for data, test in as_linear_form(problem.source, space, "source").parts:
            parts.append((zero.at(**test.face) if test.face else zero, data, test.on(space)))
        self._parts: list[tuple[Expression, list[tuple[Jet, np.ndarray]]]] = []
        for expression, data, test in parts:
            tests = [split_term(term) for term in test.terms]
            everything = [data, *expression.monomials.values(), *(c for _, c in tests), *breaks_of(lift)]
            grid = Grid(space, everything, max(expression.degree - 1, 0), test.face)
            prepared = Expression(expression, grid, data, lift)
            self._parts.append((prepared, [(jet, grid.data(c)) for jet, c in tests]))
        self.symmetric = False

    def _vector(self, v: np.ndarray | None, *, magnitude: bool = False) -> np.ndarray:
        total = np.zeros(self.space.shape)
        for expression, tests in self._parts:
            known = expression.magnitude(v) if magnitude else expression.value(expression.derivatives(v))
            values = expression.grid.weights * known
            for jet, c in tests:
                total += expression.grid.tested(values * (np.abs(c) if magnitude else c), jet, magnitude=magnitude)
        return total

    def residual(self, v: np.ndarray | None) -> float:
        """Return the Euclidean norm of the residual; at v = 0 without v."""
        return float(np.linalg.norm(self._vector(v)))

    def noise(self, v: np.ndarray | None) -> float:
        """Return the size of what the residual adds up."""
        return float(np.linalg.norm(self._vector(v, magnitude=True)))

    def step(self, v: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the Newton step, and the square of the residual, all of which it would take away."""
        band = Band(self.space, symmetric=self.symmetric)
        for expression, tests in self._parts:
            partials = expression.partials(expression.derivatives(v))
            pairs: dict[tuple[Jet, Jet], np.ndarray] = {}
            for test, c in tests:
                for trial, partial in partials.items():
                    part = expression.grid.weights * partial * c
                    pairs[test, trial] = pairs.get((test, trial), np.zeros(())) + part
            if pairs:
                band.add(expression.grid, pairs)
        residual = self._vector(v)
        return -band.solve(residual), float(np.sum(residual**2))


def breaks_of(lift: CP | None) -> list[Coefficient]:
    """Return data with the breaks of the lift, which is resolved by a rule for functions of the space between them."""
    if lift is None:
        return []
    bases = [BSpline(breaks=b.breaks, degree=0) if b.kind != "dense" else b for b in lift.space.bases]
    space = TensorSpace(**dict(zip(lift.space.names, bases, strict=True)))
    return [CP(space, [np.ones((b.size, 1)) for b in bases]).as_coefficient()]


def split_term(term: Term) -> tuple[Jet, Coefficient]:
    """Return the derivative and the coefficient of a term; where it is evaluated is the grid's affair."""
    jet = tuple((axis, factor.order) for axis, factor in term.factors if factor.order)
    data = tuple((axis, Factor(factor.coefficient)) for axis, factor in term.factors)
    return jet, Coefficient((Term(term.weight, data),))


def make_full_system(problem: LeastSquares | Galerkin, space: TensorSpace, lift: CP | None) -> FullSystem:
    """Return a nonlinear problem on the full tensor space, for the unknown without its lift."""
    kind = LeastSquaresSystem if isinstance(problem, LeastSquares) else GalerkinSystem
    return kind(problem, space, lift)  # type: ignore[arg-type]
