"""What every separable function is: the part of the calculus that does not depend on the format."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Self, TypeAlias, final, overload

import numpy as np

from sepnet.backends.arrays import Array, Namespace, describe, device_of, from_host, namespace, to_host
from sepnet.bases.checks import numbers, whole_number
from sepnet.coefficients import Coefficient
from sepnet.functions.checks import box_order

if TYPE_CHECKING:
    from sepnet.spaces import TensorSpace

__all__ = ["ErrorEstimate", "SeparableFunction"]

Number: TypeAlias = float | np.floating[Any] | np.integer[Any]


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


class SeparableFunction(ABC):
    """A function on a tensor space in a separable format.

    The calculus is closed and exact: sums, products and derivatives are functions of the same format, on the smallest
    space that contains them. Arrays come back in the namespace, dtype and device of the factors; points must live
    where the factors live.
    """

    space: TensorSpace
    factors: tuple[Array, ...]

    # --- where it lives -----------------------------------------------------------------------------------------

    @property
    def xp(self) -> Namespace:
        """Array namespace of the factors."""
        return namespace(*self.factors)

    @property
    def device(self) -> Any:
        """Device of the factors."""
        return device_of(self.factors[0])

    @property
    def dtype(self) -> Any:
        """Data type of the factors."""
        return self.factors[0].dtype

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return sum(int(np.prod(f.shape)) for f in self.factors)

    @abstractmethod
    def to(self, xp: Namespace = None, *, device: Any = None, dtype: Any = None) -> SeparableFunction:
        """Return the function with its factors in another namespace, on another device or in another dtype."""

    # --- values -------------------------------------------------------------------------------------------------

    @abstractmethod
    def __call__(self, points: Array, /) -> Array:
        """Evaluate at `points` of shape (n, d); returns (n,)."""

    @abstractmethod
    def gradient(self, points: Array, /) -> Array:
        """Evaluate the gradient at `points` of shape (n, d); returns (n, d)."""

    @abstractmethod
    def hessian(self, points: Array, /) -> Array:
        """Evaluate the matrix of second derivatives at `points` of shape (n, d); returns (n, d, d)."""

    @abstractmethod
    def on_grid(self, **points: int | Array) -> Array:
        """Evaluate on a tensor grid; returns an array with one dimension per axis."""

    def grid(self, **points: int | Array) -> dict[str, Array]:
        """Return the points per axis that `on_grid` uses for the same arguments.

        Parameters
        ----------
        **points : int or array of shape (m,)
            For every axis either a number of equispaced points, both ends included, or the points themselves.

        Returns
        -------
        dict of str to array of shape (m,)
            In axis order, in the namespace, device and dtype of the factors.

        Raises
        ------
        ValueError
            If an axis is missing or unknown, or a count is below one.
        """
        self.space.check_axes(points, "grid")
        missing = [name for name in self.space.names if name not in points]
        if missing:
            msg = f"no points for the axis {missing[0]!r}: give a number or an array, or fix it with u.restrict(...)"
            raise ValueError(msg)
        return {name: self._axis_points(name, points[name]) for name in self.space.names}

    def _axis_points(self, name: str, value: int | Array) -> Array:
        low, high = self.space.axes[name].domain
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole and isinstance(value, Real | str | bytes):
            got = f"the {type(value).__name__} {value!r}"
            msg = f"axis {name!r}: got {got}, expected a whole number of points or an array; one point is [0.5]"
            raise TypeError(msg)
        if isinstance(value, int | np.integer):
            if value < 1:
                msg = f"axis {name!r}: got {value} points, expected at least one"
                raise ValueError(msg)
            host = np.linspace(low, high, int(value)) if value > 1 else np.array([(low + high) / 2])
            return from_host(host, self.xp, device=self.device, dtype=self.dtype)
        array = self._as_points(value, f"axis {name!r}: points")
        if array.ndim != 1:
            msg = f"axis {name!r}: the points have shape {tuple(array.shape)}, expected (m,)"
            raise ValueError(msg)
        return array

    def _as_points(self, points: Array, name: str = "`points`") -> Array:
        """Check that `points` live where the factors live; Python numbers and lists are host data."""
        xp = self.xp
        if isinstance(points, Real | list | tuple):
            return from_host(numbers(name, points), xp, device=self.device, dtype=self.dtype)
        stranger = f"{name} is {type(points).__name__}, expected an array or a list of numbers"
        if not hasattr(points, "shape") or not hasattr(points, "dtype"):
            raise TypeError(stranger)
        try:
            same = namespace(points) is xp and device_of(points) == self.device
        except TypeError as error:
            raise TypeError(stranger) from error
        if not same:
            there, here = describe(points), describe(self.factors[0])
            msg = f"{name} are {there}, the function is {here}: move one of them, e.g. u.to(xp=..., device=...)"
            raise TypeError(msg)
        if not xp.isdtype(points.dtype, ("real floating", "integral")):
            msg = f"{name} have dtype {points.dtype}, expected real numbers"
            raise TypeError(msg)
        return points if points.dtype == self.dtype else xp.astype(points, self.dtype)

    def _check_points(self, points: Array) -> Array:
        points = self._as_points(points)
        d = self.space.dim
        if points.ndim != 2 or int(points.shape[1]) != d:
            msg = (
                f"`points` has shape {tuple(points.shape)}, expected (n, {d}) with columns "
                f"{', '.join(self.space.names)}; for one point write [[...]]"
            )
            raise ValueError(msg)
        return points

    def error(
        self,
        reference: Callable[[np.ndarray], np.ndarray] | Coefficient | SeparableFunction,
        *,
        n: int = 100_000,
        seed: int = 0,
    ) -> ErrorEstimate:
        """Measure the relative L2 error against a reference at random points of the box.

        Parameters
        ----------
        reference : callable, Coefficient or SeparableFunction
            A callable takes host points (n, d), float64, and returns values (n,). The axes of the others are matched
            by name.
        n : int, optional
            Number of points, drawn uniformly.
        seed : int, optional
            Seed of the generator.

        Returns
        -------
        ErrorEstimate

        Raises
        ------
        TypeError
            If `reference` is none of these or returns no real numbers, or `n` or `seed` is no integer.
        ValueError
            If `n` is below two, or the reference is not finite, vanishes at all points or lives on another box.
        """
        n = whole_number("n", n, at_least=2)
        rng = np.random.default_rng(whole_number("seed", seed, at_least=0))
        order = box_order(self.space, reference.space) if isinstance(reference, SeparableFunction) else []
        low, high = np.array([b.domain for b in self.space.bases]).T
        host = low + (high - low) * rng.random((n, self.space.dim))
        values = to_host(self(from_host(host, self.xp, device=self.device, dtype=self.dtype)))
        if isinstance(reference, SeparableFunction):
            theirs = from_host(host[:, order], reference.xp, device=reference.device, dtype=reference.dtype)
            exact = to_host(reference(theirs)).astype(np.float64)
        elif isinstance(reference, Coefficient):
            exact = reference(host, self.space.names)
        elif callable(reference):
            exact = _real(reference(host))
        else:
            expected = "a callable of points (n, d), an expression of the coordinates, or a function"
            msg = f"`reference` is {type(reference).__name__}, expected {expected}"
            raise TypeError(msg)
        if exact.shape != (n,) or not np.isfinite(exact).all():
            msg = f"`reference` returned shape {exact.shape} or values that are not finite, expected finite ({n},)"
            raise ValueError(msg)
        return _estimate(values.astype(np.float64) - exact, exact)

    # --- calculus -----------------------------------------------------------------------------------------------

    @abstractmethod
    def restrict(self, **values: float) -> Any:
        """Fix some coordinates; returns a function of the others."""

    @abstractmethod
    def derivative(self, axis: str, order: int = 1) -> SeparableFunction:
        """Return a partial derivative."""

    @abstractmethod
    def integrate(self, *axes: str, density: Callable[[np.ndarray], np.ndarray] | None = None) -> Any:
        """Integrate some coordinates out."""

    @abstractmethod
    def inner(self, other: SeparableFunction) -> float:
        """Return the L2 inner product over the box."""

    @abstractmethod
    def norm(self) -> float:
        """Return the L2 norm over the box."""

    @abstractmethod
    def project(self, space: TensorSpace) -> Any:
        """Project onto another space on the same box."""

    @abstractmethod
    def as_coefficient(self) -> Coefficient:
        """Return the function as data: a sum of products of univariate functions."""

    # --- algebra ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _plus(self, other: SeparableFunction) -> SeparableFunction:
        """Add a function, on the smallest space that contains both."""

    @abstractmethod
    def _times(self, other: SeparableFunction) -> SeparableFunction:
        """Multiply with a function; the ranks multiply."""

    @abstractmethod
    def _scaled(self, weight: float) -> Self:
        """Multiply with a number."""

    @abstractmethod
    def _constant(self, value: float) -> SeparableFunction:
        """Return a constant on the smallest space around this one that contains it."""

    @overload
    def __add__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __add__(self, other: Self | Number) -> Self: ...
    def __add__(self, other: object) -> Any:
        """Add a number or a function, exactly, on the smallest space with both; an expression gives data.

        A number other than 0 adds one to the rank, and takes the end zeros off the axes, where constants need that.
        """
        if isinstance(other, Real):
            return self if other == 0 else self._plus(self._constant(float(other)))
        if isinstance(other, SeparableFunction):
            return self._plus(other)
        if isinstance(other, Coefficient):
            return self.as_coefficient() + other
        return NotImplemented

    __radd__ = __add__

    @overload
    def __sub__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __sub__(self, other: Self | Number) -> Self: ...
    def __sub__(self, other: object) -> Any:
        """Subtract."""
        if isinstance(other, SeparableFunction | Coefficient):
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
    def __mul__(self, other: object) -> Any:
        """Multiply with a number or a function (the ranks multiply; `compress` brings them down).

        The product with an expression of the coordinates is data.
        """
        if isinstance(other, Real):
            return self._scaled(float(other))
        if isinstance(other, SeparableFunction):
            return self._times(other)
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

    # --- files --------------------------------------------------------------------------------------------------

    @abstractmethod
    def save(self, path: str | os.PathLike[str], *, notes: Mapping[str, str] | None = None) -> None:
        """Write the function to an HDF5 file."""


def _real(result: Any) -> np.ndarray:
    """Return what a reference gave as float64."""
    try:
        if not np.iscomplexobj(result):
            return np.asarray(result, dtype=np.float64)
        found = "complex numbers"
    except (TypeError, ValueError):
        found = type(result).__name__
    msg = f"`reference` returned {found}, expected real numbers (n,): for complex ones take e.g. their `.real`"
    raise TypeError(msg)


def _estimate(difference: np.ndarray, exact: np.ndarray) -> ErrorEstimate:
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
