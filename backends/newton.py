"""Newton's method on the level set of one function, every sample for itself: the rules, and the loop over any arrays.

The level set ``u(x) = y`` has d - 1 dimensions; the shortest step to its tangent plane, in coordinates z scaled by the
box, is ``dz = (y - u) g / (g'g)`` with g the gradient by z. One *sample* goes from its start to a point of the
level set by the following rules, which the compiled kernel (`sepnet.backends.cpu.newton`) shares to the letter:

- Components that point out of the box at a bound are left out of g (the reduced gradient); the step is then cut off at
  the box. g is divided by its largest component first: the square of a gradient of 1e20 is no number of float32.
- No step is longer than `reach` in any component of z. It begins at `REACH`, doubles with every step that is
  taken and is half the step that was refused after one that is not: near an extremum of u, where g vanishes, the
  bare step would throw samples across the box.
- A step is taken if the misfit ``|y - u|`` falls by at least `SHARE` of what the gradient promises.
- A sample ends when the misfit is at most `tol` (`REACHED`); when the reduced gradient vanishes, promises less than
  the round-off of u, or no step longer than ``sqrt(eps)`` of the box lowers the misfit (`STATIONARY`); or after
  `max_steps` evaluations of value and gradient (`OUT_OF_STEPS`). Each evaluation is a step, taken or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from sepnet.backends.arrays import Array, device_of, eps, namespace

__all__ = ["OUT_OF_STEPS", "REACH", "REACHED", "SHARE", "STATIONARY", "Samples", "how_it_ended", "level_newton"]

REACHED, STATIONARY, OUT_OF_STEPS = 0, 1, 2
# Half the box at most: a quarter found as many points of the test functions with more steps, the whole box fewer.
REACH = 0.5
SHARE = 1e-4

Evaluate: TypeAlias = Callable[[Array], tuple[Array, Array]]


class Samples(NamedTuple):
    """Where the samples ended."""

    points: Array
    """(n, d), inside the box."""
    values: Array
    """(n,), u at the points."""
    steps: Array
    """(n,) int64, evaluations."""
    ends: Array
    """(n,) int64: `REACHED`, `STATIONARY` or `OUT_OF_STEPS`."""


class _State(NamedTuple):
    """The samples that are on their way: number, target, point, value, gradient, longest step."""

    index: Array
    target: Array
    x: Array
    value: Array
    gradient: Array
    reach: Array


def level_newton(
    evaluate: Evaluate, starts: Array, targets: Array, low: Array, high: Array, *, tol: Array, max_steps: int
) -> Samples:
    """Move every start to the level set of its own target.

    Parameters
    ----------
    evaluate : callable
        Points (n, d) to values (n,) and gradients (n, d).
    starts : array of shape (n, d)
        Inside the box.
    targets, tol : arrays of shape (n,)
        Asked value, and largest misfit that counts as reached.
    low, high : arrays of shape (d,)
        The box; equal ends freeze an axis.
    max_steps : int
        Evaluations a sample at most, at least one.

    Returns
    -------
    Samples
    """
    xp = namespace(starts, targets, low, high, tol)
    n, width, least = int(starts.shape[0]), high - low, eps(starts.dtype, xp) ** 0.5
    whole = {"dtype": xp.int64, "device": device_of(starts)}
    value, gradient = evaluate(starts)
    now = _State(xp.arange(n, **whole), targets, starts, value, gradient, xp.full_like(targets, REACH))
    done: list[tuple[Array, ...]] = []
    for steps in range(1, max_steps + 1):
        step, promise = _step(now, low, high, width, eps(starts.dtype, xp))
        reached = xp.abs(now.target - now.value) <= xp.take(tol, now.index, axis=0)
        stuck = ~(promise > 0) | (now.reach < least)
        over = reached | stuck | (steps == max_steps)
        if n == 0 or bool(xp.any(over)):
            ends = how_it_ended(now.index, reached, stuck)
            leave = xp.nonzero(over)[0]
            rest = [xp.take(a, leave, axis=0) for a in (now.index, now.x, now.value, ends)]
            done.append((rest[0], rest[1], rest[2], xp.full_like(rest[0], steps), rest[3]))
            stay = xp.nonzero(~over)[0]
            if int(stay.shape[0]) == 0:
                break
            now = _State(*(xp.take(a, stay, axis=0) for a in now))
            step, promise = xp.take(step, stay, axis=0), xp.take(promise, stay, axis=0)
        now = _advance(now, step, promise, evaluate, width)
    return _gathered(done)


def _step(now: _State, low: Array, high: Array, width: Array, unit: float) -> tuple[Array, Array]:
    """Return the points (n, d) to try, and the fall of the misfit that the gradient promises there.

    It is zero where there is no way to go.
    """
    xp = namespace(now.x)
    misfit = now.target - now.value
    sign = xp.where(misfit < 0, -xp.ones_like(misfit), xp.ones_like(misfit))[:, None]
    slope = now.gradient * width * sign
    blocked = ((now.x <= low) & (slope < 0)) | ((now.x >= high) & (slope > 0))
    slope = xp.where(blocked, xp.zeros_like(slope), slope)
    steepest = xp.max(xp.abs(slope), axis=1)
    moves = steepest > 0
    steepest = xp.where(moves, steepest, xp.ones_like(steepest))
    way = slope / steepest[:, None]
    length = xp.abs(misfit) / steepest / xp.where(moves, xp.sum(way * way, axis=1), xp.ones_like(steepest))
    length = xp.where(length < now.reach, length, now.reach)
    trial = now.x + length[:, None] * way * width
    trial = xp.where(trial > low, xp.where(trial < high, trial, high), low)
    promise = xp.sum(now.gradient * (trial - now.x), axis=1) * sign[:, 0]
    noise = unit * (xp.abs(now.target) + xp.abs(now.value))
    return trial, xp.where(moves & (promise > noise), promise, xp.zeros_like(promise))


def _advance(now: _State, trial: Array, promise: Array, evaluate: Evaluate, width: Array) -> _State:
    """Take the steps that lower the misfit, and shorten the others."""
    xp = namespace(now.x)
    value, gradient = evaluate(trial)
    fall = xp.abs(now.target - now.value) - xp.abs(now.target - value)
    better = fall >= SHARE * promise
    scale = xp.where(width > 0, width, xp.ones_like(width))
    refused = xp.max(xp.abs(trial - now.x) / scale, axis=1) / 2
    longer = xp.where(now.reach * 2 < REACH, now.reach * 2, xp.full_like(now.reach, REACH))
    return _State(
        now.index,
        now.target,
        xp.where(better[:, None], trial, now.x),
        xp.where(better, value, now.value),
        xp.where(better[:, None], gradient, now.gradient),
        xp.where(better, longer, refused),
    )


def how_it_ended(index: Array, reached: Array, stuck: Array) -> Array:
    """Return int64 numbers like `index`: `REACHED`, else `STATIONARY`, else `OUT_OF_STEPS`."""
    xp = namespace(index)
    rest = xp.where(stuck, xp.full_like(index, STATIONARY), xp.full_like(index, OUT_OF_STEPS))
    return xp.where(reached, xp.full_like(index, REACHED), rest)


def _gathered(done: list[tuple[Array, ...]]) -> Samples:
    """Join the samples in the order of the starts."""
    xp = namespace(done[0][0])
    index, *columns = (xp.concat(list(parts), axis=0) for parts in zip(*done, strict=True))
    order = xp.argsort(index)
    return Samples(*(xp.take(column, order, axis=0) for column in columns))
