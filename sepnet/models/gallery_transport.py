"""Problems of the gallery over space, time and parameters, by least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
from scipy.special import erfc

from sepnet.bases import BSpline
from sepnet.coefficients import apply, product
from sepnet.models.gallery_problem import Cells, GalleryProblem, interval, mesh, numbers, positive, whole
from sepnet.problems import LeastSquares
from sepnet.spaces import TensorSpace

__all__ = ["advection_diffusion", "evolution_constants", "heat", "image_error", "path"]


def heat(
    cells: Cells = None,
    degree: int = 3,
    *,
    t: tuple[float, float] = (0.0, 1.0),
    kappa: tuple[float, float] = (0.01, 0.1),
    amplitudes: Sequence[float] = (1.0, 0.5),
    rank: int = 10,
) -> GalleryProblem:
    """Return the heat equation over space, time and diffusivity.

    On ``0 < x < 1`` with zero ends, ``u_t = kappa u_xx``, started from a sum of sines; the solution is ::

        u = sum_k  a_k sin(k pi x) exp(-k**2 pi**2 kappa (t - t_0))

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x 24, t 10, kappa 6.
    degree : int, optional
        Degree of the splines, at least 2.
    t, kappa : tuple of float, optional
        Ranges of time and diffusivity.
    amplitudes : sequence of float, optional
        a_1, a_2, ...
    rank : int, optional
        Rank to solve with.

    Returns
    -------
    GalleryProblem

    Raises
    ------
    ValueError
        If a constant is out of its range.

    Examples
    --------
    >>> heat().space.names
    ('x', 't', 'kappa')
    """
    times, range_ = interval("t", t), interval("kappa", kappa, at_least=0.0)
    sines = numbers("amplitudes", amplitudes)
    sizes, order = mesh(cells, {"x": 24, "t": 10, "kappa": 6}), whole("degree", degree, at_least=2)
    space = TensorSpace(
        x=BSpline((0.0, 1.0), cells=sizes["x"], degree=order, zero="both"),
        t=BSpline(times, cells=sizes["t"], degree=order),
        kappa=BSpline(range_, cells=sizes["kappa"], degree=order),
    )
    x, _, diffusivity = space.coordinates

    def initial(s: np.ndarray) -> np.ndarray:
        return reduce(add, [a * np.sin(k * np.pi * s) for k, a in enumerate(sines, 1)])

    def reference(points: np.ndarray) -> np.ndarray:
        position, time, rate = points.T
        decay = np.pi**2 * rate * (time - times[0])
        parts = [a * np.sin(k * np.pi * position) * np.exp(-(k**2) * decay) for k, a in enumerate(sines, 1)]
        return np.asarray(reduce(add, parts))

    problem = LeastSquares(
        space.d.t - diffusivity * space.d.x**2,
        initial={"t": apply(initial, x)},
        stability=evolution_constants(times[1] - times[0]),
    )
    return GalleryProblem(
        name="heat",
        title="Heat equation over space, time and diffusivity",
        problem=problem,
        reference=reference,
        reference_error=float(np.finfo(np.float64).eps),
        options={"rank": whole("rank", rank, at_least=1)},
        constants={"cells": sizes, "degree": order, "t": times, "kappa": range_, "amplitudes": sines},
    )


def evolution_constants(duration: float) -> tuple[float, float]:
    r"""Return C and C_0 of the error bound for advection and diffusion over a time T between zero walls.

    Let ``e_t + b . grad e - div(k grad e) = r`` with ``div b = 0``, ``k >= 0`` and ``e = 0`` on the walls. Tested with
    e, at a time t and for fixed parameters::

        1/2 d/dt ||e||**2 + (b . grad e, e) + (k grad e, grad e) = (r, e),   (b . grad e, e) = 1/2 (b, grad e**2) = 0,

    so that ``d/dt ||e|| <= ||r||`` and ``||e(t)|| <= ||e(0)|| + int_0^t ||r||``. The norm of integration from 0 to t
    on L2(0, T) is ``2 T / pi``: its largest singular value, with ``sin(pi t / (2 T))`` as the result. Hence, by the
    triangle inequality in L2(0, T), and again over the parameters::

        ||e||  <=  (2 T / pi) ||r||  +  T**(1/2) ||e(0)||

    in L2 of the whole box.

    Parameters
    ----------
    duration : float
        T.

    Returns
    -------
    float, float
        ``2 T / pi`` and ``T**(1/2)``.

    Examples
    --------
    >>> [round(c, 3) for c in evolution_constants(4.0)]
    [2.546, 2.0]
    """
    return 2 * duration / math.pi, math.sqrt(duration)


def advection_diffusion(
    cells: Cells = None,
    degree: int = 3,
    *,
    walls: float = 1.25,
    centre: tuple[float, float, float] = (0.3, 0.0, 0.0),
    width: float = 0.15,
    t: tuple[float, float] = (0.0, 1.0),
    omega: tuple[float, float] = (0.0, 1.0),
    kappa: tuple[float, float] = (1e-4, 2e-3),
    rank: int = 64,
) -> GalleryProblem:
    """Return the rotating, spreading plume over space, time, angular velocity and diffusivity.

    In the cube ``|x|, |y|, |z| < walls`` with zero boundary values, and started from a Gaussian of the given width::

        u_t + omega (x u_y - y u_x) = kappa (u_xx + u_yy + u_zz)

    The reference is the solution in free space, with the centre c turned by the angle ``omega (t - t_0)`` about the z
    axis and the variance ``s**2 = width**2 + 2 kappa (t - t_0)``::

        u = (width / s)**3 exp(-|x - c(t, omega)|**2 / (2 s**2))

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x, y and z 34, t 10, omega 5, kappa 2.
    degree : int, optional
        Degree of the splines, at least 2.
    walls : float, optional
        Half the edge of the cube.
    centre : tuple of three float, optional
        Centre of the plume at the start.
    width : float, optional
        Standard deviation of the plume at the start.
    t, omega, kappa : tuple of float, optional
        Ranges of time, angular velocity and diffusivity.
    rank : int, optional
        Rank to solve with, initial data included.

    Returns
    -------
    GalleryProblem
        Its `reference_error` is what the walls would change, by the six mirror images of the plume; see `image_error`.

    Raises
    ------
    ValueError
        If a constant is out of its range.

    Notes
    -----
    The problem is that of arXiv 2603.12244, section on variational separable architectures, whose constants are not
    published; these are ours.

    Examples
    --------
    >>> case = advection_diffusion(walls=1.25)
    >>> print(f"{case.reference_error:.1e}")
    1.1e-09
    """
    half, sigma = positive("walls", walls), positive("width", width)
    c = numbers("centre", centre, 3)
    ranges = {"t": interval("t", t), "omega": interval("omega", omega), "kappa": interval("kappa", kappa, at_least=0.0)}
    if math.hypot(c[0], c[1]) >= half or abs(c[2]) >= half:
        msg = f"`centre` is {c}, expected a point whose circle about the z axis stays inside the walls at {half:g}"
        raise ValueError(msg)
    sizes = mesh(cells, {"x": 34, "y": 34, "z": 34, "t": 10, "omega": 5, "kappa": 2})
    order = whole("degree", degree, at_least=2)
    space = TensorSpace(
        **{name: BSpline((-half, half), cells=sizes[name], degree=order, zero="both") for name in "xyz"},
        **{name: BSpline(ends, cells=sizes[name], degree=order) for name, ends in ranges.items()},
    )
    x, y, _, _, spin, spread = space.coordinates
    d = space.d
    operator = d.t + spin * (x * d.y - y * d.x) - spread * (d.x**2 + d.y**2 + d.z**2)
    duration = ranges["t"][1] - ranges["t"][0]
    plume = product(**{name: _bell(centre, sigma) for name, centre in zip("xyz", c, strict=True)})

    def reference(points: np.ndarray) -> np.ndarray:
        position, (time, velocity, rate) = points[:, :3], points[:, 3:].T
        moved = np.stack(path(c, velocity * (time - ranges["t"][0])), axis=1)
        variance = sigma**2 + 2 * rate * (time - ranges["t"][0])
        square = ((position - moved) ** 2).sum(axis=1)
        return np.asarray((sigma**2 / variance) ** 1.5 * np.exp(-square / (2 * variance)))

    return GalleryProblem(
        name="advection-diffusion",
        title="Rotating plume over space, time, angular velocity and diffusivity (6-D)",
        problem=LeastSquares(operator, initial={"t": plume}, stability=evolution_constants(duration)),
        reference=reference,
        reference_error=image_error(half, c, sigma, **ranges),
        options={"rank": whole("rank", rank, at_least=1)},
        constants={"cells": sizes, "degree": order, "walls": half, "centre": c, "width": sigma, **ranges},
        samples=1_000_000,
    )


class _bell:  # noqa: N801  a function with two parameters
    """``exp(-(s - centre)**2 / (2 width**2))``."""

    def __init__(self, centre: float, width: float) -> None:
        self.centre, self.width = centre, width

    def __call__(self, s: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-((s - self.centre) ** 2) / (2 * self.width**2)))


def path(centre: Sequence[float], angle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the coordinates of `centre` after turning by `angle` about the z axis."""
    x, y, z = centre
    cosine, sine = np.cos(angle), np.sin(angle)
    return x * cosine - y * sine, x * sine + y * cosine, np.full_like(cosine, z)


