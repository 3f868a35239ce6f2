"""Levenberg-Marquardt for many small bounded problems at once: ``min |F(x)|^2 / 2`` over a box.

In coordinates scaled by s, with J the Jacobian of F by ``x / s``, a step solves

    (J'J + mu a I) dz = - J'F,

by a QR factorisation, for the inputs that are free: those at a bound whose gradient points out of the box are left
out. The step is cut off at the box, and taken if the functional falls by at least `SHARE` of what its model promises;
``mu`` follows the ratio of the two (H. B. Nielsen, report IMM-REP-1999-05) and otherwise grows, which turns the step to
the projected gradient. A small mu is set to its floor. Two uses differ here:

- With a Gaussian prior J has full column rank, and J'J is at least the prior's precision, which is about one in units
  of its standard deviations: a = 1, and the floor is zero. (With a as below and noise of 1e-4, the damping held
  the samples fast along the level set, where they have far to go: the mode of a circle was missed by 7 % after a
  thousand steps, which it is reached in now.)
- On a level set J has more columns than rows: a is the largest diagonal entry of J'J, and the floor the root of
  round-off: what is solved for is the step of least norm, up to that root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from sepnet.backends.arrays import Array, device_of, eps, namespace
from sepnet.backends.newton import SHARE, how_it_ended

__all__ = ["Least", "least_squares"]

# Damping at the start, where there is a prior, and below which it is dropped.
START, SMALL = 1e-2, 1e-3

Misfit: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]


class Least(NamedTuple):
    """Where the samples ended."""

    points: Array
    """(n, d), inside the box."""
    residual: Array
    """(n, k), F at the points."""
    ends: Array
    """(n,) int64, see `sepnet.backends.newton`: `REACHED`, `STATIONARY` or `OUT_OF_STEPS`."""


class _State(NamedTuple):
    """Samples on their way: number, point, F, J, damping, its next growth."""

    index: Array
    x: Array
    residual: Array
    jacobian: Array
    damping: Array
    growth: Array


class _Step(NamedTuple):
    """Points to try, the fall that is promised there, and the fall that the undamped free step would promise."""

    trial: Array
    promise: Array
    decrement: Array


def least_squares(
    misfit: Misfit,
    starts: Array,
    low: Array,
    high: Array,
    scale: Array,
    *,
    max_steps: int,
    goal: float | None = None,
    round_off: float = 0.0,
) -> Least:
    """Minimise ``|F(x)|^2 / 2`` from every start.

    Parameters
    ----------
    misfit : callable
        Points (n, d) and the numbers (n,) of their samples to F (n, k) and its Jacobian (n, k, d).
    starts : array of shape (n, d)
        Inside the box.
    low, high : arrays of shape (d,)
        The box, which may be infinite; equal ends freeze an input.
    scale : array of shape (d,)
        Units of x in which steps are measured; not negative.
    max_steps : int
        Evaluations a sample at most.
    goal : float, optional
        A sample has reached its end where ``max |F|`` is at most this, and is stationary where ``|F|^2`` falls no more
        by its round-off. Without a goal J must have full column rank, and the latter is the end that is reached; the
        residual is then that of the point before the last, of the same norm up to round-off.
    round_off : float, optional
        How far the components of F may be off beyond their own round-off, where there is no goal. Falls that this
        explains are neither asked for nor missed: without it a sample whose F had an error of 0.04 was stuck halfway.

    Returns
    -------
    Least
    """
    xp = namespace(starts, low, high, scale)
    n, unit = int(starts.shape[0]), eps(starts.dtype, xp)
    # Without a goal the functional is a logarithm of a density: one is its natural size.
    floor, constant, start = (0.0, 1.0, START) if goal is None else (unit**0.5, 0.0, unit**0.5)
    index = xp.arange(n, dtype=xp.int64, device=device_of(starts))
    # With a = |F|^2 / 2 an error of e in F is one of e sqrt(2 a) in a, which is at most e (a + 1).
    blur, rest = constant * max(unit ** (2 / 3), round_off), max(16 * unit, round_off**2)
    ones = xp.ones((n,), dtype=starts.dtype, device=device_of(starts))
    now = _State(index, starts, *misfit(starts, index), start * ones, 2 * ones)
    done: list[tuple[Array, ...]] = []
    for steps in range(1, max_steps + 1):
        step = _step(now, low, high, scale, goal is None)
        half = xp.sum(now.residual * now.residual, axis=1) / 2
        # J'J is about one at least where there is no goal: the undamped step promises at most 1 + mu times as much.
        small = rest * (half + constant)
        calm = (step.decrement * (1 + now.damping) <= small) & ((now.damping <= floor) | (constant > 0))
        at_rest = calm | (now.damping > 1 / unit)
        reached = at_rest if goal is None else xp.max(xp.abs(now.residual), axis=1) <= goal
        over = reached | at_rest | (steps == max_steps)
        if bool(xp.any(over)):
            ends = how_it_ended(now.index, reached, at_rest)
            leave, stay = xp.nonzero(over)[0], xp.nonzero(~over)[0]
            # A last step costs nothing here; the undamped one doubles the digits of the minimiser.
            last = xp.where(calm[:, None], step.trial, now.x) if goal is None else now.x
            done.append(tuple(xp.take(a, leave, axis=0) for a in (now.index, last, now.residual, ends)))
            if int(stay.shape[0]) == 0:
                break
            now = _State(*(xp.take(a, stay, axis=0) for a in now))
            step = _Step(*(xp.take(a, stay, axis=0) for a in step))
        now = _advance(now, step, misfit, floor, blur)
    index, *columns = (xp.concat(list(parts), axis=0) for parts in zip(*done, strict=True))
    order = xp.argsort(index)
    points, residual, ends = (xp.take(column, order, axis=0) for column in columns)
    return Least(points, residual, ends)


def _step(now: _State, low: Array, high: Array, scale: Array, regular: bool) -> _Step:
    xp = namespace(now.x)
    jacobian = now.jacobian * scale
    slope = xp.sum(jacobian * now.residual[:, :, None], axis=1)
    # A fixed input is at both of its bounds.
    blocked = ((now.x <= low) & (slope > 0)) | ((now.x >= high) & (slope < 0))
    free = xp.astype(~blocked, now.x.dtype)
    slope, jacobian = slope * free, jacobian * free[:, None, :]
    size = xp.ones_like(now.damping)
    if not regular:
        largest = xp.max(xp.sum(jacobian * jacobian, axis=1), axis=1)
        # Where nothing is free or nothing depends on x the step is zero, whatever the matrix.
        size = xp.where(largest > 0, largest, size)
    diagonal = (1 - free) * size[:, None] + (size * now.damping)[:, None]
    step, decrement = _solve(jacobian, xp.sqrt(diagonal), now.residual)
    trial = now.x + step * scale
    trial = xp.where(trial > low, xp.where(trial < high, trial, high), low)
    move = (trial - now.x) / xp.where(scale > 0, scale, xp.ones_like(scale))
    bend = xp.sum(jacobian * move[:, None, :], axis=2)
    promise = -xp.sum(slope * move, axis=1) - xp.sum(bend * bend, axis=1) / 2
    return _Step(trial, promise, decrement)


def _solve(jacobian: Array, root: Array, residual: Array) -> tuple[Array, Array]:
    """Return the steps ``-(J'J + D'D)^-1 J'F`` with D = diag(root), and half of ``|Q'F|^2``, the fall they promise.

    The normal equations take a third less time for a whole inversion, but with noise below the root of round-off they
    lose the prior and are singular.
    """
    xp = namespace(jacobian)
    identity = xp.eye(int(root.shape[1]), dtype=root.dtype, device=device_of(root))
    q, r = xp.linalg.qr(xp.concat([jacobian, root[:, :, None] * identity], axis=1))
    turned = xp.sum(q[:, : int(residual.shape[1]), :] * residual[:, :, None], axis=1)
    return -xp.linalg.solve(r, turned[:, :, None])[:, :, 0], xp.sum(turned * turned, axis=1) / 2


def _advance(now: _State, step: _Step, misfit: Misfit, floor: float, blur: float) -> _State:
    """Take the steps that lower the functional, and damp the others more.

    Changes below `blur`, relative to the functional plus one, may be round-off of F: such
    steps are taken, the damping kept. Refused, they ended iterations eight digits before the minimiser; with less and
    less damping they ran in circles where J'J is less than half of the Hessian.
    """
    xp = namespace(now.x)
    residual, jacobian = misfit(step.trial, now.index)
    # The difference of the squares as a product: it keeps its digits where the two are close.
    fall = xp.sum((now.residual - residual) * (now.residual + residual), axis=1) / 2
    sound = step.promise > 0
    half = xp.sum(now.residual * now.residual, axis=1) / 2
    limit = blur * (half + 1)
    fall = xp.where((step.promise < limit) & (xp.abs(fall) < limit), step.promise / 2, fall)
    ratio = fall / xp.where(sound, step.promise, xp.ones_like(fall))
    better = sound & (ratio >= SHARE)
    bend = 2 * xp.where(better, ratio, xp.ones_like(ratio)) - 1
    factor = 1 - bend * bend * bend
    factor = xp.where(factor > 1 / 3, factor, xp.full_like(factor, 1 / 3))
    milder = now.damping * factor
    milder = xp.where(milder < SMALL, xp.full_like(milder, floor), milder)
    harder = now.damping * now.growth
    harder = xp.where(harder > SMALL, harder, xp.full_like(harder, START))
    return _State(
        now.index,
        xp.where(better[:, None], step.trial, now.x),
        xp.where(better[:, None], residual, now.residual),
        xp.where(better[:, None, None], jacobian, now.jacobian),
        xp.where(better, milder, harder),
        xp.where(better, xp.full_like(now.growth, 2.0), now.growth * 2),
    )
