"""Poisson problems of the gallery: ``-Laplace u = f`` with zero boundary values, by Galerkin's method."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from operator import add

import numpy as np
from scipy.special import erfc

from sepnet.bases import BSpline, Chebyshev
from sepnet.coefficients import Source, apply
from sepnet.forms import inner
from sepnet.functions import CP
from sepnet.models.gallery_problem import Cells, GalleryProblem, mesh, numbers, positive, whole
from sepnet.problems import Galerkin
from sepnet.spaces import TensorSpace

__all__ = ["expand", "heat_integral", "poisson_1", "poisson_kan", "poisson_peak"]

# Highest Chebyshev degree with which poisson_peak expands its right-hand side.
_HIGHEST = 512
# poisson_1: rank and domain for few variables.
_RANKS = {1: 1, 2: 6, 3: 10}
# For more: cells and rank, the tolerance in the energy, and that from 17 variables on, where the value at the centre
# sees errors of the energy 1e6 times as large.
_MANY_CELLS, _MANY_RANK, _TOL, _TIGHT_TOL = 48, 64, 1e-8, 1e-11
_UNIT = {1: "unit interval", 2: "unit square", 3: "unit cube"}


def _space(domain: tuple[float, float], cells: dict[str, int], degree: int) -> TensorSpace:
    order = whole("degree", degree, at_least=1)
    return TensorSpace(**{name: BSpline(domain, cells=n, degree=order, zero="both") for name, n in cells.items()})


def _poisson(space: TensorSpace, source: Source) -> Galerkin:
    derivatives = [getattr(space.d, name) for name in space.names]
    return Galerkin(reduce(add, [inner(d, d) for d in derivatives]), source=source)


def poisson_kan(
    cells: Cells = None, degree: int = 2, *, waves: tuple[int, int] = (1, 1), rank: int = 1
) -> GalleryProblem:
    """Return Poisson's problem with ``u = sin(m pi x) sin(n pi y**2)`` on the square [-1, 1]**2.

    The right-hand side is::

        f = pi**2 (m**2 + 4 n**2 y**2) sin(m pi x) sin(n pi y**2) - 2 pi n sin(m pi x) cos(n pi y**2)

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis; 256 for ``x`` and ``y``, which makes 512 coefficients in degree 2.
    degree : int, optional
        Degree of the splines.
    waves : tuple of int, optional
        m and n.
    rank : int, optional
        Rank to solve with; the solution itself has rank one.

    Returns
    -------
    GalleryProblem

    Raises
    ------
    ValueError
        If a constant is out of its range.

    Notes
    -----
    With m = n = 1 this is the example of Liu et al., "KAN: Kolmogorov-Arnold networks" (arXiv 2404.19756), section 3.4.

    Examples
    --------
    >>> import sepnet as sn
    >>> case = poisson_kan(cells=32)
    >>> case.measure(sn.solve(case.problem, **case.options).u).value < 1e-3
    True
    """
    m, n = (whole("waves", w, at_least=1) for w in _pair(waves))
    space = _space((-1.0, 1.0), mesh(cells, {"x": 256, "y": 256}), degree)
    x, y = space.coordinates
    sine = apply(lambda s: np.sin(m * np.pi * s), x)
    along = apply(lambda s: np.sin(n * np.pi * s**2), y)
    source = np.pi**2 * (m**2 + 4 * n**2 * y**2) * sine * along
    source = source - 2 * np.pi * n * sine * apply(lambda s: np.cos(n * np.pi * s**2), y)

    def reference(points: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(m * np.pi * points[:, 0]) * np.sin(n * np.pi * points[:, 1] ** 2))

    return GalleryProblem(
        name="poisson-kan",
        title=f"Poisson on [-1, 1]^2, u = sin({_times(m)}pi x) sin({_times(n)}pi y^2)",
        problem=_poisson(space, source),
        reference=reference,
        reference_error=float(np.finfo(np.float64).eps),
        options={"rank": whole("rank", rank, at_least=1)},
        constants={"cells": mesh(cells, {"x": 256, "y": 256}), "degree": degree, "waves": (m, n)},
    )


def _pair(waves: object) -> tuple[object, object]:
    """Return `waves` as a pair, or raise ValueError."""
    if not isinstance(waves, tuple | list) or len(waves) != 2:
        msg = f"`waves` is {waves!r}, expected two integers, e.g. (1, 1)"
        raise ValueError(msg)
    return waves[0], waves[1]


def _times(factor: int) -> str:
    return "" if factor == 1 else f"{factor} "


def poisson_peak(
    cells: Cells = None,
    degree: int = 3,
    *,
    offset: float = 0.1,
    steepness: float = 4.0,
    centre: tuple[float, float] = (0.4, 0.6),
    rank: int = 8,
) -> GalleryProblem:
    """Return Poisson's problem on the unit square with a peak that is no sum of few products.

    With ``p = x (1 - x)``, ``q = y (1 - y)``, ``a = x - X``, ``b = y - Y`` and ``D = c + w (a**2 + b**2)``::

        u = p q / D
        f = 2 (p + q) / D + 4 w (a q (1 - 2 x) + b p (1 - 2 y)) / D**2 - p q (8 w**2 (a**2 + b**2) / D**3 - 4 w / D**2)

    f does not separate either. It is interpolated at a tensor grid of Chebyshev points, fine enough that the difference
    is round-off, and the array of values is split by a singular value decomposition: the source is a CP function of
    Chebyshev polynomials.

    Parameters
    ----------
    cells : int or mapping of str to int, optional
        Cells per axis, 32 by default.
    degree : int, optional
        Degree of the splines.
    offset, steepness : float, optional
        c and w.
    centre : tuple of float, optional
        X and Y.
    rank : int, optional
        Rank to solve with.

    Returns
    -------
    GalleryProblem
        Its `reference_error` bounds what the expansion of f does to u:
        ``||u_expanded - u|| <= ||f_expanded - f|| / (2 pi**2)``, the norm measured by a Gauss rule on other points.

    Raises
    ------
    ValueError
        If a constant is out of its range, or the peak is too narrow for polynomials of degree 512.

    Examples
    --------
    >>> import sepnet as sn
    >>> case = poisson_peak()
    >>> case.measure(sn.solve(case.problem, **case.options).u).value < 1e-4
    True
    """
    c, w = positive("offset", offset), positive("steepness", steepness)
    X, Y = numbers("centre", centre, 2)
    space = _space((0.0, 1.0), mesh(cells, {"x": 32, "y": 32}), degree)

    def reference(points: np.ndarray) -> np.ndarray:
        x, y = points.T
        return np.asarray(x * (1 - x) * y * (1 - y) / (c + w * ((x - X) ** 2 + (y - Y) ** 2)))

    def source(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        p, q, a, b = x * (1 - x), y * (1 - y), x - X, y - Y
        D = c + w * (a**2 + b**2)
        cross = 4 * w * (a * q * (1 - 2 * x) + b * p * (1 - 2 * y)) / D**2
        return np.asarray(2 * (p + q) / D + cross - p * q * (8 * w**2 * (a**2 + b**2) / D**3 - 4 * w / D**2))

    expanded, distance = expand(source, space.names)
    return GalleryProblem(
        name="poisson-peak",
        title="Poisson on the unit square, a smooth peak that is not of low rank",
        problem=_poisson(space, expanded),
        reference=reference,
        reference_error=max(distance / (2 * np.pi**2) / _norm(reference), float(np.finfo(np.float64).eps)),
        options={"rank": whole("rank", rank, at_least=1)},
        constants={"cells": mesh(cells, {"x": 32, "y": 32}), "degree": degree, "offset": c, "steepness": w}
        | {"centre": (X, Y)},
    )


def _norm(reference: Callable[[np.ndarray], np.ndarray]) -> float:
    s, weights = _gauss(200)
    points = np.stack(np.meshgrid(s, s, indexing="ij"), axis=-1).reshape(-1, 2)
    return float(np.sqrt(np.outer(weights, weights).reshape(-1) @ reference(points) ** 2))


def _gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    s, weights = np.polynomial.legendre.leggauss(n)
    return (s + 1) / 2, weights / 2


def expand(f: Callable[[np.ndarray, np.ndarray], np.ndarray], names: tuple[str, ...]) -> tuple[CP, float]:
    """Expand a smooth function of two variables on the unit square into products of Chebyshev polynomials.

    Parameters
    ----------
    f : callable
        Takes two arrays that broadcast.
    names : tuple of two str
        Axis names.

    Returns
    -------
    CP
        The expansion, accurate to about 1e-13.
    float
        Its L2 distance to `f`, by a Gauss rule of 200 x 200 points.

    Raises
    ------
    ValueError
        If polynomials of degree 512 do not reach 1e-11.
    """
    s, weights = _gauss(200)
    exact = f(s[:, None], s[None, :])
    norm = float(np.sqrt(weights @ exact**2 @ weights))
    best: tuple[CP, float] | None = None
    degree = 32
    while degree <= _HIGHEST:
        basis = Chebyshev((0.0, 1.0), degree)
        u, sigma, vt = np.linalg.svd(f(basis.nodes[:, None], basis.nodes[None, :]))
        keep = int((sigma > 1e-15 * sigma[0]).sum())
        columns = [basis.interpolate(u[:, :keep] * sigma[:keep]), basis.interpolate(vt[:keep].T)]
        expansion = CP(TensorSpace(**dict.fromkeys(names, basis)), columns)
        left, right = (basis.values(s) @ column for column in columns)
        distance = float(np.sqrt(weights @ (left @ right.T - exact) ** 2 @ weights))
        if best is None or distance < best[1]:
            best = expansion, distance
        if best[1] < 1e-13 * norm:
            return best
        degree *= 2
    if best is None or best[1] > 1e-11 * norm:
        msg = f"the right-hand side is too steep for polynomials of degree {_HIGHEST}: use a larger `offset`"
        raise ValueError(msg)
    return best


def poisson_1(d: int = 6, cells: Cells = None, degree: int = 3, *, rank: int | None = None) -> GalleryProblem:
    """Return Poisson's problem with ``f = 1`` on the unit cube of any dimension.

    The reference is the integral of the heat equation's solution over time, which separates under the integral::

        u(x) = int_0^inf  h(x_1, t) ... h(x_d, t)  dt,        h_t = h_xx,  h(., 0) = 1,  h(0, t) = h(1, t) = 0

    h comes from its sine series for large t and from mirror images (error functions) for small t; the integral from the
    trapezoidal rule in log t, which converges exponentially. Its error is measured with half the step.

    Parameters
    ----------
    d : int, optional
        Number of variables; the axes are ``x1``, ``x2``, ...
    cells : int or mapping of str to int, optional
        Cells per axis; by default 16, and 48 from 4 variables on.
    degree : int, optional
        Degree of the splines.
    rank : int, optional
        Rank to solve with. By default the one beyond which the error on 16 cells no longer falls, 1, 6, 10 for
        d = 1, 2, 3; from 4 on a tolerance decides instead, 1e-8 and from 17 on 1e-11.

    Returns
    -------
    GalleryProblem

    Raises
    ------
    ValueError
        If a constant is out of its range.

    Notes
    -----
    The form is its own Kronecker sum, so that a sum of exponentials is the solution; its rank grows with the logarithm
    of the tolerance, and time and memory are linear in d. On 48 cells the relative error at the centre is 2.5e-7 for
    d = 6 (rank 26), 5.0e-7 for d = 10 (rank 26), and 3e-5 for d = 64 (rank 33).

    Examples
    --------
    >>> case = poisson_1(2)
    >>> print(f"{case.reference([[0.5, 0.5]])[0]:.12f}")
    0.073671353282
    """
    count = whole("d", d, at_least=1)
    few = count in _RANKS
    sizes = mesh(cells, {f"x{i + 1}": 16 if few else _MANY_CELLS for i in range(count)})
    space = _space((0.0, 1.0), sizes, degree)

    def reference(points: np.ndarray) -> np.ndarray:
        return heat_integral(np.asarray(points, dtype=np.float64))

    sample = np.random.default_rng(0).random((200, count))
    coarse, fine = heat_integral(sample), heat_integral(sample, step=0.15)
    accuracy = float(np.linalg.norm(coarse - fine) / np.linalg.norm(fine))
    return GalleryProblem(
        name="poisson-1",
        title=f"Poisson with f = 1 on the {_UNIT.get(count, f'unit cube in {count} dimensions')}",
        problem=_poisson(space, 1.0),
        reference=reference,
        reference_error=max(accuracy, float(np.finfo(np.float64).eps)),
        options=_options_for(count) if rank is None else {"rank": whole("rank", rank, at_least=1)},
        constants={"d": count, "cells": sizes, "degree": degree},
        samples=20_000,
    )


def _options_for(d: int) -> dict[str, float]:
    if d in _RANKS:
        return {"rank": _RANKS[d]}
    return {"rank": _MANY_RANK, "tol": _TOL if d <= 16 else _TIGHT_TOL}


def heat_integral(points: np.ndarray, step: float = 0.3) -> np.ndarray:
    """Return the solution of ``-Laplace u = 1`` on the unit cube, zero on its boundary, at points (n, d).

    The trapezoidal rule with the given step in log t; its error falls like ``exp(-pi**2 / step)``.
    """
    d = points.shape[1]
    last = math.log(45.0 / (d * math.pi**2))
    total = np.zeros(points.shape[0])
    for k in range(math.ceil((last + 34.0) / step)):
        t = math.exp(last - k * step)
        total += step * t * np.prod(_cooling(points, t), axis=1)
    return total


def _cooling(x: np.ndarray, t: float) -> np.ndarray:
    """Temperature at x after a time t of a rod on (0, 1) that was 1 and is kept 0 at its ends."""
    total = np.zeros_like(x)
    if t > 0.1:
        k = 1
        while k * k * math.pi**2 * t < 45.0 + math.pi**2 * t:
            total += 4 / (k * math.pi) * math.exp(-(k**2) * math.pi**2 * t) * np.sin(k * math.pi * x)
            k += 2
        return total
    width = 2 * math.sqrt(t)
    k = 0
    while k < 7 * width:
        total += (-1) ** k * (erfc((k + x) / width) + erfc((k + 1 - x) / width))
        k += 1
    return np.asarray(1 - total)
