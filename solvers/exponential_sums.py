"""Sums of exponentials for the reciprocal: what makes the inverse of a Kronecker sum separable.

``1 / s = int exp(y - s exp(y)) dy`` by the trapezoidal rule is a sum of exponentials with positive weights, whose
relative error is ``2 |Gamma(1 + 2 pi i / h)|`` for the step h (Beylkin and Monzon, Appl. Comput. Harmon. Anal. 28,
2010). Inside the interval it needs no more terms than the best sum does. At the left end it does: there the terms are
the rule for ``int_0^t exp(-t' s) dt'``, of a function that is nearly constant, at points that crowd towards zero. Many
of them are replaced by few, the Gauss rule of the discrete measure that they are, which keeps the weights positive and
needs no iteration (Golub and Welsch, Math. Comp. 23, 1969).

For ``1 <= s <= R`` and a relative error tol the best sum has about ``log(16 / tol) log(8 R) / pi**2`` terms (Braess and
Hackbusch, IMA J. Numer. Anal. 25, 2005, for the absolute error); these have two or three more. Fitting weights and
exponents by Levenberg and Marquardt's method was tried and rejected: it gains those two or three terms for tol >= 1e-6,
and wanders without converging below.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, exp, expm1, isfinite, log, pi, sqrt

import numpy as np

__all__ = ["TIGHTEST", "exponential_sum", "shortest_sum"]

# The smallest relative error that round-off leaves room for.
TIGHTEST = 1e-13
# Shares of the tolerance: the trapezoidal rule without ends; with the right end cut off; with the Gauss rule on the
# left. The rest is what lies between two points at which the error is measured.
STEP_SHARE, RIGHT_SHARE, GOAL = 0.8, 0.9, 0.99
# Points an oscillation of the error, whose period in log s is the step: a maximum is missed by 0.5 %.
SAMPLES = 32
# Gauss points at most: exp(-14) of the interval is then on the left for any tolerance.
MOST_GAUSS = 24
# Intervals of which the ratio of the ends differs by less than this factor share one sum.
RATIO_STEP = log(2) / 4
# Tolerances between which `shortest_sum` chooses: from the loosest down by this factor.
LOOSEST, LADDER = 0.3, 10**-0.25


def exponential_sum(low: float, high: float, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights w and exponents t with ``|s sum_q w_q exp(-t_q s) - 1| <= tol`` for s in [low, high].

    Parameters
    ----------
    low, high : float
        Ends of the interval, ``0 < low <= high``.
    tol : float
        Relative error, between 1e-13 and 1.

    Returns
    -------
    weights, exponents : ndarray (Q,)
        Positive, in rising order of the exponents.

    Raises
    ------
    ValueError
        If the interval or the tolerance is none.

    Examples
    --------
    >>> w, t = exponential_sum(1.0, 1e4, 1e-6)
    >>> len(w)
    22
    >>> bool(abs(3.0 * (w @ np.exp(-3.0 * t)) - 1.0) < 1e-6)
    True
    """
    if not (0.0 < low <= high and isfinite(high) and isfinite(high / low)):
        msg = f"`low` and `high` are {low} and {high}, expected 0 < low <= high: the form must be coercive"
        raise ValueError(msg)
    if not TIGHTEST <= tol < 1.0:
        msg = f"`tol` is {tol}, expected a number from {TIGHTEST} to below 1"
        raise ValueError(msg)
    weights, exponents = _unit_sum(ceil(log(high / low) / RATIO_STEP), float(tol))
    return weights / low, exponents / low


