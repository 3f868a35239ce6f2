"""Checks of what a basis is built from and evaluated at, and the text of its numbers."""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, SupportsIndex, TypeAlias

import numpy as np

from sepnet.backends import arrays

Zero: TypeAlias = Literal["left", "right", "both"] | None

__all__ = [
    "MOST_CELLS",
    "MOST_DEGREE",
    "MOST_POINTS",
    "Zero",
    "cell_ends",
    "checked_points",
    "continuities",
    "domain_text",
    "ends",
    "interval",
    "number_text",
    "numbers",
    "real_number",
    "whole_number",
    "zero_of",
]


# A basis keeps its breaks as a tuple of floats, and its tables cell by cell.
MOST_CELLS = 10**6
# Recurrences and Gauss rules of higher degree take minutes and gain nothing.
MOST_DEGREE = 10**4
MOST_POINTS = 5 * MOST_DEGREE
# In units of round-off at the larger end; quadrature points need room inside a cell.
NARROWEST = 64


def whole_number(name: str, value: SupportsIndex, *, at_least: int, at_most: int | None = None) -> int:
    """Return `value` as an int within bounds.

    Raises
    ------
    TypeError, ValueError
        If it is no integer, or out of bounds.
    """
    bounds = f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)):
        msg = f"`{name}` is {value!r}, expected an integer, {bounds}: write it as a whole number"
        raise TypeError(msg)
    if number < at_least or (at_most is not None and number > at_most):
        msg = f"`{name}` is {number}, expected an integer, {bounds}: choose one in that range"
        raise ValueError(msg)
    return number


def real_number(name: str, value: Any) -> float:
    """Return a real number, or an array of shape () with one, as a float.

    Raises
    ------
    TypeError
        If it is something else, a truth value included.
    """
    scalar = isinstance(value, Real) and not isinstance(value, bool)
    if not scalar and getattr(value, "shape", None) == () and not isinstance(value, np.bool_):
        scalar = "bool" not in str(value.dtype) and "complex" not in str(value.dtype)
    try:
        if scalar:
            return float(value)
    except (TypeError, ValueError):
        pass
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    msg = f"{name} is {reprlib.repr(value)}, expected a real number"
    raise TypeError(msg)


