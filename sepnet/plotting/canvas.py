"""Figures as files: made without matplotlib's global state, so that no backend is chosen and no window opens."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bare", "captioned", "checked_target", "new_figure", "panel_rows", "require_matplotlib", "save"]

_DPI = 96


def require_matplotlib() -> None:
    """Check that pictures can be drawn.

    Raises
    ------
    ImportError
        If matplotlib is not installed; it says how to install it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        msg = "pictures need matplotlib, which is not installed: pip install 'sepnet[plot]'"
        raise ImportError(msg) from error


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file; the suffix says the format (.png, .pdf, .svg).

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    path : path
        The file.

    Raises
    ------
    ValueError
        If the suffix is unknown.
    OSError
        If the folder does not exist or cannot be written.
    """
    target = checked_target(path, (".png", ".pdf", ".svg"))
    content = io.BytesIO()  # nothing half-drawn reaches the file
    figure.savefig(content, format=target.suffix[1:].lower())
    target.write_bytes(content.getvalue())


def checked_target(path: str | os.PathLike[str], suffixes: Sequence[str]) -> Path:
    """Return the path of a picture to be written.

    Raises
    ------
    ValueError
        If it ends in none of `suffixes`.
    FileNotFoundError
        If its folder does not exist.
    """
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        known = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        msg = f"`path` is {str(target)!r}, expected a file name that ends in {known}"
        raise ValueError(msg)
    if not target.parent.is_dir():
        msg = f"`path` is {str(target)!r}, but the folder {str(target.parent)!r} does not exist: create it first"
        raise FileNotFoundError(msg)
    return target


def panel_rows(figure: Figure, count: int, across: int, **options: Any) -> list[Any]:
    """Return as many panels in rows of at most `across`, from left to right; the last row may be shorter.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, empty.
    count, across : int
        Numbers of panels, in all and in a row.
    **options
        As ``figure.subplots`` takes them.

    Returns
    -------
    list of matplotlib.axes.Axes
    """
    grid = figure.subplots(ceil(count / across), min(count, across), squeeze=False, **options).reshape(-1)
    for spare in grid[count:]:
        spare.remove()
    return list(grid[:count])


def bare(panel: Any) -> None:
    """Leave out the frame above and to the right of a panel, and write small numbers."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def captioned(figure: Figure, title: str, caption: str) -> None:
    """Write lines above and below the panels of a figure, broken to its width."""
    if title:
        figure.suptitle(_wrapped(title, 10 * figure.get_figwidth()), fontsize=13)
    if caption:
        figure.supxlabel(_wrapped(caption, 14 * figure.get_figwidth()), fontsize=9.5)


def _wrapped(text: str, width: float) -> str:
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, int(width)))
