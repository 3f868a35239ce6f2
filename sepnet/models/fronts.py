"""Fronts: breaks that crowd where one stands, and Burgers' equation in closed form."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["characteristics", "cole_hopf", "graded"]

PI = math.pi


def graded(domain: tuple[float, float], cells: int, centre: float, width: float) -> np.ndarray:
    """Return breaks that are about `width` / cells apart at a layer, and grow with the distance from it.

    ``centre + width sinh(s)`` for equispaced s: a layer of any width is resolved with a number of cells that grows with
    the logarithm of its width alone.

    Parameters
    ----------
    domain : (float, float)
        The ends.
    cells : int
        Number of cells.
    centre, width : float
        Place and width of the layer.

    Returns
    -------
    ndarray of shape (cells + 1,)

    Examples
    --------
    >>> graded((-1.0, 1.0), 4, 0.0, 0.01).round(4)
    array([-1.    , -0.0704,  0.    ,  0.0704,  1.    ])
    """
    low, high = domain
    first, last = math.asinh((low - centre) / width), math.asinh((high - centre) / width)
    breaks = centre + width * np.sinh(np.linspace(first, last, cells + 1))
    breaks[0], breaks[-1] = low, high
    # The middle of an even number of cells about the middle is the centre itself.
    breaks[np.abs(breaks - centre) < 1e-12 * (high - low)] = centre
    return np.asarray(breaks)


def cole_hopf(x: np.ndarray, t: np.ndarray, nu: np.ndarray, density: float = 2.0) -> np.ndarray:
    """Return the solution of Burgers' equation started from ``-sin(pi x)``, by Hopf's and Cole's transformation.

    With ``E(y) = -cos(pi y) / (2 pi nu) - (x - y)**2 / (4 nu t)`` (Basdevant et al., Computers and Fluids 14, 1986)::

        u = - int sin(pi y) exp(E(y)) dy  /  int exp(E(y)) dy

    Both integrands are analytic bells inside ``|x - y| < t + 6.5 (4 nu t)**(1/2)``, as no velocity exceeds one; no bell
    is narrower than ``s = (2 nu t / (1 + pi t))**(1/2)``. The trapezoidal rule converges exponentially there, with an
    error of ``exp(-2 (pi s / h)**2)`` for the step h. The largest value is divided out, so that nothing overflows.
    (Gauss and Hermite's rule in ``(y - x) / (4 nu t)**(1/2)`` is as good for nu above 0.003; below it needs nodes of
    which the weights are no numbers in double precision any more.)

    Parameters
    ----------
    x, t, nu : ndarray of shape (n,)
        Places, times and viscosities.
    density : float, optional
        ``s / h``: points of the rule for a width of the narrowest bell.

    Returns
    -------
    ndarray of shape (n,)
    """
    reach = t + 13 * np.sqrt(nu * t)
    # reach / s, written so that it has a value at the time 0
    widths = (np.sqrt(t) + 13 * np.sqrt(nu)) * np.sqrt((1 + PI * t) / (2 * nu))
    nodes = math.ceil(density * float(np.max(widths, initial=1.0)))
    places = np.arange(-nodes, nodes + 1) / nodes
    result = np.empty(x.shape)
    for chunk in np.array_split(np.arange(x.size), max(1, x.size * nodes // 1_000_000)):
        y = x[chunk, None] + reach[chunk, None] * places
        spread = np.sqrt(t[chunk] / (4 * nu[chunk])) + 6.5
        exponent = -np.cos(PI * y) / (2 * PI * nu[chunk, None]) - (spread[:, None] * places) ** 2
        with np.errstate(under="ignore"):
            share = np.exp(exponent - exponent.max(axis=1, keepdims=True))
            result[chunk] = -(share * np.sin(PI * y)).sum(axis=1) / share.sum(axis=1)
    return result


def characteristics(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the solution of Burgers' equation without viscosity, before ``t = 1 / pi``, started from ``-sin(pi x)``.

    It is constant along ``x = a - t sin(pi a)``; a is found by Newton's method, kept inside a bracket by bisection.

    Parameters
    ----------
    x, t : ndarray of shape (n,)
        Places in [-1, 1] and times.

    Returns
    -------
    ndarray of shape (n,)
    """
    low, high = np.full(x.shape, -1.0), np.ones(x.shape)
    a = x.copy()
    for _ in range(100):
        error = a - t * np.sin(PI * a) - x
        low, high = np.where(error < 0, a, low), np.where(error > 0, a, high)
        step = a - error / (1 - t * PI * np.cos(PI * a))
        following = np.where((step > low) & (step < high), step, (low + high) / 2)
        following = np.where(error == 0, a, following)
        if np.max(np.abs(following - a), initial=0.0) <= 4 * np.finfo(np.float64).eps:
            break
        a = following
    return np.asarray(-np.sin(PI * a))
