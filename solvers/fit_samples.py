"""Samples as a fit sees them: batches of windows, and the normal equations that one pass over them adds up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import scipy.linalg

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, namespace, to_host
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

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Yield the samples, some at a time."""


@final
@dataclass(frozen=True)
class Held(Samples):
    """Samples in memory."""

    parts: tuple[Batch, ...]

    def batches(self) -> Iterator[Batch]:
        """Yield the parts."""
        yield from self.parts


class Normal(NamedTuple):
    """The data's share of the normal equations, divided by the sum of the weights.

    Attributes
    ----------
    matrix : ndarray of shape (P, P)
        Gauss-Newton matrix, symmetric.
    vector : ndarray of shape (P,)
        Minus half the gradient of `loss`.
    loss : float
        Weighted mean of the loss.
    """

    matrix: np.ndarray
    vector: np.ndarray
    loss: float


def normal(samples: Samples, columns: Columns, factors: Factors, loss: Loss, *, axis: int | None = None) -> Normal:
    """Add up the normal equations at a function, in one pass.

    Parameters
    ----------
    samples : Samples
    columns : Columns
    factors : list of ndarray
    loss : Loss
    axis : int, optional
        Only the block of this axis.

    Returns
    -------
    Normal
    """
    chosen = range(len(columns.axes)) if axis is None else [axis]
    chosen = [i for i in chosen if len(columns.active[i])]
    lengths = tuple(columns.axes[i].length for i in chosen)
    matrix: np.ndarray | float = 0.0
    vector: np.ndarray | float = 0.0
    value = total = 0.0
    for windows, targets, weights in samples.batches():
        factor_values = columns.values(windows, factors)
        gains = columns.gains(factor_values)
        terms = loss.terms(columns.total(factor_values), targets)
        first, values = (tuple(windows[i][k] for i in chosen) for k in (0, 1))
        part, load = dispatch.normal_blocks(
            first, values, tuple(gains[i] for i in chosen), weights * terms.curvature, weights * terms.slope,
            sizes=lengths,
        )  # fmt: skip
        matrix, vector = matrix + to_host(part), vector + to_host(load)
        value, total = value + _sum(weights * terms.value), total + _sum(weights)
    matrix, vector = np.asarray(matrix), np.asarray(vector)
    matrix, vector = _without_windows(columns, chosen, np.tril(matrix), vector)
    return Normal(matrix / total, vector / total, value / total)


def objective(samples: Samples, columns: Columns, factors: Factors, loss: Loss) -> float:
    """Return the weighted mean of the loss."""
    value = total = 0.0
    for windows, targets, weights in samples.batches():
        f = columns.total(columns.values(windows, factors))
        value, total = value + _sum(weights * loss.terms(f, targets).value), total + _sum(weights)
    return value / total


def losses(samples: Samples, columns: Columns, factors: Factors, loss: Loss) -> np.ndarray:
    """Return the loss of each sample times its weight, relative to the mean weight: their mean is the `objective`."""
    parts, weights = [], []
    for windows, targets, w in samples.batches():
        f = columns.total(columns.values(windows, factors))
        parts.append(to_host(w * loss.terms(f, targets).value))
        weights.append(to_host(w))
    return np.asarray(np.concatenate(parts) / np.mean(np.concatenate(weights)))


def _sum(array: Array) -> float:
    return float(namespace(array).sum(array))


def _without_windows(
    columns: Columns, chosen: list[int], lower: np.ndarray, vector: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Go from window functions to coefficients, and from the lower triangle to the whole matrix."""
    whole = lower + np.tril(lower, -1).T
    if all(columns.axes[i].spread is None for i in chosen):
        return whole, vector
    blocks = []
    for i in chosen:
        axis, rank = columns.axes[i], len(columns.active[i])
        spread = np.eye(axis.size) if axis.spread is None else axis.spread
        blocks.append(np.kron(spread, np.eye(rank)))
    E = scipy.linalg.block_diag(*blocks)
    return E.T @ whole @ E, E.T @ vector
