"""Pictures of separable functions.

Figures are returned, never shown, and made without matplotlib's global state: no backend is chosen, no window opens.
This package needs matplotlib (``pip install 'sepnet[plot]'``) only when a figure is asked for.
"""

from sepnet.plotting.canvas import captioned, new_figure, require_matplotlib, save
from sepnet.plotting.explain import effects, factors, parity
from sepnet.plotting.fields import cut, gallery_figure, slices, slices_over_time

__all__ = [
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
    "slices_over_time",
]
