"""Pictures of functions, alone or beside a reference: slices and cuts through the box."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sepnet.functions.values import Values
from sepnet.plotting.canvas import captioned, new_figure, panel_rows
from sepnet.plotting.sections import Place, Reference, Section, checked_function, limits_of, section_of, split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cut", "slices"]

_Track: TypeAlias = Callable[[Mapping[str, float]], tuple[np.ndarray, np.ndarray]]
_Positions: TypeAlias = Sequence[Mapping[str, float]]

_ACROSS = 5  # panels in a row


def slices(
    u: Values,
    reference: Reference | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, Place] | None = None,
    window: Mapping[str, tuple[float, float]] | None = None,
    name: str = "u",
    units: Mapping[str, str] | None = None,
    track: _Track | None = None,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Draw slices over two axes for several positions of a third and a fourth, in one scale of colours.

    Positions of the first axis that has several change from column to column, those of the second from row to row. With
    a reference the rows are solution, reference and difference. Where one axis alone is left to draw there are curves:
    the positions of the first axis in one panel, those of the second from panel to panel.

    Parameters
    ----------
    u : CP, TensorTrain, Tucker or SNA
        The function.
    reference : callable or function, optional
        What to compare with: host points (n, d) to values (n,).
    x, y : str, optional
        The axes drawn, horizontal and vertical; by default the first ones that have no position.
    at : mapping of str to float or sequence of float, optional
        Positions of all other axes; several for up to two of them, with a reference for one.
    window : mapping of str to (float, float), optional
        Part of an axis to draw; the whole by default.
    name : str, optional
        What the values are called.
    units : mapping of str to str, optional
        Units of axes, and of the values under their name.
    track : callable, optional
        From the positions of a slice to a curve (horizontal, vertical) that something has gone so far; its end is
        marked.
    title, caption : str, optional
        Lines above and below.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If a position is no number.
    ValueError
        If an axis is unknown, drawn twice or without position, too many have several, or a value is not finite.

    Examples
    --------
    >>> import sepnet as sn
    >>> from sepnet.models import vsna
    >>> case = vsna.heat()
    >>> u = sn.solve(case.problem, rank=12).u
    >>> figure = sn.plot.slices(u, x="x", y="kappa", at={"t": [0, 0.5, 1]}, units={"t": "s"})
    >>> sn.plot.save(figure, "heat.png")
    >>> curves = sn.plot.slices(u, x="x", at={"t": [0, 0.5, 1], "kappa": 0.05})
    >>> compared = sn.plot.slices(u, case.reference, x="x", y="kappa", at={"t": [0, 0.5, 1]})
    """
    u = checked_function(u, "plot.slices")
    fixed, several = split(at, "plot.slices")
    given = [*fixed, *several]
    section = section_of(u.space, (x, y), given, "plot.slices", window=window, name=name, units=units)
    most = 2 if reference is None else 1
    if len(several) > most:
        msg = (
            f"plot.slices: `at` has several positions on the axes {', '.join(several)}, expected at most {most} such "
            f"{'axes' if most > 1 else 'axis'}: give {list(several)[-1]} a number"
        )
        raise ValueError(msg)
    sides: list[_Positions] = [[{axis: float(v)} for v in values] for axis, values in several.items()]
    columns, rows = [*sides, [{}], [{}]][:2]
    if len(section.grid) == 1:
        if reference is not None:
            msg = "plot.slices: one axis is left to draw, expected two beside a reference: use plot.cut for curves"
            raise ValueError(msg)
        figure = _curves(u, section, fixed, columns, rows)
    elif reference is not None:
        figure = _compared(u, reference, section, fixed, columns, track)
    else:
        figure = _images(u, section, fixed, columns, rows, track)
    captioned(figure, title, caption)
    return figure


