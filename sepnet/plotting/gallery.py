"""The pictures of the gallery: each problem the way that suits it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sepnet.backends.arrays import to_host
from sepnet.bases.mesh import Mesh
from sepnet.functions.base import SeparableFunction
from sepnet.models.gallery_problem import GalleryProblem
from sepnet.models.gallery_transport import path as turned
from sepnet.plotting.canvas import captioned, new_figure, panel_rows
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
    first = case.space.bases[0]
    if isinstance(first, Mesh):
        return _mesh_figure(case, u, first, caption)
    if case.name == "laser":
        return _beam_figure(case, u, caption)
    if case.name == "heat":
        rates = np.linspace(*case.space.axes["kappa"].domain, 4)
        return slices(u, case.reference, x="x", y="t", at={"kappa": rates}, **options)
    if len(names) == 1:
        return cut(u, case.reference, axis=names[0], **options)
    middles = _middles(case.space, names[:2])
    if middles:
        options["title"] += "; " + ", ".join(f"{name} = {value:g}" for name, value in middles.items())
    return slices(u, case.reference, x=names[0], y=names[1], at=middles, **options)


def _middles(space: TensorSpace, drawn: Collection[str]) -> dict[str, float]:
    return {name: sum(basis.domain) / 2 for name, basis in space.items if name not in drawn}


def _beam_figure(case: GalleryProblem, u: SeparableFunction, caption: str) -> Figure:
    """Draw the surface at the end, for three shapes of the beam."""
    axes = case.space.axes
    middles = _middles(case.space, ("xi", "y", "z", "t", "shape"))
    shapes = np.linspace(*axes["shape"].domain, 3)
    at: dict[str, Any] = {"z": axes["z"].domain[0], "t": axes["t"].domain[1], **middles, "shape": shapes}
    note = "surface at the end; " + ", ".join(f"{name} = {value:g}" for name, value in middles.items())
    text = f"{note}\n{caption}" if caption else note
    return slices(u, case.reference, x="xi", y="y", at=at, title=case.title, caption=text)


def _mesh_figure(case: GalleryProblem, u: SeparableFunction, mesh: Mesh, caption: str) -> Figure:
    """Draw solution, reference and difference on the triangles of a mesh, the other axes at their middles."""
    name = case.space.names[0]
    middles = _middles(case.space, (name,))
    numbers = np.arange(mesh.size, dtype=np.float64)
    points = np.column_stack([numbers, *(np.full(mesh.size, value) for value in middles.values())])
    solution, reference = to_host(u.restrict(**middles).full()), case.reference(points)
    figure = new_figure(12.0, 4.0)
    x, y = mesh.fem.mesh.p
    size = float(np.abs(reference).max())
    for panel, (title, values, scale) in zip(
        panel_rows(figure, 3, 3, sharex=True, sharey=True),
        (("solution", solution, size), ("reference", reference, size), ("difference", solution - reference, None)),
        strict=True,
    ):
        vertices = mesh.expand(values)[mesh.fem.nodal_dofs[0]]
        image = panel.tripcolor(x, y, mesh.fem.mesh.t.T, vertices, shading="gouraud", cmap="RdBu_r", rasterized=True)
        largest = scale or float(np.abs(vertices).max()) or 1.0
        image.set_clim(-largest, largest)
        panel.set(title=title, xlabel="x", ylabel="y" if title == "solution" else "", aspect="equal")
        figure.colorbar(image, ax=panel, shrink=0.8)
    captioned(figure, f"{case.title}; " + ", ".join(f"{k} = {v:g}" for k, v in middles.items()), caption)
    return figure


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
