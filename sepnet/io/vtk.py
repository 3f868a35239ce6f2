"""Functions as VTK files, for ParaView and whatever else reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from sepnet.backends.arrays import to_host
from sepnet.bases.checks import real_number
from sepnet.bases.matrix_axis import Assembled
from sepnet.functions.export import Place, check_places, is_number
from sepnet.functions.storage import checked_path, replacing
from sepnet.functions.values import Values
from sepnet.io.grids import Frame, grid_frame
from sepnet.io.meshes import mesh_frame
from sepnet.spaces import TensorSpace

__all__ = ["write_vtk"]


def write_vtk(
    path: str | os.PathLike[str],
    u: Values | Mapping[str, Values],
    /,
    *,
    gradient: bool = False,
    over: str = "t",
    **where: Place,
) -> None:
    """Write functions on a tensor grid, or on the mesh of an axis, to files that ParaView opens.

    A grid has one to three axes; lines, quadrilaterals or hexahedra join its points, which carry the values. Axes
    called x, y and z lie along these directions (a slice at z = 0.5 stands there), other axes along the free directions
    in the order given. An axis that is a mesh, `sepnet.Mesh` or `sepnet.MatrixAxis`, and has no place, is written with
    its own cells, or as points where it has none; all other axes are fixed then.

    A path that ends in .vtu makes one file, compressed; one that ends in .pvd a series of them along one more axis, in
    a folder beside it: ``plume.pvd`` and ``plume/plume_0000.vtu``, ...

    Parameters
    ----------
    path : path
        The file, .vtu or .pvd; replaced only when the new one is complete.
    u : function, or mapping of str to function
        What is written, by name; a single function is called ``u``. A function that does not depend on an axis of
        another one is constant along it. Functions are moved to the host.
    gradient : bool, optional
        Whether to write ``<name>_gradient`` too: the partial derivatives along the three directions, zero where no
        axis lies. On a mesh of scikit-fem, the gradient in space, averaged at nodes over the cells around.
    over : str, optional
        The axis of a series; its points become the time of ParaView.
    **where : int, float or array of shape (m,)
        For every axis but a mesh a number of equispaced points, both ends included, or the points, rising. A float
        fixes the axis: ``t=1.0`` is a time, ``t=1`` one point.

    Raises
    ------
    ImportError
        If meshio is not installed.
    TypeError
        If something is of another kind.
    ValueError
        If an axis is missing or unknown, more than three vary, or one beside a mesh, points do not rise, a mesh has no
        points, or the path ends otherwise.
    OSError
        If the folder does not exist or cannot be written.

    Examples
    --------
    >>> import sepnet as sn
    >>> from sepnet.io import write_vtk
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4), t=sn.BSpline((0, 2), cells=4))
    >>> x, y, t = V.coordinates
    >>> u = sn.project(x * y * t, V)
    >>> write_vtk("last.vtu", u, x=33, y=33, t=2.0, gradient=True)
    >>> write_vtk("all.pvd", {"T": u, "start": u.restrict(t=0)}, x=33, y=33, t=[0, 0.5, 1, 2])
    """
    target, meshio = checked_path(path), _meshio()
    if target.suffix.lower() not in (".vtu", ".pvd"):
        msg = f"`path` is {str(target)!r}, expected a name that ends in .vtu, or in .pvd for a series of files"
        raise ValueError(msg)
    functions = _functions(u)
    twice = sorted({f"{name}_gradient" for name in functions} & set(functions)) if gradient else []
    if twice:
        msg = f"write_vtk: {twice[0]!r} is a function and the gradient of another one: give it another name"
        raise ValueError(msg)
    space = _common_space(functions)
    mesh = _mesh_axis(space, where)
    check_places(space, {**where, **dict.fromkeys(mesh, 0.0)}, ("gradient", "over"), "write_vtk")
    points, fixed = _placed(functions, where)
    series = target.suffix.lower() == ".pvd"
    if series and over not in points:
        found = "fixed" if over in fixed else f"none of the axes {', '.join(space.names)}"
        msg = f"write_vtk: `over` is {over!r}, which is {found}: name an axis with points for a series, or write a .vtu"
        raise ValueError(msg)
    times = points.pop(over) if series else np.zeros(0)
    points, fixed = _meshable(points, fixed, most=0 if mesh else 3)

    def frame(now: Mapping[str, float]) -> Frame:
        position = {**fixed, **now}
        if mesh:
            return mesh_frame(functions, mesh[0], position, gradient=gradient)
        return grid_frame(functions, points, position, gradient=gradient)

    if not series:
        _write(meshio, target, frame({}))
        return
    names = [f"{target.stem}_{k:04d}.vtu" for k in range(len(times))]
    folder = target.with_suffix("")
    with replacing(target) as temporary:
        folder.mkdir(exist_ok=True)
        for name, time in zip(names, times, strict=True):
            _write(meshio, folder / name, frame({over: float(time)}))
        temporary.write_bytes(_collection(folder.name, names, times))


def _meshio() -> ModuleType:
    try:
        import meshio
    except ImportError as error:
        msg = "write_vtk needs meshio, which is not installed: pip install 'sepnet[io]'"
        raise ImportError(msg) from error
    module: ModuleType = meshio
    return module


def _functions(u: object) -> dict[str, Values]:
    named = u if isinstance(u, Mapping) else {"u": u}
    if not named:
        msg = "write_vtk: `u` is empty, expected a function, or functions by name"
        raise ValueError(msg)
    for name, function in named.items():
        if hasattr(function, "map") and not isinstance(function, Values):
            msg = (
                f"write_vtk: {name!r} is {type(function).__name__}, a function of other coordinates, expected one on a "
                "box: write its `.u`, in the computational coordinates"
            )
            raise TypeError(msg)
        if not isinstance(name, str) or not name or not isinstance(function, Values):
            msg = f"write_vtk: {name!r} is {type(function).__name__}, expected a name and a function such as solution.u"
            raise TypeError(msg)
    return dict(named)


def _common_space(functions: Mapping[str, Values]) -> TensorSpace:
    """Return the axes of all functions, which must live on one box and one mesh."""
    axes = dict(next(iter(functions.values())).space.items)
    for label, function in functions.items():
        for name, basis in function.space.items:
            other = axes.setdefault(name, basis)
            if other.domain != basis.domain:
                msg = (
                    f"write_vtk: {label!r} has the domain {basis.domain} on axis {name!r}, another function "
                    f"{other.domain}: write them to different files"
                )
                raise ValueError(msg)
            if isinstance(basis, Assembled) and basis != other:
                msg = (
                    f"write_vtk: {label!r} has another mesh on axis {name!r} than another function: write them to "
                    "different files"
                )
                raise ValueError(msg)
    return TensorSpace(**axes)


def _mesh_axis(space: TensorSpace, where: Mapping[str, Place]) -> list[str]:
    """Return the name of the mesh that is written, if there is one: a mesh that `where` does not fix."""
    meshes = [name for name, basis in space.items if isinstance(basis, Assembled) and name not in where]
    if len(meshes) > 1:
        msg = f"write_vtk: the axes {', '.join(meshes)} are meshes, expected one: fix the others, {meshes[-1]}=0.0"
        raise ValueError(msg)
    return meshes


def _placed(
    functions: Mapping[str, Values], where: Mapping[str, Place]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the points of the axes that vary, float64, and the positions of the others, both in the order given.

    What is wrong with them is said here, before a file is made.
    """
    points: dict[str, np.ndarray] = {}
    fixed: dict[str, float] = {}
    for name, place in where.items():
        owner: Any = next(f for f in functions.values() if name in f.space.names).to(np, dtype="float64")
        if is_number(place):
            fixed[name] = real_number(f"write_vtk: axis {name!r}", place)
            owner.restrict(**{name: fixed[name]})
            continue
        host = to_host(place) if hasattr(place, "dtype") else place
        found = owner.grid(**{**dict.fromkeys(owner.space.names, 1), name: host})[name]
        if not found.size or not (np.diff(found) > 0).all():
            msg = f"write_vtk: the points of axis {name!r} do not rise, or there is none: sort them, each one once"
            raise ValueError(msg)
        owner.restrict(**{name: found[0]})
        owner.restrict(**{name: found[-1]})
        points[name] = found
    return points, fixed


