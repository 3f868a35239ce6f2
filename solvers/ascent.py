"""Climb to local maxima within a box, from many starts at once, by Newton's method with a trust region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from sepnet.bases import BSpline
from sepnet.bases.basis import Basis
from sepnet.functions.base import SeparableFunction

__all__ = ["Climber"]

# Iterations; the first and the largest step, as shares of the box; the step and the gain below which a climb ends.
STEPS, FIRST, LARGEST, SHORTEST, GAIN = 60, 0.05, 0.25, 1e-10, 1e-9
# A step that gains nothing is tried again at this share of its length.
SHRINK = 0.25
# How often a climb is taken up again on the other side of a kink.
SIDES = 8


@final
class Climber:
    """Climbs along some axes of a function, the others held.

    Coordinates are scaled by the box. On the coordinates that are not held by a bound the step is that of Newton's
    method with the absolute values of the eigenvalues, which rises from saddles and valleys too (Dauphin et al.,
    NeurIPS 2014), no longer than the trust region; a step that gains nothing is tried again shorter. Periodic axes go
    round.
    Breaks at which an axis has a kink or a jump are bounds, and climbs that end there go on from their other side:
    along a ridge neither Newton's method nor shorter steps gain.

    Parameters
    ----------
    u : SeparableFunction
        On the host, float64.
    columns : sequence of int
        Numbers of the axes climbed along.
    """

    def __init__(self, u: SeparableFunction, columns: Sequence[int]) -> None:
        self.u, self.columns = u, list(columns)
        bases = [u.space.bases[k] for k in columns]
        self.length = np.array([b.domain[1] - b.domain[0] for b in bases])
        self.edges = [_edges(basis) for basis in bases]
        self.periodic = np.array([_goes_round(b) for b in bases])

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values (n,) and points (n, d) reached from points (n, d); no value is below that of its start."""
        values, reached = self._climb(points)
        start = points
        for _ in range(SIDES):
            gained = False
            for k in range(len(self.columns)):
                rows, over = self._other_side(start, k)
                better, where = self._climb(over)
                gain = better > values[rows]
                values[rows[gain]], reached[rows[gain]] = better[gain], where[gain]
                gained = gained or bool(gain.any())
            if start is reached and not gained:
                break
            start = reached
        return values, reached

    def _other_side(self, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the points at a kink of axis k, and these points on its other side."""
        place, kinks = points[:, self.columns[k]], self.edges[k][1:-1]
        if not kinks.size:
            return np.zeros(0, dtype=np.intp), points[:0]
        nearest = kinks[np.abs(place[:, None] - kinks).argmin(axis=1)]
        before = np.nextafter(nearest, -np.inf)
        rows = np.flatnonzero((place == nearest) | (place == before))
        over = points[rows].copy()
        over[:, self.columns[k]] = np.where(place == nearest, before, nearest)[rows]
        return rows, over

    def _climb(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = points.copy()
        values, slope, curvature = self._jet(points)
        low, high = self._bounds(points)
        radius = np.full(len(points), FIRST)
        going = np.arange(len(points))
        scale = float(np.abs(values).max(initial=0.0))
        for _ in range(STEPS):
            place = points[going][:, self.columns]
            below, above = (low[going] - place) / self.length, (high[going] - place) / self.length
            step, gain = self._step(below, above, slope[going], curvature[going], radius[going])
            length = np.abs(step).max(axis=1, initial=0.0)
            worth = (gain > GAIN * scale) & (length > SHORTEST)
            going, step, length = going[worth], step[worth], length[worth]
            if not going.size:
                break
            tried = points[going].copy()
            place = tried[:, self.columns] + step * self.length
            around = low[going] + np.mod(place - low[going], self.length)
            tried[:, self.columns] = np.where(self.periodic, around, np.clip(place, low[going], high[going]))
            value, new_slope, new_curvature = self._jet(tried)
            better = value > values[going]
            radius[going] = np.where(better, np.clip(2 * length, radius[going], LARGEST), SHRINK * length)
            taken = going[better]
            points[taken], values[taken] = tried[better], value[better]
            slope[taken], curvature[taken] = new_slope[better], new_curvature[better]
        return values, points

    def _bounds(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for each point the part of the box around it without kinks; a kink belongs to the right."""
        low, high = np.empty((2, len(points), len(self.columns)))
        for k, edges in enumerate(self.edges):
            part = np.clip(np.searchsorted(edges, points[:, self.columns[k]], side="right") - 1, 0, edges.size - 2)
            low[:, k] = edges[part]
            high[:, k] = np.where(part < edges.size - 2, np.nextafter(edges[part + 1], -np.inf), edges[-1])
        return low, high

    def _jet(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return values, slopes and curvatures along the axes climbed, in coordinates scaled by the box."""
        value, gradient, hessian = (np.array(a) for a in self.u._evaluate(points, 2))
        square = hessian[:, self.columns, :][:, :, self.columns]
        return value, gradient[:, self.columns] * self.length, square * self.length * self.length[:, None]

    def _step(
        self, below: np.ndarray, above: np.ndarray, slope: np.ndarray, curvature: np.ndarray, radius: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return steps in scaled coordinates between the two bounds, and what they promise to gain at first order."""
        held = ((below >= 0) & (slope < 0)) | ((above <= 0) & (slope > 0))
        free = ~held | self.periodic
        step = _newton(np.where(free, slope, 0.0), curvature, free, radius)
        # What would leave the box goes to its bound, and the others take the step that belongs to that: cut off alone,
        # the step gains nothing where the coordinates act upon each other, and shrinks for twenty iterations.
        out = free & ~self.periodic & ((step < below) | (step > above))
        at_bound = np.where(out, np.clip(step, below, above), 0.0)
        tilted = slope + np.einsum("nij,nj->ni", curvature, at_bound)
        inner = free & ~out
        step = at_bound + _newton(np.where(inner, tilted, 0.0), curvature, inner, radius)
        # Beside a bound that is far, the others may fall more than it gains: then along the slope.
        rising = np.where(free, slope, 0.0)
        falls = np.einsum("ni,ni->n", rising, step) <= 0
        steepest = np.abs(rising[falls]).max(axis=1, initial=0.0)[:, None]
        uphill = radius[falls, None] * rising[falls] / np.where(steepest > 0, steepest, 1.0)
        step[falls] = np.where(self.periodic, uphill, np.clip(uphill, below[falls], above[falls]))
        return step, np.einsum("ni,ni->n", rising, step)


def _goes_round(basis: Basis) -> bool:
    """Whether an axis is periodic without kinks: those, and a kink at the seam, make its ends ordinary bounds."""
    return basis.periodic and not (isinstance(basis, BSpline) and basis.smoothness < 1)


def _edges(basis: Basis) -> np.ndarray:
    """Return the ends of an axis and the breaks between at which it has a kink or a jump."""
    rough = []
    if isinstance(basis, BSpline):
        rough = [e for e, smooth in zip(basis.breaks[1:-1].tolist(), basis.continuity, strict=False) if smooth < 1]
    return np.unique(np.array([*basis.domain, *rough]))


def _newton(slope: np.ndarray, curvature: np.ndarray, free: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return Newton's steps on the free coordinates, with the absolute values of the eigenvalues, within the radius."""
    tiny = np.finfo(np.float64).tiny
    size, frame = np.linalg.eigh(np.where(free[:, :, None] & free[:, None, :], curvature, 0.0))
    along = np.einsum("nij,ni->nj", frame, slope)
    # Without curvature the step is as long as allowed.
    lengths = np.minimum(np.abs(along) / np.maximum(np.abs(size), tiny), 1.0)
    step = np.einsum("nij,nj->ni", frame, np.sign(along) * lengths)
    longest = np.abs(step).max(axis=1, initial=0.0)
    return np.asarray(step * np.minimum(1.0, radius / np.maximum(longest, tiny))[:, None])
