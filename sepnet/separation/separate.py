"""Functions of several variables that do not separate become sums of products: `separate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from math import prod, sqrt
from numbers import Real
from time import perf_counter
from typing import Any, Literal, final

import numpy as np

from sepnet.bases.checks import real_number, whole_number
from sepnet.bases.matrix_axis import Assembled
from sepnet.coefficients import Coefficient
from sepnet.functions import CP, TensorTrain, axis_maps
from sepnet.functions.checks import a_space
from sepnet.functions.errors import ErrorEstimate, estimate
from sepnet.functions.rounding import check_accuracy
from sepnet.functions.trains import dense_to_train
from sepnet.separation.cross import cross
from sepnet.separation.resolve import Fibres, Values, ascend, box_of, explore, resolve
from sepnet.separation.sum_of_products import sum_of_products
from sepnet.spaces import TensorSpace
from sepnet.terms import Term

__all__ = ["SAFETY", "Separation", "SeparationStatus", "separate"]

# What is carried into error bounds is the largest error seen times this.
SAFETY = 2.0
# A grid of at most this many nodes is evaluated as a whole: no search can miss anything on it.
WHOLE = 2**16
# Points of a measurement, and how often axes are refined and the function separated again.
MEASURED, ROUNDS = 4096, 4
# Random corners of the box that are asked for the error, which is often largest there: in few variables all of them.
CORNERS = 256
# An error this many times as large as those at the points of a measurement is of a part that they do not see: the axes
# are refined there, if they need it.
UNSEEN = 4.0
# Shares of the tolerance: the splines of all axes, the cross on the grid of nodes (well below the truncation, or its
# noise is fitted, with more terms), and the truncation of its train.
MESH_SHARE, GRID_SHARE, CUT_SHARE = 0.4, 0.05, 0.5
# Nothing below some round-off of a function's values can be reached.
LEAST_TOL = 1e-13


@final
class SeparationStatus(Enum):
    """How a separation ended. The value is the sentence for the user, with the next step."""

    CONVERGED = "The measured error is below the tolerance."
    RANK_LIMITED = "The tolerance needs more terms than `rank`: raise rank= or tol=, or take format='tt'."
    MESH_LIMITED = (
        "The splines do not resolve the function at their finest: it jumps or kinks. Put breaks= where it does (and "
        "continuity=0, or -1 for a jump), raise tol=, or separate the smooth parts apart."
    )


@final
@dataclass(frozen=True)
class Separation:
    """A function in separable form, with its measured error.

    It is a coefficient or datum wherever sepnet takes one (``S * V.d.x``, ``source=S``), and its error goes into the
    bounds of the solution (`doubt`).

    Parameters
    ----------
    function : CP or TensorTrain
        Float64, on the host; its axes may be finer than those asked for.
    error : ErrorEstimate
        Relative L2 error over the box at fresh points, some of them around the largest values.
    largest : float
        The largest absolute error seen, at the fresh points and climbing from the worst of them.
    status : SeparationStatus
        Whether the tolerance is met, and if not why.
    evaluations : int
        How many values of the function were asked for.
    seconds : float
        Time taken.
    """

    function: CP | TensorTrain
    error: ErrorEstimate
    largest: float
    status: SeparationStatus
    evaluations: int
    seconds: float

    @property
    def converged(self) -> bool:
        """True when the status is CONVERGED."""
        return self.status is SeparationStatus.CONVERGED

    @property
    def space(self) -> TensorSpace:
        """The space of the function: that asked for, on axes as fine as needed."""
        return self.function.space

    @property
    def doubt(self) -> float:
        """What error bounds count with: twice the largest error seen, absolute, anywhere in the box."""
        return SAFETY * self.largest

    def __call__(self, points: np.ndarray, /) -> np.ndarray:
        """Evaluate at host points (n, d): the same as ``S.function(points)``."""
        return np.asarray(self.function(points))

    def as_coefficient(self) -> Coefficient:
        """Return the function as a coefficient that knows how far it may be off.

        Returns
        -------
        Coefficient

        Raises
        ------
        ValueError
            If the function is a train of too many terms: separate it with ``format="cp"``.
        """
        terms = self.function.as_coefficient().terms
        return Coefficient(terms, ((self.doubt, (Term(),)),) if self.doubt > 0.0 else ())

    def __repr__(self) -> str:
        """One screen: function, status with the next step, error, work."""
        lines = [
            f"Separation into {self.function!r}",
            f"  status      {self.status.name}: {self.status.value}",
            f"  error       {self.error}, relative; largest seen {self.largest:.3g}, absolute",
            f"  work        {self.evaluations} values, {self.seconds:.3g} s",
        ]
        return "\n".join(lines)

    def __neg__(self) -> Coefficient:
        """Change the sign."""
        return -self.as_coefficient()

    def __add__(self, other: object) -> Coefficient:
        """Add a number, an expression or a function."""
        return self.as_coefficient().__add__(_plain(other))

    __radd__ = __add__

    def __sub__(self, other: object) -> Coefficient:
        """Subtract a number, an expression or a function."""
        return self.as_coefficient().__sub__(_plain(other))

    def __rsub__(self, other: object) -> Coefficient:
        """Subtract from a number, an expression or a function."""
        return (-self.as_coefficient()).__add__(_plain(other))

    def __mul__(self, other: object) -> Coefficient:
        """Multiply by a number, an expression or a function; an operator takes over in its own class."""
        return self.as_coefficient().__mul__(_plain(other))

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Coefficient:
        """Divide by a number."""
        return self.as_coefficient().__truediv__(other)

    def __rtruediv__(self, other: object) -> Coefficient:
        """Refuse, with the next step."""
        msg = "division by a separation: separate the quotient itself, sn.separate(lambda p: 1 / f(p), space)"
        raise TypeError(msg)

    def __pow__(self, exponent: int) -> Coefficient:
        """Raise to a non-negative integer power: the number of terms grows quickly, separate the power instead."""
        return self.as_coefficient() ** exponent

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Let NumPy scalars take part in arithmetic; refuse functions and arrays, with the next step."""
        return self.as_coefficient().__array_ufunc__(ufunc, method, *map(_plain, inputs), **kwargs)


