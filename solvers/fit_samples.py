"""Samples as a fit sees them: batches of windows, and the normal equations that one pass over them adds up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, is_numpy, namespace, to_host
from sepnet.solvers.fit_algebra import moved
from sepnet.solvers.fit_axes import Window
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_loss import Loss

__all__ = ["Batch", "Held", "Normal", "Samples", "losses", "normal", "objective"]


class Batch(NamedTuple):
    """Samples: their windows on each axis, targets (n,) and weights (n,)."""

    windows: list[Window]
    targets: Array
    weights: Array


class Samples(ABC):
    """Samples that can be gone through any number of times, always in the same order."""

    @property
    @abstractmethod
    def like(self) -> Array:
        """An array that lives where the samples live, in their dtype."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Yield the samples, some at a time."""


@final
@dataclass(frozen=True)
class Held(Samples):
    """Samples in memory."""

    parts: tuple[Batch, ...]

    @property
    def like(self) -> Array:
        """See `Samples.like`."""
        return self.parts[0].targets

    def batches(self) -> Iterator[Batch]:
        """Yield the parts."""
        yield from self.parts


class Normal(NamedTuple):
    """The data's share of the normal equations, divided by the sum of the weights.

    Attributes
    ----------
    matrix : array of shape (P, P)
        Gauss-Newton matrix, symmetric.
    vector : array of shape (P,)
        Minus half the gradient of `loss`.
    loss : float
        Weighted mean of the loss.
    """

    matrix: Array
    vector: Array
    loss: float


def normal(samples: Samples, columns: Columns, factors: Factors, loss: Loss, *, axis: int | None = None) -> Normal:
    """Add up the normal equations at a function, in one pass.

    Everything of the size of the samples, and the sums, stay where the samples live.

    Parameters
    ----------
    samples : Samples
    columns : Columns
    factors : list of arrays
        Where the samples live, or on the host: they are then moved to the samples, and the sums come back, once.
    loss : Loss
    axis : int, optional
        Only the block of this axis.

    Returns
    -------
    Normal
        Where the factors live.
    """
    chosen = range(len(columns.axes)) if axis is None else [axis]
    chosen = [i for i in chosen if len(columns.active[i])]
    lengths = tuple(columns.axes[i].length for i in chosen)
    matrix: Array = 0.0
    vector: Array = 0.0
    value: Array = 0.0
    total: Array = 0.0
    here = moved(factors, samples.like)
    for windows, targets, weights in samples.batches():
        factor_values = columns.values(windows, here)
        gains = columns.gains(factor_values)
        terms = loss.terms(columns.total(factor_values), targets)
        first, values = (tuple(windows[i][k] for i in chosen) for k in (0, 1))
        part, load = dispatch.normal_blocks(
            first, values, tuple(gains[i] for i in chosen), weights * terms.curvature, weights * terms.slope,
            sizes=lengths,
        )  # fmt: skip
        matrix, vector = matrix + part, vector + load
        value, total = value + _sum(weights * terms.value), total + _sum(weights)
    matrix, vector = _without_windows(columns, chosen, matrix, vector)
    result = Normal(matrix / total, vector / total, float(value / total))
    if isinstance(factors[0], np.ndarray):
        return result._replace(matrix=to_host(result.matrix), vector=to_host(result.vector))
    return result


def objective(samples: Samples, columns: Columns, factors: Factors, loss: Loss) -> float:
    """Return the weighted mean of the loss; the factors live where the samples do, or on the host."""
    value: Array = 0.0
    total: Array = 0.0
    factors = moved(factors, samples.like)
    for windows, targets, weights in samples.batches():
        f = columns.total(columns.values(windows, factors))
        value, total = value + _sum(weights * loss.terms(f, targets).value), total + _sum(weights)
    return float(value / total)


def losses(samples: Samples, columns: Columns, factors: Factors, loss: Loss) -> np.ndarray:
    """Return the loss of each sample times its weight, relative to the mean weight: their mean is the `objective`.

    On the host: for the samples on which the shape of a fit is found.
    """
    parts, weights = [], []
    factors = moved(factors, samples.like)
    for windows, targets, w in samples.batches():
        f = columns.total(columns.values(windows, factors))
        parts.append(to_host(w * loss.terms(f, targets).value))
        weights.append(to_host(w))
    return np.asarray(np.concatenate(parts) / np.mean(np.concatenate(weights)))


def _sum(array: Array) -> Array:
    xp = namespace(array)
    # a number of the device is read when all parts are added up: a device that waits for the host at each part idles
    return float(xp.sum(array)) if is_numpy(xp) else xp.sum(array)


def _without_windows(columns: Columns, chosen: list[int], lower: Array, vector: Array) -> tuple[Array, Array]:
    """Go from window functions to coefficients, and from the lower triangle to the whole matrix."""
    xp = namespace(vector)
    whole = xp.tril(lower) + xp.tril(lower, k=-1).T
    spreads = [columns.places(vector).axes[i].spread for i in chosen]
    if all(spread is None for spread in spreads):
        return whole, vector
    ranks, lengths = [len(columns.active[i]) for i in chosen], [columns.axes[i].length for i in chosen]

    def gathered(rows: Array) -> Array:
        """Add the rows of window functions up to those of coefficients."""
        pieces, start, wide = [], 0, int(rows.shape[1])
        for spread, rank, length in zip(spreads, ranks, lengths, strict=True):
            piece, start = rows[start : start + length * rank, :], start + length * rank
            if spread is not None:
                together = spread.T @ xp.reshape(piece, (length, rank * wide))
                piece = xp.reshape(together, (int(spread.shape[1]) * rank, wide))
            pieces.append(piece)
        return xp.concat(pieces, axis=0)

    return gathered(gathered(whole).T), gathered(vector[:, None])[:, 0]