def _images(
    u: Values,
    section: Section,
    fixed: Mapping[str, float],
    columns: _Positions,
    rows: _Positions,
    track: _Track | None,
) -> Figure:
    """Draw the function alone; a single long row is broken."""
    positions = [{**fixed, **column, **row} for row in rows for column in columns]
    values = [section.values(u, position, u.space.names) for position in positions]
    limits = limits_of(values, "plot.slices")
    across = min(len(columns), _ACROSS) if len(rows) == 1 else len(columns)
    single, up = len(values) == 1, ceil(len(values) / across)
    figure = new_figure(6.2, 5.0) if single else new_figure(2.6 * across + 1.4, 2.35 * section.ratio * up + 0.8)
    panels = panel_rows(figure, len(values), across, sharex=True, sharey=True)
    horizontal, vertical = map(section.label, section.grid)
    for k, (panel, value, position) in enumerate(zip(panels, values, positions, strict=True)):
        image = section.image(panel, value, limits, smooth=single)
        panel.locator_params(nbins=6 if single else 4)
        if track is not None:
            _track(panel, *track(position), dark=False)
        if len(rows) == 1 or k < across:
            panel.set_title(section.positions(columns[k % len(columns)]), fontsize=12)
        if k % across == 0:
            row = section.positions(rows[k // across] if len(rows) > 1 else {})
            panel.set_ylabel(f"{row}\n\n{vertical}" if row else vertical, fontsize=11)
        if k + across >= len(values):  # the lowest panel of its column
            panel.set_xlabel(horizontal, fontsize=11)
            panel.tick_params(labelbottom=True)
    bar = figure.colorbar(image, ax=panels, pad=0.01, fraction=0.05 if single else 0.02, aspect=18 * up)
    bar.set_label(section.label(section.name), fontsize=11)
    return figure


def _compared(
    u: Values,
    reference: Reference,
    section: Section,
    fixed: Mapping[str, float],
    columns: _Positions,
    track: _Track | None,
) -> Figure:
    """Draw solution, reference and difference in rows, or side by side where there is one position."""
    positions = [{**fixed, **column} for column in columns]
    mine, theirs = ([section.values(f, p, u.space.names) for p in positions] for f in (u, reference))
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    scale = limits_of(theirs, "plot.slices")
    largest = max(float(np.abs(v).max()) for v in differences) or 1.0
    single = len(columns) == 1
    figure = new_figure(13.0, 4.6) if single else new_figure(2.6 * len(columns) + 1.4, 7.8 * section.ratio + 1.4)
    axes = figure.subplots(*((1, 3) if single else (3, len(columns))), sharex=True, sharey=True, squeeze=False)
    axes = axes.T if single else axes
    horizontal, vertical = map(section.label, section.grid)
    sets = [("solution", mine, scale, "viridis"), ("reference", theirs, scale, "viridis")]
    sets.append(("difference", differences, (-largest, largest), "RdBu_r"))
    for row, (label, values, limits, colours) in zip(axes, sets, strict=True):
        for panel, value, position in zip(row, values, positions, strict=True):
            image = section.image(panel, value, limits, colours, lines=label != "difference", smooth=single)
            if track is not None:
                _track(panel, *track(position), dark=label == "difference")
        row[0].set_ylabel(vertical if single else f"{label}\n\n{vertical}", fontsize=11)
        if single:
            row[0].set_title(label, fontsize=12)
        figure.colorbar(image, ax=list(row), pad=0.01, fraction=0.05 if single else 0.02, aspect=18)
    if not single:
        for panel, column in zip(axes[0], columns, strict=True):
            panel.set_title(section.positions(column), fontsize=12)
    for panel in axes.T[0] if single else axes[-1]:
        panel.set_xlabel(horizontal, fontsize=11)
    return figure


def _curves(u: Values, section: Section, fixed: Mapping[str, float], lines: _Positions, panels: _Positions) -> Figure:
    """Draw curves along one axis, dark to light."""
    from matplotlib import colormaps

    values = [[section.values(u, {**fixed, **line, **panel}, u.space.names) for line in lines] for panel in panels]
    limits = limits_of([value for row in values for value in row], "plot.slices")
    across = min(len(panels), _ACROSS)
    figure = new_figure(max(3.2 * across, 5.2) + 1.2, 3.2 * ceil(len(panels) / across) + 0.6)
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(lines)))
    places = panel_rows(figure, len(panels), across, sharex=True, sharey=True)
    for k, (place, row, panel) in enumerate(zip(places, values, panels, strict=True)):
        for value, line, colour in zip(row, lines, colours, strict=True):
            section.curve(place, value, limits, color=colour, label=section.positions(line))
        place.set_title(section.positions(panel), fontsize=12)
        if k % across == 0:
            place.set_ylabel(section.label(section.name), fontsize=11)
        if k + across >= len(panels):
            place.set_xlabel(section.label(next(iter(section.grid))), fontsize=11)
            place.tick_params(labelbottom=True)
    if len(lines) > 1:
        figure.legend(*places[0].get_legend_handles_labels(), frameon=False, loc="outside right upper", fontsize=9)
    return figure


def _track(panel: Any, across: np.ndarray, up: np.ndarray, *, dark: bool) -> None:
    colour = "black" if dark else "#ff9d3b"
    panel.plot([0], [0], marker="+", color=colour, markersize=9, markeredgewidth=1.2)
    panel.plot([0, across[0]], [0, up[0]], color=colour, linewidth=0.8, linestyle=":")
    panel.plot([0, across[-1]], [0, up[-1]], color=colour, linewidth=0.8)
    panel.plot(across, up, color=colour, linewidth=1.8)
    panel.plot(across[:1], up[:1], marker="o", markersize=5, markerfacecolor="none", color=colour)
    panel.plot(across[-1:], up[-1:], marker="o", markersize=5, color=colour)


def cut(
    u: Values,
    reference: Reference,
    *,
    axis: str,
    at: Mapping[str, float] | None = None,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Draw a cut along one axis: solution and reference above, their difference below.

    Parameters
    ----------
    u, reference, title, caption
        As in `slices`.
    axis : str
        The axis along which to cut.
    at : mapping of str to float, optional
        Positions of all other axes.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If a position is no number.
    ValueError
        If an axis is unknown, or another one is left without a position.
    """
    u = checked_function(u, "plot.cut")
    fixed, several = split(at, "plot.cut")
    section = section_of(u.space, (axis, None), [*fixed, *several], "plot.cut")
    if several or len(section.grid) > 1:
        other = next(iter(several)) if several else list(section.grid)[1]
        msg = f"plot.cut: the axis {other!r} has not one position: give {other} a number in `at`"
        raise ValueError(msg)
    mine, theirs = (section.values(f, fixed, u.space.names) for f in (u, reference))
    across = section.grid[axis]
    figure = new_figure(7.0, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    above.plot(across, mine, label="solution", linewidth=2)
    above.plot(across, theirs, label="reference", linestyle="--", color="black", linewidth=1)
    above.legend()
    below.plot(across, mine - theirs, color="tab:red", linewidth=1)
    below.set_ylabel("difference")
    below.set_xlabel(axis)
    captioned(figure, title, caption)
    return figure