def _plain(other: object) -> Any:
    return other.as_coefficient() if hasattr(other, "as_coefficient") else other


def separate(
    f: Callable[[np.ndarray], np.ndarray],
    space: TensorSpace,
    tol: float = 1e-6,
    *,
    rank: int = 64,
    format: Literal["cp", "tt"] = "cp",
    seed: int = 0,
) -> Separation:
    """Write a function of several variables as a sum of products of splines, from as few values as possible.

    The function is interpolated on the tensor grid of ``space.nodes`` by cross approximation
    (`sepnet.separation.cross`; a small grid is evaluated as a whole). Axes whose splines do not resolve it are refined
    for this function alone, where it needs that, and known breaks stay. The result is measured at fresh points, uniform
    in the box and around the largest values. How narrow a feature is found depends on luck where it is exactly zero
    elsewhere: give such axes cells of its width.

    Parameters
    ----------
    f : callable
        Takes host points (n, d), float64, with the axes of `space` as columns, and returns values (n,).
    space : TensorSpace
        The axes on which `f` depends, e.g. ``V.drop("t")``. What vanishes at their ends is not asked of `f`.
    tol : float, optional
        Relative L2 error to reach. Where the largest values have little measure, such as at a corner of many axes, the
        largest error is that of a larger tolerance: see `Separation.largest`, which error bounds count with.
    rank : int, optional
        Largest number of terms (ranks of a train).
    format : {"cp", "tt"}, optional
        A sum of products, of which the number of terms decides what an operator costs, or a tensor train.
    seed : int, optional
        Of the random points.

    Returns
    -------
    Separation
        Converged or not: see its `status`.

    Raises
    ------
    TypeError
        If `f` is no callable or returns no real numbers, an axis is given by matrices, or an argument is of the wrong
        kind.
    ValueError
        If `f` returns a wrong shape or values that are not finite, or an argument is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8), y=sn.BSpline((0, 1), cells=8), t=sn.BSpline((0, 1), cells=4))
    >>> S = separate(lambda p: 1 / (1 + p[:, 0] ** 2 + p[:, 1]), V.drop("t"), tol=1e-6)
    >>> S.converged, S.function.rank, S.error.value < 1e-6
    (True, 4, True)
    >>> S * V.d.x - V.d.t
    Operator(5 separable terms: d.x, d.t)
    """
    started = perf_counter()
    a_space(space, "sn.separate")
    for name, basis in space.items:
        if isinstance(basis, Assembled):
            msg = (
                f"sn.separate: axis {name!r} is given by matrices and has no coordinate for `f`: separate over the "
                f"other axes, e.g. `space.drop({name!r})`, and give data along it as coefficients of its own"
            )
            raise TypeError(msg)
    values = Values(_a_function(f, space), space)
    check_accuracy(tol, rank)
    if not 0.0 < real_number("`tol`", tol) < 1.0:
        msg = f"`tol` is {tol}, expected a number between 0 and 1: a relative error"
        raise ValueError(msg)
    if format not in ("cp", "tt"):
        msg = f"`format` is {format!r}, expected 'cp' (a sum of products) or 'tt' (a tensor train)"
        raise ValueError(msg)
    rng = np.random.default_rng(whole_number("seed", seed, at_least=0))
    goal = max(float(tol), LEAST_TOL)
    fibres = explore(values, space, rng)
    space = TensorSpace(**{name: basis.with_zero(None) for name, basis in space.items})
    status, limited = SeparationStatus.CONVERGED, False
    share = MESH_SHARE * goal / sqrt(space.dim)
    finer, resolved = resolve(values, space, fibres, share)
    for _ in range(ROUNDS):
        space = finer
        train, reached = _on_nodes(values, space, fibres, goal, rank, rng)
        function, within = _in_format(train, CUT_SHARE * goal, rank, format)
        error, seen, worst = _measure(values, function, fibres, rng)
        places, sizes = _ascended(values, function, np.concatenate([worst, fibres.points[:1]]), rng)
        largest, limited = max(seen, float(sizes.max())), not (reached and within)
        if limited or not resolved or (error.value <= 0.7 * goal and largest <= UNSEEN * seen):
            break
        fibres = fibres.joined(np.concatenate([worst, places[np.argsort(-sizes)[:2]]]))
        finer, resolved = resolve(values, space, fibres, share)
        if finer == space and error.value <= 0.7 * goal:
            break
    # Measured at points that decided nothing.
    error, seen, _ = _measure(values, function, fibres, rng)
    hidden = not resolved and largest > UNSEEN * seen
    error = replace(error, maximum=max(largest, seen))
    if error.value > tol or hidden:
        status = SeparationStatus.RANK_LIMITED if limited else SeparationStatus.MESH_LIMITED
    error = replace(error, maximum=error.maximum * values.unit)
    return Separation(values.unit * function, error, error.maximum, status, values.count, perf_counter() - started)


