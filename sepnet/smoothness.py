"""What the smoothness of a basis allows: derivatives across breaks, and coefficients that jump."""

from __future__ import annotations

import warnings

import numpy as np

from sepnet.bases.basis import Basis
from sepnet.bases.bspline import BSpline
from sepnet.piecewise import jumps_of
from sepnet.terms import Factor

__all__ = ["check_jumps", "check_order"]

# Places that differ by less than this share of the larger end are one.
_ROUND_OFF = 8 * float(np.finfo(np.float64).eps)


def check_order(axis: str, basis: Basis, order: int) -> None:
    """Raise ValueError if a basis has fewer derivatives than a term needs, with the break that is to blame."""
    if order <= basis.max_order:
        return
    weak = f"use the weak form, e.g. sn.inner(d.{axis}, d.{axis})"
    what = f"the term with d.{axis}**{order} needs {order} derivatives on axis {axis!r}"
    rough = _roughest(basis)
    if rough is not None and order <= basis.degree:
        place, smooth = rough
        msg = (
            f"{what}, which has {basis.max_order}, since {basis!r} has continuity {smooth} at {place:g}: {weak}, which "
            f"is what an interface asks for; or raise the continuity there to {order - 1}"
        )
    else:
        msg = f"{what}, which has {basis.max_order} ({basis!r}): raise degree= (and continuity=), or {weak}"
    raise ValueError(msg)


def _roughest(basis: Basis) -> tuple[float, int] | None:
    """Return the break at which a spline is less smooth than its degree allows, and its continuity there."""
    if not isinstance(basis, BSpline) or not basis.continuity:
        return None
    at = int(np.argmin(basis.continuity))
    smooth = basis.continuity[at]
    inner = len(basis.breaks) - 2
    return (
        None if smooth == basis.degree - 1 else (float(basis.breaks[at + 1] if at < inner else basis.domain[0]), smooth)
    )


def check_jumps(axis: str, basis: Basis, factor: Factor) -> None:
    """Warn where a coefficient jumps and the basis is smoother there than the solution is.

    Across a jump of the coefficient of the k-th derivative this derivative jumps (k = 1 in the weak form, where the
    flux is continuous): the basis needs a break there with continuity k - 1. Without derivative along the axis how
    smooth the solution is depends on the other terms, and only a break is asked for.
    """
    if factor.at is not None:
        return
    low, high = basis.domain
    for place in jumps_of(factor.coefficient):
        slack = _ROUND_OFF * max(abs(low), abs(high))
        if not low + slack < place < high - slack:
            continue
        wanted = factor.order - 1
        there = _continuity_at(basis, place, slack)
        if there is not None and (factor.order == 0 or there <= wanted):
            continue
        found = "has no break" if there is None else f"has continuity {there}"
        term = f"of d.{axis}" + (f"**{factor.order}" if factor.order > 1 else "") if factor.order else f"in {axis}"
        entry = f"{place:g}: {max(wanted, -1)}" if factor.order else f"{place:g}: ..."
        warnings.warn(
            f"the coefficient {term} jumps at {axis} = {place:g}, where {basis!r} {found}: the solution is less "
            f"smooth there, and convergence is slow; give the axis sn.BSpline(..., continuity={{{entry}}})",
            UserWarning,
            stacklevel=4,
        )


def _continuity_at(basis: Basis, place: float, slack: float) -> int | None:
    """Return the continuity of a basis at a place, or None if it has no break there."""
    inner = basis.breaks[1:-1]
    if not isinstance(basis, BSpline) or not inner.size:
        return None
    at = int(np.argmin(np.abs(inner - place)))
    return basis.continuity[at] if abs(inner[at] - place) <= slack else None
