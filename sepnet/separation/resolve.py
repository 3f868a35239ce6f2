"""Which splines resolve a function of several variables: its values along the axes tell.

A fibre is a line through the box along one axis. On fibres through random points and through the largest values the
function is interpolated by the splines of the axis, and where that is worse than asked cells are halved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import frexp, inf, sqrt
from typing import Any, final

import numpy as np

from sepnet.bases import BSpline
from sepnet.bases.basis import Basis, gauss_rule
from sepnet.separation.cross import climb
from sepnet.spaces import TensorSpace
from sepnet.univariate import describe_callable

__all__ = ["Fibres", "Values", "ascend", "box_of", "explore", "resolve"]

# A callable is asked for this many points at a time.
CHUNK = 2**16
# Random points of the search for large values, and how many of them are climbed from.
SEARCHED, CLIMBED = 4096, 8
# Points a cell at which an interpolant is compared with the function, and at which large values are looked for.
COMPARED, PROBED = 4, 2
# Halvings of a cell, and the largest axis that refinement may make.
MAX_REFINEMENTS, MOST_FUNCTIONS = 12, 512
# Values above this share of the largest one count as large.
LARGE = 1e-2
# An axis that would grow beyond `MOST_FUNCTIONS` stays as fine as it is if its error last fell with this
# order, that of no jump or kink across the axes.
SMOOTH_ORDER = 1.75
# Steps of an ascent, as shares of an axis, from a few cells to the width of the finest ones; and its passes.
STEPS, ASCENTS = 2.0 ** -np.arange(3, 19), 2


@final
class Values:
    """A user's function on a box: checked, asked in chunks, counted, and scaled by `unit`, 1 at first.

    Parameters
    ----------
    function : callable
        Host points (n, d) to values (n,).
    space : TensorSpace
        Its axes name the columns.

    Raises
    ------
    TypeError
        When called, if the function returns no real numbers.
    ValueError
        When called, if it returns a wrong shape or values that are not finite.
    """

    def __init__(self, function: Callable[[np.ndarray], Any], space: TensorSpace) -> None:
        self.function = function
        self.names = space.names
        self.count = 0
        self.unit = 1.0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the values (n,), float64, at points (n, d), in units of `unit`."""
        result = np.empty(len(points))
        for start in range(0, len(points), CHUNK):
            block = points[start : start + CHUNK]
            result[start : start + CHUNK] = self._checked(self.function(block.copy()), block)
        self.count += len(points)
        return result if self.unit == 1.0 else result / self.unit

    def _checked(self, result: Any, block: np.ndarray) -> np.ndarray:
        name = describe_callable(self.function)
        if result is None:
            msg = f"sn.separate: the callable {name!r} returned None, expected real numbers (n,): does it `return`?"
            raise TypeError(msg)
        found = type(result).__name__
        try:
            raw = np.asarray(result)
            if np.iscomplexobj(raw):
                found = "complex numbers"
                raise TypeError
            values = raw.astype(np.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            msg = f"sn.separate: the callable {name!r} returned {found}, expected real numbers (n,) as a NumPy array"
            raise TypeError(msg) from error
        if values.shape != (len(block),):
            msg = (
                f"sn.separate: the callable {name!r} returned shape {values.shape} for points of shape {block.shape}, "
                f"expected ({len(block)},): one value a row, the columns are {', '.join(self.names)}"
            )
            raise ValueError(msg)
        if not np.isfinite(values).all():
            place = block[~np.isfinite(values)][0]
            where = ", ".join(f"{a}={v:g}" for a, v in zip(self.names, place, strict=True))
            msg = f"sn.separate: the callable {name!r} is not finite at {where}: give it finite values there"
            raise ValueError(msg)
        return values


@final
@dataclass(frozen=True)
class Fibres:
    """Points of a box through which fibres go, and what was learned when they were found.

    Parameters
    ----------
    points : ndarray (m, d)
        Large values of the function first, then random points.
    around : (ndarray (d,), ndarray (d,))
        The corners of a box around the large values.
    probes : tuple of ndarray
        Points an axis at which large values are looked for.
    """

    points: np.ndarray
    around: tuple[np.ndarray, np.ndarray]
    probes: tuple[np.ndarray, ...]

    def joined(self, points: np.ndarray) -> Fibres:
        """Return the same with further points."""
        return replace(self, points=np.concatenate([self.points, points]))

    def climb(self, size: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points of larger `size`, from every start to the largest along each axis in turn, and their sizes."""
        # A start is in the grid as its own node: probes of an axis, then what is asked of the starts there.
        grids = [np.concatenate([probe, column]) for probe, column in zip(self.probes, start.T, strict=True)]
        own = [probe.size + np.arange(len(start)) for probe in self.probes]

        def on_grid(index: np.ndarray) -> np.ndarray:
            return size(np.stack([g[i] for g, i in zip(grids, index.T, strict=True)], axis=1))

        found = climb(on_grid, np.stack(own, axis=1), [g.size for g in grids])
        points = np.stack([g[i] for g, i in zip(grids, found.T, strict=True)], axis=1)
        return points, on_grid(found)


def ascend(
    size: Callable[[np.ndarray], np.ndarray], start: np.ndarray, space: TensorSpace
) -> tuple[np.ndarray, np.ndarray]:
    """Return points of larger `size`, from every start to the largest along each axis in turn, and their sizes.

    Finer than `Fibres.climb`: it looks between the breaks (interpolants are exact at breaks), and at steps of all
    lengths from where it stands, so that a peak far narrower than the cells is reached from its tail.
    """
    points, (low, high) = start.copy(), box_of(space)
    steps = np.concatenate([-STEPS, [0.0], STEPS])
    probes = [_between(basis.breaks, COMPARED) for basis in space.bases]
    for _ in range(ASCENTS):
        for axis, probe in enumerate(probes):
            near = points[:, axis, None] + (high[axis] - low[axis]) * steps
            places = np.clip(np.hstack([near, np.tile(probe, (len(points), 1))]), low[axis], high[axis])
            lines = np.repeat(points, places.shape[1], axis=0)
            lines[:, axis] = places.ravel()
            best = np.argmax(size(lines).reshape(places.shape), axis=1)
            points[:, axis] = places[np.arange(len(points)), best]
    return points, size(points)


def box_of(space: TensorSpace) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the box."""
    low, high = np.array([basis.domain for basis in space.bases], dtype=np.float64).T
    return low, high


def explore(values: Values, space: TensorSpace, rng: np.random.Generator) -> Fibres:
    """Look for large values: at random points, and climbing along the axes from the largest of them and some others.

    The unit of the values becomes the power of two below the largest one: squares stay in the range of floats.
    """
    low, high = box_of(space)
    points = rng.uniform(low, high, size=(SEARCHED, space.dim))
    sizes = np.abs(values(points))
    some = np.concatenate([np.argsort(-sizes)[:CLIMBED], np.arange(CLIMBED)])
    probes = tuple(_between(basis.breaks, PROBED) for basis in space.bases)
    blank = Fibres(points[some], (low, high), probes)
    peaks, tops = blank.climb(lambda p: np.abs(values(p)), points[some])
    top = float(max(tops.max(), sizes.max()))
    if top == 0.0:
        return blank
    values.unit = 2.0 ** (frexp(top)[1] - 1)
    top /= values.unit
    tops, sizes = tops / values.unit, sizes / values.unit
    # The extent of the large values on the fibres through them, with a margin.
    large = [peaks[tops >= LARGE * top], points[sizes >= LARGE * top]]
    for axis, probe in enumerate(probes):
        lines = _lines(large[0], axis, probe)
        large.append(lines[np.abs(values(lines)) >= LARGE * top])
    found = np.concatenate(large)
    margin = 0.1 * np.ptp(found, axis=0) + (high - low) * np.finfo(np.float64).eps + _gaps(probes)
    around = (np.maximum(found.min(axis=0) - margin, low), np.minimum(found.max(axis=0) + margin, high))
    return Fibres(np.concatenate([peaks, points[:CLIMBED]]), around, probes)


def _between(breaks: np.ndarray, count: int) -> np.ndarray:
    """Return breaks and equispaced points between them."""
    share = np.arange(count) / count
    inner = breaks[:-1, None] + share * np.diff(breaks)[:, None]
    return np.append(inner.ravel(), breaks[-1])


def _gaps(probes: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.array([float(np.diff(probe).max()) for probe in probes])


def _lines(points: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """Return the points of all fibres along an axis through `points`, fibre by fibre."""
    lines = np.repeat(points, places.size, axis=0)
    lines[:, axis] = np.tile(places, len(points))
    return lines


def resolve(values: Values, space: TensorSpace, fibres: Fibres, tol: float) -> tuple[TensorSpace, bool]:
    """Refine the axes until interpolation along the fibres is within `tol`, relative in L2 of the fibres.

    Splines are refined in the cells that need it, others as a whole.

    Returns
    -------
    space : TensorSpace
    resolved : bool
        False if an axis is as fine as it may be and still worse than `tol`.
    """
    bases, resolved = {}, True
    for axis, (name, given) in enumerate(space.items):
        basis = coarse = _unrolled(values, given, fibres, axis, tol)
        before = (basis.size, inf)
        for left in range(MAX_REFINEMENTS, -1, -1):
            errors, size = _errors(values, basis, fibres, axis)
            allowed = max(tol, 64 * np.finfo(np.float64).eps) * size
            error = sqrt(float(errors.sum()))
            if error <= allowed:
                break
            finer = _refined(basis, errors > 0.5 * allowed**2 / errors.size)
            if left == 0:
                resolved = False
                break
            if finer.size > MOST_FUNCTIONS:
                # Rough everywhere, as across a jump along no axis: what is four times as fine serves as well.
                smooth = error <= before[1] * (before[0] / basis.size) ** SMOOTH_ORDER
                basis, resolved = basis if smooth else coarse, False
                break
            before, basis = (basis.size, error), finer
            coarse = basis if basis.size <= 4 * given.size else coarse
        bases[name] = basis
    return TensorSpace(**bases), resolved


def _errors(values: Values, basis: Basis, fibres: Fibres, axis: int) -> tuple[np.ndarray, float]:
    """Return the squared interpolation errors of the cells, over all fibres, and the root of the squared norms.

    Each fibre is seen at the point it goes through as well, with the weight of the others in its cell: a part between
    the points of comparison, found by climbing, would not be seen otherwise.
    """
    points, weights = gauss_rule(basis.breaks, COMPARED)
    at_nodes = values(_lines(fibres.points, axis, basis.nodes)).reshape(-1, basis.size)
    exact = values(_lines(fibres.points, axis, points)).reshape(-1, points.size)
    coefficients = basis.interpolate(at_nodes.T)
    guess = (basis.tabulate(points) @ coefficients).T
    squares = weights * ((exact - guess) ** 2).sum(axis=0)
    size = sqrt(float((weights * (exact**2).sum(axis=0)).sum()))
    cells = squares.reshape(basis.breaks.size - 1, -1).sum(axis=1)
    own = fibres.points[:, axis]
    missed = values(fibres.points) - (basis.tabulate(own) * coefficients.T).sum(axis=1)
    place = np.clip(np.searchsorted(basis.breaks, own, side="right") - 1, 0, cells.size - 1)
    np.add.at(cells, place, missed**2 * np.diff(basis.breaks)[place] / COMPARED)
    return cells, size


def _refined(basis: Basis, marked: np.ndarray) -> Basis:
    if not isinstance(basis, BSpline):
        return basis.refine()
    breaks, continuity = [basis.domain[0]], []
    inner = list(basis.continuity[: marked.size - 1])
    for cell, (left, right) in enumerate(zip(basis.breaks[:-1], basis.breaks[1:], strict=True)):
        middle = 0.5 * left + 0.5 * right
        if marked[cell] and left < middle < right:
            breaks.append(float(middle))
            continuity.append(basis.degree - 1)
        breaks.append(float(right))
        continuity += inner[cell : cell + 1]
    continuity += basis.continuity[marked.size - 1 :]
    given = {**basis.parameters(), "breaks": breaks, "continuity": continuity}
    return BSpline.from_parameters(given)


def _unrolled(values: Values, basis: Basis, fibres: Fibres, axis: int, tol: float) -> Basis:
    """Return a basis with two ends for a function that does not take one value at both ends of a periodic axis."""
    if not basis.periodic:
        return basis
    both = values(_lines(fibres.points, axis, np.array(basis.domain))).reshape(-1, 2)
    if np.abs(both[:, 1] - both[:, 0]).max() <= tol * np.abs(both).max():
        return basis
    if isinstance(basis, BSpline):
        return BSpline(breaks=basis.breaks, degree=basis.degree, continuity=basis.continuity[:-1] or None)
    return BSpline(basis.domain, cells=max(4, basis.size // 2))
