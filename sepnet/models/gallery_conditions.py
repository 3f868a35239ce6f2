"""Problems of the gallery with conditions other than zero walls: films, periods of time, interfaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sepnet.bases import BSpline
from sepnet.coefficients import Coefficient, apply
from sepnet.forms import inner
from sepnet.models.gallery_problem import Cells, GalleryProblem, interval, mesh, numbers, positive, whole
from sepnet.piecewise import piecewise
from sepnet.problems import Galerkin, LeastSquares
from sepnet.spaces import TensorSpace

__all__ = ["interface", "periodic_heat", "robin"]

EPS = float(np.finfo(np.float64).eps)


def _sines(coordinate: Coefficient, amplitudes: Sequence[float]) -> Coefficient:
    """Return ``sum_k a_k sin(k pi y)``."""
    total = Coefficient()
    for k, a in enumerate(amplitudes, 1):
        total = total + a * apply(np.sin, k * np.pi * coordinate)
    return total


def robin(
    cells: Cells = None,
    degree: int = 3,
    *,
    h: tuple[float, float] = (0.1, 10.0),
    amplitudes: Sequence[float] = (1.0, 0.5),
    rank: int = 10,
) -> GalleryProblem:
    """Return a heated plate that is cooled through a film on one side, over space and film coefficient.

    On the unit square ``-Laplace u = sum_k a_k sin(k pi y)``, zero at ``y = 0`` and 1, insulated at ``x = 0``, and
    ``u_x + h u = 0`` at ``x = 1`` (Robin), by Galerkin's method. With ``l = k pi`` the solution is ::

        u = sum_k  a_k / l**2  sin(l y)  (1 - h cosh(l x) / (l sinh l + h cosh l))

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x and y 16, h 8 (graded towards its lower end).
    degree : int, optional
        Degree of the splines.
    h : tuple of float, optional
        Range of the film coefficient.
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
    >>> robin().space.names
    ('x', 'y', 'h')
    """
    films = interval("h", h, at_least=0.0)
    heights = numbers("amplitudes", amplitudes)
    sizes, order = mesh(cells, {"x": 16, "y": 16, "h": 8}), whole("degree", degree, at_least=1)
    # The solution is a function of (h + l tanh l), the smallest l tanh l being about 3: equal steps of log(h + 3).
    steps = np.geomspace(films[0] + 3, films[1] + 3, sizes["h"] + 1) - 3
    steps[[0, -1]] = films
    space = TensorSpace(
        x=BSpline((0.0, 1.0), cells=sizes["x"], degree=order),
        y=BSpline((0.0, 1.0), cells=sizes["y"], degree=order, zero="both"),
        h=BSpline(breaks=steps, degree=order),
    )
    _, y, film = space.coordinates
    d, face = space.d, space.identity.at(x=1)
    form = inner(d.x, d.x) + inner(d.y, d.y) + inner(film * face, face)

    def reference(points: np.ndarray) -> np.ndarray:
        x, height, coefficient = points.T
        total = np.zeros(len(points))
        for k, a in enumerate(heights, 1):
            rate = k * np.pi
            # cosh(l x) / cosh l, without overflow
            share = np.exp(rate * (x - 1)) * (1 + np.exp(-2 * rate * x)) / (1 + np.exp(-2 * rate))
            profile = 1 - coefficient * share / (rate * np.tanh(rate) + coefficient)
            total += a / rate**2 * np.sin(rate * height) * profile
        return total

    return GalleryProblem(
        name="robin",
        title="Heated plate with a film on one side, over space and film coefficient",
        problem=Galerkin(form, source=_sines(y, heights)),
        reference=reference,
        reference_error=16 * EPS,
        options={"rank": whole("rank", rank, at_least=1)},
        constants={"cells": sizes, "degree": order, "h": films, "amplitudes": heights},
    )


def periodic_heat(
    cells: Cells = None,
    degree: int = 3,
    *,
    depth: float = 1.0,
    period: float = 1.0,
    kappa: tuple[float, float] = (0.02, 0.2),
    rank: int = 14,
) -> GalleryProblem:
    """Return the ground under a surface whose temperature is periodic in time: the periodic state, at once.

    ``u_t = kappa u_xx`` in ``0 < x < D``, ``u = cos(w t)`` at the surface ``x = 0``, ``u_x = 0`` at the depth D, and t
    on a ring of one period: no initial value, and none of the periods that a time stepper takes to forget one. With
    ``w = 2 pi / period`` and ``m = (i w / kappa)**(1/2)`` the solution is ::

        u = Re  exp(i w t)  cosh(m (D - x)) / cosh(m D)

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x 20, t 12, kappa 6. Those of x are graded towards the surface, those of kappa to its lower end.
    degree : int, optional
        Degree of the splines, at least 2.
    depth, period : float, optional
        D, and the period of the surface temperature.
    kappa : tuple of float, optional
        Range of the diffusivity.
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
    >>> periodic_heat().space.axes["t"].periodic
    True
    """
    bottom, turn = positive("depth", depth), positive("period", period)
    range_ = interval("kappa", kappa, at_least=0.0)
    if range_[0] == 0.0:
        msg = f"`kappa` is {kappa!r}, expected a range above 0: without diffusion nothing comes down from the surface"
        raise ValueError(msg)
    sizes, order = mesh(cells, {"x": 20, "t": 12, "kappa": 6}), whole("degree", degree, at_least=2)
    space = TensorSpace(
        x=BSpline(breaks=bottom * np.linspace(0, 1, sizes["x"] + 1) ** 2, degree=order),
        t=BSpline((0.0, turn), cells=sizes["t"], degree=order, periodic=True),
        kappa=BSpline(breaks=np.geomspace(*range_, sizes["kappa"] + 1), degree=order),
    )
    _, t, diffusivity = space.coordinates
    d, turns = space.d, 2 * np.pi / turn
    problem = LeastSquares(
        d.t - diffusivity * d.x**2,
        boundary={"x": (apply(np.cos, turns * t), None)},
        conditions=[(d.x.at(x=bottom), 0)],
    )

    def reference(points: np.ndarray) -> np.ndarray:
        x, time, rate = points.T
        m = (1 + 1j) * np.sqrt(turns / (2 * rate))
        share = np.exp(-m * x) * (1 + np.exp(-2 * m * (bottom - x))) / (1 + np.exp(-2 * m * bottom))
        return np.asarray((np.exp(1j * turns * time) * share).real)

    return GalleryProblem(
        name="periodic-heat",
        title="Ground under a periodic surface temperature, over depth, time of one period and diffusivity",
        problem=problem,
        reference=reference,
        # The arguments of the exponentials are of the size of m D, and so is their round-off.
        reference_error=float(16 * EPS * max(1.0, bottom * np.sqrt(turns / range_[0]))),
        options={"rank": whole("rank", rank, at_least=1)},
        constants={"cells": sizes, "degree": order, "depth": bottom, "period": turn, "kappa": range_},
    )


def interface(
    cells: Cells = None,
    degree: int = 3,
    *,
    at: float = 0.4,
    k1: float = 1.0,
    k2: tuple[float, float] = (1.0, 100.0),
    amplitudes: Sequence[float] = (1.0, 0.5),
    rank: int = 10,
) -> GalleryProblem:
    """Return heat conduction through two layers, over space and the conductivity of the second layer.

    On the unit square ``-div(k grad u) = sum_j a_j sin(j pi y)`` with zero walls, k = k1 for ``x < a`` and k2 beyond,
    by Galerkin's method. Temperature and flux are continuous at ``x = a``, the slope jumps, and the splines have
    continuity 0 there. With ``l = j pi`` and ``p = 1 / l**2`` the solution is ``sum_j a_j sin(l y) U(x)``, ::

        U = p / k1 (1 - cosh(l x)) + A sinh(l x)                   x < a
        U = p / k2 (1 - cosh(l (1 - x))) + B sinh(l (1 - x))       x > a

    with A and B from the two conditions at a.

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x 20, y 16, k2 16 (in equal ratios).
    degree : int, optional
        Degree of the splines.
    at : float, optional
        The place a of the interface, between 0 and 1.
    k1 : float, optional
        Conductivity of the first layer.
    k2 : tuple of float, optional
        Range of that of the second.
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
    >>> interface().space.axes["x"].smoothness
    0
    """
    place, first = positive("at", at), positive("k1", k1)
    second = interval("k2", k2, at_least=0.0)
    heights = numbers("amplitudes", amplitudes)
    if place >= 1.0 or second[0] == 0.0:
        msg = f"`at` is {at!r} and `k2` is {k2!r}, expected a place between 0 and 1 and conductivities above 0"
        raise ValueError(msg)
    sizes, order = mesh(cells, {"x": 20, "y": 16, "k2": 16}), whole("degree", degree, at_least=1)
    space = TensorSpace(
        x=BSpline((0.0, 1.0), cells=sizes["x"], degree=order, continuity={place: 0}, zero="both"),
        y=BSpline((0.0, 1.0), cells=sizes["y"], degree=order, zero="both"),
        k2=BSpline(breaks=np.geomspace(*second, sizes["k2"] + 1), degree=order),
    )
    x, y, conductivity = space.coordinates
    d = space.d
    k = piecewise(x, [place], [first, conductivity])

    def reference(points: np.ndarray) -> np.ndarray:
        position, height, other = points.T
        total = np.zeros(len(points))
        for j, a in enumerate(heights, 1):
            total += a * np.sin(j * np.pi * height) * _layers(position, other, first, place, j * np.pi)
        return total

    return GalleryProblem(
        name="interface",
        title="Heat conduction through two layers, over space and the conductivity of the second",
        problem=Galerkin(inner(k * d.x, d.x) + inner(k * d.y, d.y), source=_sines(y, heights)),
        reference=reference,
        # The hyperbolic functions of one wave cancel by the factor cosh(l).
        reference_error=float(16 * EPS * np.cosh(len(heights) * np.pi)),
        options={"rank": whole("rank", rank, at_least=1)},
        constants={"cells": sizes, "degree": order, "at": place, "k1": first, "k2": second, "amplitudes": heights},
    )


def _layers(x: np.ndarray, k2: np.ndarray, k1: float, a: float, rate: float) -> np.ndarray:
    """Return U of `interface` for one wave ``rate = j pi``."""
    b, p = 1 - a, 1 / rate**2
    sinh_a, cosh_a, sinh_b, cosh_b = np.sinh(rate * a), np.cosh(rate * a), np.sinh(rate * b), np.cosh(rate * b)
    # Continuity: A sinh_a - B sinh_b = jump. Flux: k1 A cosh_a + k2 B cosh_b = flux.
    jump = p / k2 * (1 - cosh_b) - p / k1 * (1 - cosh_a)
    flux = p * (sinh_a + sinh_b)
    determinant = k2 * sinh_a * cosh_b + k1 * cosh_a * sinh_b
    A = (jump * k2 * cosh_b + flux * sinh_b) / determinant
    B = (flux * sinh_a - jump * k1 * cosh_a) / determinant
    left = p / k1 * (1 - np.cosh(rate * x)) + A * np.sinh(rate * x)
    right = p / k2 * (1 - np.cosh(rate * (1 - x))) + B * np.sinh(rate * (1 - x))
    return np.asarray(np.where(x < a, left, right))
