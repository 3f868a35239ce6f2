"""Second-order symmetric coercive problems, read off their forms: what the functional majorant needs to know.

    a(u, v) = sum_i (A_i d_i u, d_i v) + (c u, v) + sum over faces (gamma u, v)_face,    f(v) = (f, v) + (g, v)_face

on a box, with ``A_i > 0`` and ``c, gamma >= 0`` functions of any axes. Axes without a derivative are parameters.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import pi, prod
from typing import TypeAlias, final

import numpy as np

from sepnet.coefficients import Coefficient
from sepnet.forms import as_linear_form
from sepnet.problems import Galerkin
from sepnet.solvers.ranges import coefficient_range
from sepnet.spaces import TensorSpace
from sepnet.terms import Factor, Term, collect, make_term
from sepnet.univariate import Univariate

__all__ = ["Elliptic", "NoBoundError", "Side", "common_factors", "read_elliptic"]

# A face of the box: axis and end.
Side: TypeAlias = "tuple[str, str]"


@final
class NoBoundError(Exception):
    """There is no bound; the message is the reason, with the next step."""


@final
@dataclass(frozen=True)
class Elliptic:
    """A second-order symmetric coercive problem.

    Parameters
    ----------
    space : TensorSpace
        The space of the unknown, whose `zero` ends are the Dirichlet part.
    diffusion : dict of str to Coefficient
        ``A_i`` by axis.
    reaction, source : Coefficient
        c and f.
    robin, neumann : dict of (axis, "left" or "right") to Coefficient
        gamma and g on the natural faces.
    shared : dict of str to Univariate
        Parameter axis to the function ``o_k`` that all diffusions have there in common.
    eigenvalue : float
        Lower bound of ``sum_i (A_i d_i w, d_i w) / (o w, w)``, o the product of `shared`.
    reaction_low : float
        Lower bound of ``c / o``.
    """

    space: TensorSpace
    diffusion: dict[str, Coefficient]
    reaction: Coefficient
    source: Coefficient
    robin: dict[Side, Coefficient]
    neumann: dict[Side, Coefficient]
    shared: dict[str, Univariate]
    eigenvalue: float
    reaction_low: float

    def natural(self, axis: str) -> tuple[str, ...]:
        """Return the ends of `axis` where the solution is free."""
        basis = self.space.axes[axis]
        if basis.periodic:
            return ()
        return tuple(end for end in ("left", "right") if basis.zero not in (end, "both"))


def read_elliptic(problem: Galerkin, space: TensorSpace) -> Elliptic:
    """Read a problem; raise NoBoundError, with the reason, if it is none of these.

    The smallest eigenvalue is bounded by Friedrichs' inequality on every line of the box, ``int A (w')**2 >= min A
    (pi / l)**2 int w**2`` with zeros at both ends of a line of length l and ``pi / (2 l)`` with one, summed over the
    axes. A function of a parameter that all ``A_i`` share is kept as a weight instead of its minimum.
    """
    diffusion: dict[str, list[Term]] = {}
    reaction: list[Term] = []
    robin: dict[Side, list[Term]] = {}
    for trial, test in problem.bilinear.pairs:
        _sort(trial, test, space, diffusion, reaction, robin)
    source, neumann = _loads(problem, space)
    A = {axis: Coefficient(collect(terms)) for axis, terms in diffusion.items()}
    A = {axis: A[axis] for axis in space.names if axis in A and A[axis].terms}
    c = Coefficient(collect(reaction))
    gamma = {side: Coefficient(collect(terms)) for side, terms in robin.items()}
    for axis, coefficient in A.items():
        if not _is_positive(coefficient, space):
            low = coefficient_range(coefficient, space)[0]
            msg = f"the diffusion along {axis!r} is not known to be positive (lower bound {low:.3g})"
            raise NoBoundError(msg)
    for name, coefficient in (("reaction", c), *((f"Robin coefficient at {s[0]!r}", g) for s, g in gamma.items())):
        low = coefficient_range(coefficient, space)[0] if coefficient.terms else 0.0
        if low < -1e-12 * sum(abs(t.weight) for t in coefficient.terms):
            msg = f"the {name} is not known to be non-negative (lower bound {low:.3g})"
            raise NoBoundError(msg)
    for side in (*gamma, *neumann):
        if side[0] not in A:
            msg = f"there is a term on a face of axis {side[0]!r}, along which nothing is differentiated"
            raise NoBoundError(msg)
    shared = _shared(A, space)
    eigenvalue = _eigenvalue(A, space, tuple(shared))
    largest = prod(_magnitude_range(o, name, space)[1] for name, o in shared.items())
    c_low = max(coefficient_range(c, space)[0], 0.0) / largest if c.terms else 0.0
    if eigenvalue + c_low <= 0.0:
        msg = "no axis has a Dirichlet end and the reaction has no positive lower bound, so no constant is known"
        raise NoBoundError(msg)
    return Elliptic(space, A, c, source, gamma, neumann, shared, eigenvalue, c_low)


def _sort(
    trial: Term,
    test: Term,
    space: TensorSpace,
    diffusion: dict[str, list[Term]],
    reaction: list[Term],
    robin: dict[Side, list[Term]],
) -> None:
    """Put one integral of the form where it belongs."""
    axes = sorted({*trial.axes, *test.axes})
    orders = {n: (trial.factor(n).order, test.factor(n).order) for n in axes}
    active = {n: o for n, o in orders.items() if o != (0, 0)}
    ends = [n for n in axes if trial.factor(n).at is not None]
    term = _product(trial, test)
    if not active and not ends:
        reaction.append(term)
    elif not active and len(ends) == 1:
        side = _side(ends[0], trial.factor(ends[0]).at, space)
        # The test functions vanish on a Dirichlet face.
        if space.axes[side[0]].zero not in (side[1], "both"):
            robin.setdefault(side, []).append(term)
    elif list(active.values()) == [(1, 1)] and not ends:
        diffusion.setdefault(next(iter(active)), []).append(term)
    else:
        where = " on a face" if ends else ""
        shown = ", ".join(f"{n} ({a} in u, {b} in v)" for n, (a, b) in active.items()) or "two faces at once"
        msg = f"the form has a term with derivatives{where} along {shown}, beside sum_i (A_i d_i u, d_i v) + (c u, v)"
        raise NoBoundError(msg)


def _product(trial: Term, test: Term) -> Term:
    """Return the coefficient of an integral; on a face its value there."""
    weight, factors = trial.weight * test.weight, {}
    for axis in sorted({*trial.axes, *test.axes}):
        a, b = trial.factor(axis), test.factor(axis)
        function = a.coefficient * b.coefficient
        if a.at is None:
            factors[axis] = Factor(function)
        else:
            weight *= _value(function, a.at)
    return make_term(weight, factors)


def _value(function: Univariate, position: float) -> float:
    return float(function(np.array([position]))[0])


def _side(axis: str, position: float | None, space: TensorSpace) -> Side:
    low, high = space.axes[axis].domain
    if position not in (low, high) or space.axes[axis].periodic:
        msg = f"there is a term on {axis} = {position:g}, which is no face of the box"
        raise NoBoundError(msg)
    return axis, "left" if position == low else "right"


def _loads(problem: Galerkin, space: TensorSpace) -> tuple[Coefficient, dict[Side, Coefficient]]:
    """Return the load as data over the box and on natural faces."""
    inside = Coefficient()
    faces: dict[Side, Coefficient] = {}
    for data, operator in as_linear_form(problem.source, space, "source").parts:
        for test in operator.terms:
            if any(f.order for _, f in test.factors):
                msg = "the load is tested with a derivative: write it with its own divergence as source="
                raise NoBoundError(msg)
            ends = [n for n in test.axes if test.factor(n).at is not None]
            part = Coefficient(collect(_product(t, test) if not ends else _on_face(t, test) for t in data.terms))
            if not ends:
                inside = inside + part
            elif len(ends) == 1:
                side = _side(ends[0], test.factor(ends[0]).at, space)
                if space.axes[side[0]].zero not in (side[1], "both"):
                    faces[side] = faces.get(side, Coefficient()) + part
            else:
                msg = f"the load on an edge, {', '.join(ends)}, is not bounded in energy"
                raise NoBoundError(msg)
    return inside, faces


def _on_face(data: Term, test: Term) -> Term:
    held = {n: f for n, f in test.factors}
    moved = tuple((n, Factor(f.coefficient, 0, held[n].at if n in held else None)) for n, f in data.factors)
    missing = tuple((n, Factor(at=f.at)) for n, f in held.items() if n not in data.axes)
    return _product(Term(data.weight, tuple(sorted((*moved, *missing), key=lambda item: item[0]))), test)


def _magnitude_range(function: Univariate, axis: str, space: TensorSpace) -> tuple[float, float]:
    low, high = coefficient_range(Coefficient((Term(1.0, ((axis, Factor(function)),)),)), space)
    return (0.0 if low < 0.0 < high else min(abs(low), abs(high))), max(abs(low), abs(high))


def _shared(A: dict[str, Coefficient], space: TensorSpace) -> dict[str, Univariate]:
    """Return the functions on parameter axes that all diffusions have in common as factors."""
    terms = [t for coefficient in A.values() for t in coefficient.terms]
    shared = {}
    for name in space.names:
        if name in A or not terms:
            continue
        functions = {t.factor(name).coefficient for t in terms}
        if len(functions) == 1:
            function = next(iter(functions))
            if function.constant is None and _magnitude_range(function, name, space)[0] > 0.0:
                shared[name] = function
    return shared


def _is_positive(coefficient: Coefficient, space: TensorSpace) -> bool:
    factors, low = common_factors(coefficient, space, space.names)
    ranges = [_magnitude_range(function, name, space) for name, function in factors.items()]
    # Nothing changes its sign, so that one value tells the sign of all.
    corner = np.array([[basis.domain[0] for basis in space.bases]])
    return low > 0.0 and all(least > 0.0 for least, _ in ranges) and bool(coefficient(corner, space.names)[0] > 0.0)


def common_factors(
    coefficient: Coefficient, space: TensorSpace, names: Collection[str]
) -> tuple[dict[str, Univariate], float]:
    """Split a positive coefficient into factors on `names` that all terms share, and the rest.

    Returns
    -------
    factors : dict of str to Univariate
        Axis to the shared function.
    low : float
        A lower bound of the absolute value of the rest over the box, at least zero.
    """
    factors = {}
    for name in names:
        functions = {t.factor(name).coefficient for t in coefficient.terms}
        if len(functions) == 1:
            factors[name] = next(iter(functions))
    rest = (Term(t.weight, tuple(i for i in t.factors if i[0] not in factors)) for t in coefficient.terms)
    low, high = coefficient_range(Coefficient(tuple(rest)), space)
    # The shared factors and the rest may both be negative, their product is not.
    return factors, max(low, -high, 0.0)


def _eigenvalue(A: dict[str, Coefficient], space: TensorSpace, shared: Collection[str]) -> float:
    total = 0.0
    for axis, coefficient in A.items():
        basis = space.axes[axis]
        length = basis.domain[1] - basis.domain[0]
        held = 0 if basis.zero is None else (2 if basis.zero == "both" else 1)
        total += common_factors(coefficient, space, shared)[1] * (held * pi / (2 * length)) ** 2
    return total
