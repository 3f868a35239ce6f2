"""Nonlinear problems of the gallery: Burgers' equation, Allen and Cahn's, and a reaction front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from sepnet.bases import BSpline, Legendre
from sepnet.coefficients import Coefficient, apply
from sepnet.forms import inner
from sepnet.functions import CP, interpolate
from sepnet.models.fronts import characteristics, cole_hopf, graded
from sepnet.models.gallery_problem import Cells, GalleryProblem, interval, mesh, positive, whole
from sepnet.problems import Galerkin, LeastSquares
from sepnet.spaces import TensorSpace

__all__ = [
    "allen_cahn",
    "burgers",
    "burgers_inviscid",
    "burgers_nu",
    "reaction_diffusion",
]

PI = math.pi


def burgers(
    cells: Cells = None, degree: int = 5, *, nu: float = 0.01 / PI, t: float = 1.0, tol: float = 1e-3
) -> GalleryProblem:
    """Return viscous Burgers' equation, whose sine steepens into a front.

    On ``-1 < x < 1`` with zero ends, ``u_t + u u_x = nu u_xx``, ``u = -sin(pi x)`` at the time 0; by least squares over
    space and time together.

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x 64, t 32.
    degree : int, optional
        Degree of the splines, at least 2.
    nu : float, optional
        Viscosity.
    t : float, optional
        Last time.
    tol : float, optional
        Relative residual to reach; the L2 error is far below it, since the residual weighs second derivatives.

    Returns
    -------
    GalleryProblem

    Notes
    -----
    The steady front of this equation is ``-U tanh(U x / (2 nu))`` with ``U < 1``, and the wave breaks at the time
    ``1 / pi``, around which the equation without viscosity is regularised over a time of order ``nu**(1/2)`` (the cusp
    of the characteristics, ``x ~ (t - 1/pi)**(3/2)``, balanced with ``nu u_xx``). So the knots are `graded`
    over the widths ``2 nu`` around x = 0 and ``nu**(1/2)`` around ``t = 1 / pi``.

    Examples
    --------
    >>> import sepnet as sn
    >>> case = burgers(16, 3, nu=0.1)
    >>> case.measure(sn.solve(case.problem, **case.options).u).value < 1e-3
    True
    """
    viscosity, last = positive("nu", nu), positive("t", t)
    sizes, order = mesh(cells, {"x": 64, "t": 32}), whole("degree", degree, at_least=2)
    space = TensorSpace(
        x=BSpline(breaks=graded((-1.0, 1.0), sizes["x"], 0.0, 2 * viscosity), degree=order, zero="both"),
        t=BSpline(breaks=graded((0.0, last), sizes["t"], min(1 / PI, last), math.sqrt(viscosity)), degree=order),
    )
    x, _ = space.coordinates
    u, d = space.unknown, space.d
    problem = LeastSquares(d.t(u) + u * d.x(u) - viscosity * (d.x**2)(u), initial={"t": apply(_sine, x)})

    def reference(points: np.ndarray, density: float = 2.0) -> np.ndarray:
        return cole_hopf(points[:, 0], points[:, 1], np.full(len(points), viscosity), density)

    return GalleryProblem(
        name="burgers",
        title="Viscous Burgers' equation over space and time: a front",
        problem=problem,
        reference=reference,
        reference_error=_own_error(reference, space),
        options={"tol": positive("tol", tol)},
        constants={"cells": sizes, "degree": order, "nu": viscosity, "t": last},
    )


def burgers_nu(
    cells: Cells = None,
    degree: int = 4,
    *,
    nu: tuple[float, float] = (0.01 / PI, 0.1 / PI),
    modes: int = 11,
    t: float = 1.0,
    tol: float = 1e-2,
) -> GalleryProblem:
    """Return viscous Burgers' equation over space, time and the logarithm of the viscosity.

    As `burgers`, for all viscosities of a range: the axis `s` in [0, 1] stands for ``nu = nu_0 (nu_1 / nu_0)**s``, in
    which the fronts, of width ``2 nu``, are resolved by few Legendre polynomials.

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x 48, t 20.
    degree : int, optional
        Degree of the splines, at least 2.
    nu : (float, float), optional
        Range of the viscosity.
    modes : int, optional
        Legendre polynomials in `s`.
    t, tol : float, optional
        As in `burgers`.

    Returns
    -------
    GalleryProblem

    Examples
    --------
    >>> burgers_nu(16).space.names
    ('x', 't', 's')
    """
    low, high = interval("nu", nu, at_least=0.0)
    low, last = positive("nu[0]", low), positive("t", t)
    sizes, order = mesh(cells, {"x": 48, "t": 20}), whole("degree", degree, at_least=2)
    space = TensorSpace(
        x=BSpline(breaks=graded((-1.0, 1.0), sizes["x"], 0.0, 2 * low), degree=order, zero="both"),
        t=BSpline(breaks=graded((0.0, last), sizes["t"], min(1 / PI, last), math.sqrt(low)), degree=order),
        s=Legendre((0.0, 1.0), whole("modes", modes, at_least=1) - 1),
    )
    x, _, s = space.coordinates
    u, d = space.unknown, space.d
    viscosity = apply(_Power(low, high / low), s)
    problem = LeastSquares(d.t(u) + u * d.x(u) - viscosity * (d.x**2)(u), initial={"t": apply(_sine, x)})

    def reference(points: np.ndarray, density: float = 2.0) -> np.ndarray:
        return cole_hopf(points[:, 0], points[:, 1], low * (high / low) ** points[:, 2], density)

    return GalleryProblem(
        name="burgers-nu",
        title="Viscous Burgers' equation over space, time and viscosity",
        problem=problem,
        reference=reference,
        reference_error=_own_error(reference, space),
        options={"tol": positive("tol", tol)},
        constants={"cells": sizes, "degree": order, "nu": (low, high), "modes": modes, "t": last},
    )


def burgers_inviscid(cells: Cells = None, degree: int = 4, *, last: float = 0.9, tol: float = 1e-3) -> GalleryProblem:
    """Return Burgers' equation without viscosity, before the wave breaks.

    On ``-1 < x < 1`` with zero ends, ``u_t + u u_x = 0``, ``u = -sin(pi x)`` at the time 0. The wave breaks at
    ``t = 1 / pi``; after that no continuous function solves the equation, least squares over the box have nothing to
    converge to, and what one wants is the limit of `burgers` for small viscosities.

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x 48, t 24.
    degree : int, optional
        Degree of the splines, at least 1.
    last : float, optional
        Last time as a share of the time ``1 / pi`` at which the wave breaks, below 1.
    tol : float, optional
        Relative residual to reach.

    Returns
    -------
    GalleryProblem

    Notes
    -----
    The slope at x = 0 is ``-pi / (1 - pi t)``, over a width of order ``(1 - pi t)**(3/2)``: the knots in x are graded
    over that width, those in t so that ``1 - pi t`` falls by the same factor in every cell.

    Examples
    --------
    >>> import sepnet as sn
    >>> case = burgers_inviscid(16, 3, last=0.5)
    >>> case.measure(sn.solve(case.problem, **case.options).u).value < 1e-3
    True
    """
    share = positive("last", last)
    if share >= 1.0:
        msg = (
            f"`last` is {last!r}, expected a share below 1: at 1 the wave breaks; for later times take burgers(nu=...)"
        )
        raise ValueError(msg)
    sizes, order = mesh(cells, {"x": 48, "t": 24}), whole("degree", degree, at_least=1)
    left = 1.0 - share
    times = (1.0 - left ** np.linspace(0.0, 1.0, sizes["t"] + 1)) / PI
    space = TensorSpace(
        x=BSpline(breaks=graded((-1.0, 1.0), sizes["x"], 0.0, left**1.5), degree=order, zero="both"),
        t=BSpline(breaks=times, degree=order),
    )
    x, _ = space.coordinates
    u, d = space.unknown, space.d
    return GalleryProblem(
        name="burgers-inviscid",
        title="Burgers' equation without viscosity, before the wave breaks",
        problem=LeastSquares(d.t(u) + u * d.x(u), initial={"t": apply(_sine, x)}),
        reference=lambda points: characteristics(points[:, 0], points[:, 1]),
        reference_error=1e-14 / left,
        options={"tol": positive("tol", tol)},
        constants={"cells": sizes, "degree": order, "last": share},
    )


def allen_cahn(
    cells: Cells = None,
    degree: int = 3,
    *,
    epsilon: float = 0.1,
    waves: int = 1,
    form: Literal["galerkin", "least-squares"] = "galerkin",
    tol: float = 1e-2,
) -> GalleryProblem:
    """Return Allen and Cahn's stationary equation in two dimensions, with a known solution.

    On the unit square with zero walls, ``-epsilon**2 Laplace u + u**3 - u = f``, where f is such that
    ``u = sin(2 k pi x) sin(2 k pi y)``.

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x and y 24.
    degree : int, optional
        Degree of the splines; at least 2 for least squares.
    epsilon : float, optional
        Width of the layers.
    waves : int, optional
        k.
    form : {"galerkin", "least-squares"}, optional
        The weak form, or the strong one.
    tol : float, optional
        Relative residual to reach.

    Returns
    -------
    GalleryProblem

    Examples
    --------
    >>> import sepnet as sn
    >>> case = allen_cahn(12)
    >>> case.measure(sn.solve(case.problem, **case.options).u).value < 1e-3
    True
    """
    width, k = positive("epsilon", epsilon), whole("waves", waves, at_least=1)
    if form not in ("galerkin", "least-squares"):
        msg = f"`form` is {form!r}, expected 'galerkin' or 'least-squares'"
        raise ValueError(msg)
    sizes, order = mesh(cells, {"x": 24, "y": 24}), whole("degree", degree, at_least=1 if form == "galerkin" else 2)
    space = TensorSpace(**{n: BSpline((0.0, 1.0), cells=sizes[n], degree=order, zero="both") for n in ("x", "y")})
    u, d, one = space.unknown, space.d, space.identity
    x, y = space.coordinates
    exact = _wave(2 * k * PI, x) * _wave(2 * k * PI, y)
    square = width**2
    f = exact**3 - exact + (2 * square * (2 * k * PI) ** 2) * exact
    problem: Galerkin | LeastSquares
    if form == "galerkin":
        weak = inner(square * d.x(u), d.x) + inner(square * d.y(u), d.y) + inner(u**3 - u, one)
        problem = Galerkin(weak, source=f)
    else:
        problem = LeastSquares(-square * (d.x**2 + d.y**2)(u) + u**3 - u, source=f)
    start = interpolate(0.5 * _on_nodes(space, exact), space)
    return GalleryProblem(
        name="allen-cahn",
        title="Allen and Cahn's stationary equation in two dimensions",
        problem=problem,
        reference=lambda points: exact(points, ["x", "y"]),
        reference_error=float(np.finfo(np.float64).eps),
        # The equation has several solutions: from half of the wanted one Newton's method goes there.
        options={"tol": positive("tol", tol), "start": start},
        constants={"cells": sizes, "degree": order, "epsilon": width, "waves": k, "form": form},
    )


def reaction_diffusion(
    cells: Cells = None,
    degree: int = 4,
    *,
    length: float = 10.0,
    t: float = 2.0,
    rate: tuple[float, float] = (0.5, 2.0),
    modes: int = 8,
    tol: float = 1e-3,
) -> GalleryProblem:
    """Return Fisher's equation over space, time and the rate of the reaction: a front that runs.

    On ``-length < x < length``, ``u_t = u_xx + rate u (1 - u)`` with the values at the ends and at the time 0 of the
    solution of Ablowitz and Zeppetella (Bull. Math. Biol. 41, 1979)::

        u = (1 + exp((rate / 6)**(1/2) x - 5 rate t / 6))**(-2)

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; x 20, t 6.
    degree : int, optional
        Degree of the splines, at least 2.
    length : float, optional
        Half the length of the interval.
    t : float, optional
        Last time.
    rate : (float, float), optional
        Range of the rate.
    modes : int, optional
        Legendre polynomials in the rate.
    tol : float, optional
        Relative residual to reach.

    Returns
    -------
    GalleryProblem
        The data do not separate; they are interpolated on the meshes of the solution.

    Examples
    --------
    >>> import sepnet as sn
    >>> case = reaction_diffusion(12)
    >>> case.measure(sn.solve(case.problem, **case.options).u).value < 1e-3
    True
    """
    half, last, range_ = positive("length", length), positive("t", t), interval("rate", rate, at_least=0.0)
    sizes, order = mesh(cells, {"x": 20, "t": 6}), whole("degree", degree, at_least=2)
    accuracy = positive("tol", tol)
    space = TensorSpace(
        x=BSpline((-half, half), cells=sizes["x"], degree=order),
        t=BSpline((0.0, last), cells=sizes["t"], degree=order),
        rate=Legendre(range_, whole("modes", modes, at_least=1) - 1),
    )
    u, d = space.unknown, space.d
    speed = space.coordinates[2]

    def front(x: np.ndarray, time: np.ndarray, k: np.ndarray) -> np.ndarray:
        return np.asarray((1.0 + np.exp(np.sqrt(k / 6) * x - 5 * k * time / 6)) ** -2)

    def data(**fixed: float) -> CP:
        there = space.drop(*fixed)
        grid = dict(zip(there.names, np.meshgrid(*there.nodes.values(), indexing="ij"), strict=True))
        places = grid | {name: np.array(value) for name, value in fixed.items()}
        found = interpolate(front(places["x"], places["t"], places["rate"]), there, tol=1e-3 * accuracy)
        assert isinstance(found, CP)
        return found

    problem = LeastSquares(
        d.t(u) - (d.x**2)(u) - speed * (u - u**2),
        initial={"t": data(t=0.0)},
        boundary={"x": (data(x=-half), data(x=half))},
    )
    return GalleryProblem(
        name="reaction-diffusion",
        title="Fisher's reaction and diffusion over space, time and rate: a running front",
        problem=problem,
        reference=lambda points: front(*points.T),
        reference_error=float(np.finfo(np.float64).eps),
        options={"tol": accuracy},
        constants={"cells": sizes, "degree": order, "length": half, "t": last, "rate": range_, "modes": modes},
    )


def _own_error(reference: Callable[..., np.ndarray], space: TensorSpace) -> float:
    """Return the relative change of a reference when its points are doubled, at points of the box."""
    low, high = np.array([basis.domain for basis in space.bases]).T
    points = low + (high - low) * np.random.default_rng(0).random((4000, space.dim))
    # Half of the points in the layer, where the reference is worst.
    points[::2, 0] *= 0.05
    once, twice = reference(points), reference(points, 4.0)
    return float(np.linalg.norm(once - twice) / np.linalg.norm(twice)) + float(np.finfo(np.float64).eps)


def _sine(s: np.ndarray) -> np.ndarray:
    return np.asarray(-np.sin(PI * s))


class _Power:
    """``first * ratio**s``."""

    def __init__(self, first: float, ratio: float) -> None:
        self.first, self.ratio = first, ratio

    def __call__(self, s: np.ndarray) -> np.ndarray:
        return np.asarray(self.first * self.ratio**s)


def _wave(k: float, x: Coefficient) -> Coefficient:
    return apply(np.sin, k * x)


def _on_nodes(space: TensorSpace, data: Coefficient) -> np.ndarray:
    grid: Sequence[np.ndarray] = np.meshgrid(*space.nodes.values(), indexing="ij")
    points = np.stack([g.ravel() for g in grid], axis=1)
    return data(points, space.names).reshape(space.shape)
