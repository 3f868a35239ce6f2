"""Where samples come from: arrays, or batches that are read again in every pass, cut into parts of one size.

The parts, and with them every sum, are the same however the batches were cut, so that a fit of batches is that of the
arrays to the last bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np

from sepnet.backends.arrays import Array, Namespace, describe, device_of, from_host, namespace, to_host
from sepnet.solvers.fit_arrays import (
    Rows,
    beside,
    check_shapes,
    counting,
    cut,
    is_array,
    joined,
    numbers_of,
    rows_of,
)
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_data import PART, Table, part_of
from sepnet.solvers.fit_samples import Batch, Samples
from sepnet.solvers.fit_tally import Tally, power_of, times_power

__all__ = ["Source", "Streamed", "Summary", "Units", "source_of"]

MEMORY = 100_000  # rows that are read from array-like objects on disk at a time
PLAIN = 100  # weights whose largest is within 2**-100 and 2**100 are left as they are


@final
@dataclass(frozen=True)
class Summary:
    """What one pass over all rows tells; of targets only those that are there count.

    `means`, `scales` (standard deviations), `least` and `most` are those of the targets, one an output. By two to the
    `power` all weights are divided. `complete` says that every row counts.
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
    complete: bool
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

    def parts(self, size: int | None = None) -> Iterator[Rows]:
        """Yield the rows that count, `size` at a time: those without weight or target might as well not be there.

        By default as many as suit the place where they live. Weights so large or small that their squares are none are
        divided by about the largest, a power of two.
        """
        power = -self._summary.power
        # to look for rows that do not count is to wait for a device
        for rows in _parts(self.read() if self._summary.complete else map(counting, self.read()), size):
            yield rows._replace(weights=times_power(rows.weights, power)) if power else rows

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
        seen, first = 0, None

        def checked() -> Iterator[Rows]:
            nonlocal seen, first
            for rows in self.read():
                first = rows if first is None else first
                _check_alike(rows, first)
                yield counting(rows, seen)
                seen += int(rows.points.shape[0])

        count, boxes, like = 0, [], None
        tallies: list[Tally] = []
        for rows in _parts(checked()):
            like, xp = rows if like is None else like, namespace(rows.points)
            if not tallies:
                tallies = [Tally() for _ in range(int(rows.targets.shape[1]))]
            low = xp.min(rows.points, axis=0)
            boxes.append(xp.stack([low, -xp.max(rows.points, axis=0), xp.zeros_like(low) - xp.max(rows.weights)]))
            for j, tally in enumerate(tallies):
                tally.add(rows.targets[:, j], rows.weights)
            count += int(rows.points.shape[0])
        if like is None and not seen:
            msg = "there are no samples: `X` is empty, expected at least one row"
            raise ValueError(msg)
        empty = [j for j, tally in enumerate(tallies) if not tally.count]
        if like is None or empty:
            which = f"column {empty[0]}" if empty else "any row"
            msg = f"`y` has no finite value with positive weight in {which}: give at least one"
            raise ValueError(msg)
        means, scales = np.array([tally.moments() for tally in tallies]).T
        xp = namespace(like.points)
        low, high, heavy = to_host(xp.min(xp.stack(boxes), axis=0))
        power = power_of(float(-heavy[0])) - 1
        return Summary(
            count, len(tallies), low, -high,
            means, scales, np.array([t.least for t in tallies]), np.array([t.most for t in tallies]),
            np.array([t.count for t in tallies]), power if abs(power) > PLAIN else 0, count == seen, xp,
            device_of(like.points), like.dtype,
        )  # fmt: skip

    def table(self, chosen: np.ndarray, units: Units) -> Table:
        """Return the rows of increasing numbers `chosen`, one sample for each output that is present, on the host.

        They are picked where they live and copied once.

        Raises
        ------
        ValueError
            If there are fewer rows than that: they cannot be read again.
        """
        xp, start = self._summary.xp, 0
        index = from_host(chosen, xp, device=self._summary.device, dtype="int64")
        picked = []
        for rows in self.parts():
            stop = start + int(rows.points.shape[0])
            a, b = (int(k) for k in np.searchsorted(chosen, (start, stop)))
            if a < b:
                X, Y, w = (xp.take(array, index[a:b] - start, axis=0) for array in rows[:3])
                picked.append(xp.concat([X, Y, w[:, None]], axis=1))
            start = stop
        if start <= int(chosen[-1]):
            msg = (
                f"`X` gave {start} rows when it was read again, fewer than the first time: batches must be the same in "
                "every pass, so pass a list, or a function that makes a new iterator in each call"
            )
            raise ValueError(msg)
        whole, d = to_host(xp.concat(picked, axis=0)), len(self._summary.low)
        # By parts of the host, wherever the rows live: by those of a device the samples of several outputs would have
        # another order, and the fit another shape than that of NumPy's arrays.
        ends = np.unique(np.searchsorted(chosen, np.arange(0, int(chosen[-1]) + PART + 1, PART))).tolist()
        points, targets, weights = [], [], []
        for part in (whole[a:b] for a, b in itertools.pairwise(ends)):
            X, Y, w = part[:, :d], part[:, d:-1], part[:, -1]
            for j in range(Y.shape[1]):
                there = np.isfinite(Y[:, j])
                column = [np.full((int(there.sum()), 1), float(j))] if Y.shape[1] > 1 else []
                points.append(np.concatenate([X[there], *column], axis=1))
                targets.append((Y[there, j] - units.shifts[j]) / units.scales[j])
                weights.append(w[there])
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

    @property
    def like(self) -> Array:
        """See `Samples.like`."""
        summary = self.source.summary()
        return summary.xp.empty((0,), dtype=summary.xp.float64, device=summary.device)

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
    # once: `rows_of` would move them in every pass
    home, size = X if is_array(X) else np.zeros(0), part_of(X) if is_array(X) else PART
    y = beside(y, home, "y") if is_array(y) else y
    weights = beside(weights, home, "weights") if is_array(weights) else weights

    def slices() -> Iterator[Rows]:
        step = max(MEMORY // size, 1) * size
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


def _check_alike(rows: Rows, first: Rows) -> None:
    """Raise ValueError or TypeError unless a batch has the columns of the first one and lives where that does."""
    here, there = ((int(r.points.shape[1]), int(r.targets.shape[1])) for r in (rows, first))
    if here != there:
        msg = f"a batch has {here[0]} inputs and {here[1]} outputs, the first {there[0]} and {there[1]}"
        raise ValueError(msg + ": make the columns agree")
    if describe(rows.points) != describe(first.points):
        msg = f"a batch is {describe(rows.points)}, the first {describe(first.points)}: make them of one kind"
        raise TypeError(msg)


def _parts(source: Iterable[Rows], size: int | None = None) -> Iterator[Rows]:
    """Yield rows `size` at a time, however many come at once; by default what suits the place where they live."""
    kept: list[Rows] = []
    held = 0
    for rows in source:
        size = part_of(rows.points) if size is None else size
        kept.append(rows)
        held += int(rows.points.shape[0])
        while held >= size:
            whole = joined(kept)
            yield cut(whole, slice(0, size))
            kept = [cut(whole, slice(size, held))]
            held -= size
    if held:
        yield joined(kept)