def shortest_sum(low: float, high: float, terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a sum of at most `terms` exponentials, as close to ``1 / s`` as a ladder of errors has it.

    With too few terms even for an error of 30 %, those that matter most at the low end are kept.

    Parameters
    ----------
    low, high : float
        Ends of the interval.
    terms : int
        Largest number of terms, at least one.

    Returns
    -------
    weights, exponents : ndarray (Q,)
    """
    steps = int(log(TIGHTEST / LOOSEST) / log(LADDER))
    below, above = 0, steps + 1
    while above - below > 1:
        middle = (below + above) // 2
        if exponential_sum(low, high, LOOSEST * LADDER**middle)[0].size <= terms:
            below = middle
        else:
            above = middle
    weights, exponents = exponential_sum(low, high, LOOSEST * LADDER**below)
    if weights.size > terms:
        largest = np.sort(np.argsort(-weights * np.exp(-low * exponents), kind="stable")[:terms])
        weights, exponents = weights[largest], exponents[largest]
    return weights, exponents


def _step(tol: float) -> float:
    """Return the step of the trapezoidal rule: ``|Gamma(1 + i y)|**2 = pi y / sinh(pi y)``, by bisection."""
    small, large = 0.02, 50.0
    for _ in range(60):
        h = (small + large) / 2
        y = 2 * pi / h
        error = 2 * sqrt(-2 * pi * y / expm1(-2 * pi * y)) * exp(-pi * y / 2)
        small, large = (small, h) if error > tol else (h, large)
    return small


@lru_cache(maxsize=512)
def _unit_sum(quarters: int, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum for [1, 2**(quarters / 4)]; read-only, as it is shared."""
    span = quarters * RATIO_STEP
    h = _step(STEP_SHARE * tol)
    # Beyond these ends the integral is less than a fiftieth of the tolerance: exp(first) and exp(-exp(last)) are.
    first, last = log(0.02 * tol) - span, log(log(50 / tol))
    t = np.exp(np.arange(first, last + h, h))
    w = h * t
    s = np.exp(np.linspace(0.0, span, ceil(SAMPLES * span / h) + 2))
    terms = s[:, None] * np.exp(-np.outer(s, t)) * w
    sums = np.cumsum(terms[:, ::-1], axis=1)[:, ::-1]  # of each term and all to its right: one above the reciprocal
    count = t.size
    while count > 1 and np.abs(sums[:, 0] - sums[:, count - 1] - 1.0).max() <= RIGHT_SHARE * tol:
        count -= 1
    tail = np.zeros(s.size) if count == t.size else sums[:, count]
    sums = np.concatenate([sums[:, :count] - tail[:, None], np.zeros((s.size, 1))], axis=1)
    best, rule = 0, (w[:0], t[:0])
    for points in range(1, min(MOST_GAUSS, count) + 1):
        merged, found = _longest(w[:count], t[:count], s, sums, points, GOAL * tol)
        gain = (merged - points) - (best - rule[0].size)
        if gain > 0:
            best, rule = merged, found
        elif gain < -2:  # one point more gains less and less
            break
    weights, exponents = np.concatenate([rule[0], w[best:count]]), np.concatenate([rule[1], t[best:count]])
    weights.setflags(write=False)
    exponents.setflags(write=False)
    return weights, exponents


def _longest(
    w: np.ndarray, t: np.ndarray, s: np.ndarray, sums: np.ndarray, points: int, goal: float
) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
    """Return how many terms a Gauss rule can replace within the error `goal`, by bisection, and the rule."""
    few, many = points, w.size
    best = (w[:points], t[:points])
    while few < many:
        middle = (few + many + 1) // 2
        weights, exponents = _gauss(w[:middle], t[:middle], points)
        value = s * (np.exp(-np.outer(s, exponents)) @ weights) + sums[:, middle]
        if np.abs(value - 1.0).max() <= goal:
            few, best = middle, (weights, exponents)
        else:
            many = middle - 1
    return few, best


def _gauss(w: np.ndarray, t: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the Gauss rule of the measure with weights w at t: Lanczos' method with full orthogonalisation."""
    if points >= w.size:
        return w, t
    scaled = t / t[-1]
    frame = np.zeros((points, w.size))
    frame[0] = np.sqrt(w / w.sum())
    jacobi = np.zeros((points, points))
    for k in range(points):
        image = scaled * frame[k]
        jacobi[k, k] = frame[k] @ image
        for _ in range(2):
            image = image - (frame[: k + 1] @ image) @ frame[: k + 1]
        if k + 1 < points:
            size = float(np.linalg.norm(image))
            jacobi[k, k + 1] = jacobi[k + 1, k] = size
            frame[k + 1] = image / size
    nodes, vectors = np.linalg.eigh(jacobi)
    # the nodes lie inside the hull of t; the smallest may come out as round-off below it
    return w.sum() * vectors[0] ** 2, np.maximum(nodes, scaled[0]) * t[-1]
