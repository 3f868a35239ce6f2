"""Figures as files: made without matplotlib's global state, so that no backend is chosen and no window opens."""

from __future__ import annotations

import io
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["captioned", "new_figure", "require_matplotlib", "save"]

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
    target = Path(path)
    if target.suffix.lower() not in (".png", ".pdf", ".svg"):
        msg = f"`path` is {str(target)!r}, expected a file name that ends in .png, .pdf or .svg"
        raise ValueError(msg)
    if not target.parent.is_dir():
        msg = f"`path` is {str(target)!r}, but the folder {str(target.parent)!r} does not exist: create it first"
        raise FileNotFoundError(msg)
    content = io.BytesIO()  # nothing half-drawn reaches the file
    figure.savefig(content, format=target.suffix[1:].lower())
    target.write_bytes(content.getvalue())


def captioned(figure: Figure, title: str, caption: str) -> None:
    """Write lines above and below the panels of a figure, broken to its width."""
    if title:
        figure.suptitle(_wrapped(title, 10 * figure.get_figwidth()), fontsize=13)
    if caption:
        figure.supxlabel(_wrapped(caption, 14 * figure.get_figwidth()), fontsize=9.5)


def _wrapped(text: str, width: float) -> str:
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, int(width)))
