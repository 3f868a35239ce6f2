"""Lower and upper bounds of separable coefficients over a box, by interval arithmetic on pieces of it.

Polynomials are bounded by their values at the ends and the critical points of every piece. What a callable does between
the points where it is asked is not known to anyone: callables and splines are sampled, at some `SAMPLES` points an axis
with both ends, and all that is built on their bounds holds for functions that do not fall below their samples.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import polynomial

from sepnet.coefficients import Coefficient
from sepnet.piecewise import jumps_of
from sepnet.spaces import TensorSpace
from sepnet.univariate import Univariate

__all__ = ["coefficient_range", "univariate_range"]

# Pieces of an axis, pieces of the box, and samples of a callable on an axis: interval arithmetic of a sum is
# pessimistic by the variation of its terms over a piece.
MOST_PIECES, MOST_BOXES, SAMPLES = 32, 2**16, 2048
# Lower bounds are lowered, upper ones raised by this many units of round-off of what the evaluation adds up.
SLACK = 64 * float(np.finfo(np.float64).eps)


def univariate_range(function: Univariate, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper bounds of a univariate function between consecutive `edges`.

    Parameters
    ----------
    function : Univariate
        A polynomial, or one times callables.
    edges : ndarray of shape (n + 1,)
        Rising ends of the pieces.

    Returns
    -------
    low, high : ndarray of shape (n,)
    """
    count = 1 + SAMPLES // (edges.size - 1) if function.callables else 2
    samples = np.linspace(edges[:-1], edges[1:], count)
    if function.callables:  # a jump at an edge belongs to one side: look from inside
        samples[0], samples[-1] = np.nextafter(samples[0], np.inf), np.nextafter(samples[-1], -np.inf)
    low, high = edges[0], edges[-1]
    inner = np.empty(0) if function.callables else _critical(function)
    inner = inner[(inner > low) & (inner < high)]
    values = function(samples.ravel()).reshape(samples.shape)
    slack = SLACK * function.magnitude(samples.ravel()).reshape(samples.shape).max(axis=0)
    least, most = values.min(axis=0), values.max(axis=0)
    if inner.size:
        piece = np.clip(np.searchsorted(edges, inner) - 1, 0, edges.size - 2)
        np.minimum.at(least, piece, function(inner))
        np.maximum.at(most, piece, function(inner))
    return least - slack, most + slack


def _critical(function: Univariate) -> np.ndarray:
    slope = polynomial.polyder(np.asarray(function.powers))
    if not slope.any():
        return np.empty(0)
    # The real part of every root: one more sample does no harm, a double root that left the real axis would be lost.
    roots = np.real(polynomial.polyroots(np.trim_zeros(slope, "b")))
    return np.asarray(function.frame[0] + function.frame[1] * roots)


def coefficient_range(coefficient: Coefficient, space: TensorSpace) -> tuple[float, float]:
    """Return a lower and an upper bound of a separable coefficient over the box of `space`.

    Parameters
    ----------
    coefficient : Coefficient
        A sum of products; zero without terms.
    space : TensorSpace
        Its axes give the box.

    Returns
    -------
    low, high : float

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((-1, 1), cells=4))
    >>> x, y = V.coordinates
    >>> low, high = coefficient_range(2 + x * y, V)
    >>> round(low, 9), round(high, 9)
    (1.0, 3.0)
    """
    names = coefficient.axes
    pieces = 1
    if len(coefficient.terms) > 1 and names:
        pieces = max(1, min(MOST_PIECES, int(MOST_BOXES ** (1 / len(names)))))
    # Pieces end where a coefficient jumps: two materials beside each other are not mixed.
    edges = [_edges(name, coefficient, space.axes[name].domain, pieces) for name in names]
    low = high = np.zeros([e.size - 1 for e in edges])
    for term in coefficient.terms:
        least = most = np.full((1,) * len(names), term.weight)
        for k, name in enumerate(names):
            shape = [-1 if i == k else 1 for i in range(len(names))]
            a, b = (v.reshape(shape) for v in univariate_range(term.factor(name).coefficient, edges[k]))
            products = [least * a, least * b, most * a, most * b]
            least, most = np.minimum.reduce(products), np.maximum.reduce(products)
        low, high = low + least, high + most
    return float(low.min()), float(high.max())


def _edges(name: str, coefficient: Coefficient, domain: tuple[float, float], pieces: int) -> np.ndarray:
    jumps = (
        {place for t in coefficient.terms for place in jumps_of(t.factor(name).coefficient)} if pieces > 1 else set()
    )
    inside = [place for place in jumps if domain[0] < place < domain[1]]
    return np.unique(np.concatenate([np.linspace(*domain, pieces + 1), inside]))
