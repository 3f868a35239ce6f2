"""From a problem to the linear system that the solvers see: matrix, load, and what is needed to measure residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, sqrt
from typing import final

import numpy as np

from sepnet.coefficients import Coefficient, as_coefficient
from sepnet.forms import as_linear_form
from sepnet.functions import CP
from sepnet.operators import Operator
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.separable_norm import MANY_COLUMNS, gram_square, separable_norm
from sepnet.solvers.assembly import LoadTable, MatrixTable, assemble_loads, assemble_matrices, assemblers
from sepnet.solvers.lifting import Lift, data_norm, separable_values
from sepnet.solvers.separable import SeparableVector
from sepnet.spaces import TensorSpace
from sepnet.terms import Term

__all__ = ["System", "applied", "make_system", "residual_norm"]

# Columns of a residual that are worth evaluating, and the accuracy at which its Gram formula serves.
MOST_COLUMNS, GRAM_ACCURACY = 1000, 1e-5


@final
@dataclass(frozen=True)
class System:
    """An assembled problem for the unknown ``v = u - lift``.

    Parameters
    ----------
    space : TensorSpace
        The space of v.
    matrices : MatrixTable
        ``a(v, w)``, for least squares ``(L v, L w)`` plus the conditions.
    loads : LoadTable
        ``f(w) - a(lift, w)``, for least squares ``(f - L lift, L w)`` plus the conditions.
    scale : float
        The unknown that `loads` belong to is ``v / scale``, so that neither small nor large data leave the range of the
        dtype. Least squares: ``||f - L lift||``, conditions included. Galerkin: the Euclidean norm of the load. Zero if
        that is round-off.
    blocks : tuple of (Operator, Coefficient)
        Least squares: operators and data of all residuals, without lift.
    """

    space: TensorSpace
    matrices: MatrixTable
    loads: LoadTable
    scale: float
    blocks: tuple[tuple[Operator, Coefficient], ...]


def make_system(problem: Problem, lift: Lift, matrices: MatrixTable | None = None) -> System:
    """Assemble a problem; `matrices` of the same operator on the same space are taken over."""
    if isinstance(problem, LeastSquares):
        return _least_squares(problem, lift, matrices)
    return _galerkin(problem, lift, matrices)


def _least_squares(problem: LeastSquares, lift: Lift, matrices: MatrixTable | None) -> System:
    space = lift.space
    blocks = _blocks(problem, space)
    data = [g - applied(op, lift.function) for op, g in blocks]
    everything = [t for op, _ in blocks for t in op.terms] + [t for g in data for t in g.terms]
    axes = assemblers(space, everything)
    if matrices is None:
        pairs = [(a, b) for op, _ in blocks for a in op.terms for b in op.terms]
        matrices = assemble_matrices(space, pairs, axes)
    loads = [(t, s) for (op, _), g in zip(blocks, data, strict=True) for t in g.terms for s in op.terms]
    norms = [data_norm(space, g, axes, op.face) for (op, _), g in zip(blocks, data, strict=True)]
    scale = hypot(*norms)
    return System(space, matrices, _scaled(assemble_loads(space, loads, axes), scale), scale, tuple(blocks))


def _scaled(loads: LoadTable, scale: float) -> LoadTable:
    if scale == 0.0:
        return loads
    return replace(loads, weights=loads.weights / scale, noise=loads.noise / scale)


def _blocks(problem: LeastSquares, space: TensorSpace) -> list[tuple[Operator, Coefficient]]:
    blocks = []
    for operator, data, name in problem.linear_blocks:
        expression = as_coefficient(data, name)
        if operator.face:
            expression = operator.space.identity.at(**operator.face).apply(expression)
        blocks.append((operator.on(space), expression))
    return blocks


def applied(operator: Operator, function: CP | None) -> Coefficient:
    """Return an operator applied to a function, as data; zero without function."""
    if function is None:
        return Coefficient()
    return operator.apply(function.as_coefficient())


def _galerkin(problem: Galerkin, lift: Lift, matrices: MatrixTable | None) -> System:
    space = lift.space
    form = problem.bilinear.on(space)
    loads = [
        (t, s) for g, op in as_linear_form(problem.source, space, "source").parts for t in g.terms for s in op.terms
    ]
    if lift.function is not None:
        lifted = lift.function.as_coefficient()
        for trial, test in form.pairs:
            for t in Operator(space, (trial,)).apply(lifted).terms:
                loads.append((Term(-t.weight, t.factors), test))
    terms = [t for pair in form.pairs for t in pair] + [t for t, _ in loads] + [s for _, s in loads]
    axes = assemblers(space, terms)
    if matrices is None:
        matrices = assemble_matrices(space, form.pairs, axes)
    table = assemble_loads(space, loads, axes)
    scale = SeparableVector.from_table(table).norm()
    return System(space, matrices, _scaled(table, scale), scale, ())


def residual_norm(
    system: System, lift: CP | None, factors: Sequence[np.ndarray], *, most: int = MOST_COLUMNS
) -> float | None:
    """Return the least-squares residual norm without cancellation, or None where that would cost too much.

    The difference ``v'Av - 2 b'v + c`` loses everything below about 1e-7 relative; here ``L u - f`` is evaluated at the
    quadrature points. Its norm comes from the Gram formula where that is known to give five digits, which costs a tenth
    of the other way, and from orthogonalised columns else.
    """
    solution = CP(system.space, list(factors)).as_coefficient()
    norms = []
    for operator, data in system.blocks:
        columns = len(operator.terms) * (factors[0].shape[1] + (lift.rank if lift else 0)) + len(data.terms)
        if columns > most:
            return None
        residual = data - operator.apply(solution) - applied(operator, lift)
        if not residual.terms:
            continue
        axes = assemblers(system.space, (*residual.terms, *operator.terms))
        values = separable_values(system.space, residual, axes, operator.face)
        square, noise = gram_square(values)
        if noise < GRAM_ACCURACY * square:
            norms.append(sqrt(square))
        elif columns <= MANY_COLUMNS:
            norms.append(separable_norm(values))
        else:
            return None
    return hypot(*norms)
