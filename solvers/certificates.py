"""Bounds of the error of a solution that hold, and the reason where there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, inf
from typing import final

import numpy as np

from sepnet.backends.threads import one_blas_thread
from sepnet.bases.matrix_axis import Assembled
from sepnet.coefficients import Coefficient, as_coefficient
from sepnet.forms import as_linear_form
from sepnet.functions import TensorTrain
from sepnet.operators import Operator
from sepnet.problems import Galerkin, LeastSquares, Problem, faces
from sepnet.separable_norm import NOISE
from sepnet.solvers.assembly import assemblers
from sepnet.solvers.doubts import check_exact_faces, data_doubt, image_doubt, load_doubt
from sepnet.solvers.elliptic import NoBoundError, read_elliptic
from sepnet.solvers.lifting import Lift
from sepnet.solvers.majorant import Majorant, majorant
from sepnet.solvers.sampled import Function, roots, sample_coefficient, sample_function, sample_image
from sepnet.spaces import TensorSpace

__all__ = ["SEEN", "ErrorBound", "energy_majorant", "error_bound", "hosted", "unknown_space"]

SEEN = "data and coefficients are seen at the quadrature points only"
SAMPLED = "up to the sampled error of separated data"


@final
@dataclass(frozen=True, repr=False)
class ErrorBound:
    """An upper bound of an error.

    Parameters
    ----------
    value : float
        The bound; infinite where none is known, and `derivation` then says why.
    norm : str
        What is bounded: ``"energy"``, the norm ``a(e, e)**(1/2)``; ``"L2"``, over the box; ``"functional"``, the
        absolute value of a quantity of interest.
    against : str
        ``"exact"``: the distance to the solution of the differential equation; ``"discrete"``: to that of the
        discretised equation, which says nothing about the mesh.
    constant : float
        The constant of the inequality: C of ``||e|| <= C ||residual||``. NaN where there is no bound.
    derivation : str
        Where the bound comes from, and with which numbers.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> problem = sn.Galerkin(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y), source=1)
    >>> u = sn.solve(problem, rank=5).u
    >>> bound = error_bound(problem, u)
    >>> bound.norm, bound.against, bound.finite
    ('energy', 'exact', True)
    """

    value: float
    norm: str
    against: str
    constant: float
    derivation: str

    @property
    def finite(self) -> bool:
        """Whether there is a bound."""
        return self.value < inf

    def __repr__(self) -> str:
        """Tell the bound and where it comes from, or why there is none."""
        if not self.finite:
            return f"ErrorBound(none: {self.derivation})"
        return f"ErrorBound({self.value:.4g} in {self.norm} against the {self.against} solution: {self.derivation})"

    def __str__(self) -> str:
        """Read like a measurement."""
        return f"at most {self.value:.4g} ({self.norm})" if self.finite else f"no bound: {self.derivation}"


@one_blas_thread()
def error_bound(problem: Problem, u: Function, lift: Lift | None = None) -> ErrorBound:
    """Return a bound of the error of any function that is offered as the solution of a problem.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        The problem.
    u : CP or TensorTrain
        The function, initial and boundary data included; it need not be converged.
    lift : Lift, optional
        The lifted data that u was made with: their refined axes tell where u vanishes. Not needed otherwise.

    Returns
    -------
    ErrorBound
        Galerkin with a symmetric form ``sum_i (A_i d_i u, d_i v) + (c u, v)`` and Robin terms: the functional majorant,
        in the energy norm (`sepnet.solvers.majorant`). Least squares with ``stability=``: ``C ||L u - f|| +
        C_0 ||u - u_0||``, the latter on the initial face, in L2 of the box. Infinite, with the reason, for all else.
    """
    try:
        if problem.is_nonlinear:
            msg = "the equation is nonlinear, and bounds are known for linear ones only"
            raise NoBoundError(msg)
        if isinstance(problem, LeastSquares):
            return _least_squares(problem, _hosted_as_it_lies(u))
        return _energy(problem, energy_majorant(problem, hosted(u), lift))
    except NoBoundError as reason:
        norm = "L2" if isinstance(problem, LeastSquares) else "energy"
        return ErrorBound(inf, norm, "exact", float("nan"), str(reason))


def hosted(u: Function) -> Function:
    """Return a function in float64 on the host, with the axes in order; raise NoBoundError if it is not finite."""
    v = _finite(u)
    # What is sampled on an axis each must be a train in their order.
    return v.reorder(*v.space.names) if isinstance(v, TensorTrain) else v


def _hosted_as_it_lies(u: Function) -> Function:
    """Return a function in float64 on the host, the axes of its space in the order of its cores.

    A train in another order has higher ranks: of seven swaps on a train of six axes every one took a second.
    """
    v = _finite(u)
    if not isinstance(v, TensorTrain):
        return v
    return TensorTrain(TensorSpace(**{name: v.space.axes[name] for name in v.order}), v.cores)


def _finite(u: Function) -> Function:
    v = u.to(np, dtype="float64")
    if not all(np.isfinite(a).all() for a in v.arrays):
        msg = "the function has coefficients that are not finite"
        raise NoBoundError(msg)
    return v


def energy_majorant(problem: Galerkin, u: Function, lift: Lift | None = None) -> Majorant:
    """Return the functional majorant of a Galerkin problem; raise NoBoundError, with the reason, if there is none."""
    given = [name for name, basis in problem.space.items if isinstance(basis, Assembled)]
    if given:
        msg = (
            f"axis {given[0]!r} is given by matrices, which do not say what equation they come from: estimate the "
            "error of the mesh with the finite-element library, or refine it"
        )
        raise NoBoundError(msg)
    if not problem.bilinear.is_symmetric:
        msg = (
            "the form is not symmetric, so it has no energy: solve the strong form with sn.LeastSquares and give it "
            "stability="
        )
        raise NoBoundError(msg)
    if problem.bilinear.doubtful:
        msg = (
            "a coefficient of the form was separated approximately, and the energy norm of the exact coefficient is "
            "not known: solve the strong form with sn.LeastSquares and give it stability="
        )
        raise NoBoundError(msg)
    check_exact_faces(problem)
    _check_data(problem, u)
    space = unknown_space(problem) if lift is None else lift.space
    elliptic = read_elliptic(problem, space)
    doubt = load_doubt(problem, elliptic)
    found = majorant(elliptic, u)
    # The residual r grows by no more, and the majorant with it by no more than Friedrichs' constant times that.
    return replace(found, value=found.value + found.constant * doubt, residual=found.residual + doubt)


def unknown_space(problem: Problem) -> TensorSpace:
    """Return the space with zeros where data are given."""
    space = problem.space
    bases = dict(space.items)
    for axis, data in faces(problem.initial, problem.boundary).items():
        held = {end for end, datum in zip(("left", "right"), data, strict=True) if datum is not None}
        held |= {"left", "right"} if bases[axis].zero == "both" else {str(bases[axis].zero)} - {"None"}
        if held:
            bases[axis] = bases[axis].with_zero("both" if len(held) == 2 else "left" if "left" in held else "right")
    return TensorSpace(**bases)


def _energy(problem: Galerkin, found: Majorant) -> ErrorBound:
    loads = as_linear_form(problem.source, problem.space, "source").parts
    sampled = f"; {SAMPLED}, in the residual" if any(data.doubts for data, _ in loads) else ""
    text = (
        f"functional majorant (Prager-Synge, Repin) from the misfit {found.misfit:.3g} of a separable flux of rank "
        f"{found.rank}, and {found.constant:.3g} (Friedrichs) times its residual {found.residual:.3g}; {SEEN}"
    )
    return ErrorBound(found.value, "energy", "exact", found.constant, text + sampled)


def _least_squares(problem: LeastSquares, u: Function) -> ErrorBound:
    constants = problem.constants
    if constants is None:
        msg = "no stability constant is known: give sn.LeastSquares(..., stability=C), with ||e|| <= C ||L e||"
        raise NoBoundError(msg)
    C, C_0 = constants
    check_exact_faces(problem, only_boundary=True)
    _check_data(problem, u, only_boundary=True)
    blocks = [
        (replace(op, space=u.space), _on_face_of(op, as_coefficient(data, "data")))
        for op, data, _ in problem.linear_blocks
    ]
    doubts = [image_doubt(op, u) + data_doubt(datum, u.space, op.face) for op, datum in blocks]
    residual = hypot(*(_residual(*block, u) + doubt for block, doubt in zip(blocks, doubts, strict=True)))
    starts = {n: as_coefficient(g, "initial") for n, g in problem.initial.items()}
    ends = {n: u.space.axes[n].domain[0] for n in starts}
    given = {n: data_doubt(g, u.space, {n: ends[n]}) for n, g in starts.items()}
    start = hypot(*(_face_error(u, n, ends[n], g)[0] + given[n] for n, g in starts.items()))
    if start > 0.0 and C_0 == 0.0 and (any(given.values()) or _missed(problem, u)):
        msg = f"the initial data are missed by {start:.3g} and no constant C_0 is known: give stability=(C, C_0)"
        raise NoBoundError(msg)
    text = f"stability: {C:.4g} * {residual:.3g} (residual) + {C_0:.4g} * {start:.3g} (initial values); {SEEN}"
    doubt = hypot(*doubts, *given.values())
    sampled = f"; {SAMPLED}, {doubt:.3g} of these" if doubt > 0.0 else ""
    return ErrorBound(C * residual + C_0 * start, "L2", "exact", C, text + sampled)


def _on_face_of(operator: Operator, datum: Coefficient) -> Coefficient:
    return operator.space.identity.at(**operator.face).apply(datum) if operator.face else datum


def _missed(problem: LeastSquares, u: Function) -> bool:
    """Tell whether the initial data are missed by more than round-off."""
    for name, datum in problem.initial.items():
        error, size = _face_error(u, name, u.space.axes[name].domain[0], as_coefficient(datum, "initial"))
        if error > NOISE * size:
            return True
    return False


def _check_data(problem: Problem, u: Function, *, only_boundary: bool = False) -> None:
    """Refuse a function that misses data on faces by more than round-off: that part of its error is not bounded."""
    initial = {} if only_boundary else problem.initial
    for axis, data in faces(initial, problem.boundary).items():
        for end, position, datum in zip(("left", "right"), u.space.axes[axis].domain, data, strict=True):
            if datum is None:
                continue
            error, size = _face_error(u, axis, position, datum)
            if error > NOISE * size:
                msg = (
                    f"the data at the {end} end of axis {axis!r} are not met exactly (L2 error {error:.3g} on the "
                    "face), and what that costs inside is not known: give data that are splines on the axes "
                    "(polynomials are), or shift the unknown by a function that takes them"
                )
                raise NoBoundError(msg)


def _face_error(u: Function, axis: str, position: float, datum: Coefficient) -> tuple[float, float]:
    """Return the L2 distance of u and a datum on a face, and the size of what was subtracted."""
    axes = assemblers(u.space, datum.terms)
    rows = roots(axes, {axis: position})
    trace = sample_function(u, axes, {}, {axis: position}).weighted(rows)
    given = sample_coefficient(datum, axes).weighted(rows)
    return (given + trace.scaled(-1.0)).norm(), trace.size + given.size


def _residual(operator: Operator, datum: Coefficient, u: Function) -> float:
    """Return ``||L u - f||`` over the box or a face, computed by evaluation, with its round-off added."""
    axes = assemblers(u.space, (*datum.terms, *operator.terms))
    residual = sample_coefficient(datum, axes) + sample_image(operator, u, axes).scaled(-1.0)
    return residual.weighted(roots(axes, operator.face)).norm()
