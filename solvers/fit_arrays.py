"""Rows of samples: what users pass as arrays, checked and in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sepnet.backends.arrays import Array, device_of, from_host, library_name, namespace, to_host

__all__ = ["Rows", "check_shapes", "counting", "cut", "joined", "numbers_of", "rows_of", "unmasked"]


class Rows(NamedTuple):
    """Some rows: points (n, d), targets (n, outputs), NaN where missing, and weights (n,), all of them float64.

    `dtype` names the dtype that the points came in, float64 for integers.
    """

    points: Array
    targets: Array
    weights: Array
    dtype: str


def unmasked(values: Any) -> Any:
    """Return a masked array as one with NaN where the mask is set, and everything else as it is.

    NumPy's functions drop masks without a word, and what lies under a mask is any number.
    """
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if not np.ma.is_masked(values):
        return values.data
    filled = np.array(values.data, dtype=np.result_type(values.dtype, np.float16))
    filled[np.ma.getmaskarray(values)] = np.nan
    return filled


def numbers_of(values: Any, name: str) -> Array:
    """Return what a user passes as an array of numbers, of the library that it is of.

    Parameters
    ----------
    values : array, or array-like
        Lists, data frames and HDF5 datasets become NumPy arrays; what is masked in them or None is NaN.
    name : str
        Of the argument, for messages.

    Raises
    ------
    TypeError
        If these are no real numbers.
    """
    values = unmasked(values)
    if not _is_array(values):
        try:
            array = np.asarray(values)
            if array.dtype.kind == "O":
                array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            msg = f"`{name}` is {type(values).__name__}, expected an array of real numbers ({error}): encode it first"
            raise TypeError(msg) from error
        values = array
    if not namespace(values).isdtype(values.dtype, ("real floating", "integral", "bool")):
        msg = f"`{name}` has dtype {values.dtype}, expected real numbers: encode it first"
        raise TypeError(msg)
    return values


def _is_array(values: Any) -> bool:
    try:
        namespace(values)
    except TypeError:
        return False
    return not isinstance(values, np.matrix)


def check_shapes(X: Any, y: Any, weights: Any) -> None:
    """Raise ValueError unless the shapes are (n, d), (n,) or (n, outputs), and (n,)."""
    points, targets = tuple(X.shape), tuple(y.shape)
    agree = len(points) == 2 and len(targets) in (1, 2) and points[0] == targets[0]
    if not agree or 0 in points[1:] + targets[1:]:
        msg = (
            f"`X` has shape {points} and `y` {targets}, expected (n, d) and (n,) or (n, outputs), with one column at "
            "least: give as many points as targets"
        )
        raise ValueError(msg)
    if weights is not None and tuple(weights.shape) != points[:1]:
        msg = f"`weights` has shape {tuple(weights.shape)}, expected ({points[0]},), one for each sample"
        raise ValueError(msg)


def rows_of(X: Any, y: Any, weights: Any = None) -> Rows:
    """Return rows in float64, in the namespace of the points.

    Parameters
    ----------
    X : array-like of shape (n, d)
    y : array-like of shape (n,) or (n, outputs)
    weights : array-like of shape (n,), optional

    Raises
    ------
    TypeError
        If these are no real numbers.
    ValueError
        If shapes do not agree.
    """
    X = numbers_of(X, "X")
    xp, device = namespace(X), device_of(X)

    def moved(values: Any, name: str) -> Array:
        array = numbers_of(values, name)
        if library_name(namespace(array)) != library_name(xp):
            array = from_host(to_host(array), xp, device=device)
        return xp.astype(array, xp.float64)

    points, targets = xp.astype(X, xp.float64), moved(y, "y")
    w = None if weights is None else moved(weights, "weights")
    check_shapes(points, targets, w)
    if w is None:
        w = xp.ones((points.shape[0],), dtype=xp.float64, device=device)
    dtype = "float32" if X.dtype == xp.float32 else "float64"
    return Rows(points, targets[:, None] if targets.ndim == 1 else targets, w, dtype)


def counting(rows: Rows, before: int | None = None) -> Rows:
    """Return the rows that count, which have a weight and a target: all others might as well not be there.

    Parameters
    ----------
    rows : Rows
    before : int, optional
        Check the rows; their numbers in messages begin with this one.

    Raises
    ------
    ValueError
        If weights are negative or not finite, or in rows that count points are not finite or targets infinite.
    """
    xp = namespace(rows.points)
    if before is not None:
        weights = to_host(rows.weights)
        wrong = ~np.isfinite(weights) | (weights < 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            msg = f"`weights` are not finite numbers >= 0: {weights[row]} in row {before + row}"
            raise ValueError(msg)
    here = (rows.weights != 0.0) & ~xp.all(xp.isnan(rows.targets), axis=1)
    if before is not None:
        _check(to_host(rows.points), to_host(rows.targets), to_host(here), before)
    if bool(xp.all(here)):
        return rows
    chosen = xp.nonzero(here)[0]
    points, targets, weights = (xp.take(a, chosen, axis=0) for a in rows[:3])
    return Rows(points, targets, weights, rows.dtype)


def _check(points: np.ndarray, targets: np.ndarray, here: np.ndarray, before: int) -> None:
    bad = ~np.isfinite(points) & here[:, None]
    if bad.any():
        row, column = np.argwhere(bad)[0]
        msg = f"`X` has {points[row, column]} in row {before + row}, column {column}: drop the row or fill the value in"
        raise ValueError(msg)
    bad = np.isinf(targets) & here[:, None]
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        msg = f"`y` has an infinity in row {before + row}: a missing target is NaN"
        raise ValueError(msg)


def joined(rows: list[Rows]) -> Rows:
    """Return rows one after the other."""
    if len(rows) == 1:
        return rows[0]
    xp = namespace(rows[0].points)
    points, targets, weights = (xp.concat([r[k] for r in rows], axis=0) for k in range(3))
    return Rows(points, targets, weights, rows[0].dtype)


def cut(rows: Rows, part: slice) -> Rows:
    """Return some of the rows."""
    return Rows(rows.points[part, ...], rows.targets[part, ...], rows.weights[part], rows.dtype)
