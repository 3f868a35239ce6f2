"""Initial and boundary data are lifted: ``u = lift + v`` with v in the space that vanishes where data are given.

The lift is the transfinite (Boolean sum) interpolant of the data, written symbolically and then projected into the
splines: L2 projection with exact end values, axis by axis, which is stable in H1 on the meshes in use. Axes on which
that is worse than asked are refined for the lift alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import hypot, sqrt
from typing import Literal, final

import numpy as np

from sepnet.bases.basis import Basis, Zero
from sepnet.coefficients import Coefficient, constant
from sepnet.functions import CP
from sepnet.problems import Problem, faces
from sepnet.separable_norm import separable_norm, sound_norm
from sepnet.solvers.assembly import AxisAssembler, assemblers
from sepnet.spaces import TensorSpace
from sepnet.terms import Factor, Term
from sepnet.univariate import Univariate

__all__ = ["Lift", "data_norm", "make_lift", "separable_values"]

MAX_REFINEMENTS = 6


@final
@dataclass(frozen=True)
class Lift:
    """The lifted data of a problem.

    Parameters
    ----------
    space : TensorSpace
        The space of the remaining unknown, which vanishes where data are given.
    function : CP or None
        The lift, or None if all data are zero.
    data_error : float
        Relative L2 error of the projected lift.
    worst : str or None
        The axis that resolves the data worst.
    clash : str or None
        An axis whose `zero` ends the data do not respect: no refinement resolves that.
    """

    space: TensorSpace
    function: CP | None
    data_error: float
    worst: str | None = None
    clash: str | None = None


def make_lift(problem: Problem, tol: float) -> Lift:
    """Return the lift of the initial and boundary data, with an error of at most `tol` where refinement can help."""
    space = problem.space
    unknown, carrier = dict(space.items), dict(space.items)
    expression = Coefficient()
    for axis, (left, right) in faces(problem.initial, problem.boundary).items():
        basis = space.axes[axis]
        ends: tuple[tuple[Literal["left", "right"], Coefficient | None], ...] = (("left", left), ("right", right))
        given = [end for end, datum in ends if datum is not None]
        homogeneous = [end for end, datum in ends if datum is not None and not datum.terms]
        unknown[axis] = basis.with_zero(_join(basis.zero, given))
        carrier[axis] = basis.with_zero(_join(basis.zero, homogeneous))
        expression = expression + _blend(axis, basis, left, right, expression)
    target = TensorSpace(**unknown)
    if not expression.terms:
        return Lift(target, None, 0.0)
    mismatch = _check_corners(problem, expression, tol)
    lift = _project(TensorSpace(**carrier), expression, tol)
    return replace(lift, space=target, data_error=hypot(lift.data_error, mismatch))


def _check_corners(problem: Problem, lift: Coefficient, tol: float) -> float:
    """Return the largest relative mismatch of the lift and the data on a face; refuse what exceeds `tol`.

    Data on two axes must agree where the faces meet; where they do not, no continuous function takes both.
    """
    space = problem.space
    found: list[tuple[float, str, str]] = []
    size = 0.0
    for axis, data in faces(problem.initial, problem.boundary).items():
        for end, position, datum in zip(("left", "right"), space.axes[axis].domain, data, strict=True):
            if datum is None:
                continue
            difference = datum - _on_face(lift, axis, position)
            axes = assemblers(space, (*difference.terms, *datum.terms))
            size = max(size, data_norm(space, datum, axes, {axis}))
            found.append((data_norm(space, difference, axes, {axis}), end, axis))
    mismatch, end, axis = max(found)
    mismatch = mismatch / size if size > 0 else 0.0
    if mismatch > tol:
        others = ", ".join(n for n in (*problem.initial, *problem.boundary) if n != axis)
        msg = (
            f"the data at the {end} end of axis {axis!r} disagree with those of {others} at the corner where they meet "
            f"(relative mismatch {mismatch:.2g}): make them agree, or shift the unknown so that those on one of the "
            "axes are zero"
        )
        raise ValueError(msg)
    return mismatch


def _join(zero: Zero, ends: list[Literal["left", "right"]]) -> Zero:
    held: set[Zero] = {*ends, *(("left", "right") if zero == "both" else (zero,))} - {None}
    return "both" if len(held) == 2 else next(iter(held), None)


def _blend(
    axis: str, basis: Basis, left: Coefficient | None, right: Coefficient | None, lift: Coefficient
) -> Coefficient:
    """Return what must be added to `lift` so that it takes the data at the ends of `axis`."""
    low, high = basis.domain
    held_left = left is not None or basis.zero in ("left", "both")
    held_right = right is not None or basis.zero in ("right", "both")
    frame = ((low + high) / 2, (high - low) / 2)
    rising, falling = Univariate((0.5, 0.5), (), frame), Univariate((0.5, -0.5), (), frame)
    shapes = {low: falling if held_right else Univariate(), high: rising if held_left else Univariate()}
    total = Coefficient()
    for position, datum in ((low, left), (high, right)):
        # Zero data need no lift: the space vanishes there.
        if datum is not None and datum.terms:
            shape = Coefficient((Term(1.0, ((axis, Factor(shapes[position])),)),))
            total = total + shape * (datum - _on_face(lift, axis, position))
    return total


def _on_face(data: Coefficient, axis: str, position: float) -> Coefficient:
    total = Coefficient()
    for term in data.terms:
        value = term.weight * float(term.factor(axis).coefficient(np.array([position]))[0])
        rest = Coefficient((Term(1.0, tuple(item for item in term.factors if item[0] != axis)),))
        total = total + constant(value) * rest
    return total


def _project(space: TensorSpace, data: Coefficient, tol: float) -> Lift:
    """Project data into the space, refining axes (for this function alone) that resolve it worse than `tol`."""
    share = tol / sqrt(space.dim)
    bases, factors, errors = {}, [], {}
    clash = None
    for name, basis in space.items:
        functions = [term.factor(name).coefficient for term in data.terms]
        for left in range(MAX_REFINEMENTS, -1, -1):
            columns, errors[name] = _project_axis(name, basis, functions)
            if left == 0 or errors[name] <= share:
                break
            # Data that do not vanish where the axis does are not resolved by any refinement.
            if basis.zero is not None and _clash(basis, functions):
                clash = name
                break
            basis = basis.refine()
        bases[name] = basis
        factors.append(columns)
    weights = np.array([term.weight for term in data.terms])
    factors[0] = factors[0] * weights
    function = CP(TensorSpace(**bases), factors)
    if function.rank > 1 and space.dim <= 2:
        # Exact there, by a singular value decomposition; data from an earlier solve have many parallel terms.
        function = function.compress(1e-14)
    worst = max(errors, key=lambda name: errors[name])
    return Lift(space, function, _relative_error(function, data), worst, clash)


def _clash(basis: Basis, functions: list[Univariate]) -> bool:
    low, high = basis.domain
    ends = {"left": [low], "right": [high], "both": [low, high]}[str(basis.zero)]
    for function in functions:
        inside = np.abs(function(np.linspace(low, high, 65))).max()
        if (np.abs(function(np.array(ends))) > 1e-6 * inside).any():
            return True
    return False


def _project_axis(name: str, basis: Basis, functions: list[Univariate]) -> tuple[np.ndarray, float]:
    """Return coefficients (N, Q) of the L2 projections with exact ends, and the largest relative error."""
    assembler = AxisAssembler(name, basis, functions)
    if assembler.given is not None:
        return assembler.given.coefficients(functions), 0.0
    table, weights = assembler.table(Factor())
    values = np.stack([assembler.data(f) for f in functions], axis=1)
    gram = (table.T @ (table * weights[:, None])).toarray()
    load = table.T @ (weights[:, None] * values)
    ends = basis.tabulate(np.array(basis.domain)).toarray()
    held = [] if basis.periodic else [k for k in (0, 1) if np.abs(ends[k]).max() > 0]
    rows = ends[held]
    exact = np.stack([f(np.array(basis.domain)[held]) for f in functions], axis=1)
    count = len(held)
    saddle = np.block([[gram, rows.T], [rows, np.zeros((count, count))]])
    columns = np.linalg.solve(saddle, np.concatenate([load, exact]))[: basis.size]
    distance = np.sqrt(weights @ (table @ columns - values) ** 2)
    norms = np.sqrt(weights @ values**2)
    return columns, float(np.max(distance / np.where(norms > 0, norms, 1.0), initial=0.0))


def _relative_error(function: CP, data: Coefficient) -> float:
    lifted = function.as_coefficient()
    axes = assemblers(function.space, (*data.terms, *lifted.terms))
    scale = separable_norm(separable_values(function.space, data, axes))
    difference = separable_norm(separable_values(function.space, data - lifted, axes))
    return difference / scale if scale > 0 else 0.0


def separable_values(
    space: TensorSpace,
    data: Coefficient,
    axes: dict[str, AxisAssembler],
    fixed: Collection[str] = (),
    *,
    magnitude: bool = False,
) -> list[np.ndarray]:
    """Return data at the quadrature points, scaled by root weights: the Euclidean norm is the L2 norm.

    On the axes `fixed`, the data are constant and the integral is evaluation. With `magnitude`, the values are what the
    evaluation adds up, in absolute value.
    """
    factors = []
    for k, name in enumerate(space.names):
        if name in fixed:
            columns = np.ones((1, len(data.terms)))
        else:
            functions = [t.factor(name).coefficient for t in data.terms]
            columns = axes[name].weighted(functions, magnitude=magnitude)
        factors.append(columns * np.array([t.weight for t in data.terms]) if k == 0 else columns)
    return factors


def data_norm(
    space: TensorSpace, data: Coefficient, axes: dict[str, AxisAssembler], fixed: Collection[str] = ()
) -> float:
    """Return the L2 norm of data, exactly zero where they are round-off."""
    if not data.terms:
        return 0.0
    return sound_norm(
        separable_values(space, data, axes, fixed), separable_values(space, data, axes, fixed, magnitude=True)
    )
