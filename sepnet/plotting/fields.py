"""Pictures of solutions beside a reference: slices and cuts through the box."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sepnet.backends.arrays import to_host
from sepnet.functions.base import SeparableFunction
from sepnet.models.gallery_problem import GalleryProblem
from sepnet.models.gallery_transport import path as turned
from sepnet.plotting.canvas import captioned, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cut", "gallery_figure", "slices", "slices_over_time"]

_Reference: TypeAlias = "Callable[[np.ndarray], np.ndarray] | SeparableFunction"

_POINTS = 121  # per direction of a picture


def slices_over_time(
    u: SeparableFunction,
    reference: _Reference,
    *,
    times: int | Sequence[float] = 5,
    time: str = "t",
    **options: Any,
) -> Figure:
    """Draw slices at several times: solution, reference and difference in rows, times in columns.

    Parameters
    ----------
    u : SeparableFunction
        The function.
    reference : callable or SeparableFunction
        What to compare with: host points (n, d) to values (n,).
    times : int or sequence of float, optional
        Number of times from the first to the last, or the times.
    time : str, optional
        The axis along which to go; any axis will do.
    **options
        As in `slices`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If an axis is unknown or its values are missing.

    Examples
    --------
    >>> import sepnet as sn
    >>> from sepnet.models import vsna
    >>> case = vsna.heat()
    >>> u = sn.solve(case.problem, rank=12).u
    >>> figure = sn.plot.slices_over_time(u, case.reference, plane=("x", "kappa"), times=3)
    >>> sn.plot.save(figure, "heat.png")
    """
    u.space.check_axes([time], "`time`")
    low, high = u.space.axes[time].domain
    positions = np.linspace(low, high, times) if isinstance(times, int) else np.asarray(times, dtype=np.float64)
    return slices(u, reference, columns=[{time: float(p)} for p in positions], **options)


def slices(
    u: SeparableFunction,
    reference: _Reference,
    *,
    plane: tuple[str, str] = ("x", "y"),
    columns: Sequence[Mapping[str, float]] = ({},),
    at: Mapping[str, float] | None = None,
    window: Mapping[str, tuple[float, float]] | None = None,
    track: Callable[[Mapping[str, float]], tuple[np.ndarray, np.ndarray]] | None = None,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Draw plane slices: rows solution, reference and difference, one column for each position.

    Parameters
    ----------
    u : SeparableFunction
        The function.
    reference : callable or SeparableFunction
        What to compare with: host points (n, d) to values (n,).
    plane : tuple of two str, optional
        The axes drawn, horizontal and vertical.
    columns : sequence of mapping, optional
        For each column the positions of the axes that change from column to column; they make its title.
    at : mapping of str to float, optional
        Positions of the other axes; the middle by default.
    window : mapping of str to (float, float), optional
        Part of an axis of the plane to draw; the whole by default.
    track : callable, optional
        From the positions to a curve (horizontal, vertical) that something has gone so far; its end is marked.
    title, caption : str, optional
        Lines above and below.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If an axis is unknown.
    """
    fixed = [_positions(u, plane, {**(at or {}), **column}) for column in columns]
    grid = {name: np.linspace(*(window or {}).get(name, u.space.axes[name].domain), _POINTS) for name in plane}
    mine = [_slice(u, grid, position) for position in fixed]
    theirs = [_slice(reference, grid, position, u.space.names) for position in fixed]
    single = len(fixed) == 1  # the three pictures then stand side by side
    figure = new_figure(13.0, 4.6) if single else new_figure(2.6 * len(fixed) + 1.4, 7.8 * _ratio(grid) + 1.4)
    axes = figure.subplots(*((1, 3) if single else (3, len(fixed))), sharex=True, sharey=True, squeeze=False)
    axes = axes.T if single else axes
    scale = (min(float(np.min(v)) for v in theirs), max(float(np.max(v)) for v in theirs))
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    largest = max(float(np.abs(v).max()) for v in differences) or 1.0
    rows = [("solution", mine, scale, "viridis"), ("reference", theirs, scale, "viridis")]
    rows.append(("difference", differences, (-largest, largest), "RdBu_r"))
    for row, (label, values, (low, high), colours) in zip(axes, rows, strict=True):
        for panel, value, position in zip(row, values, fixed, strict=True):
            image = _panel(panel, grid, value, (low, high), colours, lines=label != "difference", smooth=single)
            if track is not None:
                _track(panel, *track(position), dark=label == "difference")
        row[0].set_ylabel(plane[1] if single else f"{label}\n\n{plane[1]}", fontsize=11)
        if single:
            row[0].set_title(label, fontsize=12)
        figure.colorbar(image, ax=list(row), pad=0.01, fraction=0.05 if single else 0.02, aspect=18)
    if not single:
        for panel, column in zip(axes[0], columns, strict=True):
            panel.set_title(", ".join(f"{name} = {value:.3g}" for name, value in column.items()), fontsize=12)
    for panel in axes.T[0] if single else axes[-1]:
        panel.set_xlabel(plane[0], fontsize=11)
    captioned(figure, title, caption)
    return figure


