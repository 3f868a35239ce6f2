"""Functions of one variable as they stand in coefficients and data: a polynomial times user callables.

Polynomials are kept as polynomials, so that quadrature can be exact and products, sums and derivatives stay closed;
everything else is a callable that the library only ever evaluates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import Any, Protocol, TypeAlias, final

import numpy as np
from numpy.polynomial import polynomial

__all__ = [
    "ONE",
    "Applied",
    "Frame",
    "Univariate",
    "UnivariateFactor",
    "add_polynomials",
    "describe_callable",
    "make_univariate",
]

Frame: TypeAlias = tuple[float, float]
Callable1D: TypeAlias = Callable[[np.ndarray], np.ndarray]


def describe_callable(function: object) -> str:
    """Return the name under which `function` appears in messages."""
    return str(getattr(function, "__name__", None) or type(function).__name__)


class UnivariateFactor(Protocol):
    """A factor that is no polynomial: immutable, hashable, evaluated on host arrays, maybe differentiable."""

    @property
    def key(self) -> str:
        """What factors are ordered by: the same in every process, which hashes are not."""

    @property
    def breaks(self) -> np.ndarray:
        """Where the factor is not smooth, float64, rising: quadrature must know."""

    @property
    def degree(self) -> int | None:
        """Polynomial degree between the breaks, or None where it is no polynomial."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate at the float64 array `x` of one dimension."""

    def magnitude(self, x: np.ndarray) -> np.ndarray:
        """Return what the evaluation adds up, in absolute value: round-off is proportional to it."""

    def derivative(self) -> tuple[Univariate, ...]:
        """Return the derivative as a sum; raise ValueError, with the next step, where it is not known."""


def _joined(parts: Sequence[UnivariateFactor | Univariate]) -> np.ndarray:
    return np.unique(np.concatenate([np.empty(0), *(part.breaks for part in parts)]))


def _contents(cells: Iterable[Any]) -> list[object]:
    contents: list[object] = []
    for cell in cells:
        try:
            contents.append(cell.cell_contents)
        except ValueError:  # a cell that is not filled yet
            contents.append(None)
    return contents


@final
@dataclass(frozen=True)
class Applied:
    """A callable of a univariate argument, ``f(sum of arguments)``.

    Parameters
    ----------
    function : callable
        Takes and returns a float64 NumPy array of one dimension.
    argument : tuple of Univariate
        Summands of the argument.
    derivatives : tuple of callable, optional
        First, second, ... derivative of `function`, where they are known.
    """

    function: Callable1D
    argument: tuple[Univariate, ...]
    derivatives: tuple[Callable1D, ...] = ()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate at `x`, checking what the user's callable returns."""
        argument = sum((part(x) for part in self.argument), np.zeros_like(x))
        name = describe_callable(self.function)
        try:
            result = self.function(argument)
        except (TypeError, ValueError) as error:
            msg = (
                f"the callable {name!r} failed on a float64 array of shape {x.shape}: {error}; write it for NumPy "
                "arrays, elementwise (np.vectorize helps)"
            )
            raise type(error)(msg) from error
        if result is None:
            msg = f"the callable {name!r} returned None, expected real numbers as a NumPy array: does it `return`?"
            raise TypeError(msg)
        try:
            if np.iscomplexobj(result):
                raise TypeError
            values = np.asarray(result, dtype=np.float64)
            values = np.broadcast_to(values, x.shape) if values.ndim == 0 else values
        except (TypeError, ValueError) as error:
            msg = f"the callable {name!r} returned {type(result).__name__}, expected real numbers as a NumPy array"
            raise TypeError(msg) from error
        if values.shape != x.shape:
            msg = (
                f"the callable {name!r} returned shape {values.shape} for an argument of shape {x.shape}: "
                "write it for NumPy arrays, elementwise (np.vectorize helps)"
            )
            raise ValueError(msg)
        if not np.isfinite(values).all():
            where = float(x[~np.isfinite(values)][0])
            msg = f"the callable {name!r} returned a value that is not finite at {where:g}: give it finite values there"
            raise ValueError(msg)
        return values

    @property
    def label(self) -> str:
        """Name of the callable, for messages."""
        return describe_callable(self.function)

    @cached_property
    def key(self) -> str:
        """What factors are ordered by: the name, and of Python functions also the code and what it closes over."""
        code = getattr(self.function, "__code__", None)
        parts: list[object] = [self.label, [(u.powers, u.frame, [f.key for f in u.callables]) for u in self.argument]]
        if code is not None:
            cells = getattr(self.function, "__closure__", None) or ()
            constants = [c for c in code.co_consts if not isinstance(c, CodeType)]
            parts += [code.co_code, code.co_names, constants, _contents(cells)]
        return repr(parts)

    @property
    def breaks(self) -> np.ndarray:
        """The breaks of the argument; those of the callable are not known."""
        return _joined(self.argument)

    @property
    def degree(self) -> None:
        """None: a callable is taken for no polynomial."""

    def magnitude(self, x: np.ndarray) -> np.ndarray:
        """Return the absolute value: nothing is known of what the callable adds up."""
        values: np.ndarray = np.abs(self(x))
        return values

    def derivative(self) -> tuple[Univariate, ...]:
        """Return the derivative by the chain rule, as a sum of univariate functions."""
        inner = tuple(d for part in self.argument for d in part.derivative())
        if not inner:
            return ()
        if not self.derivatives:
            name = describe_callable(self.function)
            msg = (
                f"the derivative of the callable {name!r} is needed and not known: "
                f"give it, sn.apply({name}, ..., derivatives=[...]), or use the weak form"
            )
            raise ValueError(msg)
        outer = Applied(self.derivatives[0], self.argument, self.derivatives[1:])
        return tuple(Univariate(d.powers, (*d.callables, outer)) for d in inner)


