"""Starts for the low-rank iterations from the inverse of a Kronecker sum.

From a random start ALS stalls, or needs many sweeps. For Laplace-like problems the exponential-sum inverse is the
solution already, at a known rank and in milliseconds.
"""

from __future__ import annotations

import numpy as np

from sepnet.forms import BilinearForm, inner
from sepnet.functions import CP
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.solvers.assembly import assemble_loads, assemblers
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.lifting import Lift
from sepnet.solvers.separable import SeparableVector
from sepnet.solvers.system import System
from sepnet.terms import Term

__all__ = ["laplace_start"]


def laplace_start(
    problem: Problem,
    system: System,
    lift: Lift,
    *,
    tol: float,
    rank: int | None = None,
    riesz: KroneckerSum | None = None,
) -> list[np.ndarray] | None:
    """Return factors of a start for the unknown ``v / scale`` of a system, or None where there is no cheap good one.

    Galerkin's method: ``P^-1 b`` if the form is its own Kronecker sum P; the solution, then, up to `tol`. Least squares
    with an operator whose terms act on one axis each, such as ``c - Laplace``, without further conditions: the
    solution of ``(L v, w) = (f - L lift, w)`` on the same space, if that is symmetric and definite; its distance to the
    minimiser is of the order of the discretisation error. In both cases unless the load has more than `rank` terms.

    Forms that are merely close to a Kronecker sum get no start. ``P^-1 b`` has a residual of 0.06 to 0.16 there
    (coefficients 1 + x and 1 + 9 x in 2 to 6 variables); after four sweeps each at ranks 4, 8, 12 and 16, ALS from it
    is within a third of ALS from random columns, now better, now worse.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        The problem.
    system : System
        The system assembled from it.
    lift : Lift
        Its lifted data.
    tol : float
        Relative error of the exponential sum, in the energy.
    rank : int, optional
        Largest number of columns.
    riesz : KroneckerSum, optional
        That of the Galerkin form on ``system.space``, where it is at hand.

    Returns
    -------
    list of ndarray (N_i, R) or None
        Float64, on the host.
    """
    load = SeparableVector.from_table(system.loads)
    if isinstance(problem, Galerkin):
        exact = riesz or KroneckerSum.from_form(problem.bilinear.on(system.space))
    else:
        pair = _galerkin(problem, system, lift)
        if pair is None:
            return None
        exact, load = pair
    if not exact.exact or load.is_zero or (rank is not None and load.weights.size > rank):
        return None
    return exact.solve(load, tol, rank=rank)


def _galerkin(problem: LeastSquares, system: System, lift: Lift) -> tuple[KroneckerSum, SeparableVector] | None:
    """Return the Kronecker sum of ``(L v, w)`` and the load ``(f - L lift, w) / scale``, or both for ``-L``."""
    operator, data = system.blocks[0]
    if problem.conditions or operator.face:
        return None
    # An operator of one term on several axes is no Kronecker sum: seen before anything is assembled.
    if any(len(term.axes) > 1 for term in operator.terms):
        return None
    space = system.space
    form: BilinearForm = inner(operator, space.identity)
    sign = 1.0
    found = KroneckerSum.from_form(form)
    if not found.exact:
        found, sign = KroneckerSum.from_form(-form), -1.0
    if not found.exact:
        return None
    rest = data - operator.apply(lift.function.as_coefficient()) if isinstance(lift.function, CP) else data
    terms = [(Term(sign * t.weight / system.scale, t.factors), Term()) for t in rest.terms]
    axes = assemblers(space, [*operator.terms, *(t for t, _ in terms)])
    return found, SeparableVector.from_table(assemble_loads(space, terms, axes))
