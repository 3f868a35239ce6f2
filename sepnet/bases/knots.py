"""Knot vectors and what follows from them: functions of host float64 arrays, no class.

Notation as in C. de Boor, A Practical Guide to Splines (revised edition 2001), chapters IX to XI: knots t, degree p,
function i lives on [t_i, t_{i+p+1}]; the cell (span) [t_mu, t_{mu+1}] carries the functions mu - p to mu.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

__all__ = [
    "cell_margins",
    "exchange_nodes",
    "greville_points",
    "knot_vector",
    "match_breaks",
    "monomial_table",
    "move_off_jumps",
    "spread_points",
    "triangle",
]

_EXCHANGES = 10  # enough for a bound below 10 at degree 30; more change little


def knot_vector(
    breaks: np.ndarray, degree: int, continuity: Sequence[int], *, periodic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return knots and the index of each cell's left end in them.

    Parameters
    ----------
    breaks : ndarray, shape (cells + 1,)
    degree : int
    continuity : sequence of int
        At the interior breaks; if periodic followed by that at the seam.
    periodic : bool
        False: an open knot vector (ends ``degree + 1`` times). True: the knots of one period, repeated to both sides
        as far as the functions on the domain reach.

    Returns
    -------
    knots : ndarray, float64
    spans : ndarray, int64, shape (cells,)
        ``knots[spans[c]] == breaks[c]`` and ``knots[spans[c] + 1] == breaks[c + 1]``.
    """
    inner = [degree - c for c in continuity[: len(breaks) - 2]]
    if not periodic:
        copies = np.array([degree + 1, *inner, degree + 1])
        return np.repeat(breaks, copies), np.cumsum(copies)[:-1] - 1
    copies = np.array([degree - continuity[-1], *inner])
    period = np.repeat(breaks[:-1], copies)
    count, first, last = len(period), breaks[0], breaks[-1]
    index = np.arange(copies[0] - 1 - degree, count + degree + 1)
    turns, place = np.divmod(index, count)
    # measured from the nearer end, so that the seam is met exactly on both sides
    later = last + (turns - 1) * (last - first) + (period[place] - first)
    earlier = first + (turns + 1) * (last - first) - (last - period[place])
    knots = np.where(turns == 0, period[place], np.where(turns > 0, later, earlier))
    return knots, np.cumsum(copies) - copies[0] + degree


