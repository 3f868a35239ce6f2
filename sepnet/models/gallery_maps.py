"""Problems of the gallery in other coordinates than the physical ones."""

from __future__ import annotations

import math

import numpy as np

from sepnet.bases import BSpline
from sepnet.coefficients import product
from sepnet.frames import polar, rotating
from sepnet.models.gallery_problem import Cells, GalleryProblem, interval, mesh, numbers, positive, whole
from sepnet.models.gallery_transport import evolution_constants, image_error
from sepnet.problems import Galerkin, LeastSquares
from sepnet.spaces import TensorSpace

__all__ = ["plume_corotating", "ring"]


def plume_corotating(
    cells: Cells = None,
    degree: int = 7,
    *,
    walls: float = 1.25,
    centre: tuple[float, float, float] = (0.3, 0.0, 0.0),
    width: float = 0.15,
    t: tuple[float, float] = (0.0, 1.0),
    omega: tuple[float, float] = (0.0, 1.0),
    kappa: tuple[float, float] = (1e-4, 2e-3),
    tol: float = 1e-4,
) -> GalleryProblem:
    """Return the rotating, spreading plume in the frame that turns with it.

    The equation is that of `advection_diffusion`. In the coordinates ``xi + i eta = (x + i y) exp(-i omega (t - t_0))``
    (`sepnet.rotating`) the wind is gone, and what is left separates well. The box ``|xi|, |eta|, |z| < walls`` turns,
    too, and is another domain than the cube at rest: physical points whose image lies outside are refused.

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; xi, eta and z 32, t 4, omega and kappa 1.
    degree : int, optional
        Degree of the splines, at least 2.
    walls, centre, width, t, omega, kappa
        As in `advection_diffusion`.
    tol : float, optional
        Tolerance to solve with.

    Returns
    -------
    GalleryProblem
        Its points are those of the frame; ``sepnet.rotating(case.space, ("xi", "eta"), rate="omega")`` is the map.

    Raises
    ------
    ValueError
        If a constant is out of its range.

    Examples
    --------
    >>> import sepnet as sn
    >>> case = plume_corotating(cells=16, tol=1e-2)
    >>> M = sn.rotating(case.space, ("xi", "eta"), rate="omega")
    >>> u = M(sn.solve(case.problem, **case.options).u)
    >>> round(float(u([[0.3 * np.cos(0.5), 0.3 * np.sin(0.5), 0.0, 0.5, 1.0, 1e-4]])[0]), 2)  # the centre has moved
    0.99
    """
    half, sigma, c = positive("walls", walls), positive("width", width), numbers("centre", centre, 3)
    times, spins, spreads = interval("t", t), interval("omega", omega), interval("kappa", kappa, at_least=0.0)
    if max(map(abs, c)) >= half:
        msg = f"`centre` is {c}, expected a point inside the walls at {half:g}"
        raise ValueError(msg)
    sizes = mesh(cells, {"xi": 32, "eta": 32, "z": 32, "t": 4, "omega": 1, "kappa": 1})
    order = whole("degree", degree, at_least=2)
    space = TensorSpace(
        **{name: BSpline((-half, half), cells=sizes[name], degree=order, zero="both") for name in ("xi", "eta", "z")},
        t=BSpline(times, cells=sizes["t"], degree=order),
        omega=BSpline(spins, cells=sizes["omega"], degree=1),  # the solution does not depend on it
        kappa=BSpline(spreads, cells=sizes["kappa"], degree=order),
    )
    xi, eta, _, _, spin, spread = space.coordinates
    d, moving = space.d, rotating(space, ("xi", "eta"), rate="omega").d
    # Rotations leave the Laplacian and their own generator x d/dy - y d/dx as they are.
    operator = moving.t + spin * (xi * d.eta - eta * d.xi) - spread * (d.xi**2 + d.eta**2 + d.z**2)

    def bell(position: float) -> object:
        return lambda s: np.exp(-((s - position) ** 2) / (2 * sigma**2))

    plume = product(xi=bell(c[0]), eta=bell(c[1]), z=bell(c[2]))  # type: ignore[arg-type]

    def reference(points: np.ndarray) -> np.ndarray:
        variance = sigma**2 + 2 * points[:, 5] * (points[:, 3] - times[0])
        square = ((points[:, :3] - np.array(c)) ** 2).sum(axis=1)
        return np.asarray((sigma**2 / variance) ** 1.5 * np.exp(-square / (2 * variance)))

    return GalleryProblem(
        name="plume-corotating",
        title="Rotating plume in the frame that turns with it (6-D)",
        problem=LeastSquares(operator, initial={"t": plume}, stability=evolution_constants(times[1] - times[0])),
        reference=reference,
        reference_error=image_error(half, c, sigma, t=times, omega=(0.0, 0.0), kappa=spreads),
        options={"tol": positive("tol", tol), "format": "tt"},
        constants={"cells": sizes, "degree": order, "walls": half, "centre": c, "width": sigma}
        | {"t": times, "omega": spins, "kappa": spreads},
        samples=1_000_000,
    )


def ring(
    cells: Cells = None, degree: int = 3, *, radii: tuple[float, float] = (1.0, 2.0), order: int = 2, tol: float = 1e-6
) -> GalleryProblem:
    """Return Laplace's equation on a ring, in polar coordinates.

    ``-Laplace u = 0`` between two circles with ``u = 0`` on the inner one and ``u = cos(m theta)`` on the outer one::

        u = cos(m theta) ((r / a)**m - (a / r)**m) / ((b / a)**m - (a / b)**m)

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; r 16, theta 32.
    degree : int, optional
        Degree of the splines, at least 1.
    radii : (float, float), optional
        a and b.
    order : int, optional
        m, at least 1.
    tol : float, optional
        Tolerance to solve with.

    Returns
    -------
    GalleryProblem
        ``sepnet.polar(case.space)`` is the map.

    Raises
    ------
    ValueError
        If a constant is out of its range.

    Examples
    --------
    >>> import sepnet as sn
    >>> case = ring()
    >>> case.measure(sn.solve(case.problem, **case.options).u).value < 1e-4
    True
    """
    inner, outer = interval("radii", radii, at_least=1e-6)
    m, sizes = whole("order", order, at_least=1), mesh(cells, {"r": 16, "theta": 32})
    p = whole("degree", degree, at_least=1)
    space = TensorSpace(
        r=BSpline((inner, outer), cells=sizes["r"], degree=p),
        theta=BSpline((0.0, 2 * math.pi), cells=sizes["theta"], degree=p, periodic=True),
    )

    def reference(points: np.ndarray) -> np.ndarray:
        r, theta = points.T
        size = (outer / inner) ** m - (inner / outer) ** m
        return np.asarray(np.cos(m * theta) * ((r / inner) ** m - (inner / r) ** m) / size)

    harmonic = product(theta=lambda s: np.cos(m * s))
    problem = Galerkin(polar(space).stiffness(), boundary={"r": (0, harmonic)})
    return GalleryProblem(
        name="ring",
        title="Laplace's equation on a ring, in polar coordinates",
        problem=problem,
        reference=reference,
        reference_error=float(np.finfo(np.float64).eps),
        options={"tol": positive("tol", tol)},
        constants={"cells": sizes, "degree": p, "radii": (inner, outer), "order": m},
    )
