"""Samples held as arrays, of which windows on any axes are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sepnet.backends.arrays import Array, namespace
from sepnet.solvers.fit_axes import FitAxis, Window
from sepnet.solvers.fit_samples import Batch, Held
from sepnet.solvers.on_device import on_host

__all__ = ["Table", "part_of", "with_targets"]

PART = 8192  # samples a batch: its windows, values and gains at rank 16 in 8 dimensions are some 20 MB
DEVICE_PART = 16 * PART  # on a device, where a hundred launches a batch cost more than 500 MB of memory


def part_of(like: Array) -> int:
    """Return how many samples are taken at a time where an array lives."""
    return PART if on_host(like) else DEVICE_PART


@final
@dataclass(frozen=True)
class Table:
    """Samples in memory: points (n, d), targets (n,) and weights (n,)."""

    points: Array
    targets: Array
    weights: Array

    @property
    def count(self) -> int:
        """Number of samples."""
        return int(self.targets.shape[0])

    def first(self, count: int) -> Table:
        """Return the first samples."""
        if count >= self.count:
            return self
        return Table(self.points[:count, :], self.targets[:count], self.weights[:count])

    def samples(self, axes: tuple[FitAxis, ...], *, like: Held | None = None, new: tuple[int, ...] = ()) -> Held:
        """Return the windows on axes; those of `like` are kept on all axes but `new`."""
        parts = []
        for k, start in enumerate(range(0, max(self.count, 1), PART)):
            part = slice(start, min(start + PART, self.count))
            windows = []
            for i, axis in enumerate(axes):
                if like is not None and i not in new:
                    windows.append(like.parts[k].windows[i])
                else:
                    windows.append(_window(axis, self.points[part, :], i))
            parts.append(Batch(windows, self.targets[part], self.weights[part]))
        return Held(tuple(parts))


def _window(axis: FitAxis, points: Array, i: int) -> Window:
    xp = namespace(points)
    column = points[:, min(i, int(points.shape[1]) - 1)]
    return axis.window(xp.asarray(column, copy=True) if axis.basis is not None else column, str(i))


def with_targets(samples: Held, targets: list[Array], weights: list[Array]) -> Held:
    """Return the same samples with other targets and weights, a list of one array a part."""
    parts = zip(samples.parts, targets, weights, strict=True)
    return Held(tuple(Batch(part.windows, y, w) for part, y, w in parts))
