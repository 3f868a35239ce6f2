"""Tensor grids of one to three axes as meshes of lines, quadrilaterals or hexahedra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sepnet.functions.export import sampled
from sepnet.functions.values import Values

__all__ = ["Frame", "directions", "grid_frame"]

_LETTERS = ("x", "y", "z")
# The corners of a cell in VTK's order, as steps along the axes (VTK file formats, figure 2).
_QUAD = ((0, 0), (1, 0), (1, 1), (0, 1))
_CELLS: dict[int, tuple[str, tuple[tuple[int, ...], ...]]] = {
    0: ("vertex", ((),)),
    1: ("line", ((0,), (1,))),
    2: ("quad", _QUAD),
    3: ("hexahedron", tuple((*corner, level) for level in (0, 1) for corner in _QUAD)),
}


class Frame(NamedTuple):
    """What one file holds: a mesh of cells of one kind, and values at its points.

    Attributes
    ----------
    points : ndarray, float64, shape (n, 3)
    kind : str
        The kind of the cells, in meshio's words.
    cells : ndarray, integer, shape (cells, corners)
    data : dict of str to ndarray, shape (n,) or (n, k)
    """

    points: np.ndarray
    kind: str
    cells: np.ndarray
    data: dict[str, np.ndarray]


class _Grid(NamedTuple):
    """A tensor grid as a mesh.

    Attributes
    ----------
    axes : dict of str to int
        The direction, 0 to 2, along which an axis lies, in the order of the directions; the others lie along none.
    points : ndarray, float64, shape (n, 3)
        Along the first axis slowest, along the last one fastest.
    kind : str
        "vertex", "line", "quad" or "hexahedron".
    cells : ndarray, integer, shape (cells, corners)
    """

    axes: dict[str, int]
    points: np.ndarray
    kind: str
    cells: np.ndarray


def directions(varying: list[str], fixed: list[str]) -> dict[str, int]:
    """Return the direction in space along which each axis lies.

    Axes called x, y and z lie along these, the other ones that vary along the free directions in the order given. A
    fixed axis has a direction, where the points then stand, if it is called so and nothing else lies there.

    Parameters
    ----------
    varying, fixed : list of str
        Axis names; at most three vary.

    Returns
    -------
    dict of str to int
        From 0 to 2, in rising order.

    Examples
    --------
    >>> directions(["z", "r"], ["x", "t"])
    {'x': 0, 'r': 1, 'z': 2}
    >>> directions(["t", "x"], [])
    {'x': 0, 't': 1}
    """
    found = {name: _LETTERS.index(name) for name in varying if name in _LETTERS}
    free = [k for k in range(3) if k not in found.values()]
    free.sort(key=lambda k: _LETTERS[k] in fixed)  # those that a fixed axis would like come last
    found |= dict(zip([name for name in varying if name not in _LETTERS], free, strict=False))
    for name in fixed:
        if name in _LETTERS and _LETTERS.index(name) not in found.values():
            found[name] = _LETTERS.index(name)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def grid_frame(
    functions: Mapping[str, Values],
    points: Mapping[str, np.ndarray],
    fixed: Mapping[str, float],
    *,
    gradient: bool,
) -> Frame:
    """Return functions on a tensor grid.

    Parameters
    ----------
    functions : mapping of str to function
        Functions of some of the axes each.
    points : mapping of str to ndarray, shape (m,)
        The points of at most three axes, rising, at least two each.
    fixed : mapping of str to float
        The positions of the other axes.
    gradient : bool
        Whether to add ``<name>_gradient``.

    Returns
    -------
    Frame
    """
    mesh = _grid(points, fixed)
    data: dict[str, np.ndarray] = {}
    for name, u in functions.items():
        found = sampled(u, {axis: {**points, **fixed}[axis] for axis in u.space.names}, "write_vtk")
        data[name] = _spread(found.values, list(found.points), mesh, points)
        if gradient:
            data[f"{name}_gradient"] = _gradient(u, mesh, fixed)
    return Frame(mesh.points, mesh.kind, mesh.cells, data)


def _grid(points: Mapping[str, np.ndarray], fixed: Mapping[str, float]) -> _Grid:
    """Return the mesh of a tensor grid.

    Parameters
    ----------
    points : mapping of str to ndarray, shape (m,)
        The points of at most three axes, rising, at least two each.
    fixed : mapping of str to float
        The positions of other axes.

    Returns
    -------
    _Grid
    """
    axes = directions(list(points), list(fixed))
    places = [points[name] if name in points else np.array([fixed[name]]) for name in axes]
    grid = np.zeros([*(place.size for place in places), 3])
    for direction, line in zip(axes.values(), np.ix_(*places), strict=True):
        grid[..., direction] = line
    # Packing the file is what takes the time: fewer bytes, less of it.
    integer = np.int32 if grid.size < 2**31 else np.int64
    number = np.arange(grid.size // 3, dtype=integer).reshape([m for m in grid.shape[:-1] if m > 1])
    kind, corners = _CELLS[number.ndim]
    cells = [
        number[tuple(slice(step, m - 1 + step) for step, m in zip(corner, number.shape, strict=True))].ravel()
        for corner in corners
    ]
    return _Grid(axes, grid.reshape(-1, 3), kind, np.stack(cells, axis=1))


def _spread(values: np.ndarray, names: list[str], mesh: _Grid, points: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return values on a grid of some axes at the points of the mesh."""
    order = [name for name in mesh.axes if name in points]
    values = values.transpose([names.index(name) for name in order if name in names])
    values = values.reshape([points[name].size if name in names else 1 for name in order])
    return np.broadcast_to(values, [points[name].size for name in order]).reshape(-1)


def _gradient(u: Values, mesh: _Grid, fixed: Mapping[str, float]) -> np.ndarray:
    """Return the partial derivatives along the directions of the mesh, shape (n, 3)."""
    host = u.to(np)
    columns = [
        mesh.points[:, mesh.axes[name]] if name in mesh.axes else np.full(len(mesh.points), fixed[name])
        for name in host.space.names
    ]
    partial = host.gradient(np.stack(columns, axis=1))
    result = np.zeros((len(mesh.points), 3), dtype=partial.dtype)
    for k, name in enumerate(host.space.names):
        if name in mesh.axes:
            result[:, mesh.axes[name]] = partial[:, k]
    return result
