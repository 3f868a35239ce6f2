"""Relative errors measured at random points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

__all__ = ["ErrorEstimate", "estimate", "real_values"]


@final
@dataclass(frozen=True)
class ErrorEstimate:
    """A relative L2 error measured at random points, with its confidence interval.

    Parameters
    ----------
    value : float
        Estimate of ``||u - reference|| / ||reference||`` over the whole box.
    low, high : float
        95 % confidence interval of `value` (normal approximation of the ratio of two means).
    maximum : float
        Largest pointwise error seen, absolute.
    n : int
        Number of points.
    floor : float, optional
        What the reference allows to see: where it has an error of its own, nothing below ten times that is reported.
    """

    value: float
    low: float
    high: float
    maximum: float
    n: int
    floor: float = 0.0

    def __str__(self) -> str:
        """Read like a measurement."""
        if 0.0 < self.value <= self.floor:
            return f"at most {self.floor:.3g} (the reference allows to see no smaller error; {self.n} points)"
        return f"{self.value:.3g} (95 %: {self.low:.3g} to {self.high:.3g}; {self.n} points)"


def real_values(result: Any) -> np.ndarray:
    """Return what a reference gave as float64.

    Raises
    ------
    TypeError
        If it is no array of real numbers.
    """
    try:
        if not np.iscomplexobj(result):
            return np.asarray(result, dtype=np.float64)
        found = "complex numbers"
    except (TypeError, ValueError):
        found = type(result).__name__
    msg = f"`reference` returned {found}, expected real numbers (n,): for complex ones take e.g. their `.real`"
    raise TypeError(msg)


def estimate(difference: np.ndarray, exact: np.ndarray) -> ErrorEstimate:
    """Return the relative error and its interval from the differences and the exact values at random points (n,).

    Raises
    ------
    ValueError
        If the exact values are all zero.
    """
    n = exact.size
    e, r = difference**2, exact**2
    mean_e, mean_r = float(e.mean()), float(r.mean())
    if mean_r == 0.0:
        msg = "the reference vanishes at all points: a relative error has no meaning, use (u - v).norm()"
        raise ValueError(msg)
    ratio = mean_e / mean_r
    # Delta method for the ratio of the two means; the square root is taken of both ends of the interval.
    spread = 1.96 * float(np.std(e - ratio * r)) / mean_r / np.sqrt(n)
    low, high = np.sqrt(max(ratio - spread, 0.0)), np.sqrt(ratio + spread)
    return ErrorEstimate(float(np.sqrt(ratio)), float(low), float(high), float(np.sqrt(e.max())), n)
