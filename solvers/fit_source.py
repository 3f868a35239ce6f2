"""Where samples come from: arrays, or batches that are read again in every pass, cut into parts of one size.

The parts, and with them every sum, are the same however the batches were cut, so that a fit of batches is that of the
arrays to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from sepnet.backends.arrays import Array, Namespace, device_of, from_host, library_name, namespace, to_host
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_data import PART, Table
from sepnet.solvers.fit_samples import Batch, Samples

__all__ = ["Rows", "Source", "Streamed", "Summary", "source_of"]

MEMORY = 100_000  # rows that are read from array-like objects on disk at a time


class Rows(NamedTuple):
    """Some rows: points (n, d), targets (n, outputs), NaN where missing, and weights (n,), all of them float64.

    `dtype` names the dtype that the points came in, float64 for integers.
    """

    points: Array
    targets: Array
    weights: Array
    dtype: str


@final
@dataclass(frozen=True)
class Summary:
    """What one pass over all rows tells; of targets only those that are there count.

    `means`, `scales` (standard deviations), `least` and `most` are those of the targets, one an output.
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
    xp: Namespace
    device: Any
    dtype: str


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
        """Yield the rows that count, `size` at a time: those without weight or target might as well not be there."""
        kept: list[Rows] = []
        held = 0
        for rows in map(_counting, self.read()):
            kept.append(rows)
            held += int(rows.points.shape[0])
            while held >= size:
                whole = _joined(kept)
                yield _cut(whole, slice(0, size))
                kept = [_cut(whole, slice(size, held))]
                held -= size
        if held:
            yield _joined(kept)

    def summary(self) -> Summary:
        """Read all rows once.

        Raises
        ------
        ValueError
            If there are none, points are not finite, weights are negative or not finite, or batches do not agree.
        """
        seen = 0

        def checked() -> Iterator[Rows]:
            nonlocal seen
            columns = None
            for rows in self.read():
                here = int(rows.points.shape[1]), int(rows.targets.shape[1])
                columns = here if columns is None else columns
                if columns != here:
                    msg = f"a batch has {here[0]} inputs and {here[1]} outputs, the first {columns[0]} and {columns[1]}"
                    raise ValueError(msg + ": make the columns agree")
                _check_rows(to_host(rows.points), to_host(rows.targets), to_host(rows.weights), seen)
                seen += int(rows.points.shape[0])
                yield rows

        count, boxes, like = 0, [], None
        tallies: list[_Tally] = []
        for rows in Source(checked).parts():
            like = rows if like is None else like
            points, targets, weights = (to_host(a) for a in rows[:3])
            if not tallies:
                tallies = [_Tally() for _ in range(targets.shape[1])]
            boxes.append((points.min(axis=0), points.max(axis=0)))
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
        means, variances = np.array([tally.moments() for tally in tallies]).T
        floor = (8.0 * np.finfo(float).eps * np.abs(means)) ** 2
        return Summary(
            count, len(tallies), np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0),
            means, np.sqrt(np.where(variances > floor, variances, 0.0)), np.array([t.least for t in tallies]),
            np.array([t.most for t in tallies]), np.array([t.count for t in tallies]), namespace(like.points),
            device_of(like.points), like.dtype,
        )  # fmt: skip

    def table(self, chosen: np.ndarray, scales: np.ndarray) -> Table:
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
                targets.append(Y[there, j] / scales[j])
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
    scales : ndarray of shape (outputs,)
        What the targets are divided by.
    inputs : int
        Number of columns of the points.
    """

    source: Source
    axes: tuple[FitAxis, ...]
    scales: np.ndarray
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
                yield Batch(chosen, xp.where(here, y, zero) / float(self.scales[j]), xp.where(here, weights, zero))


def source_of(X: Any, y: Any, weights: Any) -> Source:
    """Return the source of what a user passes as samples.

    Parameters
    ----------
    X : array, array-like on disk, or re-iterable of tuples
        Points (n, d); or, with ``y=None``, an iterable or a function without arguments that returns one, of tuples
        ``(X, y)`` or ``(X, y, weights)``.
    y : array or None
        Targets (n,) or (n, outputs).
    weights : array or None

    Raises
    ------
    TypeError
        If these are no samples.
    ValueError
        If lengths do not agree.
    """
    if y is None:
        if weights is not None:
            msg = "`weights` is given beside batches: put them into the batches, (X, y, weights)"
            raise TypeError(msg)
        return Source(lambda: _batches(X))
    if not hasattr(X, "shape") or hasattr(X, "iloc"):
        X = np.asarray(X, dtype=np.float64)
    if not hasattr(y, "shape") or hasattr(y, "iloc"):
        y = np.asarray(y, dtype=np.float64)
    if len(X.shape) != 2 or len(y.shape) not in (1, 2) or X.shape[0] != y.shape[0]:
        msg = f"`X` has shape {tuple(X.shape)} and `y` {tuple(y.shape)}, expected (n, d) and (n,) or (n, outputs)"
        raise ValueError(msg)
    if weights is not None:
        weights = weights if hasattr(weights, "shape") else np.asarray(weights, dtype=np.float64)
        if tuple(weights.shape) != (X.shape[0],):
            msg = f"`weights` has shape {tuple(weights.shape)}, expected ({X.shape[0]},), one for each sample"
            raise ValueError(msg)

    def slices() -> Iterator[Rows]:
        step = MEMORY - MEMORY % PART
        for start in range(0, int(X.shape[0]), step):
            part = slice(start, min(start + step, int(X.shape[0])))
            yield _rows(X[part, ...], y[part, ...], None if weights is None else weights[part])

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
        rows = _rows(batch[0], batch[1], batch[2] if len(batch) == 3 else None)
        if int(rows.points.shape[0]):
            yield rows


def _rows(X: Any, y: Any, weights: Any) -> Rows:
    """Return rows in float64, in the namespace of the points."""
    if not hasattr(X, "shape"):
        X = np.asarray(X, dtype=np.float64)
    xp, device = namespace(X), device_of(X)

    def real(array: Any, name: str) -> Array:
        array = array if hasattr(array, "shape") else np.asarray(array)
        there = namespace(array)
        if not there.isdtype(array.dtype, ("real floating", "integral", "bool")):
            msg = f"`{name}` has dtype {array.dtype}, expected real numbers: encode it first"
            raise TypeError(msg)
        if library_name(there) != library_name(xp):
            array = from_host(to_host(array), xp, device=device)
        return xp.astype(array, xp.float64)

    points, targets = real(X, "X"), real(y, "y")
    n = int(points.shape[0])
    if points.ndim != 2 or targets.ndim not in (1, 2) or int(targets.shape[0]) != n:
        msg = f"a batch has shapes {tuple(points.shape)} and {tuple(targets.shape)}, expected (n, d) and (n,)"
        raise ValueError(msg)
    if targets.ndim == 1:
        targets = targets[:, None]
    ones = xp.ones((n,), dtype=xp.float64, device=device)
    dtype = "float32" if X.dtype == xp.float32 else "float64"
    return Rows(points, targets, ones if weights is None else real(weights, "weights"), dtype)


def _joined(rows: list[Rows]) -> Rows:
    if len(rows) == 1:
        return rows[0]
    xp = namespace(rows[0].points)
    points, targets, weights = (xp.concat([r[k] for r in rows], axis=0) for k in range(3))
    return Rows(points, targets, weights, rows[0].dtype)


def _cut(rows: Rows, part: slice) -> Rows:
    return Rows(rows.points[part, ...], rows.targets[part, ...], rows.weights[part], rows.dtype)


def _counting(rows: Rows) -> Rows:
    xp = namespace(rows.points)
    here = (rows.weights != 0.0) & ~xp.all(xp.isnan(rows.targets), axis=1)
    if bool(xp.all(here)):
        return rows
    chosen = xp.nonzero(here)[0]
    points, targets, weights = (xp.take(a, chosen, axis=0) for a in rows[:3])
    return Rows(points, targets, weights, rows.dtype)


class _Tally:
    """Weighted mean and variance of numbers that come some at a time, relative to the first one: nothing cancels."""

    def __init__(self) -> None:
        self.count, self.first, self.least, self.most = 0, 0.0, math.inf, -math.inf
        self.sums: list[tuple[float, float, float]] = []

    def add(self, y: np.ndarray, w: np.ndarray) -> None:
        if not len(y):
            return
        if not self.count:
            self.first = float(y[0])
        self.count += len(y)
        self.least, self.most = min(self.least, float(y.min())), max(self.most, float(y.max()))
        away = y - self.first
        self.sums.append((math.fsum(w), math.fsum(w * away), math.fsum(w * away * away)))

    def moments(self) -> tuple[float, float]:
        total, first, second = (math.fsum(s) for s in zip(*self.sums, strict=True))
        return self.first + first / total, second / total - (first / total) ** 2


def _check_rows(points: np.ndarray, targets: np.ndarray, weights: np.ndarray, before: int) -> None:
    bad = ~np.isfinite(points)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        msg = f"`X` has {points[row, column]} in row {before + row}, column {column}: drop the row or fill the value in"
        raise ValueError(msg)
    if np.isinf(targets).any():
        row = int(np.argwhere(np.isinf(targets))[0][0])
        msg = f"`y` has an infinity in row {before + row}: a missing target is NaN"
        raise ValueError(msg)
    if weights.shape != (len(points),) or not np.isfinite(weights).all() or (weights < 0).any():
        msg = f"`weights` are not finite numbers >= 0, one for each sample (rows {before} to {before + len(points)})"
        raise ValueError(msg)
