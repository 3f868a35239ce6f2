"""Continuation: a family of nonlinear problems, each started from the solution of the last one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from math import isfinite, sqrt
from numbers import Real
from typing import Any

from sepnet.problems import Problem
from sepnet.solvers.record import Status
from sepnet.solvers.result import Solution
from sepnet.solvers.solve import solve

__all__ = ["continuation"]

# How often the way from one value to the next may be halved.
MOST_HALVINGS = 8


def continuation(
    problem: Callable[[float], Problem], values: Sequence[float], *, start: Any = None, **options: Any
) -> Solution:
    """Solve a nonlinear problem by following its solution along a parameter.

    The first value should be easy (much viscosity, a weak reaction), the last one is what is wanted. Every solution is
    the start of the next. Where Newton's method fails, the way to the next value is halved: geometrically between
    values of one sign, else arithmetically.

    Parameters
    ----------
    problem : callable
        From a value of the parameter to a problem. The meshes may change with the value.
    values : sequence of float
        Values of the parameter, in the order in which they are taken.
    start : Solution, CP or TensorTrain, optional
        Start of the first problem.
    **options
        Options of `solve`.

    Returns
    -------
    Solution
        That of the last value. If it is not reached, the status is FAILED, and u the solution at the last value that
        was, which the message names.

    Raises
    ------
    TypeError
        If `problem` is no callable, or a value is no number.
    ValueError
        If there are no values, or one is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=16, zero="both"))
    >>> u, d, one = V.unknown, V.d, V.identity
    >>> def reaction(rate):
    ...     return sn.Galerkin(sn.inner(d.x(u), d.x) - sn.inner(rate * (1 + u + u**2 / 2), one))
    >>> continuation(reaction, [1, 2, 3], tol=1e-8).converged
    True
    """
    if not callable(problem):
        msg = f"`problem` is {type(problem).__name__}, expected a callable from a value of the parameter to a problem"
        raise TypeError(msg)
    if isinstance(values, str) or not isinstance(values, Iterable):
        msg = f"`values` is {type(values).__name__}, expected a list of numbers"
        raise TypeError(msg)
    targets = [_number(v) for v in values]
    if not targets:
        msg = "`values` is empty, expected the values of the parameter in the order in which they are taken"
        raise ValueError(msg)
    last: Solution | None = None
    reached = targets[0]
    for target in targets:
        halvings = 0
        while last is None or reached != target:
            following = target if halvings == 0 else _between(reached, target, halvings)
            found = solve(problem(following), start=start if last is None else last, **options)
            if found.status is Status.INTERRUPTED:
                message = f"{found.message}, at {following:.6g} on the way to {target:.6g}"
                return dataclasses.replace(found, message=message)
            if found.status is not Status.FAILED:
                last, reached, halvings = found, following, max(halvings - 1, 0)
                continue
            halvings += 1
            if last is None or halvings > MOST_HALVINGS:
                where = "the first value" if last is None else f"{reached:.6g}, on the way to {target:.6g}"
                message = f"the solution was followed up to {where}; {found.message}"
                return dataclasses.replace(last or found, status=Status.FAILED, message=message)
    assert last is not None
    return last


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        msg = f"`values` holds {value!r}, expected real numbers"
        raise TypeError(msg)
    if not isfinite(float(value)):
        msg = f"`values` holds {value!r}, expected finite numbers"
        raise ValueError(msg)
    return float(value)


def _between(low: float, high: float, halvings: int) -> float:
    """Return the value that is reached after the way was halved that often."""
    for _ in range(halvings):
        high = (sqrt(low * high) if low > 0 else -sqrt(low * high)) if low * high > 0 else (low + high) / 2
    return high
