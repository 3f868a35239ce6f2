"""Quantities of interest with bounds of their errors, by duality."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import hypot, inf
from typing import Any, final

from sepnet.backends.threads import one_blas_thread
from sepnet.bases.matrix_axis import Assembled
from sepnet.coefficients import Coefficient, Source
from sepnet.forms import LinearForm, as_linear_form
from sepnet.operators import Operator
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.solvers.assembly import assemble_loads, assemblers
from sepnet.solvers.certificates import SAMPLED, SEEN, ErrorBound, energy_majorant, error_bound, hosted
from sepnet.solvers.doubts import data_doubt, form_doubt
from sepnet.solvers.elliptic import NoBoundError
from sepnet.solvers.lifting import Lift
from sepnet.solvers.sampled import Function, roots, sample_coefficient, sample_image
from sepnet.solvers.solve import solve
from sepnet.spaces import TensorSpace

__all__ = ["Goal", "goal"]

# Rank of the adjoint solution when none is asked for: that of u, between these two.
LEAST_RANK, MOST_RANK = 8, 64


@final
@dataclass(frozen=True, repr=False)
class Goal:
    """The value of a functional, and how far it can be from that of the exact solution.

    Parameters
    ----------
    value : float
        ``l(u)``.
    bound : ErrorBound
        Bound of ``|l(u) - l(exact solution)|``.
    """

    value: float
    bound: ErrorBound

    def __repr__(self) -> str:
        """Read like a measurement."""
        if not self.bound.finite:
            return f"Goal({self.value:.10g}, no bound: {self.bound.derivation})"
        return f"Goal({self.value:.10g} +- {self.bound.value:.3g}: {self.bound.derivation})"


@one_blas_thread()
def goal(
    problem: Problem, u: Function, functional: Source | LinearForm, *, lift: Lift | None = None, **options: Any
) -> Goal:
    """Return a quantity of interest with a bound of its error.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        The problem that u was made for.
    u : CP or TensorTrain
        A function that is offered as its solution, converged or not.
    functional : data or LinearForm
        Data g stand for ``int g u`` over the box; other functionals come from ``sn.load_on``, e.g. an integral over a
        face.
    lift : Lift, optional
        The lifted data that u was made with.
    **options
        Options of `solve` for the adjoint problem; by default the rank of u, between 8 and 64.

    Returns
    -------
    Goal
        Symmetric Galerkin: with the adjoint solution z of ``a(w, z) = l(w)``, any approximation ``z_h`` of it and the
        residual ``r(w) = f(w) - a(u, w)``, the error of the functional is ``r(z_h) + a(u_exact - u, z - z_h)``, at most
        ``|r(z_h)|`` plus the product of two energy bounds (Becker and Rannacher, Acta Numerica 10, 2001; Repin, A
        Posteriori Estimates for Partial Differential Equations, 2008). Least squares: ``||g||`` times the bound of u.

    Raises
    ------
    TypeError, ValueError
        If `functional` is no linear form on the axes of the problem.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> problem = sn.Galerkin(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y), source=1)
    >>> mean = goal(problem, sn.solve(problem, rank=5).u, 1)
    >>> abs(mean.value - 0.03514425) <= mean.bound.value < 1e-5
    True
    """
    form = as_linear_form(functional, problem.space, "functional")
    v = hosted(u)
    value, doubt = _apply(form, v)
    try:
        if isinstance(problem, LeastSquares):
            bound = _from_l2(problem, v, form, lift)
        else:
            bound = _from_energy(problem, v, form, lift, options)
    except NoBoundError as reason:
        return Goal(value, ErrorBound(inf, "functional", "exact", float("nan"), str(reason)))
    return Goal(value, dataclasses.replace(bound, value=bound.value + doubt))


def _from_l2(problem: LeastSquares, v: Function, form: LinearForm, lift: Lift | None) -> ErrorBound:
    total = Coefficient()
    for data, operator in form.parts:
        if any(factor.order or factor.at is not None for test in operator.terms for _, factor in test.factors):
            msg = "the functional has a derivative or a face, which a bound in L2 of the box does not bound"
            raise NoBoundError(msg)
        total = total + Coefficient(operator.terms) * data
    bound = error_bound(problem, v, lift)
    if not bound.finite:
        raise NoBoundError(bound.derivation)
    axes = assemblers(v.space, total.terms)
    size = sample_coefficient(total, axes).weighted(roots(axes, {})).norm()
    off = data_doubt(total, v.space, {})
    text = f"{size:.3g} (L2 norm of the functional) times the bound of u, which is {bound.derivation}{_sampled(off)}"
    return ErrorBound((size + off) * bound.value + off * v.norm(), "functional", "exact", size, text)


def _sampled(off: float) -> str:
    return f"; {SAMPLED}: {off:.3g} in the functional or the load" if off > 0.0 else ""


def _from_energy(
    problem: Galerkin, v: Function, form: LinearForm, lift: Lift | None, options: dict[str, Any]
) -> ErrorBound:
    primal = energy_majorant(problem, v, lift)
    zero = {axis: tuple(None if g is None else 0.0 for g in pair) for axis, pair in problem.boundary.items()}
    adjoint = dataclasses.replace(
        problem,
        source=form,
        initial=dict.fromkeys(problem.initial, 0.0),
        boundary=zero,  # type: ignore[arg-type]
    )
    chosen = options or {"rank": min(max(v.rank, LEAST_RANK), MOST_RANK)}
    z = hosted(solve(adjoint, **chosen).u)
    dual = energy_majorant(adjoint, z)
    weighted, doubt = _residual(problem, v, z)
    # Of the load, tested with z, and of the functional, applied to v.
    load = form_doubt(as_linear_form(problem.source, problem.space, "source"), problem.space)
    own = form_doubt(form, problem.space)
    value = abs(weighted) + primal.value * dual.value + doubt + load * z.norm() + own * v.norm()
    text = (
        f"{abs(weighted):.3g} (residual of u, tested with the adjoint solution) + {primal.value:.3g} * "
        f"{dual.value:.3g} (energy bounds of u and of the adjoint solution); {SEEN}{_sampled(hypot(load, own))}"
    )
    return ErrorBound(value, "functional", "exact", dual.value, text)


def _residual(problem: Galerkin, v: Function, z: Function) -> tuple[float, float]:
    """Return ``f(z) - a(v, z)`` and its round-off."""
    space = z.space
    axes = assemblers(_finer(v.space, space), [t for pair in problem.bilinear.pairs for t in pair])
    value, doubt = _apply(as_linear_form(problem.source, space, "source"), z)
    for trial, test in problem.bilinear.pairs:
        images = [sample_image(Operator(w.space, (t,)), w, axes) for t, w in ((trial, v), (test, z))]
        rows = roots(axes, Operator(space, (test,)).face)
        part, noise = images[0].weighted(rows).inner(images[1].weighted(rows))
        value, doubt = value - part, doubt + noise
    return value, doubt


def _finer(first: TensorSpace, second: TensorSpace) -> TensorSpace:
    """Return a space with the breaks and degrees of both: what products of their functions are integrated on."""
    bases = {n: a if a == b else a.sum_basis(b) for (n, a), b in zip(first.items, second.bases, strict=True)}
    return TensorSpace(**bases)


def _apply(form: LinearForm, v: Function) -> tuple[float, float]:
    """Return the value of a linear form, and its round-off."""
    if any(isinstance(basis, Assembled) for basis in v.space.bases):
        return _contracted(form, v), 0.0
    value = doubt = 0.0
    for data, operator in form.on(v.space).parts:
        axes = assemblers(v.space, (*data.terms, *operator.terms))
        for test in operator.terms:
            one = Operator(v.space, (test,))
            datum = v.space.identity.at(**one.face).apply(data) if one.face else data
            rows = roots(axes, one.face)
            image = sample_image(one, v, axes).weighted(rows)
            part, noise = sample_coefficient(datum, axes).weighted(rows).inner(image)
            value, doubt = value + part, doubt + noise
    return value, doubt


def _contracted(form: LinearForm, v: Function) -> float:
    """Return the value of a linear form by its load vectors: an axis given by matrices has no other integrals."""
    pairs = [(t, s) for data, operator in form.on(v.space).parts for t in data.terms for s in operator.terms]
    table = assemble_loads(v.space, pairs, assemblers(v.space, [t for pair in pairs for t in pair]))
    value = 0.0
    for weight, row in zip(table.weights, table.index, strict=True):
        pieces = zip(v.space.names, table.vectors, row, strict=True)
        part: Any = v._contract({name: vectors[[j]] for name, vectors, j in pieces})
        value += float(weight) * float(part)
    return value
