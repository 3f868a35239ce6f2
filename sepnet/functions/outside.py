"""Functions outside their box: by the nearest point of the box, or by the tangent there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from sepnet.backends.arrays import Array, device_of, from_host, namespace
from sepnet.spaces import TensorSpace

__all__ = ["Outside", "check_outside", "continued"]

Outside: TypeAlias = Literal["error", "clamp", "linear"]

# Points of shape (n, d) and an order to values (n,), and up to that order gradients (n, d) and Hessians (n, d, d).
Evaluate: TypeAlias = Callable[[Array, int], tuple[Array, ...]]


def check_outside(outside: object) -> None:
    """Raise ValueError unless `outside` names a way to treat points outside the box."""
    if not isinstance(outside, str) or outside not in ("error", "clamp", "linear"):
        msg = (
            f"`outside` is {outside!r}, expected 'error', 'clamp' (the nearest point of the box) or 'linear' "
            "(the tangent there): choose one"
        )
        raise ValueError(msg)


def continued(evaluate: Evaluate, space: TensorSpace, points: Array, order: int, outside: Outside) -> tuple[Array, ...]:
    """Return values and derivatives of a function that is continued beyond its box.

    With P x the nearest point of the box, the continuation is ``u(P x)`` for ``"clamp"``, and
    ``u(P x) + grad u(P x) . (x - P x)`` for ``"linear"``. The derivatives are those of the continuation. Where x is
    outside along the axes O and inside along the others, P x does not depend on x along O, so that

    - clamp: derivatives along O are zero;
    - linear: the gradient is ``grad u(P x)`` along O, and ``grad u(P x) + H(P x) (x - P x)`` along the others.

    Parameters
    ----------
    evaluate : callable
        Points inside the box, and an order, to values and derivatives up to that order.
    space : TensorSpace
        The box.
    points : array of shape (n, d)
    order : int
        0, 1 or 2.
    outside : {"clamp", "linear"}

    Returns
    -------
    tuple of arrays
        Values (n,), and up to `order` gradients (n, d) and Hessians (n, d, d).

    Raises
    ------
    ValueError
        If a point is NaN or infinite, or for Hessians of the linear continuation.
    """
    if order == 2 and outside == "linear":
        msg = (
            "the Hessian is asked for with outside='linear', which takes third derivatives that are not computed: "
            "use outside='clamp', or differences of u.gradient(points, outside='linear')"
        )
        raise ValueError(msg)
    xp = namespace(points)
    low, high = (
        from_host(ends, xp, device=device_of(points), dtype=points.dtype)
        for ends in np.array([basis.domain for basis in space.bases]).T
    )
    within = (points >= low) & (points <= high)
    if bool(xp.all(within)):
        return evaluate(points, order)
    _check_finite(points, space)
    near = xp.where(points < low, low, xp.where(points > high, high, points))
    if outside == "clamp":
        value, *derivatives = evaluate(near, order)
        inside = xp.astype(within, points.dtype)
        masks = (inside, inside[:, :, None] * inside[:, None, :])
        return (value, *(a * mask for a, mask in zip(derivatives, masks, strict=False)))
    whole = xp.all(within, axis=1)
    here, there = xp.nonzero(whole)[0], xp.nonzero(~whole)[0]
    beyond, at = (xp.take(a, there, axis=0) for a in (points, near))
    inside = xp.astype(xp.take(xp.astype(within, xp.int64), there, axis=0), points.dtype)
    # Rows inside cost what they always do; the others one derivative more.
    parts = zip(
        evaluate(xp.take(points, here, axis=0), order),
        _tangent(evaluate(at, order + 1), beyond - at, inside),
        strict=False,
    )
    back = xp.argsort(xp.concat([here, there]))
    return tuple(xp.take(xp.concat(list(pair), axis=0), back, axis=0) for pair in parts)


def _tangent(jet: tuple[Array, ...], step: Array, inside: Array) -> tuple[Array, ...]:
    """Return value and, if the jet has Hessians, gradient of the tangent, from the jet at the nearest points."""
    xp = namespace(step)
    value, slope = jet[0], jet[1]
    value = value + xp.sum(slope * step, axis=1)
    if len(jet) == 2:
        return (value,)
    return value, slope + inside * xp.sum(jet[2] * step[:, None, :], axis=2)


def _check_finite(points: Array, space: TensorSpace) -> None:
    xp = namespace(points)
    finite = xp.isfinite(points)
    if bool(xp.all(finite)):
        return
    first = int(xp.argmin(xp.astype(xp.reshape(finite, (-1,)), xp.int64)))
    row, axis = divmod(first, space.dim)
    value = float(points[row, axis])
    msg = (
        f"`points` has {value!r} on axis {axis} ({space.names[axis]!r}), expected finite numbers: "
        "remove the point, or fill it in; no continuation reaches there"
    )
    raise ValueError(msg)
