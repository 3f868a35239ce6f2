"""What a fit minimises: the squared error, or the negative log-likelihood of a Bernoulli variable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, final

from sepnet.backends.arrays import Array, namespace

__all__ = ["Logistic", "Loss", "LossName", "Squared", "Terms", "loss_of"]

LossName = Literal["squared", "logistic"]

FLOOR = 1e-10  # least curvature of the logistic loss


class Terms(NamedTuple):
    """Loss of each sample, minus half its derivative by the function's value, and half the second one."""

    value: Array
    slope: Array
    curvature: Array


class Loss(ABC):
    """A convex loss of one value."""

    @abstractmethod
    def terms(self, values: Array, targets: Array) -> Terms:
        """Return the loss of values (n,) for targets (n,), and its derivatives."""


@final
class Squared(Loss):
    """``(f - y)**2``."""

    def terms(self, values: Array, targets: Array) -> Terms:
        """See `Loss.terms`."""
        xp = namespace(values)
        error = targets - values
        return Terms(error * error, error, xp.ones_like(values))


@final
class Logistic(Loss):
    """``2 log(1 + exp(f)) - 2 y f``, twice the negative log-likelihood for y in {0, 1} and log-odds f."""

    def terms(self, values: Array, targets: Array) -> Terms:
        """See `Loss.terms`."""
        xp = namespace(values)
        size = xp.abs(values)
        soft = xp.log1p(xp.exp(-size))
        # sigma(f) by the exponential that cannot overflow
        small = xp.exp(-size)
        probability = xp.where(values >= 0, 1.0 / (1.0 + small), small / (1.0 + small))
        value = 2.0 * (soft + xp.where(values > 0, values, xp.zeros_like(values)) - targets * values)
        # a floor, lest the step of a sample that is sure of itself be a quotient of zeros
        curvature = probability * (1.0 - probability)
        return Terms(
            value, targets - probability, xp.where(curvature > FLOOR, curvature, FLOOR * xp.ones_like(curvature))
        )


def loss_of(name: str) -> Loss:
    """Return the loss of a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    losses: dict[str, Loss] = {"squared": Squared(), "logistic": Logistic()}
    if not isinstance(name, str) or name not in losses:
        msg = f"`loss` is {name!r}, expected 'squared' (real targets) or 'logistic' (targets 0 and 1)"
        raise ValueError(msg)
    return losses[name]
