"""Mean and variance of numbers that come some at a time, added up where they live."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from sepnet.backends.arrays import Array, is_numpy, namespace, to_host

__all__ = ["Tally", "power_of", "times_power"]


@final
class Tally:
    """Weighted mean and variance of numbers that come some at a time, relative to the first one: nothing cancels.

    The sums of each part are those of numbers and weights divided by powers of two, which is exact: squares neither
    overflow nor vanish. On the host they are rounded once, elsewhere they are sums as the array library has them.
    """

    def __init__(self) -> None:
        self.count, self.first, self.least, self.most = 0, 0.0, math.inf, -math.inf
        self.sums: list[tuple[float, ...]] = []
        self.powers: list[tuple[int, int]] = []  # of two, of the weights and of the numbers

    def add(self, y: Array, w: Array) -> None:
        """Add targets (n,), NaN where missing, and weights (n,): a few numbers of them are read.

        Raises
        ------
        ValueError
            If the targets differ by more than float64 holds.
        """
        xp = namespace(y, w)
        there, zero = ~xp.isnan(y), xp.zeros_like(y)
        w = xp.where(there, w, zero)
        low, high = (xp.where(there, y, xp.full_like(y, end)) for end in (math.inf, -math.inf))
        count = xp.sum(xp.astype(there, y.dtype))
        found, least, most, heaviest = to_host(xp.stack([count, xp.min(low), xp.max(high), xp.max(w)])).tolist()
        if not found:
            return
        if not self.count:
            self.first = float(y[int(xp.argmax(xp.astype(there, xp.uint8)))])
        self.count += int(found)
        self.least, self.most = min(self.least, least), max(self.most, most)
        if not math.isfinite(self.most - self.least):
            msg = f"`y` runs from {self.least} to {self.most}, too far for float64: divide the targets by a number"
            raise ValueError(msg)
        # rounding keeps the order: the farthest number is the least or the largest one
        powers = power_of(heaviest), power_of(max(abs(least - self.first), abs(most - self.first)))
        w = times_power(w, -powers[0])
        away = times_power(xp.where(there, y - self.first, zero), -powers[1])
        self.powers.append(powers)
        self.sums.append(_sums(w, w * away, w * away * away))

    def moments(self) -> tuple[float, float]:
        """Return mean and standard deviation, zero where it is round-off of the mean."""
        heavy, far = (max(p) for p in zip(*self.powers, strict=True))
        total, first, second = (
            math.fsum(
                math.ldexp(s[k], v - heavy + k * (p - far)) for s, (v, p) in zip(self.sums, self.powers, strict=True)
            )
            for k in range(3)
        )
        mean = self.first + math.ldexp(first / total, far)
        scale = math.ldexp(math.sqrt(max(second / total - (first / total) ** 2, 0.0)), far)
        if scale <= 8.0 * np.finfo(float).eps * abs(mean):
            return mean, 0.0
        if scale < np.finfo(float).tiny:
            msg = f"`y` runs from {self.least} to {self.most}, too close for float64: multiply the targets by a number"
            raise ValueError(msg)
        return mean, scale


def power_of(number: float) -> int:
    """Return the exponent of the least power of two above a number, and for zero one below all others."""
    return math.frexp(number)[1] if number else -2000


def times_power(numbers: Array, power: int) -> Array:
    """Return numbers times a power of two."""
    # in two steps: the reciprocal of a very small number is none
    return numbers * math.ldexp(1.0, power // 2) * math.ldexp(1.0, power - power // 2)


def _sums(*arrays: Array) -> tuple[float, ...]:
    xp = namespace(*arrays)
    if is_numpy(xp):
        return tuple(math.fsum(a) for a in arrays)
    return tuple(to_host(xp.stack([xp.sum(a) for a in arrays])).tolist())