def numbers(name: str, value: Any) -> np.ndarray:
    """Return a number or nested lists of real numbers as a float64 array.

    Raises
    ------
    TypeError
        If it holds something else, truth values included.
    ValueError
        If the lists are ragged.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        msg = f"{name} has rows of different lengths, expected numbers in the shape of an array: fill them up"
        raise ValueError(msg) from error
    if array.dtype.kind == "O" and all(isinstance(entry, Real) for entry in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind not in "iuf":
        found = f"{type(value).__name__} {reprlib.repr(value)}"
        msg = f"{name} is {found}, expected real numbers: an array, a list of numbers or a number"
        raise TypeError(msg)
    return array.astype(np.float64)


def interval(domain: Any) -> tuple[float, float]:
    """Return `domain` as two finite rising floats.

    Raises
    ------
    TypeError, ValueError
        If it is no pair of numbers, or not finite and rising.
    """
    try:
        left, right = (real_number("an end", end) for end in domain)
    except (TypeError, ValueError) as error:
        msg = f"`domain` is {reprlib.repr(domain)}, expected two numbers (left, right): for example (0, 1)"
        raise TypeError(msg) from error
    if not (math.isfinite(left) and math.isfinite(right) and left < right and math.isfinite(right - left)):
        msg = f"`domain` is {(left, right)}, expected two finite numbers with left < right: swap or correct the ends"
        raise ValueError(msg)
    return left, right


def ends(zero: Any) -> frozenset[str]:
    """Return the ends that a value of ``zero=`` names, as a set; raises ValueError for anything else."""
    table: dict[Any, frozenset[str]] = {
        None: frozenset(),
        "left": frozenset({"left"}),
        "right": frozenset({"right"}),
        "both": frozenset({"left", "right"}),
    }
    if not (zero is None or isinstance(zero, str)) or zero not in table:
        msg = f'`zero` is {zero!r}, expected None, "left", "right" or "both": name the ends where functions vanish'
        raise ValueError(msg)
    return table[zero]


def zero_of(sides: frozenset[str]) -> Zero:
    """Return the value of ``zero=`` for a set of ends."""
    if len(sides) == 2:  # both of them
        return "both"
    return "left" if "left" in sides else "right" if "right" in sides else None


def checked_points(points: Any, domain: tuple[float, float]) -> tuple[arrays.Array, tuple[int, ...]]:
    """Return real floating points as a flat array inside `domain`, and their shape.

    Points outside by no more than 4 eps of the larger end (what a change of scale or of dtype costs) are moved onto
    the end.

    Raises
    ------
    ValueError
        If a point is NaN or outside.
    TypeError
        If `points` are not real numbers.
    """
    if isinstance(points, np.generic):
        points = np.asarray(points)
    elif not hasattr(points, "dtype") or not hasattr(points, "shape"):
        points = numbers("`points`", points)
    xp = arrays.namespace(points)
    device = arrays.device_of(points)
    if xp.isdtype(points.dtype, "integral"):
        points = xp.astype(points, xp.float64)
    if not xp.isdtype(points.dtype, "real floating"):
        msg = f"`points` are {arrays.describe(points)}, expected real numbers: convert them to float64"
        raise TypeError(msg)
    x = xp.reshape(points, (-1,))
    left, right = (arrays.from_host(np.asarray(end), xp, device=device, dtype=x.dtype) for end in domain)
    slack = 4 * arrays.eps(x.dtype, xp) * max(abs(domain[0]), abs(domain[1]))
    inside = (x >= left - slack) & (x <= right + slack)
    if not bool(xp.all(inside)):
        outside = arrays.to_host(x)[~np.asarray(arrays.to_host(inside), dtype=bool)]
        msg = (
            f"`points` has {float(outside[0])!r} ({outside.size} of {x.shape[0]} are so), "
            f"expected values inside the domain {domain}: clip them to it, or build the basis on a larger domain"
        )
        raise ValueError(msg)
    x = xp.where(x < left, left, x)
    return xp.where(x > right, right, x), tuple(points.shape)


def number_text(value: float) -> str:
    """Return the shortest exact text of a float, ``1`` for 1.0."""
    return repr(float(value)).removesuffix(".0")


def domain_text(domain: tuple[float, float]) -> str:
    """Return a domain as one writes it, ``(0, 1)``."""
    return f"({number_text(domain[0])}, {number_text(domain[1])})"


def cell_ends(domain: Any, cells: Any, breaks: Any) -> tuple[float, ...]:
    """Return the ends of the cells from the three ways to give them.

    Raises
    ------
    TypeError, ValueError
        If neither or both of `cells` and `breaks` are given, or one is wrong, or `domain` disagrees with `breaks`.
    """
    if breaks is None:
        if domain is None or cells is None:
            msg = (
                f"`domain` is {domain} and `cells` is {cells}, expected both, or `breaks`: for example (0, 1), cells=8"
            )
            raise TypeError(msg)
        left, right = interval(domain)
        count = whole_number("cells", cells, at_least=1, at_most=MOST_CELLS)
        edges = np.linspace(left, right, count + 1)
        if (right - left) / count < NARROWEST * np.finfo(np.float64).eps * max(abs(left), abs(right)):
            msg = (
                f"`domain` is {(left, right)} and `cells` is {count}, expected cells that float64 can resolve "
                f"({NARROWEST} units of round-off at least): shift the coordinate to 0, or use fewer cells"
            )
            raise ValueError(msg)
    else:
        if cells is not None:
            msg = f"`cells` is {cells} and `breaks` are given, expected one of them: leave out `cells`"
            raise TypeError(msg)
        try:
            edges = np.array(breaks, dtype=np.float64)
        except (TypeError, ValueError) as error:
            msg = f"`breaks` is {breaks!r}, expected rising numbers, both ends included: for example (0, 0.1, 1)"
            raise TypeError(msg) from error
        if edges.size > MOST_CELLS + 1:
            msg = f"`breaks` has {edges.size} numbers, expected at most {MOST_CELLS + 1}: use fewer cells"
            raise ValueError(msg)
        if edges.ndim != 1 or edges.size < 2:
            msg = f"`breaks` has shape {edges.shape}, expected (cells + 1,) with at least 2 numbers: include both ends"
            raise ValueError(msg)
        if domain is not None and interval(domain) != (edges[0], edges[-1]):
            reach = f"`breaks` reach from {edges[0]} to {edges[-1]}"
            msg = f"`domain` is {domain} and {reach}, expected the same ends: leave out `domain`"
            raise ValueError(msg)
    bad = np.flatnonzero(~(np.diff(edges) > 0) | ~np.isfinite(np.diff(edges)))
    if bad.size:
        at = int(bad[0])
        what = "`cells`" if breaks is None else "`breaks`"
        msg = (
            f"{what}: break {at} is {edges[at]} and the next one {edges[at + 1]}, expected finite numbers that rise: "
            "sort them, drop doubles (a lower `continuity` does what a repeated knot does), or use fewer cells"
        )
        raise ValueError(msg)
    return tuple(edges.tolist())


def continuities(continuity: Any, degree: int, inner: int, *, periodic: bool) -> tuple[int, ...]:
    """Return the continuity at each of `inner` interior breaks, and at the seam if periodic.

    Raises
    ------
    TypeError, ValueError
        If the argument is no integer or sequence of the right length, or an entry is not in -1 to ``degree - 1``.
    """
    if continuity is None:
        continuity = degree - 1
    if isinstance(continuity, (Sequence, np.ndarray)) and not isinstance(continuity, str):
        entries = list(continuity)
        if periodic and len(entries) == inner:
            entries.append(degree - 1)
        if len(entries) != inner + periodic:
            wanted = f"{inner} (or one more, for the seam)" if periodic else f"{inner}"
            msg = (
                f"`continuity` has {len(continuity)} entries, expected {wanted}: one for each interior break, "
                "or give one integer"
            )
            raise ValueError(msg)
    else:
        entries = [continuity] * (inner + periodic)
    if not entries:
        whole_number(
            "continuity",
            continuity if not isinstance(continuity, (Sequence, np.ndarray)) else -1,
            at_least=-1,
            at_most=degree - 1,
        )
    return tuple(whole_number("continuity", c, at_least=-1, at_most=degree - 1) for c in entries)
