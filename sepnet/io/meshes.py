"""Functions on the mesh of an axis: its own cells, and values at its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from sepnet.bases.matrix_axis import Assembled
from sepnet.bases.mesh import Mesh
from sepnet.functions.values import Values
from sepnet.io.grids import Frame

__all__ = ["mesh_frame"]


def mesh_frame(functions: Mapping[str, Values], axis: str, fixed: Mapping[str, float], *, gradient: bool) -> Frame:
    """Return functions on the mesh of an axis.

    Parameters
    ----------
    functions : mapping of str to function
        Functions of the mesh and other axes; those that do not depend on the mesh are constant on it, and get no
        gradient.
    axis : str
        The axis that is the mesh.
    fixed : mapping of str to float
        The positions of all other axes.
    gradient : bool
        Whether to add ``<name>_gradient``.

    Returns
    -------
    Frame

    Raises
    ------
    ValueError
        If the axis has neither cells nor points in at most three dimensions, or gradients are wanted and it has no
        cells.
    """
    basis = next(u.space.axes[axis] for u in functions.values() if axis in u.space.names)
    points, kind, cells = _cells(axis, basis)
    if gradient and not isinstance(basis, Mesh):
        msg = (
            f"write_vtk: axis {axis!r} is {type(basis).__name__}, without cells there are no gradients: leave them out"
        )
        raise ValueError(msg)
    data: dict[str, np.ndarray] = {}
    for name, u in functions.items():
        here: Any = u.to(np)
        places = {other: fixed[other] for other in here.space.names if other != axis}
        part = here.restrict(**places) if places else here
        if axis not in here.space.names:
            data[name] = np.full(len(points), float(part))
            continue
        vector = part.full()
        data[name] = _nodal(basis, vector)
        if isinstance(basis, Mesh) and gradient:
            data[f"{name}_gradient"] = _nodal_gradient(basis, vector)
    return Frame(points, kind, cells, data)


def _cells(axis: str, basis: Any) -> tuple[np.ndarray, str, np.ndarray]:
    """Return points (n, 3), kind and corners of the cells; the points alone where there are no cells."""
    if isinstance(basis, Mesh):
        mesh = basis.fem.mesh
        try:
            found = import_module("skfem.io.meshio").to_meshio(mesh, encode_cell_data=False)
        except KeyError as error:
            msg = f"write_vtk: the mesh of axis {axis!r} is {type(mesh).__name__}, which meshio does not know"
            raise ValueError(msg) from error
        (block,) = found.cells
        return _in_space(found.points), block.type, block.data
    places = basis.points if isinstance(basis, Assembled) else None
    if places is None or not 1 <= places.shape[1] <= 3:
        found = "no points" if places is None else f"points in {places.shape[1]} dimensions"
        msg = (
            f"write_vtk: axis {axis!r} has {found}, expected those of its degrees of freedom in at most three: give "
            "points= to sn.MatrixAxis, or fix the axis"
        )
        raise ValueError(msg)
    return _in_space(places), "vertex", np.arange(len(places))[:, None]


def _in_space(values: np.ndarray) -> np.ndarray:
    """Return values with one to three components a point with three."""
    return np.pad(values, ((0, 0), (0, 3 - values.shape[1])))


def _nodal(basis: Any, vector: np.ndarray) -> np.ndarray:
    """Return the values at the nodes, (n,), or (n, 3) for vector-valued elements."""
    if not isinstance(basis, Mesh):
        return vector
    values = _averaged(basis, np.asarray(_at_nodes(basis, vector)))
    return values if values.ndim == 1 else _in_space(values)


def _nodal_gradient(basis: Mesh, vector: np.ndarray) -> np.ndarray:
    """Return the gradients at the nodes, (n, 3), or (n, 9) row by row for vector-valued elements."""
    values = _averaged(basis, np.asarray(_at_nodes(basis, vector).grad))
    if values.ndim == 2:
        return _in_space(values)
    rows = np.pad(values, ((0, 0), (0, 3 - values.shape[1]), (0, 3 - values.shape[2])))
    return rows.reshape(-1, 9)


def _at_nodes(basis: Mesh, vector: np.ndarray) -> Any:
    """Return a function of scikit-fem at the nodes of each cell, whatever its element."""
    fem, skfem = basis.fem, import_module("skfem")
    nodes = fem.mesh.elem.doflocs.T
    there = skfem.CellBasis(fem.mesh, fem.elem, fem.mapping, quadrature=(nodes, np.ones(nodes.shape[1])))
    return there.interpolate(basis.expand(vector))


def _averaged(basis: Mesh, values: np.ndarray) -> np.ndarray:
    """Return values (..., cells, corners) as means at the nodes, (n, ...)."""
    mesh = basis.fem.mesh
    nodes, count = mesh.dofs.element_dofs.T.ravel(), mesh.p.shape[1]
    flat = values.reshape(-1, nodes.size)
    means = [np.bincount(nodes, row, count) for row in flat] / np.bincount(nodes, minlength=count)
    return np.moveaxis(means.reshape(*values.shape[:-2], count), -1, 0)
