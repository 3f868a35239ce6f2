"""From what scikit-learn's estimators are given to what a fit takes: names of axes, seeds, and rows in one order.

This module needs scikit-learn; `import sepnet` does not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

try:
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length, validate_data
except ImportError as error:
    msg = f"the estimators of sepnet need scikit-learn ({error}): pip install 'sepnet[sklearn]'"
    raise ImportError(msg) from error

from sepnet.bases.bspline import BSpline
from sepnet.solvers.fit_arrays import unmasked
from sepnet.spaces import TensorSpace

__all__ = ["Rows", "axis_names", "merged", "real_targets", "seed_of", "weighted_rows"]

_SEEDS = 2**31 - 1


class Rows(NamedTuple):
    """Samples: points (n, d), targets (n,) or (n, m), and weights (n,), all positive."""

    points: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


def weighted_rows(estimator: Any, X: Any, y: np.ndarray, sample_weight: Any, *, reset: bool) -> Rows:
    """Check points and weights, and leave out rows of weight zero.

    Parameters
    ----------
    estimator : estimator
        Notes the number and the names of the columns if `reset`, and is held to them otherwise.
    X : array-like of shape (n, d)
    y : ndarray of shape (n,) or (n, m)
        Checked targets.
    sample_weight : array-like of shape (n,) or None
    reset : bool

    Returns
    -------
    Rows
        In float64.

    Raises
    ------
    ValueError
        If points are not finite, lengths do not agree, or weights are negative, not finite, or all zero.
    """
    points = validate_data(estimator, unmasked(X), dtype=np.float64, reset=reset)
    check_consistent_length(points, y)
    weights = _check_sample_weight(unmasked(sample_weight), points, dtype=np.float64)
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        msg = f"`sample_weight` is {weights[row]} in row {row}, expected numbers >= 0: leave the row out"
        raise ValueError(msg)
    used = weights > 0
    if not used.any():
        msg = "`sample_weight` is zero in every row, expected a positive one: no sample is left to fit"
        raise ValueError(msg)
    return Rows(points, y, weights) if used.all() else Rows(points[used], y[used], weights[used])


def real_targets(y: Any, *, estimator: Any) -> np.ndarray:
    """Return real targets (n,) or (n, m) in float64; NaN where one is missing.

    Raises
    ------
    ValueError
        If they are missing altogether, not numbers, infinite, or of another shape.
    """
    if y is None:
        msg = (
            f"{type(estimator).__name__} requires y to be passed, but the target y is None: "
            "give one target, or one row of targets, for each row of X"
        )
        raise ValueError(msg)
    targets = check_array(
        unmasked(y), dtype=np.float64, ensure_2d=False, ensure_all_finite="allow-nan", input_name="y",
        estimator=estimator,
    )  # fmt: skip
    if targets.ndim != 1 and (targets.ndim != 2 or targets.shape[1] == 0):
        msg = f"`y` has shape {targets.shape}, expected (n,) or (n, outputs)"
        raise ValueError(msg)
    return np.asarray(targets)


def merged(rows: Rows) -> Rows:
    """Return rows in lexicographic order, equal ones as one row of their total weight.

    What is fitted is then the same for every order of the rows, and for a row of weight two or the row twice: starts
    and the samples that are held back are drawn by number, and would differ otherwise. Besides, a row and its copy
    never stand on both sides of a split.
    """
    targets = rows.targets.reshape(len(rows.targets), -1)
    table = np.concatenate([rows.points, targets], axis=1)
    table += 0.0  # -0.0 is 0.0
    order = np.lexsort(table.T[::-1])
    table = table[order]
    both_missing = np.isnan(table[1:]) & np.isnan(table[:-1])
    new = np.concatenate([[True], ((table[1:] != table[:-1]) & ~both_missing).any(axis=1)])
    # sums of equal rows in rising order of the weights, or their round-off would depend on the order of the rows
    groups = np.cumsum(new) - 1
    weights = rows.weights[order]
    weights = np.bincount(groups, weights=weights[np.lexsort((weights, groups))])
    points, targets = np.split(table[new], [rows.points.shape[1]], axis=1)
    return Rows(np.ascontiguousarray(points), targets.reshape(-1, *rows.targets.shape[1:]), weights)


def axis_names(columns: Any, count: int) -> tuple[str, ...]:
    """Return the names of the axes: those of the columns where they can be names of axes, and ``x0, x1, ...``.

    Parameters
    ----------
    columns : sequence of str or None
        Names of the columns of a data frame.
    count : int
        Number of columns.

    Returns
    -------
    tuple of str
        All different, and none is ``output``, the axis of several outputs.
    """
    usual = tuple(f"x{i}" for i in range(count))
    if columns is None:
        return usual
    names = tuple(str(c) if _is_name(str(c)) else x for c, x in zip(columns, usual, strict=True))
    return names if len(set(names)) == count else usual


def _is_name(name: str) -> bool:
    """Whether a space takes an axis of this name: its own rules, by asking it."""
    try:
        TensorSpace(**{name: BSpline((0.0, 1.0), cells=1, degree=1)})
    except ValueError:
        return False
    return name != "output"


def seed_of(random_state: Any) -> int:
    """Return the seed of a fit: a whole number is itself one, all else is drawn from.

    Raises
    ------
    ValueError
        If `random_state` is none of the kinds that scikit-learn takes, or negative.
    """
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        return int(random_state)
    return int(check_random_state(random_state).randint(_SEEDS))
