"""What every one-dimensional basis promises: values, derivatives, quadrature, interpolation and a closed calculus.

A basis is an immutable value: two with the same data are equal and hash alike. Everything it computes once is kept on
the host in float64 and in read-only arrays; only `Basis.values` works in the namespace, dtype and device of its
argument.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.special

from sepnet.backends import arrays
from sepnet.bases.checks import MOST_POINTS, Zero, checked_points, whole_number

Kind: TypeAlias = Literal["banded", "cyclic", "dense", "sparse"]

SMOOTH = 10**9
"""Smoothness of a function without breaks: more continuous derivatives than anyone can ask for."""

__all__ = [
    "SMOOTH",
    "Basis",
    "Kind",
    "Pieces",
    "Quadrature",
    "Zero",
    "frozen",
    "gauss_rule",
    "mixing_error",
    "no_derivative",
    "no_knots",
    "same_domain",
]


class Quadrature(NamedTuple):
    """A quadrature rule on a basis' domain: ``integral of f = weights @ f(points)``.

    Attributes
    ----------
    points, weights : ndarray, float64, shape (m,)
        The points rise and lie strictly inside the cells; the weights are positive.
    """

    points: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Pieces:
    """A piecewise polynomial basis, cell by cell: what kernels evaluate.

    With ``s = (2 x - l - r) / (r - l)`` the coordinate in [-1, 1] of cell `c` from `l` to `r`, the local function `j`
    is ``sum over m of table[c, m, j] * s**m`` and belongs to basis function ``index[c, j]``. Where two local
    functions have the same index (short periodic bases) their values add up. A function left out by ``zero=`` has a
    table of zeros and a valid index.

    Attributes
    ----------
    breaks : ndarray, float64, shape (cells + 1,)
    index : ndarray, int64, shape (cells, degree + 1)
    table : ndarray, float64, shape (cells, degree + 1, degree + 1)
    """

    breaks: np.ndarray
    index: np.ndarray
    table: np.ndarray


@dataclass(frozen=True, init=False, repr=False)
class Basis(ABC):
    """A finite basis of functions of one variable on an interval.

    Attributes
    ----------
    domain : tuple[float, float]
        The interval, ends included.
    degree : int
        Polynomial degree on a cell; for a Fourier basis the number of harmonics.
    zero : None, "left", "right" or "both"
        The ends at which every function of the basis vanishes.
    periodic : bool
        Whether values (and derivatives up to `smoothness`) agree at the two ends.
    """

    domain: tuple[float, float]
    degree: int
    zero: Zero
    periodic: bool

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy the data, not what was computed from it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _set(self, **values: Any) -> None:
        """Write the fields of a frozen instance, in a constructor."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # -------------------------------------------------------------------------------------- what a basis has to say

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of functions."""

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """Which functions overlap: ``"banded"``, ``"cyclic"`` (banded, wrapped around), ``"dense"`` or ``"sparse"``."""

    @property
    @abstractmethod
    def bandwidth(self) -> int:
        """Functions i and j overlap only if ``|i - j| <= bandwidth`` (modulo `size` if cyclic)."""

    @property
    @abstractmethod
    def smoothness(self) -> int:
        """Largest k such that every function is k times continuously differentiable; ``SMOOTH``: no limit."""

    @property
    @abstractmethod
    def max_order(self) -> int:
        """Highest order of derivative that is a square-integrable function (no jump in the order before)."""

    @property
    @abstractmethod
    def breaks(self) -> np.ndarray:
        """Ends of the cells, float64, shape (cells + 1,), rising."""

    @property
    @abstractmethod
    def nodes(self) -> np.ndarray:
        """Interpolation points, float64, shape (size,), for which ``values(nodes)`` is well conditioned."""

    @property
    def knots(self) -> np.ndarray:
        """Knot vector, float64; AttributeError where the basis has none."""
        raise no_knots(self)

    @property
    def greville(self) -> np.ndarray:
        """Knot averages of the functions, float64, shape (size,); AttributeError where the basis has no knots."""
        raise no_knots(self)

    @property
    @abstractmethod
    def pieces(self) -> Pieces | None:
        """The basis cell by cell as polynomials, or None if it is evaluated by a recurrence."""

    @abstractmethod
    def _values(self, x: arrays.Array, derivative: int) -> arrays.Array:
        """Values of a derivative at checked points, shape (n,) to (n, size)."""

    @abstractmethod
    def integrals(self) -> np.ndarray:
        """Integrals of the functions over the domain, float64, shape (size,), in closed form."""

    @abstractmethod
    def derivative_basis(self, order: int) -> Basis:
        """Return a basis that contains the `order`-th derivative of every function of this one.

        Parameters
        ----------
        order : int
            Order of the derivative, at least 0 and at most `max_order`.

        Returns
        -------
        Basis

        Raises
        ------
        ValueError
            If `order` is above `max_order`, so that the derivative is no function (or is zero).
        """

    @abstractmethod
    def product_basis(self, other: Basis) -> Basis:
        """Return the smallest basis of the family that contains every product with a function of `other`.

        Parameters
        ----------
        other : Basis
            A basis on the same domain.

        Returns
        -------
        Basis

        Raises
        ------
        TypeError
            If no family here holds such products.
        ValueError
            If the domains differ.
        """

    @abstractmethod
    def sum_basis(self, other: Basis) -> Basis:
        """Return the smallest basis of the family that contains this one and `other`.

        Parameters
        ----------
        other : Basis
            A basis on the same domain.

        Returns
        -------
        Basis

        Raises
        ------
        TypeError
            If no family here holds both.
        ValueError
            If the domains differ.
        """

    @abstractmethod
    def refine(self) -> Basis:
        """Return a basis of about twice the size that contains this one."""

    @abstractmethod
    def with_zero(self, zero: Zero) -> Basis:
        """Return the same basis with other end conditions.

        Parameters
        ----------
        zero : None, "left", "right" or "both"
            The ends at which the functions shall vanish.

        Returns
        -------
        Basis

        Raises
        ------
        ValueError
            If `zero` is none of these, the basis has no ends, or no function is left.
        """

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return what `from_parameters` needs, as a dict that JSON can hold without loss."""

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Return the basis with these `parameters`; they are the arguments of the constructor.

        Raises
        ------
        TypeError, ValueError
            If they are not those of a basis of this class.
        """
        return cls(**parameters)

    # --------------------------------------------------------------------------------------- what follows from that

    def values(self, points: arrays.Array, derivative: int = 0) -> arrays.Array:
        """Evaluate all functions, or a derivative of them, at points.

        Parameters
        ----------
        points : array, list or number
            Real points inside the domain (a few eps outside are moved onto it), any shape. Lists and numbers are
            float64 host data.
        derivative : int
            Order of the derivative; above the degree the values are zero.

        Returns
        -------
        array, shape ``points.shape + (size,)``
            In the namespace, dtype and device of `points`; torch gradients flow to `points`. At a break inside the
            domain it is the value from the right, at the right end that from the left.

        Raises
        ------
        ValueError
            If a point is NaN or outside the domain, or `derivative` is negative.
        TypeError
            If the points are complex or truth values, or `derivative` is no integer.

        Examples
        --------
        >>> from sepnet.bases import BSpline
        >>> BSpline((0, 1), cells=2, degree=1).values([0.0, 0.25])
        array([[1. , 0. , 0. ],
               [0.5, 0.5, 0. ]])
        """
        order = whole_number("derivative", derivative, at_least=0)
        x, shape = checked_points(points, self.domain)
        return arrays.namespace(x).reshape(self._values(x, order), (*shape, self.size))

    def tabulate(self, points: Any, derivative: int = 0) -> scipy.sparse.csr_array:
        """Evaluate as `values` does, for set-up on the host.

        Parameters
        ----------
        points : array_like of shape (n,)
            Points inside the domain; taken as float64.
        derivative : int, optional
            Order of the derivative.

        Returns
        -------
        scipy.sparse.csr_array of shape (n, size)
            Float64.
        """
        return scipy.sparse.csr_array(self.values(np.asarray(points, dtype=np.float64).reshape(-1), derivative))

    def quadrature(self, exactness: int | None = None) -> Quadrature:
        """Return the Gauss-Legendre rule on every cell, exact for polynomials of degree `exactness`.

        Parameters
        ----------
        exactness : int, optional
            Polynomial degree; by default ``2 * degree + 1``: exact for products of two functions.

        Returns
        -------
        Quadrature
            Points and weights, host arrays of shape (m,).

        Raises
        ------
        ValueError, TypeError
            If `exactness` is no integer of at least 0, or the rule would be too large.
        """
        exactness = self._exactness(exactness)
        return gauss_rule(self.breaks, exactness // 2 + 1)

    def _exactness(self, exactness: int | None) -> int:
        if exactness is None:
            return 2 * self.degree + 1
        return whole_number("exactness", exactness, at_least=0, at_most=MOST_POINTS)

    def spread(self, shares: np.ndarray) -> np.ndarray:
        """Return the points below which lie the given shares of the domain.

        Parameters
        ----------
        shares : ndarray (n,)
            Numbers in [0, 1); uniform ones give points that are uniform in the measure of the axis.

        Returns
        -------
        ndarray (n,), float64
        """
        low, high = self.domain
        return np.asarray(low + (high - low) * shares)

    def interpolate(self, samples: Any) -> np.ndarray:
        """Return the coefficients of the function that takes the values `samples` at `nodes`.

        Parameters
        ----------
        samples : array_like, shape (size, ...)
            Host values at the nodes; further axes are independent data.

        Returns
        -------
        ndarray, float64, shape (size, ...)

        Raises
        ------
        ValueError
            If the first axis is not of length `size`.
        """
        values = np.asarray(samples, dtype=np.float64)
        if values.ndim == 0 or values.shape[0] != self.size:
            msg = (
                f"`samples` has shape {values.shape}, expected ({self.size}, ...): "
                "one value for each of `basis.nodes`; evaluate the function there"
            )
            raise ValueError(msg)
        flat = np.ascontiguousarray(values.reshape(self.size, -1))
        return np.ascontiguousarray(self._collocation_solver(flat).reshape(values.shape))

    @cached_property
    def _collocation_solver(self) -> Callable[[np.ndarray], np.ndarray]:
        """Solver of ``values(nodes) @ x = b``, factorised once; dense here."""
        factors = scipy.linalg.lu_factor(self.values(self.nodes))
        return lambda right: np.asarray(scipy.linalg.lu_solve(factors, right))

    def contains(self, other: Basis) -> bool:
        """Tell whether every function of `other` is a function of this basis.

        Parameters
        ----------
        other : Basis
            A basis on the same domain.

        Returns
        -------
        bool

        Raises
        ------
        ValueError
            If the domains differ.
        """
        try:
            return self.sum_basis(other).size == self.size
        except TypeError:
            return False

    def embed(self, coarser: Basis) -> np.ndarray:
        """Return the matrix that writes a function of `coarser` in this basis.

        Parameters
        ----------
        coarser : Basis
            A basis contained in this one.

        Returns
        -------
        ndarray of shape (size, coarser.size)
            Host, float64: coefficients there to coefficients here.

        Raises
        ------
        ValueError
            If this basis does not contain `coarser`.

        Examples
        --------
        >>> from sepnet.bases import Legendre
        >>> V = Legendre((-1, 1), 1)
        >>> V.refine().embed(V).round(12) + 0.0
        array([[1., 0.],
               [0., 1.],
               [0., 0.]])
        """
        if not self.contains(coarser):
            msg = (
                f"`coarser` is {coarser!r}, expected a basis contained in {self!r}: "
                "embed into `self.sum_basis(coarser)`, or project with `u.project(W)`"
            )
            raise ValueError(msg)
        return self.interpolate(coarser.values(self.nodes))

    def as_spline(self) -> Basis:
        """Return the same space as a B-spline basis.

        Raises
        ------
        TypeError
            If it is no space of splines.
        """
        raise mixing_error(self, "a space of piecewise polynomials")


# ----------------------------------------------------------------------------------------------- checks and helpers


def mixing_error(basis: Basis, expected: str) -> TypeError:
    """Return the error for two bases that have no common family."""
    return TypeError(
        f"the other basis is {basis!r}, expected {expected}: these cannot be combined exactly; "
        "bring one function to the other's space first, `u.project(W)`"
    )


def no_knots(basis: Basis) -> AttributeError:
    """Return the error for `knots` and `greville` of a basis that is none of splines."""
    return AttributeError(
        f"{basis!r} has no `knots` and no `greville` points, which are those of B-splines: "
        "use `nodes` for points and `breaks` for the ends of the cells"
    )


def same_domain(first: Basis, second: Basis) -> None:
    """Raise ValueError unless two bases live on the same interval."""
    if first.domain != second.domain:
        msg = (
            f"the other basis has domain {second.domain}, expected {first.domain}: build both on one interval, "
            "or project onto the common part, `u.project(W)`"
        )
        raise ValueError(msg)


def no_derivative(basis: Basis, order: int) -> ValueError:
    """Return the error for a derivative that is no function, or that is zero."""
    if basis.max_order == basis.degree and basis.smoothness == SMOOTH:
        what = "it is zero everywhere: raise `degree` if it should not be"
    else:
        what = (
            "it is no function, the one before it jumps at a break: "
            "use a higher `degree` or `continuity`, or the weak form `sn.inner(d.x, d.x)`"
        )
    return ValueError(f"`order` is {order}, expected at most {basis.max_order} for {basis!r}: {what}")


@lru_cache(maxsize=64)
def _gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points and weights on [-1, 1]."""
    points, weights = scipy.special.roots_legendre(count)
    return points, weights


def gauss_rule(breaks: np.ndarray, count: int) -> Quadrature:
    """Return the Gauss-Legendre rule of `count` points on each cell of `breaks`.

    Raises
    ------
    ValueError
        If it would have more than 2**26 points.
    """
    total = count * (len(breaks) - 1)
    if count > MOST_POINTS or total > 2**26:
        msg = (
            f"the quadrature rule would have {count} points on each of {len(breaks) - 1} cells, expected at most "
            f"{MOST_POINTS} a cell and {2**26} in all: ask for less exactness, or use fewer cells"
        )
        raise ValueError(msg)
    points, weights = _gauss_legendre(count)
    half = np.diff(breaks)[:, None] / 2
    middle = (breaks[:-1, None] / 2) + (breaks[1:, None] / 2)
    return Quadrature(frozen((middle + half * points).reshape(-1)), frozen((half * weights).reshape(-1)))


def frozen(array: np.ndarray) -> np.ndarray:
    """Return `array` made read-only, for sharing."""
    array.setflags(write=False)
    return array
