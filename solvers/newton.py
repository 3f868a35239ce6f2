"""Inversion on the level set: the inputs that give an output.

For one output the points with ``u(x) = y`` are a surface of d - 1 dimensions, for m outputs one of d - m. What is
returned is a *sample* of that surface inside a box: from many starts each goes to a nearby point of it, by the shortest
step to the tangent plane of the level set, in coordinates scaled by the box. For one output the rules are in
`sepnet.backends.newton`; for several the step is that of Gauss-Newton with as little damping as makes it the one of
least norm (`sepnet.solvers.levenberg`). Points closer than a spacing are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, final

import numpy as np

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, device_of, eps, from_host, to_host
from sepnet.backends.newton import OUT_OF_STEPS, REACHED, level_newton
from sepnet.bases.checks import real_number, whole_number
from sepnet.functions.axis_maps import local_polynomials
from sepnet.functions.cp import CP
from sepnet.functions.sna import SNA
from sepnet.functions.values import Values
from sepnet.solvers.inversion_model import Bounds, Invertible, Model, as_model, as_targets, rows_of
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
        rows = np.flatnonzero(to_host(self.target) == target)
        return Inversion(
            points=rows_of(self.points, rows),
            target=rows_of(self.target, rows) * 0,
            residual=rows_of(self.residual, rows),
            box_active=rows_of(self.box_active, rows),
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
    host = _starts(model, n_starts, prior, whole_number("seed", seed, at_least=0))
    values = to_host(_values(model, model.here(host))).astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        msg = f"`u` is {values[row]} at the start {host[row]}, expected finite numbers: keep the box where it is"
        raise ValueError(msg)
    targets = as_targets(y, model, values.shape[1])
    limits = _limits(model, targets, values, tol)
    ends = _search(model, host, targets, limits, max_steps)
    return _collect(model, targets, ends, gap)


def _starts(model: Model, n: int | None, prior: Prior | None, seed: int) -> np.ndarray:
    n = None if n is None else whole_number("n_starts", n, at_least=1)
    if prior is None:
        return box_starts(n or STARTS, model.low, model.high, seed)
    return prior_starts(prior, n, model.low, model.high, seed, default=STARTS)


def _values(model: Model, points: Array) -> Array:
    """Return the values (n, m)."""
    if model.functions:
        return model.xp.stack([f(points) for f in model.functions], axis=1)
    return model.evaluate(points)[0]


def _limits(model: Model, targets: np.ndarray, values: np.ndarray, tol: float | None) -> np.ndarray:
    """Return the misfits (T, m) that count as reached."""
    if tol is not None:
        limit = real_number("`tol`", tol)
        if not 0 < limit < np.inf:
            msg = f"`tol` is {limit!r}, expected a positive number in units of `u`: leave it out for round-off"
            raise ValueError(msg)
        return np.full_like(targets, limit)
    size = np.maximum(np.abs(targets), np.abs(values).max(axis=0))
    # A function that vanishes at all starts has no size.
    return np.asarray(np.where(size > 0, TOLERANCE * eps(model.like.dtype, model.xp) * size, np.finfo(np.float32).tiny))


@final
@dataclass(frozen=True, eq=False)
class _Ends:
    """Where the n starts of each target ended: points, residuals (N, m), and on the host (T, n) the way and misfit."""

    points: Array
    residual: Array
    way: np.ndarray
    misfit: np.ndarray


def _search(model: Model, starts: np.ndarray, targets: np.ndarray, limits: np.ndarray, max_steps: int) -> _Ends:
    """Run all starts of all targets at once, target by target in one long array."""
    count, n = len(targets), len(starts)
    points = model.here(np.tile(starts, (count, 1)))
    asked, allowed = (model.here(np.repeat(a, n, axis=0)) for a in (targets, limits))
    low, high = model.box()
    if targets.shape[1] == 1:
        found, residual, ways = _level(model, points, asked[:, 0], low, high, allowed[:, 0], max_steps)
    else:

        def misfit(x: Array, index: Array) -> tuple[Array, Array]:
            value, jacobian = model.evaluate(x)
            xp = model.xp
            y, unit = xp.take(asked, index, axis=0), xp.take(allowed, index, axis=0)
            return (value - y) / unit, jacobian / unit[:, :, None]

        least = least_squares(
            misfit, points, low, high, model.here(model.high - model.low), goal=1.0, max_steps=max_steps
        )
        found, residual, ways = least.points, least.residual * allowed, least.ends
    share = np.abs(to_host(residual)).astype(np.float64) / np.repeat(limits, n, axis=0)
    return _Ends(found, residual, to_host(ways).reshape(count, n), share.max(axis=1).reshape(count, n))


def _level(
    model: Model, starts: Array, targets: Array, low: Array, high: Array, tol: Array, max_steps: int
) -> tuple[Array, Array, Array]:
    """Run the samples of one output, in the compiled kernel where there is one; return points, residuals, ends."""
    options = {"tol": tol, "max_steps": max_steps}
    tables = _tables(model.functions)
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


class _Tables(NamedTuple):
    """A CP function of splines as the kernel takes it, and what is added to it."""

    breaks: tuple[Array, ...]
    tables: tuple[Array, ...]
    constant: Array | float


def _tables(functions: Sequence[Values]) -> _Tables | None:
    """Return the tables of a CP function of splines, with or without a constant as a fit has it; None for others."""
    u = functions[0] if functions else None
    constant: Array | float = 0.0
    if isinstance(u, SNA) and u.activation == "identity" and not u.weights and tuple(u.parts) == (u.space.names,):
        u, constant = u.parts[u.space.names], u.constant
    if not isinstance(u, CP):
        return None
    pairs = [local_polynomials(basis, factor) for basis, factor in zip(u.space.bases, u.factors, strict=True)]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < len(pairs):
        return None
    return _Tables(tuple(b for b, _ in known), tuple(t for _, t in known), constant)


def _collect(model: Model, targets: np.ndarray, ends: _Ends, spacing: float) -> Inversion:
    """Keep the points that reached their target, thinned out, or the nearest one where none did."""
    reached = ends.way == REACHED
    hits = reached.sum(axis=1)
    misfit = np.where(np.isnan(ends.misfit), np.inf, ends.misfit)
    nearest = np.argmin(misfit, axis=1)
    candidates = reached.copy()
    missed = np.flatnonzero(hits == 0)
    candidates[missed, nearest[missed]] = True
    flat = np.flatnonzero(candidates)
    group = flat // ends.way.shape[1]
    box = np.stack([model.low, model.high], axis=1)
    keep = thin(_unit(to_host(ends.points)[flat], box), group, spacing)
    points, residual = rows_of(ends.points, flat[keep]), rows_of(ends.residual, flat[keep])
    low, high = model.box()
    active = ((points <= low) | (points >= high)) & (low < high)
    index = from_host(group[keep], model.xp, device=device_of(points), dtype="int64")
    statuses = tuple(
        _status(int(k), ends.way.shape[1], int(way[best])) for k, way, best in zip(hits, ends.way, nearest, strict=True)
    )
    flat_residual = residual[:, 0] if targets.shape[1] == 1 else residual
    return Inversion(points, index, flat_residual, active, statuses, tuple(int(k) for k in hits), box)


def _status(hits: int, n: int, best: int) -> InversionStatus:
    if hits:
        return InversionStatus.REACHED if hits == n else InversionStatus.PARTLY
    return InversionStatus.STEP_LIMITED if best == OUT_OF_STEPS else InversionStatus.OUT_OF_REACH


def _unit(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return points in coordinates of [0, 1], fixed inputs at 0."""
    width = box[:, 1] - box[:, 0]
    return np.asarray((points.astype(np.float64) - box[:, 0]) / np.where(width > 0, width, 1.0))
