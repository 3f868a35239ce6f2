"""The operators of separable functions: what ``u + v``, ``2 * u`` and ``u * x`` mean, in every format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, Self, TypeAlias, overload

import numpy as np

from sepnet.coefficients import Coefficient
from sepnet.functions.values import Values

__all__ = ["Algebra"]

Number: TypeAlias = float | np.floating[Any] | np.integer[Any]


class Algebra(ABC):
    """Sums and products of functions, numbers and expressions, from what every format knows to do.

    Two formats meet in the more general one, in which the other is written exactly.
    """

    @abstractmethod
    def as_coefficient(self) -> Coefficient:
        """Return the function as data: a sum of products of univariate functions."""

    @abstractmethod
    def _pair(self, other: Any) -> tuple[Any, Any]:
        """Return both functions in one format."""

    @abstractmethod
    def _plus(self, other: Self) -> Any:
        """Add a function of the same format, on the smallest space that contains both."""

    @abstractmethod
    def _times(self, other: Self) -> Any:
        """Multiply with a function of the same format; the ranks multiply."""

    @abstractmethod
    def _scaled(self, weight: float) -> Self:
        """Multiply with a number."""

    @abstractmethod
    def _constant(self, value: float) -> Self:
        """Return a constant on the smallest space around this one that contains it."""

    @overload
    def __add__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __add__(self, other: Self | Number) -> Self: ...
    @overload
    def __add__(self, other: Values) -> Any: ...
    def __add__(self, other: object) -> Any:
        """Add a number or a function, exactly, on the smallest space with both; an expression gives data.

        A number other than 0 adds one to the rank, and takes the end zeros off the axes, where constants need that.
        """
        if isinstance(other, Real):
            return self if other == 0 else self._plus(self._constant(float(other)))
        if isinstance(other, Algebra):
            mine, theirs = self._pair(other)
            return mine._plus(theirs)
        if isinstance(other, Coefficient):
            return self.as_coefficient() + other
        return NotImplemented

    __radd__ = __add__

    @overload
    def __sub__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __sub__(self, other: Self | Number) -> Self: ...
    @overload
    def __sub__(self, other: Values) -> Any: ...
    def __sub__(self, other: object) -> Any:
        """Subtract."""
        if isinstance(other, Algebra | Coefficient):
            return self.__add__(-other)
        return self.__add__(-float(other)) if isinstance(other, Real) else NotImplemented

    @overload
    def __rsub__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __rsub__(self, other: Number) -> Self: ...
    def __rsub__(self, other: object) -> Any:
        """Subtract from a number or an expression."""
        return (-self) + other if isinstance(other, Coefficient | Real) else NotImplemented

    def __neg__(self) -> Self:
        """Change the sign."""
        return self._scaled(-1.0)

    @overload
    def __mul__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __mul__(self, other: Self | Number) -> Self: ...
    @overload
    def __mul__(self, other: Values) -> Any: ...
    def __mul__(self, other: object) -> Any:
        """Multiply with a number or a function (the ranks multiply; `compress` brings them down).

        The product with an expression of the coordinates is data.
        """
        if isinstance(other, Real):
            return self._scaled(float(other))
        if isinstance(other, Algebra):
            mine, theirs = self._pair(other)
            return mine._times(theirs)
        if isinstance(other, Coefficient):
            return self.as_coefficient() * other
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other: Number) -> Self:
        """Divide by a number."""
        if not isinstance(other, Real):
            return NotImplemented
        if other == 0:
            msg = "a function is divided by zero, expected another number"
            raise ZeroDivisionError(msg)
        return self._scaled(1.0 / float(other))

    __array_ufunc__ = None