def cell_margins(knots: np.ndarray, spans: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the neighbouring knots lie outside each cell, in units of the cell's width.

    Returns
    -------
    before, after : ndarray, float64, shape (cells, degree)
        ``before[c, j] = (t_mu - t_{mu-j}) / h`` and ``after[c, j] = (t_{mu+1+j} - t_{mu+1}) / h``, for j = 0 to
        degree - 1.
    """
    steps = np.arange(degree)
    left, right = knots[spans], knots[spans + 1]
    width = (right - left)[:, None]
    before = (left[:, None] - knots[spans[:, None] - steps]) / width
    after = (knots[spans[:, None] + 1 + steps] - right[:, None]) / width
    return before, after


def triangle(
    from_left: Any, to_right: Any, before: Any, after: Any, width: Any, degree: int, derivative: int
) -> list[Any]:
    """Evaluate the functions on a cell, or a derivative of them, by the triangle of Cox and de Boor.

    Rising from degree j - 1 to j takes two neighbours with positive weights that sum to one; in the last `derivative`
    rows their difference, times j over the width of the knots.

    Parameters
    ----------
    from_left, to_right : array, shape (n,)
        Distances of the points to the ends of their cell, in units of its width; any namespace.
    before, after : array, shape (n, degree)
        The margins of the cell, see `cell_margins`.
    width : array, shape (n,)
    degree, derivative : int
        ``derivative <= degree``.

    Returns
    -------
    list of ``degree + 1`` arrays, shape (n,)
    """
    values = [0.0 * from_left + 1.0]
    for j in range(1, degree + 1):
        rises, falls = [], []
        for r in range(j):
            low, high = from_left + before[:, j - 1 - r], to_right + after[:, r]
            share = values[r] / (low + high)
            if j > degree - derivative:
                share = share * (j / width)
                low, high = 1.0, -1.0
            rises.append(low * share)
            falls.append(high * share)
        values = [falls[0], *(rises[r - 1] + falls[r] for r in range(1, j)), rises[-1]]
    return values


def spread_points(breaks: np.ndarray, count: int) -> np.ndarray:
    """Return `count` Chebyshev points inside every cell."""
    s = (1 + np.sin(np.pi * (2 * np.arange(count) + 1 - count) / (2 * count))) / 2
    return np.asarray(breaks[:-1, None] + np.diff(breaks)[:, None] * s).reshape(-1)


def greville_points(knots: np.ndarray, degree: int, count: int) -> np.ndarray:
    """Return the knot averages of the first `count` functions (degree 0: middles), exact where all knots are equal."""
    if degree == 0:
        return knots[:count] / 2 + knots[1 : count + 1] / 2
    windows = np.lib.stride_tricks.sliding_window_view(knots[1:], degree)[:count]
    first = windows[:, 0]
    return np.asarray(first + (windows - first[:, None]).mean(axis=1))


def move_off_jumps(points: np.ndarray, knots: np.ndarray, degree: int, *, periodic: bool) -> np.ndarray:
    """Move points where their function jumps 1 % of the cell into the function's own cell; true ends stay."""
    moved = points.copy()
    if degree == 0:
        return moved
    count = len(points)
    starts, stops = knots[:count], knots[degree + 1 : degree + 1 + count]
    at_left = knots[degree : degree + count] == starts
    at_right = knots[1 : 1 + count] == stops
    if not periodic:
        at_left &= starts > knots[0]
        at_right &= stops < knots[-1]
    moved[at_left] = starts[at_left] + 0.01 * (stops - starts)[at_left]
    moved[at_right] = stops[at_right] - 0.01 * (stops - starts)[at_right]
    return moved


def exchange_nodes(
    nodes: np.ndarray, candidates: np.ndarray, tabulate: Callable[[np.ndarray], scipy.sparse.csr_array]
) -> np.ndarray:
    """Move interpolation points towards the extrema of the spline that alternates on them (Remez exchange).

    The spline through +1, -1, +1, ... has no more sign changes than that (variation diminution), so between two of
    them it has one extremum to move each node to. The fixed point are the points of S. Demko, Journal of
    Approximation Theory 43 (1985), whose interpolation operator is bounded whatever the breaks.

    Parameters
    ----------
    nodes : ndarray, shape (size,)
        Rising, with a regular collocation matrix.
    candidates : ndarray, shape (m,)
        The points to choose from.
    tabulate : callable
        Points to the sparse matrix of all functions there.

    Returns
    -------
    ndarray, shape (size,)
    """
    signs = (-1.0) ** np.arange(len(nodes))
    best, lowest = nodes, np.inf
    for _ in range(_EXCHANGES):
        places = np.union1d(candidates, nodes)
        solver = scipy.sparse.linalg.splu(tabulate(nodes).tocsc())
        height = tabulate(places) @ solver.solve(signs)
        if not np.abs(height).max() < lowest:
            break
        best, lowest = nodes, np.abs(height).max()
        run = np.concatenate([[0], np.cumsum(np.signbit(height[1:]) != np.signbit(height[:-1]))])
        order = np.lexsort((np.abs(height), run))
        highest = order[np.append(np.flatnonzero(np.diff(run)), len(run) - 1)]  # last, so highest, of each run
        nodes = places[highest[run[np.searchsorted(places, nodes)]]]
    return best


@lru_cache(maxsize=32)
def _bernstein_to_monomial(degree: int) -> np.ndarray:
    """Integer matrix, row k the coefficients of ``binom(p, k) (1 + s)**k (1 - s)**(p - k)``; exact to degree 30."""
    rows = []
    for k in range(degree + 1):
        row = [math.comb(degree, k)]
        for sign in [1] * k + [-1] * (degree - k):
            row = [a + sign * b for a, b in zip([*row, 0], [0, *row], strict=True)]
        rows.append(row)
    return np.array(rows, dtype=np.longdouble)


def monomial_table(knots: np.ndarray, spans: np.ndarray, degree: int) -> np.ndarray:
    """Return every function on every cell as a polynomial in the cell's coordinate s in [-1, 1].

    The Bernstein coefficients on a cell are values of the blossom, de Boor's triangle with the cell's two ends as
    arguments: convex combinations only, hence a few eps each, whatever the grading (L. Ramshaw, Blossoms are polar
    forms, 1989). The change to powers of s has integer coefficients; it cancels a few digits at high degree, so all
    is done in extended precision where the machine has it.

    Returns
    -------
    ndarray, float64, shape (cells, degree + 1, degree + 1)
        ``table[c, m, j]``, the coefficient of ``s**m`` of function ``mu - degree + j``.
    """
    t = knots.astype(np.longdouble)
    cells, p = len(spans), degree
    ends = t[spans][:, None], t[spans + 1][:, None]
    bernstein = np.empty((cells, p + 1, p + 1), dtype=np.longdouble)
    for k in range(p + 1):
        d = np.broadcast_to(np.eye(p + 1, dtype=np.longdouble), (cells, p + 1, p + 1))
        for step in range(1, p + 1):
            x = ends[0] if step <= p - k else ends[1]
            i = np.arange(step, p + 1)
            low, high = t[spans[:, None] - p + i], t[spans[:, None] + 1 + i - step]
            weight = ((x - low) / (high - low))[:, :, None]
            rest = ((high - x) / (high - low))[:, :, None]
            d = rest * d[:, :-1] + weight * d[:, 1:]
        bernstein[:, k, :] = d[:, 0]
    change = _bernstein_to_monomial(p) * np.longdouble(2.0) ** -p
    return np.asarray(np.einsum("km,ckj->cmj", change, bernstein), dtype=np.float64)


def match_breaks(first: np.ndarray, second: np.ndarray) -> list[tuple[float, int | None, int | None]]:
    """Merge two lists of interior breaks on one interval, ends included in both.

    Breaks that differ by round-off (8 eps of the larger end, and a thousandth of the cells around them) are one
    break: halving a mesh and building it with twice the cells must give the same space.

    Returns
    -------
    list of (break, index in first or None, index in second or None)
        Interior breaks only, rising; the indices count interior breaks from 0.
    """
    slack = 8 * np.finfo(np.float64).eps * max(abs(first[0]), abs(first[-1]))
    ones, others = first.tolist(), second.tolist()
    room, other_room = _narrower_cell(first), _narrower_cell(second)
    m, n = len(ones) - 1, len(others) - 1
    merged: list[tuple[float, int | None, int | None]] = []
    i, j = 1, 1
    while i < m or j < n:
        a, b = ones[i], others[j]
        if i < m and j < n and abs(a - b) <= min(slack, 1e-3 * min(room[i], other_room[j])):
            merged.append((a, i - 1, j - 1))
            i, j = i + 1, j + 1
        elif j == n or (i < m and a < b):
            merged.append((a, i - 1, None))
            i += 1
        else:
            merged.append((b, None, j - 1))
            j += 1
    return merged


def _narrower_cell(breaks: np.ndarray) -> list[float]:
    """Return for every break the width of the narrower cell beside it."""
    widths = np.diff(breaks)
    return list(np.minimum(np.append(widths[:1], widths), np.append(widths, widths[-1:])).tolist())
