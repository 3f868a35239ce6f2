"""Continuity by place, ``continuity={0.4: 0}``: the cells and the continuity at each break that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sepnet.bases.checks import cell_ends, real_number

__all__ = ["joined"]

# Places that differ by less than this share of the larger end are one.
_ROUND_OFF = 8 * float(np.finfo(np.float64).eps)


def joined(
    domain: Any, cells: Any, breaks: Any, continuity: Mapping[float, Any], degree: int, *, periodic: bool
) -> tuple[tuple[float, ...], list[Any]]:
    """Return the ends of the cells, and one continuity for each interior break (and the seam if periodic).

    Parameters
    ----------
    domain, cells, breaks
        As in `BSpline`. With `cells`, the domain is divided at the places named; with `breaks` they are among these.
    continuity : mapping of float to int
        Place to continuity; everywhere else it is ``degree - 1``. Either end stands for the seam if periodic.
    degree : int
    periodic : bool

    Returns
    -------
    tuple of float, list
        The entries of the list are not checked.

    Raises
    ------
    TypeError, ValueError
        If a place is no number, not inside the domain, none of `breaks` or named twice, or there are fewer cells than
        parts.

    Examples
    --------
    >>> joined((0, 1), 5, None, {0.5: 0}, 3, periodic=False)
    ((0.0, 0.16666666666666666, 0.3333333333333333, 0.5, 0.75, 1.0), [2, 2, 0, 2])
    """
    edges = cell_ends(domain, cells, breaks)
    low, high = edges[0], edges[-1]
    slack = _ROUND_OFF * max(abs(low), abs(high))
    entries = sorted((real_number("a key of `continuity`", key), value) for key, value in continuity.items())
    for place, _ in entries:
        inside = low - slack <= place <= high + slack if periodic else low + slack < place < high - slack
        if not inside:
            kind = "places in the domain" if periodic else "interior places"
            msg = f"`continuity` names {place:g}, expected {kind} of {(low, high)}: correct it or leave it out"
            raise ValueError(msg)
    if breaks is None:
        inner = [place for place, _ in entries if low + slack < place < high - slack]
        edges = tuple(_divided(np.array(edges), inner, slack).tolist())
    result: list[Any] = [degree - 1] * (len(edges) - 2 + periodic)
    named: dict[int, float] = {}
    for place, smooth in entries:
        at = int(np.argmin(np.abs(np.array(edges) - place)))
        if abs(edges[at] - place) > slack:
            msg = (
                f"`continuity` names {place:g}, which is none of the `breaks` (the nearest is {edges[at]:g}): add "
                "it to them, or give `cells` instead, which are then divided there"
            )
            raise ValueError(msg)
        # The first and the last break are both the seam, whose entry is the last.
        entry = at - 1 if 0 < at < len(edges) - 1 else len(result) - 1
        if entry in named:
            msg = f"`continuity` names {named[entry]!r} and {place!r}, which are one break: leave one of them out"
            raise ValueError(msg)
        named[entry], result[entry] = place, smooth
    return edges, result


def _divided(edges: np.ndarray, places: Sequence[float], slack: float) -> np.ndarray:
    """Return as many cells as in `edges`, equal between the given places, which are ends of cells.

    The next cell goes to the part whose cells are widest, so that the widest cell is as narrow as it can be. Where all
    places are ends of equal cells already, these are returned to the last bit.
    """
    if all(np.abs(edges - place).min() <= slack for place in places):
        return edges
    bounds = np.array([edges[0], *places, edges[-1]])
    count, lengths = len(edges) - 1, np.diff(bounds)
    if count < len(lengths):
        msg = f"`cells` is {count}, but `continuity` divides the domain into {len(lengths)} parts: give more cells"
        raise ValueError(msg)
    shares = np.maximum(1, np.floor((count - len(lengths)) * lengths / lengths.sum()).astype(np.int64))
    while shares.sum() < count:
        shares[np.argmax(lengths / shares)] += 1
    parts = [np.linspace(a, b, n + 1)[:-1] for a, b, n in zip(bounds[:-1], bounds[1:], shares, strict=True)]
    return np.concatenate([*parts, bounds[-1:]])
