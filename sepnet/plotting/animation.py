"""A function that moves: one picture for each position on an axis, in a GIF or MP4 file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sepnet.bases.checks import whole_number
from sepnet.functions.storage import replacing
from sepnet.functions.values import Values
from sepnet.plotting.canvas import checked_target, new_figure
from sepnet.plotting.sections import Section, checked_function, limits_of, section_of, split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["animate"]


def animate(
    u: Values,
    path: str | os.PathLike[str],
    *,
    over: str = "t",
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, float] | None = None,
    frames: int | Sequence[float] | np.ndarray = 50,
    fps: int = 10,
    window: Mapping[str, tuple[float, float]] | None = None,
    name: str = "u",
    units: Mapping[str, str] | None = None,
    title: str = "",
) -> None:
    """Write an animation along one axis, in one scale of colours: slices over two other axes, or a curve over one.

    Parameters
    ----------
    u : CP, TensorTrain, Tucker or SNA
        The function.
    path : path
        The file: .gif, or .mp4 where ffmpeg is installed. Replaced only when the new one is complete.
    over : str, optional
        The axis along which to go.
    x, y : str, optional
        The axes drawn, horizontal and vertical; by default the first ones that have no position.
    at : mapping of str to float, optional
        Positions of all other axes.
    frames : int or sequence of float, optional
        Number of positions from one end of `over` to the other, or the positions.
    fps : int, optional
        Pictures a second, 1 to 100.
    window, name, units
        As in `slices`.
    title : str, optional
        Line above; the position is added.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If a position is no number, or `fps` or `frames` no whole one.
    ValueError
        If an axis is unknown, drawn twice or without position, a value is not finite, `fps` or `frames` is out of its
        range, or the path ends otherwise.
    OSError
        If the folder does not exist, or ffmpeg is needed and not there.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), t=sn.BSpline((0, 2), cells=4))
    >>> x, t = V.coordinates
    >>> sn.plot.animate(sn.project(x * t, V), "line.gif", over="t", frames=3, units={"t": "s"})
    """
    u = checked_function(u, "plot.animate")
    u.space.check_axes([over], "plot.animate: `over`")
    fixed, several = split(at, "plot.animate")
    if several:
        axis = next(iter(several))
        msg = f"plot.animate: `at` has several positions on the axis {axis!r}: give it a number, or go over={axis!r}"
        raise ValueError(msg)
    section = section_of(u.space, (x, y), [*fixed, over], "plot.animate", window=window, name=name, units=units)
    places = _places(u, over, frames)
    values = [section.values(u, {**fixed, over: place}, u.space.names) for place in places]
    limits = limits_of(values, "plot.animate")
    target = checked_target(path, (".gif", ".mp4"))
    figure = new_figure(6.2, 5.0 if len(section.grid) == 2 else 4.0)
    writer = _writer(target, fps)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / f"film{target.suffix.lower()}"
        with writer.saving(figure, str(film), figure.dpi):
            for place, value in zip(places, values, strict=True):
                _draw(
                    figure, section, value, limits, ", ".join(filter(None, [title, section.positions({over: place})]))
                )
                writer.grab_frame()
        with replacing(target) as temporary:
            temporary.write_bytes(film.read_bytes())


def _places(u: Values, over: str, frames: int | Sequence[float] | np.ndarray) -> list[float]:
    """Return the positions of the pictures."""
    if isinstance(frames, int | np.integer):
        ends = u.space.axes[over].domain
        return [float(p) for p in np.linspace(*ends, whole_number("frames", frames, at_least=1))]
    several = split({over: frames}, "plot.animate")[1]
    if over not in several:
        msg = f"plot.animate: `frames` is {frames!r}, expected a whole number of pictures, or a list of positions"
        raise TypeError(msg)
    return [float(p) for p in several[over]]


def _draw(figure: Figure, section: Section, value: np.ndarray, limits: tuple[float, float], title: str) -> None:
    """Draw one picture; the panel stands where the first one put it."""
    first = not figure.axes
    panel = figure.subplots() if first else figure.axes[0]
    panel.clear()
    labels = [section.label(name) for name in (*section.grid, section.name)]
    panel.set(xlabel=labels[0], ylabel=labels[1])
    panel.set_title(title, fontsize=12)
    if len(section.grid) == 1:
        section.curve(panel, value, limits)
    else:
        image = section.image(panel, value, limits, smooth=True)
        if first:
            figure.colorbar(image, ax=panel, pad=0.01, fraction=0.05, aspect=18, label=labels[2])
    if first:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


def _writer(target: Path, fps: int) -> Any:
    """Return matplotlib's writer for a file.

    Raises
    ------
    TypeError, ValueError
        If `fps` is no integer, or out of its range.
    FileNotFoundError
        If the file needs ffmpeg, which is not installed.
    """
    from matplotlib.animation import FFMpegWriter, PillowWriter

    rate = whole_number("fps", fps, at_least=1, at_most=100)  # a GIF counts in hundredths of a second
    if target.suffix.lower() == ".gif":
        return PillowWriter(fps=rate)
    if not FFMpegWriter.isAvailable():
        msg = f"`path` is {str(target)!r}, for which ffmpeg is needed and was not found: install it, or write a .gif"
        raise FileNotFoundError(msg)
    return FFMpegWriter(fps=rate)
