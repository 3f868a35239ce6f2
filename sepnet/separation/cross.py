"""Tensor trains from values: cross approximation with maxvol, one core at a time, ranks as high as the tolerance needs.

A tensor of which any entry can be asked for is approximated from few of them. Between two axes stand two sets of
multi-indices, those of the axes on the left and those on the right; the entries where they cross determine a train
that interpolates the tensor there (Oseledets and Tyrtyshnikov, Linear Algebra Appl. 432, 2010). A sweep fixes the sets
on one side: the fibres of an axis through the present crosses are the columns of a matrix, of which an orthonormal
frame is kept to the tolerance and as many rows as it has columns, of nearly the largest volume (Goreinov et al., 2010).

The sets on the other side are enlarged before every sweep by pivots: points of large error, found by climbing along the
axes from many random points (the rook search of Savostyanov, Linear Algebra Appl. 458, 2014, in all axes at once), and
some random ones. A pivot enlarges the sets of all cuts together, so that the next sweep can reach a part of small
support that no cross has met: the pivot's own fibre is then not zero on the first axis, hence one of its rows is taken,
hence on the second, and so on. Full two-site steps were rejected: they ask for n**2 r**2 entries where a fibre needs
n r**2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import TypeAlias, final

import numpy as np
import scipy.linalg

from sepnet.backends.threads import one_blas_thread

__all__ = ["Cross", "climb", "cross", "entries_of", "maxvol"]

Entries: TypeAlias = Callable[[np.ndarray], np.ndarray]

# Entries that a sweep drops and that it may miss, as shares of the tolerance: several cuts add up.
CUT = 0.1
# Random entries that a sweep is checked by, how many of the worst are climbed from, the passes of a climb, and the
# pivots of a sweep at least.
CHECKS, CLIMBED, PASSES, LEAST_PIVOTS = 1024, 6, 2, 4
# Numbers that the evaluation of a train gathers at a time.
GATHERED = 2**20
MAX_SWEEPS = 40
# Sweeps in which the error may stay where it is before the search ends: fewer at the largest rank. And the entries
# after which no further sweep begins.
PATIENCE, PATIENCE_FULL, MOST_ENTRIES = 8, 2, 2**23
# No row outside a set of largest volume is more than this multiple of the rows inside.
VOLUME = 1.05


@final
@dataclass(frozen=True)
class Cross:
    """A tensor train found by cross approximation.

    Parameters
    ----------
    cores : tuple of ndarray (r, n_i, r')
        Float64.
    error : float
        Relative root mean square error at random entries that the train was not made from.
    largest : float
        Largest error found, over the largest entry met.
    reached : bool
        Whether both are within the tolerance.
    full : bool
        Whether the largest rank allowed was met.
    """

    cores: tuple[np.ndarray, ...]
    error: float
    largest: float
    reached: bool
    full: bool


def maxvol(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of nearly the largest volume, and the coefficients of all rows in these.

    Parameters
    ----------
    frame : ndarray (m, r), m >= r
        Of full column rank.

    Returns
    -------
    rows : ndarray of int (r,)
    coefficients : ndarray (m, r)
        ``frame = coefficients @ frame[rows]``; no entry is larger than `VOLUME` (Goreinov, Oseledets, Savostyanov,
        Tyrtyshnikov and Zamarashkin, How to find a good submatrix, 2010).
    """
    r = frame.shape[1]
    rows = scipy.linalg.qr(frame.T, mode="r", pivoting=True)[1][:r].copy()
    coefficients = scipy.linalg.solve(frame[rows].T, frame.T).T
    for _ in range(10 * r):
        i, j = divmod(int(np.argmax(np.abs(coefficients))), r)
        pivot = coefficients[i, j]
        if abs(pivot) <= VOLUME:
            break
        change = coefficients[i].copy()
        change[j] -= 1.0
        coefficients -= np.outer(coefficients[:, j], change / pivot)
        rows[j] = i
    return rows, np.asarray(coefficients)


def entries_of(cores: Sequence[np.ndarray], index: np.ndarray) -> np.ndarray:
    """Return the entries of a train at multi-indices of shape (m, d)."""
    result = np.empty(len(index))
    step = max(1, GATHERED // max(core.shape[0] * core.shape[2] for core in cores))
    for start in range(0, len(index), step):
        block = index[start : start + step]
        carried = cores[0][0, block[:, 0], :]
        for k, core in enumerate(cores[1:], start=1):
            carried = np.einsum("mr,rms->ms", carried, core[:, block[:, k], :])
        result[start : start + step] = carried[:, 0]
    return result


def climb(size: Entries, start: np.ndarray, shape: Sequence[int], passes: int = PASSES) -> np.ndarray:
    """Return indices of larger entries: from every start to the largest entry along each axis in turn.

    Parameters
    ----------
    size : callable
        Multi-indices (m, d) to the numbers (m,) to be made large.
    start : ndarray of int (m, d)
    shape : sequence of int
    passes : int, optional
        How often all axes are gone through.

    Returns
    -------
    ndarray of int (m, d)
        Equal ones are kept.
    """
    points = start.copy()
    for _ in range(passes if len(points) else 0):
        for axis, n in enumerate(shape):
            fibres = np.repeat(points, n, axis=0)
            fibres[:, axis] = np.tile(np.arange(n), len(points))
            points[:, axis] = np.argmax(size(fibres).reshape(-1, n), axis=1)
    return points


@one_blas_thread()
def cross(
    entries: Entries, shape: Sequence[int], tol: float, rank: int, rng: np.random.Generator, starts: np.ndarray
) -> Cross:
    """Approximate a tensor by a train from few of its entries.

    Parameters
    ----------
    entries : callable
        Multi-indices (m, d), int64, to entries (m,), float64 and finite.
    shape : sequence of int
        At least two axes.
    tol : float
        Relative root mean square error to reach; the largest error may be `tol` times the largest entry.
    rank : int
        Largest rank.
    rng : Generator
        Where random indices come from.
    starts : ndarray of int (m, d), m >= 1
        Where the search begins, such as the largest entries known.

    Returns
    -------
    Cross
    """
    shape, d = tuple(shape), len(shape)
    right = [_distinct(starts[:, k:])[:rank] for k in range(d + 1)]
    pivots, backward, cut = starts, False, CUT * tol
    best: Cross | None = None
    waited, asked, extra = 0, 0, len(starts)
    for _ in range(MAX_SWEEPS):
        cores, left = _sweep(entries, shape, right, pivots, cut, rank, backward=backward)
        right = [left[d - k][:, ::-1] for k in range(d + 1)]
        backward = not backward
        ranks = [core.shape[2] for core in cores[:-1]]
        error, largest, found = _check(entries, cores, shape, starts, rng)
        full = any(r >= min(rank, _most(shape, k)) for k, r in enumerate(ranks) if r == rank)
        current = Cross(tuple(cores), error, largest, error <= tol and largest <= tol, full)
        waited = 0 if best is None or max(error, largest) < 0.7 * max(best.error, best.largest) else waited + 1
        if best is None or max(error, largest) < max(best.error, best.largest):
            best = current
        asked += sum(c.size * (c.shape[2] + extra) // c.shape[2] for c in cores)
        if best.reached or waited >= (PATIENCE_FULL if full else PATIENCE) or asked > MOST_ENTRIES:
            break
        # What rounding drops may be what the check misses.
        cut *= 0.7
        extra = max(LEAST_PIVOTS, max(ranks) // 2)
        pivots = np.concatenate([found[:extra], _random(shape, extra // 2, rng)])
    assert best is not None
    return best


def _most(shape: Sequence[int], k: int) -> int:
    """Return the largest rank that a cut after axis k can have."""
    return int(min(prod(shape[: k + 1]), prod(shape[k + 1 :])))


def _random(shape: Sequence[int], count: int, rng: np.random.Generator) -> np.ndarray:
    return np.stack([rng.integers(0, n, size=count) for n in shape], axis=1)


def _distinct(index: np.ndarray) -> np.ndarray:
    return np.unique(index, axis=0) if index.shape[1] else index[:1]


def _sweep(
    entries: Entries,
    shape: Sequence[int],
    right: list[np.ndarray],
    pivots: np.ndarray,
    cut: float,
    rank: int,
    *,
    backward: bool,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return cores in the order of the axes, and the sets fixed by the sweep, in that of the sweep."""
    if backward:
        shape, pivots = shape[::-1], pivots[:, ::-1]
    left, cores = [np.zeros((1, 0), dtype=np.int64)], []

    def block(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        index = np.hstack([np.repeat(rows, len(columns), axis=0), np.tile(columns, (len(rows), 1))])
        return entries(index[:, ::-1] if backward else index).reshape(len(rows), len(columns))

    for k, n in enumerate(shape):
        rows = np.hstack([np.repeat(left[k], n, axis=0), np.tile(np.arange(n), len(left[k]))[:, None]])
        if k == len(shape) - 1:
            cores.append(block(rows, np.zeros((1, 0), dtype=np.int64)).reshape(len(left[k]), n, 1))
            break
        columns = _distinct(np.concatenate([right[k + 1], pivots[:, k + 1 :]]))
        chosen, coefficients = maxvol(_frame(block(rows, columns), cut, rank))
        cores.append(coefficients.reshape(len(left[k]), n, -1))
        left.append(rows[chosen])
    left.append(np.zeros((1, len(shape)), dtype=np.int64))
    return ([core.transpose(2, 1, 0) for core in reversed(cores)] if backward else cores), left


def _frame(matrix: np.ndarray, cut: float, rank: int) -> np.ndarray:
    """Return an orthonormal frame of the columns, but for a relative error of `cut`."""
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    tails = np.sqrt(np.cumsum(s[::-1] ** 2)[::-1])
    floor = max(cut, 10 * np.finfo(np.float64).eps * sqrt(len(s)))
    kept = min(max(1, int(np.sum(tails > floor * tails[0]))), rank)
    return np.asarray(u[:, :kept])


def _check(
    entries: Entries, cores: Sequence[np.ndarray], shape: Sequence[int], starts: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, np.ndarray]:
    """Return the relative error at random entries, the largest found, and where errors are large, largest first."""

    def size(index: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(entries(index) - entries_of(cores, index)))

    sample = _random(shape, CHECKS, rng)
    exact = entries(sample)
    errors = np.abs(exact - entries_of(cores, sample))
    scale = sqrt(float(np.mean(exact**2)))
    order = np.argsort(-errors)
    # Around the largest entries as well: a small support may have been missed by all random ones.
    moved = np.clip(starts + rng.integers(-2, 3, size=starts.shape), 0, np.array(shape) - 1)
    worst = np.concatenate([sample[order[:CLIMBED]], moved[rng.permutation(len(moved))[:CLIMBED]]])
    found = _distinct(climb(size, worst, shape))
    sizes = size(found)
    pivots = np.concatenate([found[np.argsort(-sizes)], sample[order[CLIMBED:]]])
    top = float(max(np.abs(entries(starts)).max(), np.abs(exact).max()))
    error = sqrt(float(np.mean(errors**2))) / scale if scale > 0 else float(errors.max(initial=0.0) > 0)
    largest = float(sizes.max()) / top if top > 0 else float(sizes.max() > 0)
    return error, largest, pivots