def image_error(
    walls: float,
    centre: Sequence[float],
    width: float,
    *,
    t: tuple[float, float],
    omega: tuple[float, float],
    kappa: tuple[float, float],
) -> float:
    """Return how far the plume in free space is from the plume between walls, as a relative L2 error over the box.

    A wall at the distance D from the centre is made zero by a mirror image, of which the share
    ``erfc(D / s) / 2`` (of the squared norm) lies inside, ``s**2 = width**2 + 2 kappa (t - t_0)``; the six shares are
    added, averaged over time and parameters by a Gauss rule, and the square root is taken.

    Parameters
    ----------
    walls, centre, width, t, omega, kappa
        As in `advection_diffusion`.

    Returns
    -------
    float
    """
    s, weights = np.polynomial.legendre.leggauss(32)

    def rule(ends: tuple[float, float]) -> np.ndarray:
        return np.asarray((ends[0] + ends[1]) / 2 + (ends[1] - ends[0]) / 2 * s)

    time, spin, rate = np.meshgrid(rule(t) - t[0], rule(omega), rule(kappa), indexing="ij")
    deviation = np.sqrt(width**2 + 2 * rate * time)
    shares = np.zeros_like(time)
    for position in path(centre, spin * time):
        for distance in (walls - position, walls + position):
            shares += erfc(distance / deviation) / 2
    mean = np.einsum("ijk,i,j,k->", shares, weights / 2, weights / 2, weights / 2)
    return float(np.sqrt(mean))
