"""Where samples come from: arrays, or batches that are read again in every pass, cut into parts of one size.

The parts, and with them every sum, are the same however the batches were cut, so that a fit of batches is that of the
arrays to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np

from sepnet.backends.arrays import Namespace, device_of, namespace, to_host
from sepnet.solvers.fit_arrays import Rows, check_shapes, counting, cut, joined, numbers_of, rows_of
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_data import PART, Table
from sepnet.solvers.fit_samples import Batch, Samples

__all__ = ["Source", "Streamed", "Summary", "Units", "source_of"]

MEMORY = 100_000  # rows that are read from array-like objects on disk at a time
PLAIN = 100  # weights whose largest is within 2**-100 and 2**100 are left as they are


@final
@dataclass(frozen=True)
class Summary:
    """What one pass over all rows tells; of targets only those that are there count.

    `means`, `scales` (standard deviations), `least` and `most` are those of the targets, one an output. By two to the
    `power` all weights are divided.
    """

    count: int
    outputs: int
    low: np.ndarray
    high: np.ndarray
    means: np.ndarray
    scales: np.ndarray
    least: np.ndarray
    most: np.ndarray
    present: np.ndarray
    power: int
    xp: Namespace
    device: Any
    dtype: str


class Units(NamedTuple):
    """What is subtracted from the targets of each output, and what they are then divided by, to be fitted."""

    shifts: np.ndarray
    scales: np.ndarray


@final
@dataclass(frozen=True)
class Source:
    """Rows that can be gone through any number of times.

    Parameters
    ----------
    read : callable
        Returns a fresh iterator of `Rows`.
    """

    read: Callable[[], Iterator[Rows]]

    def parts(self, size: int = PART) -> Iterator[Rows]:
        """Yield the rows that count, `size` at a time: those without weight or target might as well not be there.

        Weights so large or small that their squares are none are divided by about the largest, a power of two.
        """
        power = -self._summary.power
        for rows in _parts(map(counting, self.read()), size):
            # in two steps: the reciprocal of a very small number is none
            scaled = rows.weights * 2.0 ** (power // 2) * 2.0 ** (power - power // 2) if power else rows.weights
            yield rows._replace(weights=scaled)

    def summary(self) -> Summary:
        """Read all rows, the first time that it is asked for.

        Raises
        ------
        ValueError
            If there are none, weights are negative or not finite, in rows that count points are not finite or targets
            infinite, batches do not agree, or the targets' standard deviation is beyond float64.
        """
        return self._summary

    @cached_property
    def _summary(self) -> Summary:
        seen, heaviest = 0, 0.0

        def checked() -> Iterator[Rows]:
            nonlocal seen
            columns = None
            for rows in self.read():
                here = int(rows.points.shape[1]), int(rows.targets.shape[1])
                columns = here if columns is None else columns
                if columns != here:
                    msg = f"a batch has {here[0]} inputs and {here[1]} outputs, the first {columns[0]} and {columns[1]}"
                    raise ValueError(msg + ": make the columns agree")
                yield counting(rows, seen)
                seen += int(rows.points.shape[0])

        count, boxes, like = 0, [], None
        tallies: list[_Tally] = []
        for rows in _parts(checked(), PART):
            like = rows if like is None else like
            points, targets, weights = (to_host(a) for a in rows[:3])
            if not tallies:
                tallies = [_Tally() for _ in range(targets.shape[1])]
            boxes.append((points.min(axis=0), points.max(axis=0)))
            heaviest = max(heaviest, float(weights.max()))
            for tally, y in zip(tallies, targets.T, strict=True):
                there = ~np.isnan(y)
                tally.add(y[there], weights[there])
            count += len(points)
        if like is None and not seen:
            msg = "there are no samples: `X` is empty, expected at least one row"
            raise ValueError(msg)
        empty = [j for j, tally in enumerate(tallies) if not tally.count]
        if like is None or empty:
            which = f"column {empty[0]}" if empty else "any row"
            msg = f"`y` has no finite value with positive weight in {which}: give at least one"
            raise ValueError(msg)
        means, scales = np.array([tally.moments() for tally in tallies]).T
        power = _power(heaviest) - 1
        return Summary(
            count, len(tallies), np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0),
            means, scales, np.array([t.least for t in tallies]), np.array([t.most for t in tallies]),
            np.array([t.count for t in tallies]), power if abs(power) > PLAIN else 0, namespace(like.points),
            device_of(like.points), like.dtype,
        )  # fmt: skip

    def table(self, chosen: np.ndarray, units: Units) -> Table:
        """Return the rows of increasing numbers `chosen`, one sample for each output that is present.

        Raises
        ------
        ValueError
            If there are fewer rows than that: they cannot be read again.
        """
        points, targets, weights, start = [], [], [], 0
        for rows in self.parts():
            stop = start + int(rows.points.shape[0])
            here = chosen[(chosen >= start) & (chosen < stop)] - start
            start = stop
            if not len(here):
                continue
            X, Y, w = (to_host(a)[here] for a in rows[:3])
            for j in range(Y.shape[1]):
                there = np.isfinite(Y[:, j])
                column = [np.full((int(there.sum()), 1), float(j))] if Y.shape[1] > 1 else []
                points.append(np.concatenate([X[there], *column], axis=1))
                targets.append((Y[there, j] - units.shifts[j]) / units.scales[j])
                weights.append(w[there])
        if start <= int(chosen[-1]):
            msg = (
                f"`X` gave {start} rows when it was read again, fewer than the first time: batches must be the same in "
                "every pass, so pass a list, or a function that makes a new iterator in each call"
            )
            raise ValueError(msg)
        return Table(*(np.concatenate(group, axis=0) for group in (points, targets, weights)))


@final
@dataclass(frozen=True)
class Streamed(Samples):
    """Samples whose windows are made anew in every pass.

    Parameters
    ----------
    source : Source
    axes : tuple of FitAxis
        The last input axis is that of the outputs if there are several.
    units : Units
    inputs : int
        Number of columns of the points.
    """

    source: Source
    axes: tuple[FitAxis, ...]
    units: Units
    inputs: int

    def batches(self) -> Iterator[Batch]:
        """See `Samples.batches`."""
        for points, targets, weights, _ in self.source.parts():
            xp = namespace(points)
            columns = [xp.asarray(points[:, i], copy=True) for i in range(self.inputs)]
            windows = [
                axis.window(column, str(i)) for i, (axis, column) in enumerate(zip(self.axes, columns, strict=False))
            ]
            several = int(targets.shape[1]) > 1
            for j in range(int(targets.shape[1])):
                y = targets[:, j]
                here = xp.isfinite(y)
                chosen = list(windows)
                if several:
                    chosen.append(self.axes[self.inputs].window(0.0 * columns[0] + float(j), "output"))
                for axis in self.axes[len(chosen) :]:
                    chosen.append(axis.window(columns[0], "constant"))
                zero = xp.zeros_like(y)
                there = (xp.where(here, y, zero) - float(self.units.shifts[j])) / float(self.units.scales[j])
                yield Batch(chosen, there, xp.where(here, weights, zero))


def source_of(X: Any, y: Any, weights: Any) -> Source:
    """Return the source of what a user passes as samples.

    Parameters
    ----------
    X : array, array-like, or re-iterable of tuples
        Points (n, d); or, with ``y=None``, an iterable or a function without arguments that returns one, of tuples
        ``(X, y)`` or ``(X, y, weights)``. Of these, too, each may be an array of any library, a list, a data frame, an
        HDF5 dataset, or a masked array, which has NaN where the mask is set.
    y : array, array-like or None
        Targets (n,) or (n, outputs).
    weights : array, array-like or None

    Raises
    ------
    TypeError
        If these are no samples, or no real numbers.
    ValueError
        If shapes do not agree.
    """
    if y is None:
        if weights is not None:
            msg = "`weights` is given beside batches: put them into the batches, (X, y, weights)"
            raise TypeError(msg)
        return Source(lambda: _batches(X))
    X, y = _readable(X, "X"), _readable(y, "y")
    weights = None if weights is None else _readable(weights, "weights")
    check_shapes(X, y, weights)

    def slices() -> Iterator[Rows]:
        step = MEMORY - MEMORY % PART
        for start in range(0, int(X.shape[0]), step):
            part = slice(start, min(start + step, int(X.shape[0])))
            yield rows_of(X[part, ...], y[part, ...], None if weights is None else weights[part])

    return Source(slices)


def _batches(source: Any) -> Iterator[Rows]:
    made = source() if callable(source) else source
    if not isinstance(made, Iterable) or hasattr(made, "shape"):
        msg = f"`y` is missing and `X` is {type(source).__name__}, expected targets, or batches of tuples (X, y)"
        raise TypeError(msg)
    if iter(made) is made and not callable(source):
        msg = "`X` is an iterator, which can be read once only: pass a list, or the function that makes it"
        raise TypeError(msg)
    for batch in made:
        if not isinstance(batch, tuple) or len(batch) not in (2, 3):
            msg = f"a batch is {type(batch).__name__}, expected a tuple (X, y) or (X, y, weights)"
            raise TypeError(msg)
        rows = rows_of(*batch)
        if int(rows.points.shape[0]):
            yield rows


def _readable(values: Any, name: str) -> Any:
    """Return an array, or what slices are read from, such as an HDF5 dataset."""
    in_memory = isinstance(values, np.ndarray) or any(hasattr(values, known) for known in ("iloc", "to_numpy"))
    return values if hasattr(values, "shape") and not in_memory else numbers_of(values, name)


def _parts(source: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Yield rows `size` at a time, however many come at once."""
    kept: list[Rows] = []
    held = 0
    for rows in source:
        kept.append(rows)
        held += int(rows.points.shape[0])
        while held >= size:
            whole = joined(kept)
            yield cut(whole, slice(0, size))
            kept = [cut(whole, slice(size, held))]
            held -= size
    if held:
        yield joined(kept)


