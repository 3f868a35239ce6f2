"""Sections of a function along one axis or two: which axes, at which positions, with which values, drawn how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10
from typing import Any, TypeAlias, final

import numpy as np

from sepnet.backends.arrays import to_host
from sepnet.bases.checks import numbers, real_number
from sepnet.functions.export import checked_units
from sepnet.functions.values import Values
from sepnet.plotting.canvas import bare
from sepnet.spaces import TensorSpace

__all__ = ["POINTS", "Place", "Reference", "Section", "checked_function", "limits_of", "section_of", "split"]

Reference: TypeAlias = "Callable[[np.ndarray], np.ndarray] | Values"
Place: TypeAlias = "float | Sequence[float] | np.ndarray"

POINTS = 121
"""Points per direction of a picture."""


@final
@dataclass(frozen=True)
class Section:
    """The axes drawn with their points, and what the labels say.

    Attributes
    ----------
    grid : dict of str to ndarray, shape (m,)
        One axis, or the horizontal and the vertical one.
    name : str
        What the values are called.
    units : dict of str to str
        Units of axes, and of the values under their name.
    digits : dict of str to int
        Significant digits in which positions on an axis are told: a thousandth of its length is seen.
    """

    grid: dict[str, np.ndarray]
    name: str
    units: dict[str, str]
    digits: dict[str, int]

    def values(self, f: Reference, position: Mapping[str, float], names: Sequence[str]) -> np.ndarray:
        """Return the values on the grid, in its order of axes, the others of `names` fixed."""
        if isinstance(f, Values):
            part: Any = f.to(np)
            part = part.restrict(**position) if position else part
            order = [part.space.names.index(name) for name in self.grid]
            values: np.ndarray = part.on_grid(**self.grid).transpose(order)
            return values
        dense = dict(zip(self.grid, np.meshgrid(*self.grid.values(), indexing="ij"), strict=True))
        shape = tuple(len(v) for v in self.grid.values())
        columns = [dense[name] if name in dense else np.full(shape, position[name]) for name in names]
        points = np.stack(columns, axis=-1).reshape(-1, len(names))
        return np.asarray(f(points), dtype=np.float64).reshape(shape)

    def label(self, name: str) -> str:
        """Return the label of an axis, or of the values, with the unit."""
        return f"{name} [{self.units[name]}]" if name in self.units else name

    def positions(self, where: Mapping[str, float]) -> str:
        """Return positions as one reads them, with their units."""
        return ", ".join(f"{n} = {v:.{self.digits[n]}g} {self.units.get(n, '')}".rstrip() for n, v in where.items())

    @property
    def ratio(self) -> float:
        """Height of a panel over its width."""
        if len(self.grid) == 1:
            return 0.8
        across, up = (float(v[-1] - v[0]) for v in self.grid.values())
        return 1.0 if 0.5 < up / across < 2.0 else 0.8

    def curve(self, panel: Any, value: np.ndarray, limits: tuple[float, float], **options: Any) -> None:
        """Draw values along one axis into a panel."""
        (across,) = self.grid.values()
        room = 0.04 * (limits[1] - limits[0])
        panel.plot(across, value, linewidth=1.6, **options)
        panel.set(xlim=(across[0], across[-1]), ylim=(limits[0] - room, limits[1] + room))
        panel.locator_params(axis="x", nbins=5)
        bare(panel)

    def image(
        self,
        panel: Any,
        value: np.ndarray,
        limits: tuple[float, float],
        colours: str = "viridis",
        *,
        lines: bool = True,
        smooth: bool = False,
    ) -> Any:
        """Draw values along two axes into a panel, with level lines, and return the image."""
        across, up = self.grid.values()
        half = ((across[1] - across[0]) / 2, (up[1] - up[0]) / 2)  # the values belong to the middles of the pixels
        extent = (across[0] - half[0], across[-1] + half[0], up[0] - half[1], up[-1] + half[1])
        aspect = "equal" if self.ratio == 1.0 else "auto"
        options = {"origin": "lower", "extent": extent, "cmap": colours, "aspect": aspect, "interpolation": "nearest"}
        if smooth:  # large panels; in small ones a pixel of the file is about a point, and the file smaller
            options["interpolation"] = "bilinear"
        image = panel.imshow(value.T, vmin=limits[0], vmax=limits[1], **options)
        if lines:
            span = limits[1] - limits[0]
            levels = limits[0] + np.array([0.1, 0.3, 0.5, 0.7, 0.9]) * span
            levels = levels[np.abs(levels) > 1e-6 * span]  # where a function vanishes, its zero line is round-off
            if value.max() > levels[0] and value.min() < levels[-1] and np.ptp(value) > 1e-6 * span:
                panel.contour(across, up, value.T, levels=levels, colors="white", linewidths=0.7, alpha=0.8)
        panel.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
        panel.tick_params(labelsize=8)
        panel.locator_params(nbins=6)
        return image


def section_of(
    space: TensorSpace,
    drawn: tuple[str | None, str | None],
    given: Sequence[str],
    caller: str,
    *,
    window: Mapping[str, tuple[float, float]] | None = None,
    name: str = "u",
    units: Mapping[str, str] | None = None,
) -> Section:
    """Return the section along the axes `drawn`, where None stands for the first axis without a position.

    Raises
    ------
    TypeError
        If a name is no str.
    ValueError
        If an axis is unknown, drawn twice, drawn and fixed, or neither, or a window is none or leaves the domain.
    """
    if window is not None and not isinstance(window, Mapping):
        msg = f"{caller}: `window` is {window!r}, expected a mapping such as {{{space.names[0]!r}: (0, 1)}}"
        raise TypeError(msg)
    named = [axis for axis in drawn if axis is not None]
    space.check_axes([*named, *given], caller)
    if len(set(named)) < len(named):
        msg = f"{caller}: `x` and `y` are both {named[0]!r}, expected two axes, or `x` alone for curves"
        raise ValueError(msg)
    for axis in named:
        if axis in given:
            msg = f"{caller}: a position is given for the axis {axis!r}, which is drawn: leave it out"
            raise ValueError(msg)
    left = [axis for axis in space.names if axis not in given and axis not in named]
    axes = [axis or (left.pop(0) if left else None) for axis in drawn]
    points = POINTS if None not in axes else 4 * POINTS  # a curve is seen more closely than an image
    grid = {axis: _line(space, axis, window or {}, points, caller) for axis in axes if axis is not None}
    if left:
        middle = float(f"{sum(space.axes[left[0]].domain) / 2:.3g}")
        msg = f"{caller}: the axis {left[0]!r} has no position: give {left[0]} a number, at={{{left[0]!r}: {middle}}}"
        raise ValueError(msg)
    if not grid:
        msg = f"{caller}: all axes have a position, nothing is left to draw: take one or two out of `at`"
        raise ValueError(msg)
    for axis in window or {}:
        if axis not in grid:
            msg = f"{caller}: `window` names {axis!r}, expected one of the axes drawn, {', '.join(grid)}"
            raise ValueError(msg)
    digits = {}
    for axis, basis in space.items:
        low, high = basis.domain
        digits[axis] = 3 + max(0, ceil(log10(max(abs(low), abs(high)) / (high - low))))
    return Section(grid, name, checked_units(space, units, name, caller), digits)


def checked_function(u: object, caller: str) -> Values:
    """Return `u`; raise TypeError unless it is a function that can be drawn."""
    if not isinstance(u, Values):
        hint = ", whose function of the computational coordinates is its `.u`" if hasattr(u, "map") else ""
        msg = f"{caller}: `u` is {type(u).__name__}{hint}, expected a function such as solution.u"
        raise TypeError(msg)
    return u


def _line(
    space: TensorSpace, axis: str, window: Mapping[str, tuple[float, float]], points: int, caller: str
) -> np.ndarray:
    least, most = space.axes[axis].domain
    ends = numbers(f"{caller}: the window of the axis {axis!r}", window.get(axis, (least, most)))
    if ends.shape != (2,) or not least <= ends[0] < ends[1] <= most:
        msg = (
            f"{caller}: the window of the axis {axis!r} is {window[axis]}, expected two rising numbers in its domain "
            f"[{least:g}, {most:g}]"
        )
        raise ValueError(msg)
    low, high = ends
    return np.linspace(low, high, points)


def split(at: Mapping[str, Place] | None, caller: str) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the axes that have one position, and those that have several.

    Raises
    ------
    TypeError
        If a position is no number.
    ValueError
        If several are no list of at least one.
    """
    if at is not None and not isinstance(at, Mapping):
        msg = f"{caller}: `at` is {at!r}, expected a mapping of axes to positions such as {{'t': 0.5}}"
        raise TypeError(msg)
    fixed: dict[str, float] = {}
    several: dict[str, np.ndarray] = {}
    for name, place in (at or {}).items():
        what = f"{caller}: the position on axis {name!r}"
        if getattr(place, "ndim", 0) > 0 or isinstance(place, list | tuple | range):
            values = numbers(what, to_host(place) if hasattr(place, "dtype") else list(place))  # type: ignore[arg-type]
            if values.ndim != 1 or not values.size:
                msg = f"{what} has shape {values.shape}, expected a number, or a list of them"
                raise ValueError(msg)
            several[name] = values
        else:
            fixed[name] = real_number(what, place)
    return fixed, several


def limits_of(values: Sequence[np.ndarray], caller: str) -> tuple[float, float]:
    """Return the least and the largest of all values; what is constant up to round-off gets room to both sides.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    if not np.isfinite(low + high):
        msg = f"{caller}: a value is not finite: check where the function comes from"
        raise ValueError(msg)
    largest = max(abs(low), abs(high))
    # A constant in a spline basis comes out to a few units of round-off.
    if high - low <= 64 * float(np.finfo(values[0].dtype).eps) * largest:
        room = 0.05 * (largest or 1.0)
        return low - room, high + room
    return low, high
