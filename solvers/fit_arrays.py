"""Rows of samples: what users pass as arrays, checked and in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sepnet.backends.arrays import Array, describe, device_of, from_host, is_torch, library_name, namespace, to_host
from sepnet.solvers.fit_algebra import flat

__all__ = [
    "Rows",
    "beside",
    "check_shapes",
    "counting",
    "cut",
    "is_array",
    "joined",
    "numbers_of",
    "rows_of",
    "unmasked",
]


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
    if not is_array(values):
        try:
            array = np.asarray(values)
            if array.dtype.kind == "O":
                array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            msg = f"`{name}` is {type(values).__name__}, expected an array of real numbers ({error}): encode it first"
            raise TypeError(msg) from error
        values = array
    xp = namespace(values)
    if not xp.isdtype(values.dtype, ("real floating", "integral", "bool")):
        msg = f"`{name}` has dtype {values.dtype}, expected real numbers: encode it first"
        raise TypeError(msg)
    # Torch would record all steps of a fit, and keep for them what every pass over the samples makes.
    return values.detach() if is_torch(xp) else values


def is_array(values: Any) -> bool:
    """Tell whether this is an array of some library, and no NumPy matrix."""
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


def beside(array: Array, points: Array, name: str) -> Array:
    """Return an array where points live; that of another library is moved there.

    Raises
    ------
    TypeError
        If it is of the same library, but on another device.
    """
    xp, device = namespace(points), device_of(points)
    if library_name(namespace(array)) != library_name(xp):
        return from_host(to_host(array), xp, device=device)
    if device_of(array) != device:
        msg = f"`{name}` is {describe(array)}, `X` is {describe(points)}: move one of them to the other's device"
        raise TypeError(msg)
    return array


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
        If these are no real numbers, or on several devices.
    ValueError
        If shapes do not agree.
    """
    X = numbers_of(X, "X")
    xp, device = namespace(X), device_of(X)

    def moved(values: Any, name: str) -> Array:
        return xp.astype(beside(numbers_of(values, name), X, name), xp.float64)

    points, targets = xp.astype(X, xp.float64), moved(y, "y")
    w = None if weights is None else moved(weights, "weights")
    check_shapes(points, targets, w)
    if w is None:
        w = xp.ones((points.shape[0],), dtype=xp.float64, device=device)
    dtype = "float32" if X.dtype == xp.float32 else "float64"
    return Rows(points, targets[:, None] if targets.ndim == 1 else targets, w, dtype)


def counting(rows: Rows, before: int | None = None) -> Rows:
    """Return the rows that count, which have a weight and a target: all others might as well not be there.

    The rows are looked at where they live; only of one that is refused is a number read.

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
    xp, weights = namespace(rows.points), rows.weights
    if before is not None:
        row = _first(~xp.isfinite(weights) | (weights < 0))
        if row is not None:
            msg = f"`weights` are not finite numbers >= 0: {float(weights[row])} in row {before + row}"
            raise ValueError(msg)
    here = (weights != 0.0) & ~xp.all(xp.isnan(rows.targets), axis=1)
    if before is not None:
        _check(rows, here, before)
    if bool(xp.all(here)):
        return rows
    chosen = xp.nonzero(here)[0]
    points, targets, weights = (xp.take(a, chosen, axis=0) for a in rows[:3])
    return Rows(points, targets, weights, rows.dtype)


def _check(rows: Rows, here: Array, before: int) -> None:
    xp = namespace(here)
    bad = _first(~xp.isfinite(rows.points) & here[:, None])
    if bad is not None:
        row, column = divmod(bad, int(rows.points.shape[1]))
        number = float(rows.points[row, column])
        msg = f"`X` has {number} in row {before + row}, column {column}: drop the row or fill the value in"
        raise ValueError(msg)
    bad = _first(xp.isinf(rows.targets) & here[:, None])
    if bad is not None:
        row = bad // int(rows.targets.shape[1])
        msg = f"`y` has an infinity in row {before + row}: a missing target is NaN"
        raise ValueError(msg)


def _first(wrong: Array) -> int | None:
    """Return the place of the first True in an array, counted as in a vector, or None."""
    xp = namespace(wrong)
    return int(xp.argmax(xp.astype(flat(wrong), xp.uint8))) if bool(xp.any(wrong)) else None


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
