"""The laser of the gallery: heat from a scanning beam whose power, size and shape are axes of one problem (7-D)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np

from sepnet.bases import BSpline
from sepnet.coordinate_map import CoordinateMap
from sepnet.frames import affine
from sepnet.models.gallery_problem import Cells, GalleryProblem, interval, mesh, positive, whole
from sepnet.problems import LeastSquares
from sepnet.separation.separate import separate
from sepnet.spaces import TensorSpace

__all__ = ["LASER_UNITS", "Beam", "laboratory", "laser"]

LASER_UNITS: Mapping[str, str] = MappingProxyType(
    {"x": "mm", "xi": "mm", "y": "mm", "z": "mm", "t": "ms", "power": "W", "size": "mm", "shape": "1", "u": "K"}
)

# The order of the axes along a train. Matricisations of the exact solution to 1e-3 have the ranks 1, 2, 5, 12, 14, 7
# along it: one per cent more coefficients than the shortest order, and less than half its multiplications a point.
_ORDER = ("power", "shape", "size", "y", "xi", "t", "z")
# Cells, and the residual at which their splines are exhausted.
_CELLS = {"xi": 46, "y": 24, "z": 24, "t": 56, "size": 3}
_TOL, _SOURCE_TOL = 0.0118, 1e-3
# Panels and Gauss points a panel of the reference; points and panels with which the gallery measures its error.
_PANELS, _POINTS = 6, 20
_CHECKS = 4000


@final
@dataclass(frozen=True)
class Beam:
    """A laser beam on the surface of a half space of constant properties, and its temperature rise in closed form.

    In millimetres, milliseconds, watts and kelvin. The absorbed flux of a beam of power P, size a (radius where the
    intensity of its core has fallen to ``exp(-2)``) and shape b (the share of the power in the ring) is ::

        q(r) = absorptivity P N(r) (1 - b + b r**2 / (2 s**2)),   N(r) = exp(-r**2 / (2 s**2)) / (2 pi s**2),  s = a / 2

    a Gaussian core and the ring of the doughnut mode of the same size, each of unit power. It scans along x with the
    velocity v, from x = 0 at t = 0 on.

    Parameters
    ----------
    velocity : float
        mm/ms, which is m/s.
    diffusivity : float
        mm**2/ms.
    capacity : float
        Heat capacity of a volume, J/(mm**3 K).
    absorptivity : float
        Share of the power that is absorbed.
    """

    velocity: float
    diffusivity: float
    capacity: float
    absorptivity: float

    @property
    def conductivity(self) -> float:
        """In W/(mm K)."""
        return 1e3 * self.diffusivity * self.capacity

    def flux(self, xi: np.ndarray, y: np.ndarray, size: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """Return the flux per watt, 1/mm**2, at the distance xi ahead of and y beside the centre of the beam."""
        variance = size**2 / 4
        square = (xi**2 + y**2) / (2 * variance)
        return np.asarray(np.exp(-square) / (2 * math.pi * variance) * (1 - shape + shape * square))

    def rise(self, points: np.ndarray, *, panels: int = _PANELS) -> np.ndarray:
        """Return the temperature rise in the half space, by one integral over the past.

        The heat of each moment s ago has spread: its variance along the surface is ``S = a**2 / 4 + 2 kappa s``. For
        the core that is the solution of Eagar and Tsai (Welding Journal 62, 1983, equation 8); the ring is the
        derivative of the core with respect to its variance, ``N + s**2 dN/ds**2``, and stays so as it spreads::

            u = 2 absorptivity P / (rho c)  int_0^t  exp(-z**2 / (4 kappa s)) / sqrt(4 pi kappa s)  N_S(r)
                    (1 + b s_0**2 / S (r**2 / (2 S) - 1)) ds,      r**2 = (xi + v s)**2 + y**2,  s_0 = a / 2

        The root in the integrand is taken away by ``s = w**2``; the rest is a Gauss rule on panels of w.

        Parameters
        ----------
        points : ndarray of shape (n, 7)
            xi = x - v t, y, z, t, power, size, shape.
        panels : int, optional
            Panels, of 20 points each.

        Returns
        -------
        ndarray of shape (n,)
            In kelvin.
        """
        xi, y, z, t, power, size, shape = np.asarray(points, dtype=np.float64).T
        variance, root = size**2 / 4, np.sqrt(t)
        nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
        total = np.zeros(len(t))
        for panel in range(panels):
            for node, weight in zip(nodes, weights, strict=True):
                w = root * (panel + (1 + node) / 2) / panels
                past = w * w
                spread = variance + 2 * self.diffusivity * past
                square = ((xi + self.velocity * past) ** 2 + y * y) / (2 * spread)
                deep = z * z / (4 * self.diffusivity * np.maximum(past, np.finfo(np.float64).tiny))
                ring = 1 + shape * variance / spread * (square - 1)
                total += weight * np.exp(-square - deep) * ring / spread
        # 2 / (2 pi sqrt(4 pi kappa)), the half length of a panel, ds = 2 w dw, and 1e-3 J/ms a watt.
        factor = 1e-3 * self.absorptivity / (math.pi * self.capacity * math.sqrt(4 * math.pi * self.diffusivity))
        return np.asarray(factor * power * root / panels * total)


def laser(
    cells: Cells = None,
    degree: int = 3,
    *,
    velocity: float = 0.8,
    duration: float = 1.25,
    power: tuple[float, float] = (40.0, 140.0),
    size: tuple[float, float] = (0.05, 0.1),
    half_width: float = 0.4,
    depth: float = 0.4,
    margin: float = 0.3,
    absorptivity: float = 0.3,
    density: float = 8190.0,
    heat_capacity: float = 650.0,
    conductivity: float = 25.0,
    tol: float = _TOL,
) -> GalleryProblem:
    """Return the heat of a moving laser over space, time, power, beam size and beam shape.

    A beam scans the surface z = 0 of a block; z points into it. Seen from the beam, at ``xi = x - v t``, ::

        u_t - v u_xi = kappa (u_xixi + u_yy + u_zz),      -k u_z = q(xi, y; power, size, shape)  at z = 0

    with u = 0 at t = 0 and on the far walls, u in kelvin above the start. In this frame the source rests, and the
    solution has ranks that do not grow with the length of the track; `laboratory` takes points at x. The flux q is that
    of `Beam`: it separates neither in xi and y nor in space and size, and is separated by `sepnet.separate`.

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; xi 46, y 24, z 24, t 56, size 3, finer at the beam, the surface and the start.
    degree : int, optional
        Degree of the splines, at least 2.
    velocity : float, optional
        Of the beam, m/s (mm/ms).
    duration : float, optional
        ms.
    power : tuple of float, optional
        Range, W. The rise is proportional to it.
    size : tuple of float, optional
        Range of the radius, mm.
    half_width, depth, margin : float, optional
        The block, mm: ``|y| <= half_width``, ``z <= depth``, and x from ``-margin`` to ``velocity * duration +
        margin``.
    absorptivity : float, optional
        Share of the power that is absorbed.
    density, heat_capacity, conductivity : float, optional
        kg/m**3, J/(kg K) and W/(m K); round values for Inconel 718 between room temperature and melting.
    tol : float, optional
        Residual to solve to.

    Returns
    -------
    GalleryProblem
        The space has the axes xi, y, z, t, power, size and shape, in mm, ms and W. The constants hold the `Beam`.

    Raises
    ------
    ValueError
        If a constant is out of its range, or the range of sizes so wide that the flux does not separate.

    Notes
    -----
    The model is linear: no melting, no evaporation, constant properties. The residual of the flux at the surface counts
    with the weight ``kappa / sqrt(h)``, h the first cell in z: a wrong flux g bends u in that cell by about ``g / h``,
    which is a residual of ``kappa g / sqrt(h)`` in the norm of the equation.

    Examples
    --------
    >>> case = laser(cells={"t": 20, "z": 10})
    >>> case.space.names
    ('xi', 'y', 'z', 't', 'power', 'size', 'shape')
    >>> hottest = case.reference(np.array([[-0.02, 0.0, 0.0, 1.25, 100.0, 0.06, 0.0]]))
    >>> print(f"{hottest[0]:.0f} K")
    3581 K
    """
    numbers = {"velocity": velocity, "duration": duration, "half_width": half_width, "depth": depth, "margin": margin}
    numbers |= {"absorptivity": absorptivity, "density": density, "heat_capacity": heat_capacity}
    numbers |= {"conductivity": conductivity, "tol": tol}
    numbers = {name: positive(name, value) for name, value in numbers.items()}
    ranges = {"power": interval("power", power, at_least=0.0), "size": interval("size", size, at_least=0.0)}
    if ranges["size"][0] == 0.0:
        msg = f"`size` is {size!r}, expected a range above zero"
        raise ValueError(msg)
    capacity = numbers["density"] * numbers["heat_capacity"] * 1e-9
    beam = Beam(numbers["velocity"], numbers["conductivity"] * 1e-6 / capacity, capacity, numbers["absorptivity"])
    space = _space(mesh(cells, _CELLS), whole("degree", degree, at_least=2), numbers, ranges)
    flux = separate(_on_columns(beam.flux), TensorSpace(**{n: space.axes[n] for n in _FLUX_AXES}), _SOURCE_TOL)
    if not flux.converged:
        msg = (
            f"`size` is {size!r}: the flux of the beam separates to {flux.error.value:.1g} only, expected "
            f"{_SOURCE_TOL:g}: give a narrower range"
        )
        raise ValueError(msg)
    weight = beam.diffusivity / math.sqrt(float(np.diff(space.axes["z"].breaks)[0]))
    d, watts = space.d, space.coordinates[space.names.index("power")]
    surface = (weight * d.z).at(z=0), flux * watts * (-weight * beam.absorptivity / beam.conductivity)
    operator = d.t - beam.velocity * d.xi - beam.diffusivity * (d.xi**2 + d.y**2 + d.z**2)
    return GalleryProblem(
        name="laser",
        title="Moving laser over space, time, power, beam size and beam shape (7-D)",
        problem=LeastSquares(operator, conditions=[surface]),
        reference=beam.rise,
        reference_error=_reference_error(beam, space),
        options={"format": "tt", "order": _ORDER, "tol": numbers["tol"]},
        constants={"beam": beam, "cells": mesh(cells, _CELLS), "degree": degree, **numbers, **ranges},
        samples=200_000,
    )


def laboratory(space: TensorSpace, beam: Beam) -> CoordinateMap:
    """Return the map to coordinates at rest, ``x = xi + v t``: points are x, y, z, t, power, size, shape.

    Parameters
    ----------
    space : TensorSpace
        The space of the problem, `GalleryProblem.space`.
    beam : Beam
        The constant "beam" of the problem.

    Returns
    -------
    CoordinateMap

    Examples
    --------
    >>> case = laser(cells={"t": 20, "z": 10})
    >>> frame = laboratory(case.space, case.constants["beam"])
    >>> frame.names
    ('x', 'y', 'z', 't', 'power', 'size', 'shape')
    """
    matrix = np.eye(space.dim)
    matrix[0, space.names.index("t")] = beam.velocity
    return affine(space, ["x", *space.names[1:]], matrix)


_FLUX_AXES = ("xi", "size", "shape", "y")


def _on_columns(f: Callable[..., np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the flux as a function of points with the columns of `_FLUX_AXES`."""

    def on_points(points: np.ndarray) -> np.ndarray:
        xi, size, shape, y = points.T
        return f(xi, y, size, shape)

    return on_points


