"""Global polynomials: the Legendre and Chebyshev bases.

Derivatives are ultraspherical polynomials (Olver, Lozier, Boisvert, Clark, NIST Handbook, 18.7.9 and 18.9.19),

    P_n^(d) = 1 * 3 * ... * (2 d - 1) * C_{n-d}^(d + 1/2),        T_n^(d) = 2**(d - 1) * (d - 1)! * n * C_{n-d}^(d),

so any order comes from one three-term recurrence that is stable on [-1, 1].
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self, final

import numpy as np

from sepnet.backends import arrays
from sepnet.bases.basis import SMOOTH, Basis, Kind, Pieces, frozen, mixing_error, no_derivative, same_domain
from sepnet.bases.bspline import BSpline
from sepnet.bases.checks import MOST_DEGREE, Zero, domain_text, ends, interval, whole_number, zero_of

__all__ = ["Chebyshev", "Legendre", "Polynomial"]


class Polynomial(Basis):
    """All polynomials of one degree that vanish at the ends named by `zero`; the subclasses choose the functions."""

    def __init__(self, domain: tuple[float, float], degree: int, zero: Zero = None) -> None:
        lost = len(ends(zero))
        self._set(
            domain=interval(domain),
            degree=whole_number("degree", degree, at_least=0, at_most=MOST_DEGREE),
            zero=zero,
            periodic=False,
        )
        if self.degree + 1 - lost < 1:
            msg = (
                f"`degree` is {self.degree}, expected at least {lost} with zero={zero!r}: no function is left, raise it"
            )
            raise ValueError(msg)

    @abstractmethod
    def _family(self, s: arrays.Array, derivative: int) -> list[arrays.Array]:
        """Values of the polynomials of degree 0 to `degree`, or a derivative by s, at s in [-1, 1]."""

    @abstractmethod
    def _family_integrals(self) -> list[Any]:
        """Integrals of the same polynomials over [-1, 1]."""

    def __repr__(self) -> str:
        zero = "" if self.zero is None else f", zero={self.zero!r}".replace("'", '"')
        return f"{type(self).__name__}({domain_text(self.domain)}, {self.degree}{zero})"

    @property
    def size(self) -> int:
        """Number of functions: ``degree + 1`` less the ends where they vanish."""
        return self.degree + 1 - len(ends(self.zero))

    @property
    def kind(self) -> Kind:
        """All functions overlap."""
        return "dense"

    @property
    def bandwidth(self) -> int:
        """``size - 1``: all functions overlap."""
        return self.size - 1

    @property
    def smoothness(self) -> int:
        """No limit."""
        return SMOOTH

    @property
    def max_order(self) -> int:
        """The degree; derivatives beyond it are zero."""
        return self.degree

    @cached_property
    def breaks(self) -> np.ndarray:
        """The two ends, shape (2,)."""
        return frozen(np.asarray(self.domain))

    @cached_property
    def nodes(self) -> np.ndarray:
        """Chebyshev points, shape (size,): Gauss, or Radau or Lobatto without the ends where the functions vanish."""
        n = self.size
        count = np.arange(1, n + 1)
        if self.zero is None:
            s = np.sin(np.pi * (2 * count - 1 - n) / (2 * n))  # = -cos((2 j - 1) pi / 2 n), symmetric to the last bit
        elif self.zero == "both":
            s = np.sin(np.pi * (2 * count - 1 - n) / (2 * (n + 1)))
        else:
            s = -np.cos(2 * np.pi * count / (2 * n + 1))  # does not hold -1
            s = -s[::-1] if self.zero == "right" else s
        left, right = self.domain
        return frozen(np.clip((left + right) / 2 + (right - left) / 2 * s, left, right))

    @property
    def pieces(self) -> Pieces | None:
        """None: monomials would lose the digits that the recurrence keeps."""
        return None

    def _values(self, x: arrays.Array, derivative: int) -> arrays.Array:
        xp, device = arrays.namespace(x), arrays.device_of(x)
        left, right = (arrays.from_host(np.asarray(end), xp, device=device, dtype=x.dtype) for end in self.domain)
        s = ((x - left) - (right - x)) / (right - left)  # exactly -1 and 1 at the ends
        scale = (2 / (self.domain[1] - self.domain[0])) ** derivative
        return xp.stack(self._keep_ends(self._family(s, derivative)), axis=1) * scale

    def _keep_ends(self, family: Sequence[Any]) -> list[Any]:
        """Combine neighbours so that they vanish where ``zero=`` says: P_k and T_k are 1 at 1 and (-1)**k at -1."""
        n = self.size
        if self.zero == "both":
            return [family[k] - family[k + 2] for k in range(n)]
        if self.zero == "left":
            return [family[k] + family[k + 1] for k in range(n)]
        if self.zero == "right":
            return [family[k] - family[k + 1] for k in range(n)]
        return list(family)

    def integrals(self) -> np.ndarray:
        """Integrals of the functions, float64, shape (size,)."""
        left, right = self.domain
        return np.asarray(self._keep_ends(self._family_integrals()), dtype=np.float64) * ((right - left) / 2)

    def derivative_basis(self, order: int) -> Basis:
        """Return the polynomials of degree ``degree - order``; ValueError above the degree."""
        order = whole_number("order", order, at_least=0)
        if order > self.max_order:
            raise no_derivative(self, order)
        return self if order == 0 else type(self)(self.domain, self.degree - order)

    def product_basis(self, other: Basis) -> Basis:
        """Return the basis of the products: degrees add up, an end zero of either stays.

        Two of one family stay in it, Legendre with Chebyshev gives Legendre, with a B-spline a B-spline.
        """
        if isinstance(other, BSpline):
            return self.as_spline().product_basis(other)
        partner = self._polynomial(other)
        zero = zero_of(ends(self.zero) | ends(partner.zero))
        return self._common_class(partner)(self.domain, self.degree + partner.degree, zero)

    def sum_basis(self, other: Basis) -> Basis:
        """Return the smallest basis with both: the higher degree, the end zeros they share; family as for products."""
        if isinstance(other, BSpline):
            return self.as_spline().sum_basis(other)
        partner = self._polynomial(other)
        zero = zero_of(ends(self.zero) & ends(partner.zero))
        return self._common_class(partner)(self.domain, max(self.degree, partner.degree), zero)

    def _polynomial(self, other: Basis) -> Polynomial:
        if not isinstance(other, Polynomial):
            raise mixing_error(other, f"polynomials or B-splines, to go with {self!r}")
        same_domain(self, other)
        return other

    def _common_class(self, other: Polynomial) -> type[Polynomial]:
        return type(self) if type(self) is type(other) else Legendre

    def as_spline(self) -> Basis:
        """Return the same space as a B-spline basis of one cell; ValueError beyond the degrees B-splines have."""
        return BSpline._of(self.domain, self.degree, (), self.zero, periodic=False)

    def refine(self) -> Self:
        """Return the polynomials of twice the degree (1 instead of 0)."""
        return type(self)(self.domain, max(2 * self.degree, 1), self.zero)

    def with_zero(self, zero: Zero) -> Self:
        """Return the same polynomials with other end conditions."""
        return type(self)(self.domain, self.degree, zero)

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"domain": list(self.domain), "degree": self.degree, "zero": self.zero}


def _ultraspherical(s: arrays.Array, twice: int, count: int) -> list[arrays.Array]:
    """C_0 to C_{count - 1} with parameter ``twice / 2`` by their three-term recurrence (NIST Handbook, 18.9.1)."""
    values = [0.0 * s + 1.0]
    if count > 1:
        values.append(twice * s)
    for m in range(1, count - 1):
        values.append(((2 * m + twice) * s * values[m] - (m + twice - 1) * values[m - 1]) / (m + 1))
    return values[:count]


@final
class Legendre(Polynomial):
    """Legendre polynomials, mapped to an interval.

    Parameters
    ----------
    domain : tuple[float, float]
        The interval.
    degree : int
        The highest degree; the size is ``degree + 1`` less one for each end in `zero`.
    zero : None, "left", "right" or "both"
        ``"both"``: the functions P_k - P_{k+2}; ``"left"``: P_k + P_{k+1}; ``"right"``: P_k - P_{k+1}.

    Raises
    ------
    TypeError, ValueError
        If the domain is no finite rising pair, `degree` no integer of at least 0, `zero` unknown, or no function is
        left.

    Examples
    --------
    >>> Legendre((-1, 1), 2).values([0.0, 1.0])
    array([[ 1. ,  0. , -0.5],
           [ 1. ,  1. ,  1. ]])
    """

    def _family(self, s: arrays.Array, derivative: int) -> list[arrays.Array]:
        if derivative > self.degree:
            return [0.0 * s] * (self.degree + 1)
        factor = float(math.prod(range(1, 2 * derivative, 2)))
        values = _ultraspherical(s, 2 * derivative + 1, self.degree + 1 - derivative)
        return [0.0 * s] * derivative + [factor * v for v in values]

    def _family_integrals(self) -> list[Any]:
        return [2.0] + [0.0] * self.degree


@final
class Chebyshev(Polynomial):
    """Chebyshev polynomials of the first kind, mapped to an interval.

    Parameters
    ----------
    domain : tuple[float, float]
        The interval.
    degree : int
        The highest degree; the size is ``degree + 1`` less one for each end in `zero`.
    zero : None, "left", "right" or "both"
        ``"both"``: the functions T_k - T_{k+2}; ``"left"``: T_k + T_{k+1}; ``"right"``: T_k - T_{k+1}.

    Raises
    ------
    TypeError, ValueError
        If the domain is no finite rising pair, `degree` no integer of at least 0, `zero` unknown, or no function is
        left.

    Examples
    --------
    >>> Chebyshev((-1, 1), 2).values([0.0, 1.0])
    array([[ 1.,  0., -1.],
           [ 1.,  1.,  1.]])
    """

    def _family(self, s: arrays.Array, derivative: int) -> list[arrays.Array]:
        if derivative > self.degree:
            return [0.0 * s] * (self.degree + 1)
        if derivative == 0:
            values = [0.0 * s + 1.0, s]
            for m in range(1, self.degree):
                values.append(2 * s * values[m] - values[m - 1])
            return values[: self.degree + 1]
        factor = float(2 ** (derivative - 1) * math.factorial(derivative - 1))
        values = _ultraspherical(s, 2 * derivative, self.degree + 1 - derivative)
        return [0.0 * s] * derivative + [factor * (m + derivative) * v for m, v in enumerate(values)]

    def _family_integrals(self) -> list[Any]:
        return [0.0 if k % 2 else 2.0 / (1 - k * k) for k in range(self.degree + 1)]
