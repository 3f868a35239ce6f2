"""Maxima over some axes as a function of the others: `peaks` at given places, `maximum` everywhere.

A spline function can have a local maximum in every cell, so that no local search finds the largest for sure. What is
done: at some values of the other axes the function is evaluated on the whole grid of its nodes along the axes searched
(a restriction is a small function, and its grid cheap), and all local maxima of the grid are kept. They are the starts
everywhere else: from the best few each search climbs by Newton's method within the box. Where a fresh scan finds more
than the search did, its maxima become starts too, until scans find nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod
from time import perf_counter
from typing import Any, NamedTuple, final

import numpy as np
from scipy.stats import qmc

from sepnet.backends.arrays import Array, from_host, to_host
from sepnet.backends.threads import one_blas_thread
from sepnet.bases.checks import real_number, whole_number
from sepnet.bases.matrix_axis import Assembled
from sepnet.functions.base import SeparableFunction
from sepnet.functions.errors import ErrorEstimate
from sepnet.separation.cross import climb
from sepnet.separation.separate import SeparationStatus, separate
from sepnet.solvers.ascent import Climber
from sepnet.spaces import TensorSpace

__all__ = ["Maximum", "MaximumStatus", "Peaks", "maximum", "peaks"]

# A grid of at most this many nodes is looked at as a whole; on a larger one so many random points climb along the axes.
WHOLE, CLIMBERS = 2**22, 64
# A grid of fewer points than this is refined between the nodes, into so many parts at most.
SMALL, FINER = 2**14, 4
# Local maxima kept of a scan; starts of a search; maxima closer than this share of the box are one.
MOST, STARTS, CLOSE = 16, 4, 0.02
# Scans to begin with (and as many for each axis that is left), scans of a check, and checks at most.
SCANS, CHECKED, ROUNDS = 8, 16, 8
# The share of the tolerance that the search may miss, seen by scans; separation takes the rest.
MISSED = 0.25
# Numbers of a block of values.
BLOCK = 2**20


class Peaks(NamedTuple):
    """The largest values over some axes, and where they are.

    Attributes
    ----------
    values : array of shape (n,)
    points : array of shape (n, d)
        Points of the whole box, the axes of the function as columns.
    """

    values: Array
    points: Array


@final
class MaximumStatus(Enum):
    """How a maximum function was found. The value is the sentence for the user, with the next step."""

    CONVERGED = "The measured error is below the tolerance, and fresh scans of the box found nothing larger."
    SEARCH_LIMITED = (
        "Fresh scans of the box still found larger values than the search: the function has very many maxima. Search "
        "fewer axes, or smaller boxes."
    )
    RANK_LIMITED = "The tolerance needs more terms than allowed: raise tol=."
    MESH_LIMITED = (
        "The splines do not resolve the maximum at their finest: it kinks where two maxima change places. Raise tol=, "
        "or ask sn.peaks at the places you need."
    )


@final
@dataclass(frozen=True, eq=False)
class Maximum:
    """The maximum of a function over some of its axes, as a function of the others.

    Attributes
    ----------
    function : SeparableFunction
        On the axes that are left, as fine as needed, where the function lives.
    error : ErrorEstimate
        Relative L2 error at fresh points, against searches there.
    largest : float
        The largest absolute error seen.
    missed : float
        By how much, relative to the largest value, fresh scans of the whole box exceeded the search at most.
    status : MaximumStatus
    searches : int
        How many places were searched.
    seconds : float
    """

    function: SeparableFunction
    error: ErrorEstimate
    largest: float
    missed: float
    status: MaximumStatus
    searches: int
    seconds: float

    @property
    def converged(self) -> bool:
        """True when the status is CONVERGED."""
        return self.status is MaximumStatus.CONVERGED

    def __call__(self, points: Array, /) -> Array:
        """Evaluate at values of the axes that are left, (n, p) to (n,): the same as ``M.function(points)``."""
        return self.function(points)

    def __repr__(self) -> str:
        """One screen: function, status with the next step, errors, work."""
        lines = [
            f"Maximum as {self.function!r}",
            f"  status      {self.status.name}: {self.status.value}",
            f"  error       {self.error}, relative; largest seen {self.largest:.3g}, absolute",
            f"  missed      {self.missed:.1e} of the largest value, by fresh scans",
            f"  work        {self.searches} searches, {self.seconds:.3g} s",
        ]
        return "\n".join(lines)


def peaks(u: SeparableFunction, over: Sequence[str] | None = None, at: Array | None = None, *, seed: int = 0) -> Peaks:
    """Find the largest values of a function over some axes, at given places on the others.

    Parameters
    ----------
    u : SeparableFunction
        A function.
    over : sequence of str, optional
        The axes searched; all of them if absent.
    at : array of shape (n, p), optional
        Values of the other axes, in the order of the space; needed if there are any.
    seed : int, optional
        Of the places scanned.

    Returns
    -------
    Peaks
        Values and points. The values are attained: what a search can miss makes them too small, never too large.

    Raises
    ------
    TypeError
        If `u` is no separable function.
    ValueError
        If an axis is unknown, or `at` is missing, of a wrong shape or outside the box.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 3), cells=8), a=sn.BSpline((0, 1), cells=4))
    >>> x, a = V.coordinates
    >>> u = sn.project(2 * a * x - x**2, V)
    >>> found = peaks(u, ["x"], [[0.5], [1.0]])
    >>> found.values.round(6), found.points.round(4)
    (array([0.25, 1.  ]), array([[0.5, 0.5],
           [1. , 1. ]]))
    """
    search = _Search(u, over, seed)
    if not search.left:
        if at is not None:
            msg = "`at` is given, but `over` names all axes: leave it out, or name the axes to be searched in over="
            raise ValueError(msg)
        rows = np.zeros((1, 0))
    elif at is None:
        names = ", ".join(search.left)
        msg = f"`at` is missing: values of {names}, which are not searched, of shape (n, {len(search.left)})"
        raise ValueError(msg)
    else:
        rows = search.check(at)
    with one_blas_thread():
        if not len(rows):
            values, points = np.zeros(0), np.zeros((0, u.space.dim))
        elif len(rows) <= search.pilots:
            values, points = search.scan_all(rows)
        else:
            search.learn(0.0)
            values, points = search.find(rows)
    home: dict[str, Any] = {"device": u.device, "dtype": u.dtype}
    return Peaks(from_host(values, u.xp, **home), from_host(points, u.xp, **home))


def maximum(u: SeparableFunction, over: Sequence[str], tol: float = 1e-3, *, seed: int = 0) -> Maximum:
    """Return the maximum over some axes as a separable function of the others.

    Searches at single places become a function by `sepnet.separate`: as many splines as `tol` needs, with the error
    measured at fresh places. The minimum of u is minus the maximum of ``-u``. Where two maxima change places the
    maximum has a kink, near which splines converge slowly: cells are added there until `tol` is met or the status says
    MESH_LIMITED.

    Parameters
    ----------
    u : SeparableFunction
        A function.
    over : sequence of str
        The axes searched; at least one is left.
    tol : float, optional
        Relative L2 error of the maximum over the box of the axes that are left.
    seed : int, optional
        Of the random places.

    Returns
    -------
    Maximum
        Converged or not: see its `status`.

    Raises
    ------
    TypeError
        If `u` is no separable function.
    ValueError
        If an axis is unknown, no axis is left, or `tol` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 3), cells=8), a=sn.BSpline((0, 1), cells=4))
    >>> x, a = V.coordinates
    >>> M = maximum(sn.project(2 * a * x - x**2, V), ["x"])
    >>> M.converged, M([[0.5], [1.0]]).round(3)
    (True, array([0.25, 1.  ]))
    """
    started = perf_counter()
    search = _Search(u, over, seed)
    if not search.left:
        msg = f"`over` names all axes, {', '.join(search.over)}: leave one, or take sn.peaks(u) for the single maximum"
        raise ValueError(msg)
    if not 0.0 < real_number("`tol`", tol) < 1.0:
        msg = f"`tol` is {tol}, expected a number between 0 and 1: a relative error"
        raise ValueError(msg)
    with one_blas_thread():
        search.learn(MISSED * tol)
        space = TensorSpace(**{name: u.space.axes[name] for name in search.left})
        found = separate(lambda rows: search.find(rows)[0], space, (1 - MISSED) * tol, seed=seed)
        missed = search.missed(search.places(CHECKED))
    status = MaximumStatus.CONVERGED
    if found.status is not SeparationStatus.CONVERGED:
        status = MaximumStatus[found.status.name]
    elif missed > MISSED * tol:
        status = MaximumStatus.SEARCH_LIMITED
    function = found.function.to(u.xp, device=u.device, dtype=u.dtype)
    seconds = perf_counter() - started
    return Maximum(function, found.error, found.largest, missed, status, found.evaluations, seconds)


@final
class _Search:
    """The search for the largest value over some axes, for many values of the others."""

    def __init__(self, u: SeparableFunction, over: Sequence[str] | None, seed: int) -> None:
        _check(u)
        names = u.space.names if over is None else ((over,) if isinstance(over, str) else tuple(over))
        u.space.check_axes(names, "`over`")
        if not names:
            msg = "`over` is empty, expected at least one axis"
            raise ValueError(msg)
        self.u = u.to(np, dtype="float64")
        whole_number("seed", seed, at_least=0)
        self.over = tuple(n for n in u.space.names if n in names)
        self.left = tuple(n for n in u.space.names if n not in names)
        self.columns = [u.space.names.index(n) for n in self.over]
        self.others = [u.space.names.index(n) for n in self.left]
        self.box = np.array([basis.domain for basis in u.space.bases])
        self.climber = Climber(self.u, self.columns)
        self.rng = np.random.default_rng(seed)
        self.starts = np.zeros((0, len(self.over)))
        self.pilots = SCANS * (1 + len(self.left))
        self.grid = _grid(self.u, self.over)

    def check(self, at: Array) -> np.ndarray:
        """Return host rows of values of the axes that are left, within the box."""
        rows = np.asarray(to_host(at) if hasattr(at, "dtype") else at, dtype=np.float64)
        low, high = self.box[self.others].T
        if rows.ndim != 2 or rows.shape[1] != len(self.left):
            msg = f"`at` has shape {rows.shape}, expected (n, {len(self.left)}) with columns {', '.join(self.left)}"
            raise ValueError(msg)
        if not (np.isfinite(rows).all() and (rows >= low).all() and (rows <= high).all()):
            msg = f"`at` has places outside the box of {', '.join(self.left)}, or that are not finite"
            raise ValueError(msg)
        return rows

    def places(self, count: int) -> np.ndarray:
        """Return random places on the axes that are left, evenly spread."""
        if not self.left:
            return np.zeros((1, 0))
        low, high = self.box[self.others].T
        return np.asarray(low + (high - low) * qmc.LatinHypercube(len(self.left), seed=self.rng).random(count))

    def learn(self, tol: float) -> None:
        """Collect starts by scans, until fresh ones find nothing larger than the search by more than `tol`."""
        rows = self.places(self.pilots)
        if 2 ** len(self.left) <= self.pilots:
            corners = np.stack(np.meshgrid(*self.box[self.others]), axis=-1).reshape(-1, len(self.others))
            rows = np.concatenate([corners, rows])
        self.scan_all(rows)
        for _ in range(ROUNDS):
            if self.missed(self.places(CHECKED)) <= tol:
                break

    def missed(self, rows: np.ndarray) -> float:
        """Return by how much scans exceed the search at most, relative to the largest value; starts are added."""
        found = self.find(rows)[0]
        scanned = self.scan_all(rows)[0]
        size = float(np.abs(scanned).max(initial=0.0))
        return float(np.maximum(scanned - found, 0.0).max(initial=0.0)) / size if size > 0.0 else 0.0

    def scan_all(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look at the whole grid for each row, climb from its local maxima; they become starts."""
        starts = [self._scan(row) for row in rows]
        counts = [len(s) for s in starts]
        reached, where = self._climb(np.repeat(rows, counts, axis=0), np.concatenate(starts))
        self._keep(where[:, self.columns])
        ends = np.cumsum(counts)
        best = [e - c + int(np.argmax(reached[e - c : e])) for e, c in zip(ends, counts, strict=True)]
        return reached[best], where[best]

    def find(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the largest values for rows of the other axes, from the best starts, and their points."""
        values, points = np.empty(len(rows)), np.empty((len(rows), len(self.box)))
        step = max(1, BLOCK // max(1, len(self.starts) * len(self.box)))
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            n, m = len(part), len(self.starts)
            everywhere = self.u(self._points(np.repeat(part, m, axis=0), np.tile(self.starts, (n, 1))))
            count = min(STARTS, m)
            best = np.argpartition(-np.asarray(everywhere).reshape(n, m), count - 1, axis=1)[:, :count]
            reached, where = self._climb(np.repeat(part, count, axis=0), self.starts[best].reshape(n * count, -1))
            top = np.arange(n) * count + np.argmax(reached.reshape(n, count), axis=1)
            values[begin : begin + n], points[begin : begin + n] = reached[top], where[top]
        return values, points

    def _points(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        points = np.empty((len(rows), len(self.box)))
        points[:, self.others], points[:, self.columns] = rows, positions
        return points

    def _climb(self, rows: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.climber(self._points(rows, positions))

    def _scan(self, row: np.ndarray) -> np.ndarray:
        """Return the positions of the highest local maxima of the grid of nodes."""
        line: Any = self.u.restrict(**dict(zip(self.left, row.tolist(), strict=True))) if self.left else self.u
        axes = list(self.grid.values())
        shape = [a.size for a in axes]
        if prod(shape) <= WHOLE:
            values = np.ascontiguousarray(line.on_grid(**self.grid))
            index = _local_maxima(values)
            height = values[tuple(index.T)]
        else:

            def size(index: np.ndarray) -> np.ndarray:
                return np.asarray(line(np.stack([a[i] for a, i in zip(axes, index.T, strict=True)], axis=1)))

            begin = np.stack([self.rng.integers(n, size=CLIMBERS) for n in shape], axis=1)
            index = np.unique(climb(size, begin, shape), axis=0)
            height = size(index)
        index = index[np.argsort(-height, kind="stable")[:MOST]]
        return np.stack([a[i] for a, i in zip(axes, index.T, strict=True)], axis=1)

    def _keep(self, positions: np.ndarray) -> None:
        """Add positions to the starts, unless one is close."""
        low, high = self.box[self.columns].T
        for position in positions:
            gaps = np.abs(self.starts - position) / (high - low)
            if not len(gaps) or gaps.max(axis=1).min() > CLOSE:
                self.starts = np.concatenate([self.starts, position[None, :]])


def _check(u: object) -> None:
    """Refuse what cannot be searched."""
    if not isinstance(u, SeparableFunction):
        msg = f"`u` is {type(u).__name__}, expected a function such as sn.solve(problem).u"
        raise TypeError(msg)
    for name, basis in u.space.items:
        if isinstance(basis, Assembled):
            msg = (
                f"`u` has the axis {name!r}, a mesh with nothing between its degrees of freedom: restrict it to one of "
                f"them, u.restrict({name}=3)"
            )
            raise TypeError(msg)
    if not all(np.isfinite(to_host(array)).all() for array in u.arrays):
        msg = "`u` has coefficients that are not finite, expected a sound function: check where it comes from"
        raise ValueError(msg)


def _grid(u: SeparableFunction, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the nodes of the axes and their ends, with as many points between as a small grid allows."""
    bases = {name: u.space.axes[name] for name in names}
    grid = {n: np.unique(np.concatenate([np.asarray(b.nodes, dtype=np.float64), b.domain])) for n, b in bases.items()}
    more = int((SMALL / prod(a.size for a in grid.values())) ** (1 / len(grid)))
    finer = min(max(more, 1), FINER)
    return {n: np.interp(np.arange(finer * (a.size - 1) + 1) / finer, np.arange(a.size), a) for n, a in grid.items()}


def _local_maxima(values: np.ndarray) -> np.ndarray:
    """Return the indices of entries that no neighbour along an axis exceeds."""
    high, step = np.ones(values.shape, dtype=bool), np.diff(values, axis=-1)
    high[..., :-1] &= step <= 0
    high[..., 1:] &= step >= 0
    # What is left along one axis is few: the others are looked at there alone.
    line, entries = np.flatnonzero(high), values.reshape(-1)
    for axis in range(values.ndim - 1):
        stride = prod(values.shape[axis + 1 :])
        for shift in (-1, 1):
            place = line // stride % values.shape[axis] + shift
            beside = np.where((place >= 0) & (place < values.shape[axis]), line + shift * stride, line)
            line = line[entries[beside] <= entries[line]]
    return np.stack(np.unravel_index(line, values.shape), axis=1)