def _panel(
    panel: Any,
    grid: Mapping[str, np.ndarray],
    value: np.ndarray,
    limits: tuple[float, float],
    colours: str,
    *,
    lines: bool,
    smooth: bool,
) -> Any:
    across, up = grid.values()
    half = ((across[1] - across[0]) / 2, (up[1] - up[0]) / 2)  # the values belong to the middles of the pixels
    extent = (across[0] - half[0], across[-1] + half[0], up[0] - half[1], up[-1] + half[1])
    aspect = "equal" if _ratio(grid) == 1.0 else "auto"
    options = {"origin": "lower", "extent": extent, "cmap": colours, "aspect": aspect, "interpolation": "nearest"}
    if smooth:  # large panels; in small ones a pixel of the file is about a point, and the file smaller
        options["interpolation"] = "bilinear"
    image = panel.imshow(value.T, vmin=limits[0], vmax=limits[1], **options)
    if lines and limits[1] > limits[0]:
        span = limits[1] - limits[0]
        levels = limits[0] + np.array([0.1, 0.3, 0.5, 0.7, 0.9]) * span
        levels = levels[np.abs(levels) > 1e-6 * span]  # where a function vanishes, its zero line is round-off
        if value.max() > levels[0] and value.min() < levels[-1]:
            panel.contour(across, up, value.T, levels=levels, colors="white", linewidths=0.7, alpha=0.8)
    panel.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    panel.tick_params(labelsize=8)
    panel.locator_params(nbins=6)
    return image


def _ratio(grid: Mapping[str, np.ndarray]) -> float:
    across, up = (float(v[-1] - v[0]) for v in grid.values())
    return 1.0 if 0.5 < up / across < 2.0 else 0.8


def _track(panel: Any, across: np.ndarray, up: np.ndarray, *, dark: bool) -> None:
    colour = "black" if dark else "#ff9d3b"
    panel.plot([0], [0], marker="+", color=colour, markersize=9, markeredgewidth=1.2)
    panel.plot([0, across[0]], [0, up[0]], color=colour, linewidth=0.8, linestyle=":")
    panel.plot([0, across[-1]], [0, up[-1]], color=colour, linewidth=0.8)
    panel.plot(across, up, color=colour, linewidth=1.8)
    panel.plot(across[:1], up[:1], marker="o", markersize=5, markerfacecolor="none", color=colour)
    panel.plot(across[-1:], up[-1:], marker="o", markersize=5, color=colour)


