"""The pictures of the gallery: each problem the way that suits it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sepnet.functions.base import SeparableFunction
from sepnet.models.gallery_problem import GalleryProblem
from sepnet.models.gallery_transport import path as turned
from sepnet.plotting.fields import cut, slices
from sepnet.spaces import TensorSpace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["gallery_figure"]


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
        rates = np.linspace(*case.space.axes["kappa"].domain, 4)
        return slices(u, case.reference, x="x", y="t", at={"kappa": rates}, **options)
    if len(names) == 1:
        return cut(u, case.reference, axis=names[0], **options)
    if len(names) > 2:
        options["title"] += f"; {', '.join(names[2:])} = 0.5"
    return slices(u, case.reference, x=names[0], y=names[1], at=_middles(case.space, names[:2]), **options)


def _middles(space: TensorSpace, drawn: Collection[str]) -> dict[str, float]:
    return {name: sum(basis.domain) / 2 for name, basis in space.items if name not in drawn}


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
    return slices(
        u,
        case.reference,
        at={"t": np.linspace(*case.space.axes["t"].domain, 5), "z": centre[2], "omega": omega, "kappa": kappa},
        window={"x": (-reach, reach), "y": (-reach, reach)},
        track=track,
        title=case.title,
        caption=f"{note}\n{caption}" if caption else note,
    )