def _meshable(
    points: dict[str, np.ndarray], fixed: dict[str, float], *, most: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the points of the axes of a grid, and the positions of the others; one point is a position."""
    varying = {name: places for name, places in points.items() if places.size > 1}
    if len(varying) > most:
        last = list(varying)[-1]
        limit = f"at most {most}" if most else "none beside a mesh"
        msg = (
            f"write_vtk: the axes {', '.join(varying)} vary, expected {limit}: give {last} a number, e.g. "
            f"{last}={varying[last][0]!s}, or write a series along it, to a path that ends in .pvd, with over={last!r}"
        )
        raise ValueError(msg)
    return varying, fixed | {name: float(places[0]) for name, places in points.items() if places.size == 1}


def _write(meshio: ModuleType, path: Path, frame: Frame) -> None:
    # meshio writes names as they are.
    data = {escape(name, {'"': "&quot;"}): values for name, values in frame.data.items()}
    mesh = meshio.Mesh(frame.points, [(frame.kind, frame.cells)], point_data=data)
    with replacing(path) as temporary:
        mesh.write(temporary, file_format="vtu", compression="zlib")


def _collection(folder: str, names: Sequence[str], times: np.ndarray) -> bytes:
    """Return a ParaView collection: which file is to be shown at which time."""
    root = ElementTree.Element("VTKFile", type="Collection", version="0.1")
    collection = ElementTree.SubElement(root, "Collection")
    for name, time in zip(names, times, strict=True):
        ElementTree.SubElement(collection, "DataSet", timestep=repr(float(time)), part="0", file=f"{folder}/{name}")
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content