def _a_function(f: object, space: TensorSpace) -> Callable[[np.ndarray], np.ndarray]:
    if isinstance(f, Coefficient | Real) or not callable(f):
        hint = ": it separates already, use it as it stands" if isinstance(f, Coefficient | Real) else ""
        msg = (
            f"sn.separate: `f` is {type(f).__name__}, expected a callable of points (n, {space.dim}) that returns "
            f"values (n,){hint}"
        )
        raise TypeError(msg)
    return f


def _on_nodes(
    values: Values, space: TensorSpace, fibres: Fibres, goal: float, rank: int, rng: np.random.Generator
) -> tuple[TensorTrain, bool]:
    """Return the interpolant on the nodes as a train, and whether the rank suffices."""
    nodes = list(space.nodes.values())
    if prod(map(float, space.shape)) <= WHOLE:
        grid = np.stack([g.ravel() for g in np.meshgrid(*nodes, indexing="ij")], axis=1)
        tensor = values(grid).reshape(space.shape)
        cores, _ = dense_to_train(tensor, 0.1 * GRID_SHARE * goal * float(np.linalg.norm(tensor)))
        reached = True
    else:

        def entries(index: np.ndarray) -> np.ndarray:
            return values(np.stack([n[i] for n, i in zip(nodes, index.T, strict=True)], axis=1))

        near = [np.abs(p[:, None] - n[None, :]).argmin(axis=1) for p, n in zip(fibres.points.T, nodes, strict=True)]
        found = cross(entries, space.shape, GRID_SHARE * goal, rank, rng, np.stack(near, axis=1))
        cores, reached = list(found.cores), found.reached or not found.full
    inverses = [axis_maps.collocation_inverse(basis) for basis in space.bases]
    moved = [np.tensordot(inverse, core, axes=(1, 1)) for inverse, core in zip(inverses, cores, strict=True)]
    return TensorTrain(space, [np.ascontiguousarray(m.transpose(1, 0, 2)) for m in moved]), reached


