"""Pictures of separable functions.

Figures are returned, never shown, and made without matplotlib's global state: no backend is chosen, no window opens.
This package needs matplotlib (``pip install 'sepnet[plot]'``) only when a figure is asked for.
"""

from sepnet.plotting.animation import animate
from sepnet.plotting.canvas import captioned, new_figure, require_matplotlib, save
from sepnet.plotting.explain import effects, factors, parity
from sepnet.plotting.fields import cut, slices
from sepnet.plotting.gallery import gallery_figure

__all__ = [
    "animate",
    "captioned",
    "cut",
    "effects",
    "factors",
    "gallery_figure",
    "new_figure",
    "parity",
    "require_matplotlib",
    "save",
    "slices",
]
