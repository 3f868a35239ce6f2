"""Inversion on the level set: the inputs that give an output.

For one output the points with ``u(x) = y`` are a surface of d - 1 dimensions, for m outputs one of d - m. What is
returned is a *sample* of that surface inside a box: from many starts each goes to a nearby point of it, by the shortest
step to the tangent plane of the level set, in coordinates scaled by the box. For one output the rules are in
`sepnet.backends.newton`; for several the step is that of Gauss-Newton with as little damping as makes it the one of
least norm (`sepnet.solvers.levenberg`). Points closer than a spacing are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, final

import numpy as np

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, device_of, eps, from_host, namespace, to_host
from sepnet.backends.newton import OUT_OF_STEPS, REACHED, level_newton
from sepnet.bases.checks import real_number, whole_number
from sepnet.solvers.inversion_model import (
    Bounds,
    Invertible,
    Model,
    as_model,
    as_targets,
    first_not_finite,
    repeated,
    tables_of,
    tiled,
)
from sepnet.solvers.inversion_sample import Prior, box_starts, prior_starts, spacings, thin
from sepnet.solvers.levenberg import least_squares

__all__ = ["Inversion", "InversionStatus", "invert"]

STARTS = 64
# Of the largest value: what sums of terms that cancel to a thousandth still resolve.
TOLERANCE = 4096


@final
class InversionStatus(Enum):
    """How the inversion of a target ended. The value is the sentence for the user, with the next step."""

    REACHED = "Every start reached the target: raise n_starts= for a denser sample."
    PARTLY = "Some starts ended at a local extremum, not at the target: raise n_starts= for a denser sample."
    STEP_LIMITED = "No start reached the target before the last step; the nearest point is returned: raise max_steps=."
    OUT_OF_REACH = (
        "No start reached the target; the nearest point found is returned: widen bounds=, raise n_starts=, or ask for "
        "a value in the range of the function."
    )


@final
@dataclass(frozen=True, eq=False, repr=False)
class Inversion:
    """A sample of the inputs that give the asked outputs, with its spacing.

    Attributes
    ----------
    points : array of shape (N, d)
        The points of all targets one after the other, in the namespace, device and dtype of the function. A target
        that no start reached has one point, the nearest found.
    target : int64 array of shape (N,)
        Number of the target of each point.
    residual : array of shape (N,) or (N, m)
        ``u(x) - y``.
    box_active : bool array of shape (N, d)
        Where a coordinate lies on a bound. Inputs that are fixed by equal bounds do not count.
    statuses : tuple of InversionStatus
        How each target ended.
    hits : tuple of int
        For each target, how many starts reached it.
    box : ndarray (d, 2)
        The bounds.
    """

    points: Array
    target: Array
    residual: Array
    box_active: Array
    statuses: tuple[InversionStatus, ...]
    hits: tuple[int, ...]
    box: np.ndarray

    @property
    def status(self) -> InversionStatus:
        """The worst status of a target."""
        return max(self.statuses, key=list(InversionStatus).index)

    @property
    def spacing(self) -> np.ndarray:
        """How dense the sample is: the largest distance of a point to its nearest neighbour, for each target.

        In coordinates scaled by the box, float64 of shape (T,); NaN for a single point. It estimates by leaving one
        out how far a further point of the level set is from this sample. Where the level set is a few single points,
        it is their distance.
        """
        return spacings(_unit(to_host(self.points), self.box), to_host(self.target), len(self.statuses))

    def of(self, target: int) -> Inversion:
        """Return the inversion of one target, counted from 0.

        Parameters
        ----------
        target : int
            Its number.

        Returns
        -------
        Inversion

        Raises
        ------
        ValueError
            If there is no such target.
        """
        target = whole_number("target", target, at_least=0, at_most=len(self.statuses) - 1)
        xp = namespace(self.points)
        rows = xp.nonzero(self.target == target)[0]
        points, own, residual, active = (
            xp.take(a, rows, axis=0) for a in (self.points, self.target, self.residual, self.box_active)
        )
        return Inversion(
            points=points,
            target=own * 0,
            residual=residual,
            box_active=active,
            statuses=(self.statuses[target],),
            hits=(self.hits[target],),
            box=self.box,
        )

    def __repr__(self) -> str:
        """Points, targets and the status in words."""
        n, d = (int(k) for k in self.points.shape)
        targets = len(self.statuses)
        return f"Inversion({n} points in {d} inputs for {targets} target{'s' * (targets > 1)}: {self.status.value})"


def invert(
    u: Invertible,
    y: Any,
    *,
    n_starts: int | None = None,
    bounds: Bounds | None = None,
    prior: Prior | None = None,
    tol: float | None = None,
    max_steps: int = 100,
    seed: int = 0,
    spacing: float = 1e-3,
) -> Inversion:
    """Find inputs x in a box with ``u(x) = y``: a sample of all of them, not one.

    Parameters
    ----------
    u : function, sequence of m functions on one box, or callable
        Any function of the library, such as CP or TensorTrain. A callable takes points (n, d) and returns
        values (n, m) and Jacobians (n, m, d); `bounds` then gives its box, and the namespace, device and dtype of
        `y` are those of its points (NumPy float64 if y is a number or a list).
    y : number or array
        The target. For one output a number, or (T,) for T inversions at once; for m outputs (m,) or (T, m).
    n_starts : int, optional
        Starts for each target, 64 by default; with a sample as prior all its rows.
    bounds : mapping of axis to (low, high) or number, or array (d, 2), optional
        The box, within the domain, which it is by default. A number, or equal ends, fixes an input.
    prior : (mean, covariance) or array (k, d), optional
        Where to start: a Gaussian (a tuple or a list), or a sample, moved into the box. By default a Sobol sequence in
        the box.
    tol : float, optional
        Largest ``|u(x) - y|`` that counts as reached, in units of u; by default 4096 units of round-off of the larger
        of ``|y|`` and the largest ``|u|`` at the starts.
    max_steps : int, optional
        Evaluations of value and gradient for each start at most.
    seed : int, optional
        Seed of the starts.
    spacing : float, optional
        Points of a target closer than this, in coordinates scaled by the box, are one; 0 keeps all.

    Returns
    -------
    Inversion

    Raises
    ------
    TypeError
        If `u`, `y`, `bounds` or `prior` is of a wrong kind, or lives in another place.
    ValueError
        If a shape is wrong, `y` is not finite, `bounds` are not rising numbers in the domain, a covariance is
        singular, or the function is not finite at a start.

    Notes
    -----
    The search is local: a target that no start reaches is most often out of reach, but that is no proof.
    With bounds on a periodic axis the samples do not go around.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> from sepnet.solvers.newton import invert
    >>> V = sn.TensorSpace(x=sn.BSpline((-1, 1), cells=2, degree=2), y=sn.BSpline((-1, 1), cells=2, degree=2))
    >>> x, y = V.coordinates
    >>> circle = sn.project(x**2 + y**2, V, rank=2)
    >>> found = invert(circle, 0.25)
    >>> found.status.name, bool(np.allclose(np.linalg.norm(found.points, axis=1), 0.5))
    ('REACHED', True)
    >>> invert(circle, 3.0).status.name
    'OUT_OF_REACH'
    """
    model = as_model(u, y, bounds)
    max_steps = whole_number("max_steps", max_steps, at_least=1)
    gap = real_number("`spacing`", spacing)
    if not 0 <= gap < np.inf:
        msg = f"`spacing` is {gap!r}, expected a number >= 0: a fraction of the box"
        raise ValueError(msg)
    if not (np.isfinite(model.low) & np.isfinite(model.high)).all():
        msg = f"`bounds` has the ends {model.low} and {model.high}, expected finite numbers: give a box to search"
        raise ValueError(msg)
    starts = _starts(model, n_starts, prior, whole_number("seed", seed, at_least=0))
    values = _values(model, starts)
    row = first_not_finite(values)
    if row is not None:
        value, start = (to_host(a[row, :]).astype(np.float64) for a in (values, starts))
        msg = f"`u` is {value} at the start {start}, expected finite numbers: keep the box where it is"
        raise ValueError(msg)
    targets = as_targets(y, model, int(values.shape[1]))
    limits = _limits(model, targets, values, tol)
    ends = _search(model, starts, targets, limits, max_steps)
    return _collect(model, ends, gap)


def _starts(model: Model, n: int | None, prior: Prior | None, seed: int) -> Array:
    """Return the starts where the model lives; those of a sequence are made on the host."""
    n = None if n is None else whole_number("n_starts", n, at_least=1)
    if prior is None:
        return model.here(box_starts(n or STARTS, model.low, model.high, seed))
    return model.here(prior_starts(prior, n, model.low, model.high, seed, default=STARTS))


def _values(model: Model, points: Array) -> Array:
    """Return the values (n, m)."""
    if model.functions:
        return model.xp.stack([f(points) for f in model.functions], axis=1)
    return model.evaluate(points)[0]


def _limits(model: Model, targets: Array, values: Array, tol: float | None) -> Array:
    """Return the misfits (T, m) that count as reached."""
    xp = model.xp
    if tol is not None:
        limit = real_number("`tol`", tol)
        if not 0 < limit < np.inf:
            msg = f"`tol` is {limit!r}, expected a positive number in units of `u`: leave it out for round-off"
            raise ValueError(msg)
        return xp.full_like(targets, limit)
    size, largest = xp.abs(targets), xp.max(xp.abs(values), axis=0)
    size = xp.where(size < largest, largest, size)
    # A function that vanishes at all starts has no size.
    least = xp.full_like(size, float(np.finfo(np.float32).tiny))
    return xp.where(size > 0, TOLERANCE * eps(model.like.dtype, xp) * size, least)


@final
@dataclass(frozen=True, eq=False)
class _Ends:
    """Where the n starts of each target ended: points (N, d), residuals (N, m), and (T, n) the way and misfit."""

    points: Array
    residual: Array
    way: Array
    misfit: Array


def _search(model: Model, starts: Array, targets: Array, limits: Array, max_steps: int) -> _Ends:
    """Run all starts of all targets at once, target by target in one long array, where the model lives."""
    xp, count, n = model.xp, int(targets.shape[0]), int(starts.shape[0])
    points = tiled(starts, count)
    asked, allowed = (repeated(a, n) for a in (targets, limits))
    low, high = model.box()
    if targets.shape[1] == 1:
        found, residual, ways = _level(model, points, asked[:, 0], low, high, allowed[:, 0], max_steps)
    else:

        def misfit(x: Array, index: Array) -> tuple[Array, Array]:
            value, jacobian = model.evaluate(x)
            y, unit = xp.take(asked, index, axis=0), xp.take(allowed, index, axis=0)
            return (value - y) / unit, jacobian / unit[:, :, None]

        least = least_squares(
            misfit, points, low, high, model.here(model.high - model.low), goal=1.0, max_steps=max_steps
        )
        found, residual, ways = least.points, least.residual * allowed, least.ends
    share = xp.max(xp.abs(residual) / allowed, axis=1)
    return _Ends(found, residual, xp.reshape(ways, (count, n)), xp.reshape(share, (count, n)))


def _level(
    model: Model, starts: Array, targets: Array, low: Array, high: Array, tol: Array, max_steps: int
) -> tuple[Array, Array, Array]:
    """Run the samples of one output, in the compiled kernel where there is one; return points, residuals, ends."""
    options = {"tol": tol, "max_steps": max_steps}
    tables = tables_of(model.functions[0]) if model.functions else None
    if tables is not None:
        targets = targets - tables.constant
        found = dispatch.cp_newton(
            starts, targets, low, high, tables.breaks, tables.tables, names=model.names, **options
        )
    else:

        def jet(points: Array) -> tuple[Array, Array]:
            value, jacobian = model.evaluate(points)
            return value[:, 0], jacobian[:, 0, :]

        found = level_newton(jet, starts, targets, low, high, **options)
    return found.points, (found.values - targets)[:, None], found.ends


def _collect(model: Model, ends: _Ends, spacing: float) -> Inversion:
    """Keep the points that reached their target, thinned out, or the nearest one where none did.

    They are thinned out on the host, which has a tree of neighbours: one copy of the points that count, at the end.
    """
    xp, n, whole = model.xp, int(ends.way.shape[1]), {"dtype": model.xp.int64, "device": device_of(ends.points)}
    reached = ends.way == REACHED
    hits = xp.sum(xp.astype(reached, xp.int64), axis=1)
    misfit = xp.where(xp.isnan(ends.misfit), xp.full_like(ends.misfit, float("inf")), ends.misfit)
    nearest = xp.argmin(misfit, axis=1)[:, None] == xp.arange(n, **whole)[None, :]
    best = xp.sum(xp.where(nearest, ends.way, xp.zeros_like(ends.way)), axis=1)
    candidates = reached | (nearest & (hits == 0)[:, None])
    flat = xp.nonzero(xp.reshape(candidates, (-1,)))[0]
    box = np.stack([model.low, model.high], axis=1)
    if spacing > 0:
        near = _unit(to_host(xp.take(ends.points, flat, axis=0)), box)
        flat = xp.take(flat, from_host(thin(near, to_host(flat) // n, spacing), xp, **whole), axis=0)
    points, residual = xp.take(ends.points, flat, axis=0), xp.take(ends.residual, flat, axis=0)
    low, high = model.box()
    active = ((points <= low) | (points >= high)) & (low < high)
    counts, ways = to_host(xp.stack([hits, best])).tolist()
    statuses = tuple(_status(k, n, way) for k, way in zip(counts, ways, strict=True))
    flat_residual = residual[:, 0] if residual.shape[1] == 1 else residual
    return Inversion(points, flat // n, flat_residual, active, statuses, tuple(counts), box)


def _status(hits: int, n: int, best: int) -> InversionStatus:
    if hits:
        return InversionStatus.REACHED if hits == n else InversionStatus.PARTLY
    return InversionStatus.STEP_LIMITED if best == OUT_OF_STEPS else InversionStatus.OUT_OF_REACH


def _unit(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return points in coordinates of [0, 1], fixed inputs at 0."""
    width = box[:, 1] - box[:, 0]
    return np.asarray((points.astype(np.float64) - box[:, 0]) / np.where(width > 0, width, 1.0))
