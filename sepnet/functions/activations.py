"""Activations: the outer functions of separable neural architectures, with two derivatives, in any namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from sepnet.backends.arrays import Array, namespace

__all__ = ["ACTIVATIONS", "Activation", "apply_activation"]

Activation: TypeAlias = Literal["identity", "exp", "logistic", "sin", "softplus", "square", "tanh"]


def _identity(z: Array, xp: Any, order: int) -> tuple[Array, ...]:
    ones = xp.ones_like(z)
    return (z, ones, xp.zeros_like(z))[: order + 1]


def _exp(z: Array, xp: Any, order: int) -> tuple[Array, ...]:
    return (xp.exp(z),) * (order + 1)


def _logistic(z: Array, xp: Any, order: int) -> tuple[Array, ...]:
    # No overflow, and full relative accuracy in both tails, which (1 + tanh(z / 2)) / 2 loses in the left one.
    small = xp.exp(-xp.abs(z))
    far, near = small / (1 + small), 1 / (1 + small)
    value = xp.where(z < 0, far, near)
    slope = far * near
    return (value, slope, slope * (xp.where(z < 0, near, far) - value))[: order + 1]


def _softplus(z: Array, xp: Any, order: int) -> tuple[Array, ...]:
    value = xp.where(z > 0, z, xp.zeros_like(z)) + xp.log1p(xp.exp(-xp.abs(z)))
    return (value, *(_logistic(z, xp, order - 1) if order else ()))


def _tanh(z: Array, xp: Any, order: int) -> tuple[Array, ...]:
    value = xp.tanh(z)
    slope = 1 - value * value
    return (value, slope, -2 * value * slope)[: order + 1]


def _sin(z: Array, xp: Any, order: int) -> tuple[Array, ...]:
    value = xp.sin(z)
    return (value, xp.cos(z), -value)[: order + 1]


def _square(z: Array, xp: Any, order: int) -> tuple[Array, ...]:
    return (z * z, 2 * z, xp.full_like(z, 2.0))[: order + 1]


ACTIVATIONS: dict[str, Callable[[Array, Any, int], tuple[Array, ...]]] = {
    "identity": _identity,
    "exp": _exp,
    "logistic": _logistic,
    "sin": _sin,
    "softplus": _softplus,
    "square": _square,
    "tanh": _tanh,
}


def apply_activation(name: str, z: Array, order: int = 0) -> tuple[Array, ...]:
    """Return an activation and its derivatives up to `order`, elementwise.

    Parameters
    ----------
    name : str
        A key of `ACTIVATIONS`.
    z : array
    order : int, optional
        0, 1 or 2.

    Returns
    -------
    tuple of arrays
        In the shape of `z`.
    """
    return ACTIVATIONS[name](z, namespace(z), order)