@final
@dataclass(frozen=True)
class Univariate:
    """A function of one variable, ``polynomial(s) * product of callables(x)`` with ``s = (x - centre) / length``.

    Parameters
    ----------
    powers : tuple of float
        Coefficients of 1, s, s**2, ...; no trailing zeros.
    callables : tuple of UnivariateFactor
        Further factors, such as `Applied`.
    frame : (float, float)
        Centre and length of the local variable s. Powers of x itself are garbage far from the origin: on (1000, 1001)
        the six monomials of ``(x - 1000.5)**6`` cancel to nothing.
    """

    powers: tuple[float, ...] = (1.0,)
    callables: tuple[UnivariateFactor, ...] = ()
    frame: Frame = (0.0, 1.0)

    @property
    def degree(self) -> int | None:
        """Polynomial degree, or None when a callable takes part."""
        return None if self.callables else len(self.powers) - 1

    @property
    def breaks(self) -> np.ndarray:
        """Where the factors are not smooth, float64, rising."""
        return _joined(self.callables)

    @property
    def piece_degree(self) -> int | None:
        """Polynomial degree between the breaks, or None where a factor is no polynomial there."""
        total = len(self.powers) - 1
        for factor in self.callables:
            if factor.degree is None:
                return None
            total += factor.degree
        return total

    @property
    def constant(self) -> float | None:
        """The value of a constant function, or None."""
        return self.powers[0] if len(self.powers) == 1 and not self.callables else None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate at the float64 array `x` of one dimension."""
        local = (x - self.frame[0]) / self.frame[1]
        values: np.ndarray = polynomial.polyval(local, np.asarray(self.powers)) * np.ones_like(x)
        for factor in self.callables:
            values = values * factor(x)
        return values

    def magnitude(self, x: np.ndarray) -> np.ndarray:
        """Return what the evaluation at `x` adds up, in absolute value: round-off is proportional to it."""
        local = np.abs((x - self.frame[0]) / self.frame[1])
        values: np.ndarray = polynomial.polyval(local, np.abs(self.powers)) * np.ones_like(x)
        for factor in self.callables:
            values = values * factor.magnitude(x)
        return values

    def powers_in(self, frame: Frame) -> np.ndarray:
        """Return the coefficients of the polynomial in the local variable of another frame."""
        if frame == self.frame or len(self.powers) == 1:
            return np.asarray(self.powers)
        shift = np.array([(frame[0] - self.frame[0]) / self.frame[1], frame[1] / self.frame[1]])
        result: np.ndarray = np.zeros(1)
        for c in reversed(self.powers):
            result = polynomial.polyadd(polynomial.polymul(result, shift), [c])
        return np.asarray(result)

    def __mul__(self, other: Univariate) -> Univariate:
        """Multiply."""
        frame = self.frame if len(self.powers) > 1 else other.frame
        powers = polynomial.polymul(self.powers_in(frame), other.powers_in(frame))
        # Equal factors in one order, whatever the order they came in, so that like terms are seen to be like.
        ordered = sorted((*self.callables, *other.callables), key=lambda factor: factor.key)
        return make_univariate(powers, tuple(ordered), frame)

    def scaled(self, weight: float) -> Univariate:
        """Return ``weight * self``."""
        return Univariate(tuple(weight * c for c in self.powers), self.callables, self.frame)

    def normalised(self) -> tuple[float, Univariate]:
        """Split off the largest coefficient, so that equal functions up to a factor compare equal."""
        lead = max(self.powers, key=abs)
        if lead == 0.0:
            return 0.0, ONE
        if lead == 1.0:
            return 1.0, self
        return lead, Univariate(tuple(c / lead for c in self.powers), self.callables, self.frame)

    def derivative(self) -> tuple[Univariate, ...]:
        """Return the derivative as a sum of univariate functions (empty: zero)."""
        parts: list[Univariate] = []
        if len(self.powers) > 1:
            powers = polynomial.polyder(np.asarray(self.powers)) / self.frame[1]
            parts.append(make_univariate(powers, self.callables, self.frame))
        rest = Univariate(self.powers, (), self.frame)
        for k, factor in enumerate(self.callables):
            others = Univariate((1.0,), self.callables[:k] + self.callables[k + 1 :])
            parts.extend(rest * others * d for d in factor.derivative())
        return tuple(parts)


def make_univariate(powers: Iterable[float], callables: tuple[UnivariateFactor, ...], frame: Frame) -> Univariate:
    """Return a function in normal form: without trailing zeros, constants in the frame (0, 1)."""
    kept = [float(c) for c in powers]
    while len(kept) > 1 and kept[-1] == 0.0:
        kept.pop()
    return Univariate(tuple(kept), callables, frame if len(kept) > 1 else (0.0, 1.0))


def add_polynomials(parts: Sequence[tuple[float, Univariate]]) -> Univariate:
    """Return the weighted sum of functions whose callables are the same."""
    frame = next((u.frame for _, u in parts if len(u.powers) > 1), (0.0, 1.0))
    total: np.ndarray = np.zeros(1)
    for weight, u in parts:
        total = polynomial.polyadd(total, weight * u.powers_in(frame))
    return make_univariate(total, parts[0][1].callables, frame)


ONE = Univariate()
