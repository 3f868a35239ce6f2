"""What a problem of the gallery is: a problem, its reference, and the error of that reference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeAlias, final

import numpy as np

from sepnet.functions import ErrorEstimate
from sepnet.functions.base import SeparableFunction
from sepnet.problems import Problem
from sepnet.spaces import TensorSpace

__all__ = ["Cells", "GalleryProblem", "interval", "mesh", "numbers", "positive", "whole"]

Cells: TypeAlias = "int | Mapping[str, int] | None"

# No error is reported below this multiple of the reference's own error.
_MARGIN = 10.0


@final
@dataclass(frozen=True, eq=False)
class GalleryProblem:
    """A problem with a known answer.

    Parameters
    ----------
    name : str
        Name in the gallery.
    title : str
        One line for people.
    problem : LeastSquares or Galerkin
        What `sepnet.solve` takes.
    reference : callable
        The answer, or a close approximation of it: host points (n, d), float64, to values (n,).
    reference_error : float
        Relative L2 error of `reference` over the box, against the true solution of `problem`.
    options : mapping, optional
        Options of `sepnet.solve` that suit the problem.
    constants : mapping, optional
        The constants it was made with.
    samples : int, optional
        Number of random points of `measure`.

    Examples
    --------
    >>> import sepnet as sn
    >>> from sepnet.models import vsna
    >>> case = vsna.heat()
    >>> u = sn.solve(case.problem, **case.options).u
    >>> case.measure(u).value < 1e-2
    True
    """

    name: str
    title: str
    problem: Problem
    reference: Callable[[np.ndarray], np.ndarray]
    reference_error: float
    options: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 100_000

    @property
    def space(self) -> TensorSpace:
        """The space of the problem."""
        return self.problem.space

    @property
    def floor(self) -> float:
        """The smallest error that `measure` reports: ten times the error of the reference."""
        return _MARGIN * self.reference_error

    def measure(self, u: SeparableFunction, n: int | None = None, *, seed: int = 0) -> ErrorEstimate:
        """Measure the relative L2 error of a function against the reference, at random points of the box.

        Parameters
        ----------
        u : SeparableFunction
            A function with the axes of the problem.
        n : int, optional
            Number of points; by default `samples`.
        seed : int, optional
            Seed of the generator.

        Returns
        -------
        ErrorEstimate
            With `floor`; value and interval are never below it.

        Raises
        ------
        TypeError
            If `u` is no separable function.
        ValueError
            If it has other axes, or `n` is below two.
        """
        if not isinstance(u, SeparableFunction):
            msg = f"`u` is {type(u).__name__}, expected a function such as sn.solve(case.problem).u"
            raise TypeError(msg)
        if u.space.names != self.space.names:
            mine, theirs = ", ".join(self.space.names), ", ".join(u.space.names)
            msg = f"`u` has the axes {theirs}, expected {mine}: it belongs to another problem"
            raise ValueError(msg)
        seen = u.error(self.reference, n=self.samples if n is None else n, seed=seed)
        value, low, high = (max(v, self.floor) for v in (seen.value, seen.low, seen.high))
        return dataclasses.replace(seen, value=value, low=low, high=high, floor=self.floor)


def mesh(cells: Cells, defaults: Mapping[str, int]) -> dict[str, int]:
    """Return the number of cells per axis.

    Parameters
    ----------
    cells : int, mapping of str to int, or None
        The defaults; a number of cells for the finest axis, with which the others scale; or numbers for some axes.
    defaults : mapping of str to int
        Axis name to number of cells.

    Returns
    -------
    dict of str to int

    Raises
    ------
    ValueError
        If a number is below one or an axis is unknown.

    Examples
    --------
    >>> mesh(16, {"x": 32, "t": 10, "kappa": 1})
    {'x': 16, 't': 5, 'kappa': 1}
    >>> mesh({"t": 3}, {"x": 32, "t": 10})
    {'x': 32, 't': 3}
    """
    if cells is None:
        return dict(defaults)
    if isinstance(cells, Mapping):
        unknown = sorted(set(cells) - set(defaults))
        if unknown:
            msg = f"`cells` names the axis {unknown[0]!r}, expected one of {', '.join(defaults)}"
            raise ValueError(msg)
        return dict(defaults) | {name: whole(f"cells[{name!r}]", n, at_least=1) for name, n in cells.items()}
    finest, asked = max(defaults.values()), whole("cells", cells, at_least=1)
    return {name: max(1, math.ceil(n * asked / finest - 1e-9)) for name, n in defaults.items()}


def whole(name: str, value: object, *, at_least: int) -> int:
    """Return `value` as an integer, or raise ValueError naming the argument."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        msg = f"`{name}` is {value!r}, expected an integer >= {at_least}"
        raise ValueError(msg)
    return int(value)


def positive(name: str, value: object) -> float:
    """Return `value` as a positive finite number, or raise ValueError naming the argument."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        msg = f"`{name}` is {value!r}, expected a positive finite number"
        raise ValueError(msg)
    return float(value)


def numbers(name: str, value: object, count: int | None = None) -> tuple[float, ...]:
    """Return numbers (or one, if `count` is not given) as a tuple of finite numbers, or raise ValueError."""
    wanted = "a list of finite numbers" if count is None else f"{count} finite numbers"
    members = (value,) if isinstance(value, Real) and count is None else value
    try:
        result = tuple(float(v) for v in members)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        result = ()
    if not result or not all(map(math.isfinite, result)) or count not in (None, len(result)):
        msg = f"`{name}` is {value!r}, expected {wanted}"
        raise ValueError(msg)
    return result


def interval(name: str, value: object, *, at_least: float = -math.inf) -> tuple[float, float]:
    """Return `value` as a rising pair of numbers from `at_least` on, or raise ValueError."""
    low, high = numbers(name, value, 2)
    if not at_least <= low < high:
        bound = "" if at_least == -math.inf else f" from {at_least:g} on"
        msg = f"`{name}` is {value!r}, expected two rising numbers{bound}, e.g. (0, 1)"
        raise ValueError(msg)
    return low, high