def _space(
    cells: Mapping[str, int], degree: int, numbers: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> TensorSpace:
    """Return the axes, with cells that widen away from the beam, the surface and the start."""
    radius, end = ranges["size"][1], numbers["velocity"] * numbers["duration"] + numbers["margin"]
    wide, deep, late = numbers["half_width"], numbers["depth"], numbers["duration"]
    xi = _breaks((-end, end), cells["xi"], even=1.2 * radius, behind=1.2 * radius, ahead=0.3 * radius)
    y = _breaks((-wide, wide), cells["y"], even=0.0, behind=0.8 * radius, ahead=0.8 * radius)
    z = _breaks((0.0, deep), cells["z"], even=0.0, behind=1.0, ahead=0.3 * radius)
    t = _breaks((0.0, late), cells["t"], even=0.0, behind=1.0, ahead=0.005 * late)
    return TensorSpace(
        xi=BSpline(breaks=xi, degree=degree, zero="both"),
        y=BSpline(breaks=y, degree=degree, zero="both"),
        z=BSpline(breaks=z, degree=degree, zero="right"),
        t=BSpline(breaks=t, degree=degree, zero="left"),
        power=BSpline(ranges["power"], cells=1, degree=1),
        size=BSpline(ranges["size"], cells=cells["size"], degree=degree),
        shape=BSpline((0.0, 1.0), cells=1, degree=1),
    )


def _breaks(ends: tuple[float, float], cells: int, *, even: float, behind: float, ahead: float) -> np.ndarray:
    """Return breaks with equal cells up to `even` from 0, and from there on cells that widen linearly.

    A cell is twice as wide at the distance `behind` (below 0) or `ahead` from where they are equal, three times at
    twice that distance, and so on.
    """

    def count(s: np.ndarray) -> np.ndarray:
        outer = np.maximum(np.abs(s) - even, 0.0)
        slope = np.where(s < 0, behind, ahead)
        return np.asarray(np.sign(s) * (np.minimum(np.abs(s), even) + slope * np.log1p(outer / slope)))

    fine = np.linspace(*ends, 20001)
    levels = count(fine)
    result = np.interp(np.linspace(levels[0], levels[-1], cells + 1), levels, fine)
    result[[0, -1]] = ends
    return result


def _reference_error(beam: Beam, space: TensorSpace) -> float:
    """Return how far the rise in the half space is from that in the block, as a relative L2 error over the box.

    What a wall changes is, to first order, the mirror image of what lies behind it: the rise behind the walls is
    compared with that in the box, at random points. To it comes the error of the integral, seen by twice the panels.
    """
    points, weights = _among_the_cells(space, np.random.default_rng(0))
    values = beam.rise(points)

    def norm(difference: np.ndarray) -> float:
        return math.sqrt(float(np.mean(weights * difference**2)))

    behind = []
    for axis, wall in (("xi", 0), ("xi", 1), ("y", 0), ("y", 1), ("z", 1)):
        k = space.names.index(axis)
        mirrored = points.copy()
        mirrored[:, k] = 2 * space.axes[axis].domain[wall] - points[:, k]
        behind.append(norm(beam.rise(mirrored)))
    return (math.hypot(*behind) + norm(values - beam.rise(points, panels=2 * _PANELS))) / norm(values)


def _among_the_cells(space: TensorSpace, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return random points, as many in each cell of an axis as in any other, and the volume each stands for."""
    places = rng.random((_CHECKS, space.dim))
    points, volumes = np.empty_like(places), np.ones(_CHECKS)
    for k, basis in enumerate(space.bases):
        cells = basis.breaks.size - 1
        points[:, k] = np.interp(places[:, k] * cells, np.arange(cells + 1), basis.breaks)
        volumes *= np.diff(basis.breaks)[np.minimum((places[:, k] * cells).astype(int), cells - 1)]
    return points, volumes