def cut(
    u: SeparableFunction,
    reference: _Reference,
    *,
    axis: str,
    at: Mapping[str, float] | None = None,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Draw a cut along one axis: solution and reference above, their difference below.

    Parameters
    ----------
    u, reference, at, title, caption
        As in `slices`.
    axis : str
        The axis along which to cut.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If an axis is unknown.
    """
    position = _positions(u, (axis,), at or {})
    grid = {axis: np.linspace(*u.space.axes[axis].domain, 4 * _POINTS)}
    mine, theirs = _slice(u, grid, position), _slice(reference, grid, position, u.space.names)
    figure = new_figure(7.0, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    above.plot(grid[axis], mine, label="solution", linewidth=2)
    above.plot(grid[axis], theirs, label="reference", linestyle="--", color="black", linewidth=1)
    above.legend()
    below.plot(grid[axis], mine - theirs, color="tab:red", linewidth=1)
    below.set_ylabel("difference")
    below.set_xlabel(axis)
    captioned(figure, title, caption)
    return figure


def gallery_figure(case: GalleryProblem, u: SeparableFunction, *, caption: str = "") -> Figure:
    """Draw the solution of a gallery problem the way that suits it.

    Parameters
    ----------
    case : GalleryProblem
        The problem.
    u : SeparableFunction
        Its solution.
    caption : str, optional
        Line below the picture, e.g. rank and error.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    names = case.space.names
    if case.name == "advection-diffusion":
        return _plume_figure(case, u, caption)
    options: dict[str, Any] = {"title": case.title, "caption": caption}
    if case.name == "heat":
        return slices_over_time(u, case.reference, plane=("x", "t"), time="kappa", times=4, **options)
    if len(names) == 1:
        return cut(u, case.reference, axis=names[0], **options)
    if len(names) > 2:
        options["title"] += f"; {', '.join(names[2:])} = 0.5"
    return slices(u, case.reference, plane=(names[0], names[1]), **options)


def _plume_figure(case: GalleryProblem, u: SeparableFunction, caption: str) -> Figure:
    constants = case.constants
    centre, start, reach = constants["centre"], constants["t"][0], constants["walls"]
    omega, kappa = max(constants["omega"], key=abs), constants["kappa"][1]
    reach = min(reach, float(np.hypot(centre[0], centre[1])) + 3.2 * constants["width"])

    def track(position: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        return turned(centre, position["omega"] * np.linspace(0, position["t"] - start, 100))[:2]

    turn = np.degrees(omega * (constants["t"][1] - start))
    note = (
        f"plane z = {centre[2]:g}, omega = {omega:.3g}, kappa = {kappa:g}; the plume turns by {turn:.0f} degrees "
        "about the cross; thick line: the path of its centre since the start"
    )
    return slices_over_time(
        u,
        case.reference,
        at={"z": centre[2], "omega": omega, "kappa": kappa},
        window={"x": (-reach, reach), "y": (-reach, reach)},
        track=track,
        title=case.title,
        caption=f"{note}\n{caption}" if caption else note,
    )


def _positions(u: SeparableFunction, drawn: Sequence[str], at: Mapping[str, float]) -> dict[str, float]:
    """Positions of all axes that are not drawn, the middle where none is given."""
    u.space.check_axes([*drawn, *at], "the picture")
    both = [name for name in at if name in drawn]
    if both:
        msg = f"`at` fixes the axis {both[0]!r}, which is drawn: leave it out"
        raise ValueError(msg)
    middle = {name: sum(basis.domain) / 2 for name, basis in u.space.axes.items()}
    return {name: float(at.get(name, middle[name])) for name in u.space.names if name not in drawn}


def _slice(
    f: _Reference, grid: Mapping[str, np.ndarray], position: Mapping[str, float], names: Sequence[str] = ()
) -> np.ndarray:
    """Values on the grid, in its order of axes, the others fixed."""
    if isinstance(f, SeparableFunction):
        part = f.restrict(**position)
        values = to_host(part.to(np).on_grid(**grid))
        order = [part.space.names.index(name) for name in grid]
        return np.asarray(values.transpose(order), dtype=np.float64)
    dense = dict(zip(grid, np.meshgrid(*grid.values(), indexing="ij"), strict=True))
    shape = tuple(len(v) for v in grid.values())
    columns = [dense[name] if name in dense else np.full(shape, position[name]) for name in names]
    points = np.stack(columns, axis=-1).reshape(-1, len(names))
    return np.asarray(f(points), dtype=np.float64).reshape(shape)