def _power(number: float) -> int:
    """Return the exponent of the least power of two above a number, and for zero one below all others."""
    return math.frexp(number)[1] if number else -2000


class _Tally:
    """Weighted mean and variance of numbers that come some at a time, relative to the first one: nothing cancels.

    The sums of each part are those of numbers and weights divided by powers of two, which is exact: squares neither
    overflow nor vanish.
    """

    def __init__(self) -> None:
        self.count, self.first, self.least, self.most = 0, 0.0, math.inf, -math.inf
        self.sums: list[tuple[float, float, float]] = []
        self.powers: list[tuple[int, int]] = []  # of two, of the weights and of the numbers

    def add(self, y: np.ndarray, w: np.ndarray) -> None:
        if not len(y):
            return
        if not self.count:
            self.first = float(y[0])
        self.count += len(y)
        self.least, self.most = min(self.least, float(y.min())), max(self.most, float(y.max()))
        if not math.isfinite(self.most - self.least):
            msg = f"`y` runs from {self.least} to {self.most}, too far for float64: divide the targets by a number"
            raise ValueError(msg)
        away = y - self.first
        powers = _power(float(w.max())), _power(float(np.abs(away).max()))
        w, away = np.ldexp(w, -powers[0]), np.ldexp(away, -powers[1])
        self.powers.append(powers)
        self.sums.append((math.fsum(w), math.fsum(w * away), math.fsum(w * away * away)))

    def moments(self) -> tuple[float, float]:
        """Return mean and standard deviation, zero where it is round-off of the mean."""
        heavy, far = (max(p) for p in zip(*self.powers, strict=True))
        total, first, second = (
            math.fsum(
                math.ldexp(s[k], v - heavy + k * (p - far)) for s, (v, p) in zip(self.sums, self.powers, strict=True)
            )
            for k in range(3)
        )
        mean = self.first + math.ldexp(first / total, far)
        scale = math.ldexp(math.sqrt(max(second / total - (first / total) ** 2, 0.0)), far)
        if scale <= 8.0 * np.finfo(float).eps * abs(mean):
            return mean, 0.0
        if scale < np.finfo(float).tiny:
            msg = f"`y` runs from {self.least} to {self.most}, too close for float64: multiply the targets by a number"
            raise ValueError(msg)
        return mean, scale
