"""What approximately separated coefficients and data cost in an error bound.

A coefficient or operator is off by at most ``sum_k delta_k |T_k u|`` at every point (`sepnet.coefficients.Doubts`). In
the norm of a box or a face that is ``sum_k delta_k ||T_k u||``, with u the function whose error is bounded: it is
known, so that no norm of the exact solution enters.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, prod, sqrt

import numpy as np

from sepnet.coefficients import Coefficient, compose_doubts
from sepnet.forms import LinearForm, as_linear_form
from sepnet.operators import Operator
from sepnet.problems import Galerkin, Problem, faces
from sepnet.solvers.assembly import assemblers
from sepnet.solvers.elliptic import Elliptic, NoBoundError
from sepnet.solvers.ranges import univariate_range
from sepnet.solvers.sampled import Function, roots, sample_coefficient, sample_image
from sepnet.spaces import TensorSpace

__all__ = ["check_exact_faces", "data_doubt", "form_doubt", "image_doubt", "load_doubt"]


def image_doubt(operator: Operator, u: Function) -> float:
    """Return a bound of ``||L u - L' u||`` over the box or the face of L', which stands for L; NoBoundError if none."""
    total = 0.0
    for delta, terms in operator.doubts:
        _check(delta)
        one = Operator(u.space, terms)
        axes = assemblers(u.space, terms)
        total += delta * sample_image(one, u, axes).weighted(roots(axes, one.face)).norm()
    return total


def data_doubt(datum: Coefficient, space: TensorSpace, face: Mapping[str, float]) -> float:
    """Return a bound of ``||f - f'||`` over the box or a face, on which f' is constant; NoBoundError if none."""
    total = 0.0
    for delta, terms in datum.doubts:
        _check(delta)
        axes = assemblers(space, terms)
        total += delta * sample_coefficient(Coefficient(terms), axes).weighted(roots(axes, face)).norm()
    return total


def check_exact_faces(problem: Problem, *, only_boundary: bool = False) -> None:
    """Raise NoBoundError where data that the solution takes on a face were separated approximately."""
    for axis, data in faces({} if only_boundary else problem.initial, problem.boundary).items():
        if any(datum is not None and datum.doubts for datum in data):
            msg = (
                f"the data on axis {axis!r} were separated approximately, and what that costs inside is not known: "
                "give data that are splines on the axes, or a least-squares condition on the face"
            )
            raise NoBoundError(msg)


def form_doubt(form: LinearForm, space: TensorSpace) -> float:
    """Return a bound of ``||f - f'||`` for a load ``v -> (f, v)``; NoBoundError if there is none."""
    total = 0.0
    for data, operator in form.parts:
        if not data.doubts and not operator.doubts:
            continue
        if operator.doubts or any(f.order or f.at is not None for term in operator.terms for _, f in term.factors):
            msg = (
                "a load on a face, or tested with an operator of its own, was separated approximately, and what that "
                "costs in energy is not known: give it exactly"
            )
            raise NoBoundError(msg)
        doubts = compose_doubts(operator.terms, (), data.terms, data.doubts)
        total += data_doubt(Coefficient(data.terms, doubts), space, {})
    return total


def load_doubt(problem: Galerkin, elliptic: Elliptic) -> float:
    """Return a bound of ``||o**(-1/2) (f - f')||`` with the weight o of `Elliptic`; NoBoundError if there is none."""
    total = form_doubt(as_linear_form(problem.source, elliptic.space, "source"), elliptic.space)
    if total == 0.0:
        return 0.0
    space = elliptic.space
    least = (univariate_range(o, np.array(space.axes[name].domain)) for name, o in elliptic.shared.items())
    return total / sqrt(prod(min(abs(float(low[0])), abs(float(high[0]))) for low, high in least))


def _check(delta: float) -> None:
    if not isfinite(delta):
        msg = (
            "a function that was separated approximately is differentiated or put into a callable, and nothing is "
            "known of the error of that: separate the derivative or the composed function itself"
        )
        raise NoBoundError(msg)
