"""Samples of a box: starts of low discrepancy, thinning to a spacing, and the spacing of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
from scipy.spatial import cKDTree
from scipy.special import ndtri

from sepnet.backends.arrays import Array, device_of, from_host, namespace
from sepnet.solvers.inversion_model import first_not_finite, host_numbers

__all__ = ["Prior", "box_starts", "cholesky", "gaussian", "prior_starts", "spacings", "thin"]

Prior = Sequence[Any] | np.ndarray

# Cells on a side that float64 counts exactly.
MOST_CELLS = 2.0**53


def box_starts(n: int, low: np.ndarray, high: np.ndarray, seed: int) -> np.ndarray:
    """Return n points (n, d) of a Sobol sequence in a box, shifted at random."""
    return np.asarray(np.clip(low + (high - low) * _uniform(n, low.size, seed), low, high))


def _uniform(n: int, d: int, seed: int) -> np.ndarray:
    """Return points of the unit cube.

    A shift modulo 1 keeps the low discrepancy and is unbiased as Owen's scrambling is, for a tenth of its set-up time.
    """
    # 0.4 s to import, which is for those who need it.
    from scipy.stats import qmc

    exponent = max(n - 1, 0).bit_length()
    points = qmc.Sobol(d, scramble=False).random_base2(exponent)[:n]
    return np.asarray((points + np.random.default_rng(seed).random(d)) % 1.0)


def gaussian(prior: Any, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean (d,), covariance (d, d) and its lower Cholesky factor.

    Raises
    ------
    TypeError, ValueError
        If `prior` is no pair of these, not finite, or the covariance is not symmetric positive definite.
    """
    if not isinstance(prior, tuple | list) or len(prior) != 2:
        msg = f"`prior` is {type(prior).__name__}, expected (mean, covariance) of shapes ({d},) and ({d}, {d})"
        raise TypeError(msg)
    mean, covariance = host_numbers("the mean of `prior`", prior[0]), host_numbers("the covariance", prior[1])
    if mean.shape != (d,) or covariance.shape != (d, d):
        msg = f"`prior` has shapes {mean.shape} and {covariance.shape}, expected ({d},) and ({d}, {d}): one per input"
        raise ValueError(msg)
    if not np.isfinite(mean).all():
        msg = f"the mean of `prior` is {mean}, expected finite numbers"
        raise ValueError(msg)
    hint = "leave the input out of the inversion by equal bounds, or add to the diagonal"
    return mean, covariance, cholesky(covariance, "the covariance of `prior`", hint)


def cholesky(matrix: np.ndarray, name: str, hint: str) -> np.ndarray:
    """Return the lower Cholesky factor of a covariance; raise ValueError unless there is one."""
    scale = np.sqrt(np.abs(np.diag(matrix)))
    sound = bool(np.isfinite(matrix).all()) and bool(np.all(scale > 0))
    if sound:
        correlation = matrix / scale[:, None] / scale
        if np.abs(correlation - correlation.T).max() > 1e-8:
            msg = f"{name} is not symmetric, expected a covariance: take (C + C') / 2"
            raise ValueError(msg)
        try:
            root = scipy.linalg.cholesky(correlation, lower=True)
        except scipy.linalg.LinAlgError:
            sound = False
        else:
            # A pivot below round-off is no number: the matrix is singular and only looks definite.
            sound = bool(np.diag(root).min() ** 2 > 4 * matrix.shape[0] * np.finfo(np.float64).eps)
    if not sound:
        msg = f"{name} is not positive definite (or not finite), expected a regular covariance: {hint}"
        raise ValueError(msg)
    return np.asarray(scale[:, None] * root)


def prior_starts(prior: Prior, n: int | None, low: np.ndarray, high: np.ndarray, seed: int, *, default: int) -> Array:
    """Return starts from a prior, moved into the box.

    Parameters
    ----------
    prior : (mean, covariance) or array (k, d)
        A Gaussian, as tuple or list, or a sample of it.
    n : int, optional
        Starts; by default all rows of a sample, and `default` of a Gaussian.
    low, high : ndarray (d,)
        The box.
    seed : int
        Seed of the draw.
    default : int
        See `n`.

    Returns
    -------
    array (n, d)
        Rows of a sample that is a floating array, of any library, stay where they are. A Gaussian's first start is near
        its mean; at the mean itself the gradient may vanish by symmetry.
    """
    d = low.size
    if _is_gaussian(prior):
        mean, _, root = gaussian(prior, d)
        n = default if n is None else n
        # The unit cube is open for `ndtri`; half a unit of the generator's 30 bits keeps it so.
        uniform = np.clip(_uniform(n, d, seed), 2.0**-31, 1 - 2.0**-31)
        points = mean + ndtri(uniform) @ root.T
        points[:1] = mean + (points[:1] - mean) / 10
        return np.asarray(np.clip(points, low, high))
    return _rows_of_sample(prior, n, low, high, seed)


