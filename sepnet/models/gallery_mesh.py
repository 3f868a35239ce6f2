"""Problems of the gallery on finite-element meshes; they need scikit-fem."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np

from sepnet.bases import BSpline
from sepnet.bases.mesh import Mesh
from sepnet.coefficients import apply
from sepnet.forms import inner, load_on
from sepnet.models.gallery_problem import GalleryProblem, interval, positive, whole
from sepnet.problems import Galerkin
from sepnet.spaces import TensorSpace

__all__ = ["heat_mesh"]


def heat_mesh(
    cells: int | None = None,
    degree: int = 3,
    *,
    t: tuple[float, float] = (0.0, 1.0),
    kappa: tuple[float, float] = (0.5, 2.0),
    tol: float = 1e-5,
) -> GalleryProblem:
    """Return the heat equation on an L-shaped mesh over time and conductivity.

    On the L-shape ``(-1, 1)^2`` without ``(0, 1) x (-1, 0)``, with u = 0 on its boundary and at the start::

        u_t = kappa (u_xx + u_yy) + f,    u = sin(w (t - t_0)) g / kappa,    g = sin(pi x) sin(pi y)

    with ``w = pi / (t_1 - t_0)``.

    The first axis is a mesh of linear triangles: its points are numbers of degrees of freedom. The error is that of the
    mesh, of second order.

    Parameters
    ----------
    cells : int, optional
        Cells of the mesh along the longest edge, a power of two; 32.
    degree : int, optional
        Degree of the splines in time and conductivity, at least 1.
    t, kappa : tuple of float, optional
        Ranges of time and conductivity.
    tol : float, optional
        Tolerance to solve with.

    Returns
    -------
    GalleryProblem

    Raises
    ------
    ImportError
        If scikit-fem is not installed.
    ValueError
        If a constant is out of its range.

    Examples
    --------
    >>> import sepnet as sn
    >>> case = heat_mesh(16)
    >>> u = sn.solve(case.problem, **case.options).u
    >>> case.measure(u).value < 0.03
    True
    """
    count = 32 if cells is None else whole("cells", cells, at_least=4)
    times, conductivities, p = (
        interval("t", t),
        interval("kappa", kappa, at_least=1e-9),
        whole("degree", degree, at_least=1),
    )
    if count & (count - 1):
        msg = f"`cells` is {count}, expected a power of two: the mesh is halved again and again"
        raise ValueError(msg)
    mesh, wave = _l_shape(int(math.log2(count)) - 1)
    space = TensorSpace(
        s=mesh,
        t=BSpline(times, cells=8, degree=p, zero="left"),
        kappa=BSpline(conductivities, cells=6, degree=p),
    )
    _, time, rate = space.coordinates
    w, start = math.pi / (times[1] - times[0]), times[0]
    inverse = apply(_inverse, rate)
    one, moved = space.identity, w * (time - start)
    source = w * apply(np.cos, moved) * inverse + 2 * math.pi**2 * apply(np.sin, moved)

    def reference(points: np.ndarray) -> np.ndarray:
        number, when, value = points.T
        return np.asarray(np.sin(w * (when - start)) * wave[np.rint(number).astype(int)] / value)

    return GalleryProblem(
        name="heat-mesh",
        title="Heat equation on an L-shaped mesh over time and conductivity",
        problem=Galerkin(
            inner(space.d.t, one) + inner(rate * one, one, s="stiffness"), source=load_on(source, one, s="wave")
        ),
        reference=reference,
        reference_error=float(np.finfo(np.float64).eps),
        options={"tol": positive("tol", tol)},
        constants={"cells": {"s": count, "t": 8, "kappa": 6}, "degree": p, "t": times, "kappa": conductivities},
        samples=20_000,
    )


def _inverse(x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / x)


def _l_shape(halvings: int) -> tuple[Mesh, np.ndarray]:
    """Return the mesh and the values of ``g = sin(pi x) sin(pi y)`` at its degrees of freedom."""
    try:
        skfem = import_module("skfem")
    except ImportError as error:
        msg = "heat-mesh needs scikit-fem, which is not installed: pip install 'sepnet[fem]'"
        raise ImportError(msg) from error
    fem = skfem.Basis(skfem.MeshTri.init_lshaped().refined(halvings), skfem.ElementTriP1(), intorder=4)
    wave = skfem.LinearForm(lambda v, at: np.sin(math.pi * at.x[0]) * np.sin(math.pi * at.x[1]) * v)
    mesh = Mesh(fem, dirichlet=fem.get_dofs(), loads={"wave": wave})
    x, y = fem.doflocs[:, mesh.free]
    return mesh, np.asarray(np.sin(math.pi * x) * np.sin(math.pi * y))
