"""Values on a grid as they leave the library: on the host, with the names of their axes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from sepnet.backends.arrays import Array, to_host
from sepnet.bases.checks import real_number
from sepnet.spaces import TensorSpace
from sepnet.version import __version__

if TYPE_CHECKING:
    from xarray import DataArray

__all__ = ["Place", "Samples", "as_dataarray", "check_places", "checked_units", "is_number", "sampled"]

Place: TypeAlias = int | float | Array
"""Where to look on an axis: a number of equispaced points, the points, or the position that fixes the axis."""


class Samples(NamedTuple):
    """Values on a grid of some axes, the others fixed.

    Attributes
    ----------
    values : ndarray, shape (m_1, ..., m_k)
        In the dtype of the function.
    points : dict of str to ndarray, shape (m_i,)
        The points of the axes that vary, in axis order.
    fixed : dict of str to float
        The positions of the others, in axis order.
    """

    values: np.ndarray
    points: dict[str, np.ndarray]
    fixed: dict[str, float]


def is_number(place: object) -> bool:
    """Tell whether a place is a position, which fixes an axis; whole numbers are numbers of points."""
    if isinstance(place, int | np.integer):
        return False
    return isinstance(place, Real) or getattr(place, "shape", None) == ()


def sampled(u: Any, where: Mapping[str, Place], caller: str) -> Samples:
    """Evaluate a function on a grid of some axes, the others fixed, on the host.

    Parameters
    ----------
    u : CP, TensorTrain, Tucker or SNA
        It is moved to the host first, which is less than its values.
    where : mapping of str to int, float or array
        For every axis a number of equispaced points, the points (of any array library), or a position as a float.
    caller : str
        What the messages begin with.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError
        If a place is none of these.
    ValueError
        If an axis is missing or unknown, or a position outside its domain.
    """
    check_places(u.space, where, (), caller)
    host, names = u.to(np), u.space.names
    fixed = {n: real_number(f"{caller}: axis {n!r}", where[n]) for n in names if is_number(where[n])}
    part = host.restrict(**fixed) if fixed else host
    if len(fixed) == len(names):
        return Samples(np.asarray(part), {}, fixed)
    places = {n: where[n] for n in names if n not in fixed}
    points = part.grid(**{n: to_host(p) if hasattr(p, "dtype") else p for n, p in places.items()})
    return Samples(part.on_grid(**points), points, fixed)


def check_places(space: TensorSpace, where: Mapping[str, Place], taken: Collection[str], caller: str) -> None:
    """Raise ValueError unless `where` names all axes of a space and no other, and none has a name that is `taken`."""
    for name in taken:
        if name in space.names:
            msg = (
                f"{caller}: the axis {name!r} has the name of an argument: take the values from u.on_grid(...) instead"
            )
            raise ValueError(msg)
    space.check_axes(where, caller)
    for name, basis in space.items:
        if name not in where:
            middle = float(f"{sum(basis.domain) / 2:.3g}")  # with a decimal point: a whole number is one of points
            msg = (
                f"{caller}: nothing is said about the axis {name!r}: give {name} a number, {name}={middle}, "
                f"or points along it, {name}=64"
            )
            raise ValueError(msg)


def checked_units(space: TensorSpace, units: Mapping[str, str] | None, name: str, caller: str) -> dict[str, str]:
    """Return the units of the axes and of the values, which are called `name`.

    Raises
    ------
    TypeError
        If `name` is no str, or `units` no mapping of str to str.
    ValueError
        If `name` is an axis, or `units` has something that is neither.
    """
    if not isinstance(name, str):
        msg = f"{caller}: `name` is {name!r}, expected a str, e.g. name='temperature'"
        raise TypeError(msg)
    if name in space.names:
        msg = f"{caller}: `name` is {name!r}, which is an axis: give the values another name"
        raise ValueError(msg)
    known = (*space.names, name)
    if units is not None and not isinstance(units, Mapping):
        msg = f"{caller}: `units` is {units!r}, expected a mapping such as {{{space.names[0]!r}: 'm'}}"
        raise TypeError(msg)
    for key, unit in (units or {}).items():
        if key not in known:
            msg = f"{caller}: `units` names {key!r}, expected one of {', '.join(known)}"
            raise ValueError(msg)
        if not isinstance(unit, str):
            msg = f"{caller}: the unit of {key!r} is {unit!r}, expected a str, e.g. 'm'"
            raise TypeError(msg)
    return dict(units or {})


def as_dataarray(u: Any, where: Mapping[str, Place], units: Mapping[str, str] | None, name: str) -> DataArray:
    """Return values on a grid as an `xarray.DataArray`; see `Values.to_xarray`.

    Raises
    ------
    ImportError
        If xarray is not installed.
    TypeError, ValueError
        As `sampled` and `checked_units`.
    """
    try:
        from xarray import DataArray
    except ImportError as error:
        msg = "to_xarray needs xarray, which is not installed: pip install 'sepnet[io]'"
        raise ImportError(msg) from error
    check_places(u.space, where, ("name", "units"), "to_xarray")
    texts = checked_units(u.space, units, name, "to_xarray")
    values, points, fixed = sampled(u, where, "to_xarray")
    coordinates: dict[str, tuple[Any, ...]] = {
        axis: ((axis,), points[axis]) if axis in points else ((), fixed[axis]) for axis in u.space.names
    }
    known = {"format": type(u).__name__, "rank": u.rank, "sepnet_version": __version__}
    return DataArray(
        values,
        {axis: (*entry, _unit(texts, axis)) for axis, entry in coordinates.items()},
        list(points),
        name=name,
        attrs=_unit(texts, name) | known,
    )


def _unit(units: Mapping[str, str], name: str) -> dict[str, Any]:
    return {"units": units[name]} if name in units else {}