def _in_format(
    train: TensorTrain, allowed: float, rank: int, format: Literal["cp", "tt"]
) -> tuple[CP | TensorTrain, bool]:
    """Return the function of the lowest rank within the tolerance, and whether `rank` suffices for it."""
    if format == "tt":
        short = train.compress(allowed)
        return (short, True) if short.rank <= rank else (short.compress(rank=rank), False)
    function, error = sum_of_products(train, allowed, rank)
    return function, error <= allowed


def _ascended(
    values: Values, function: CP | TensorTrain, start: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return points of large error, and the errors: from `start`, and from the worst of the corners of the box."""

    def miss(where: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(values(where) - np.asarray(function(where))))

    low, high = box_of(function.space)
    corners = np.unique(rng.integers(0, 2, size=(CORNERS, low.size)), axis=0) * (high - low) + low
    worst = corners[np.argsort(-miss(corners))[: len(start)]]
    return ascend(miss, np.concatenate([start, worst]), function.space)


def _measure(
    values: Values, function: CP | TensorTrain, fibres: Fibres, rng: np.random.Generator
) -> tuple[ErrorEstimate, float, np.ndarray]:
    """Return the relative L2 error at fresh points, the largest error seen, and the points where it is worst.

    Half of the points are uniform in the box, half in the part of it with the largest values; each counts with the
    reciprocal of the density it was drawn with, so that the estimate is that of the whole box.
    """
    low, high = box_of(function.space)
    inner_low, inner_high = fibres.around
    half = MEASURED // 2
    points = np.concatenate(
        [rng.uniform(low, high, size=(half, low.size)), rng.uniform(inner_low, inner_high, size=(half, low.size))]
    )
    share = float(np.prod((inner_high - inner_low) / (high - low)))
    inside = ((points >= inner_low) & (points <= inner_high)).all(axis=1)
    weights = 1.0 / np.sqrt(0.5 + 0.5 * inside / share)
    exact = values(points)

    def miss(where: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(values(where) - np.asarray(function(where))))

    difference = exact - np.asarray(function(points))
    worst = points[np.argsort(-np.abs(difference))[:4]]
    climbed, sizes = fibres.climb(miss, worst)
    largest = max(float(np.abs(difference).max()), float(sizes.max()))
    if not exact.any():
        size = float(np.abs(difference).max())
        return ErrorEstimate(size, size, size, largest, MEASURED), largest, climbed
    found = estimate(difference * weights, exact * weights)
    return ErrorEstimate(found.value, found.low, found.high, largest, MEASURED), largest, climbed