def _rows_of_sample(prior: Any, n: int | None, low: np.ndarray, high: np.ndarray, seed: int) -> Array:
    d = low.size
    sample = prior if _is_floating(prior) else host_numbers("`prior`", prior)
    xp, device, shape = namespace(sample), device_of(sample), tuple(int(k) for k in sample.shape)
    if len(shape) != 2 or shape[1] != d or not shape[0] or first_not_finite(sample) is not None:
        msg = f"`prior` has shape {shape}, expected (mean, covariance) or finite rows (k, {d}), k at least 1"
        raise ValueError(msg)
    if n is not None and n > shape[0]:
        msg = f"`n_starts` is {n}, expected at most {shape[0]}, the rows of `prior`: leave it out to take all"
        raise ValueError(msg)
    if n is not None and n < shape[0]:
        rows = np.sort(np.random.default_rng(seed).choice(shape[0], n, replace=False))
        sample = xp.take(sample, from_host(rows, xp, device=device, dtype="int64"), axis=0)
    sample = xp.astype(sample, xp.float64)
    left, right = (from_host(end, xp, device=device, dtype="float64") for end in (low, high))
    return xp.where(sample < left, left, xp.where(sample > right, right, sample))


def _is_floating(values: Any) -> bool:
    """Return whether this is an array of real floating numbers of some library."""
    try:
        return bool(namespace(values).isdtype(values.dtype, "real floating"))
    except TypeError:
        return False


def _is_gaussian(prior: Prior) -> bool:
    """Return whether a prior is a pair of mean and covariance: a list of two rows is a sample."""
    if isinstance(prior, list) and len(prior) == 2:
        second = prior[1]
        if hasattr(second, "ndim"):
            return bool(second.ndim == 2)
        return np.iterable(second) and any(np.iterable(row) for row in second)
    return isinstance(prior, tuple)


def _apart(coordinates: np.ndarray, group: np.ndarray, least: float) -> np.ndarray:
    """Return coordinates with one more, in which groups are further apart than any two points or `least`."""
    spread = np.ptp(coordinates, axis=0) if len(coordinates) else np.zeros(coordinates.shape[1])
    distance = 2 * (float(np.linalg.norm(spread)) + least) + 1.0
    return np.column_stack([coordinates, distance * group])


def thin(coordinates: np.ndarray, group: np.ndarray, spacing: float) -> np.ndarray:
    """Return which points to keep: no two of a group closer than `spacing`, none dropped twice as far from all of them.

    Parameters
    ----------
    coordinates : ndarray (n, d)
        Points; earlier ones go first.
    group : int ndarray (n,)
        Only points of one group are compared.
    spacing : float
        Zero keeps all points.

    Returns
    -------
    int ndarray (k,)
        Rising.
    """
    n, d = coordinates.shape
    if n < 2 or spacing <= 0:
        return np.arange(n)
    # One point a cell first, all points of which are close enough: where a thousand starts end at one root, the
    # pairs below would be a million. Cells are told apart by a random sum of 64 bits: two of 1e5 meet once in 1e9 runs.
    side = spacing / np.sqrt(d)
    if np.abs(coordinates).max() < MOST_CELLS * side:
        cells = np.floor(coordinates / side).astype(np.int64).view(np.uint64)
    else:
        # Coordinates do not resolve such cells: only points that are the same share one.
        cells = np.array(coordinates, dtype=np.float64, order="C").view(np.uint64)
    odd = np.random.default_rng(0).integers(0, 2**63, d + 1, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = (cells * odd[:d]).sum(axis=1, dtype=np.uint64) + group.astype(np.uint64) * odd[d]
    first = np.sort(np.unique(mixed, return_index=True)[1])
    pairs = cKDTree(_apart(coordinates[first], group[first], spacing)).query_pairs(spacing, output_type="ndarray")
    return np.asarray(first[_greedy(first.size, pairs)])


def _greedy(n: int, pairs: np.ndarray) -> np.ndarray:
    """Return the points 0 ... n - 1 that are kept if each in turn drops those it is paired with."""
    keep, open_ = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    while pairs.size:
        # Points without an open neighbour before them are kept, and drop all after them.
        ready = open_.copy()
        ready[pairs[:, 1]] = False
        dropped = pairs[ready[pairs[:, 0]], 1]
        keep[dropped] = False
        open_[dropped] = False
        open_ &= ~ready
        pairs = pairs[open_[pairs[:, 0]] & open_[pairs[:, 1]]]
    return np.flatnonzero(keep)


def spacings(coordinates: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Return for each group the largest distance of a point to its nearest neighbour, NaN where there is one point.

    Parameters
    ----------
    coordinates : ndarray (n, d)
    group : int ndarray (n,)
        Numbers from 0 to groups - 1.
    groups : int

    Returns
    -------
    ndarray (groups,)
    """
    result = np.full(groups, np.nan)
    counts = np.bincount(group, minlength=groups)
    several = counts[group] > 1
    if several.any():
        apart = _apart(coordinates[several], group[several], 0.0)
        nearest = cKDTree(apart).query(apart, k=2)[0][:, 1]
        result[counts > 1] = 0.0
        np.maximum.at(result, group[several], nearest)
    return result
