"""Trigonometric polynomials: the basis 1, cos, sin, cos 2, sin 2, ... of one period."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, final

import numpy as np

from sepnet.backends import arrays
from sepnet.bases.basis import SMOOTH, Basis, Kind, Pieces, Quadrature, frozen, gauss_rule, mixing_error, same_domain
from sepnet.bases.checks import MOST_DEGREE, Zero, domain_text, ends, interval, whole_number

__all__ = ["Fourier"]


@final
class Fourier(Basis):
    """The functions 1 and cos, sin of 2 pi k (x - a) / L for k = 1 to `harmonics`, in this order; L = b - a.

    Parameters
    ----------
    domain : tuple[float, float]
        One period (a, b).
    harmonics : int
        The highest frequency, at least 0; the size is ``2 * harmonics + 1``.

    Raises
    ------
    TypeError, ValueError
        If the domain is no finite rising pair or `harmonics` no integer of at least 0.

    Examples
    --------
    >>> Fourier((0, 1), 1).values([0.0, 0.25]).round(12)
    array([[1., 1., 0.],
           [1., 0., 1.]])
    """

    def __init__(self, domain: tuple[float, float], harmonics: int) -> None:
        self._set(
            domain=interval(domain),
            degree=whole_number("harmonics", harmonics, at_least=0, at_most=MOST_DEGREE),
            zero=None,
            periodic=True,
        )

    def __repr__(self) -> str:
        return f"Fourier({domain_text(self.domain)}, {self.harmonics})"

    @property
    def harmonics(self) -> int:
        """The highest frequency."""
        return self.degree

    @property
    def size(self) -> int:
        """Number of functions, ``2 * harmonics + 1``."""
        return 2 * self.degree + 1

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
        """No limit."""
        return SMOOTH

    @cached_property
    def breaks(self) -> np.ndarray:
        """The two ends, shape (2,)."""
        return frozen(np.asarray(self.domain))

    @cached_property
    def nodes(self) -> np.ndarray:
        """Equispaced points from the left end on, shape (size,)."""
        left, right = self.domain
        return frozen(left + (right - left) * (np.arange(self.size) / self.size))

    @property
    def pieces(self) -> Pieces | None:
        """None: no polynomials."""
        return None

    def _values(self, x: arrays.Array, derivative: int) -> arrays.Array:
        xp, device = arrays.namespace(x), arrays.device_of(x)
        left, right = self.domain
        rate = 2 * math.pi / (right - left)
        waves = np.arange(1, self.degree + 1)
        frequency = arrays.from_host(waves * rate, xp, device=device, dtype=x.dtype)
        # d^n cos = rate^n cos(. + n pi / 2), written with exact signs
        height = arrays.from_host((waves * rate) ** derivative, xp, device=device, dtype=x.dtype)
        angle = (x - left)[:, None] * frequency[None, :]
        cosine, sine = xp.cos(angle), xp.sin(angle)
        turned = ((cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine))[derivative % 4]
        pairs = xp.stack([height * turned[0], height * turned[1]], axis=-1)
        constant = (0.0 * x + (1.0 if derivative == 0 else 0.0))[:, None]
        return xp.concat([constant, xp.reshape(pairs, (x.shape[0], 2 * self.degree))], axis=1)

    def quadrature(self, exactness: int | None = None) -> Quadrature:
        """Return a Gauss-Legendre rule for trigonometric and ordinary polynomials of degree `exactness`, to round-off.

        On [-1, 1] the wave of frequency e per period is exp(i pi e s); Gauss with n points integrates it to round-off
        as soon as 2 n is beyond pi e by a margin that grows as the cube root of e (the decay of the Bessel functions
        past their turning point).

        Parameters
        ----------
        exactness : int, optional
            Degree; by default ``2 * harmonics + 1``: exact for products of two functions.

        Returns
        -------
        Quadrature
            Points and weights, host arrays of shape (m,).
        """
        exactness = self._exactness(exactness)
        return gauss_rule(self.breaks, math.ceil(math.pi * exactness / 2 + 6 * np.cbrt(exactness)) + 8)

    def integrals(self) -> np.ndarray:
        """The period for the constant, zero for the waves; float64, shape (size,)."""
        result = np.zeros(self.size)
        result[0] = self.domain[1] - self.domain[0]
        return result

    def derivative_basis(self, order: int) -> Basis:
        """Return this basis: it is closed under derivatives of any order."""
        whole_number("order", order, at_least=0)
        return self

    def product_basis(self, other: Basis) -> Basis:
        """Return the basis with the harmonics of both together; TypeError for another family."""
        return Fourier(self.domain, self.degree + self._same_family(other).degree)

    def sum_basis(self, other: Basis) -> Basis:
        """Return the basis with the more harmonics; raises as `product_basis`."""
        return Fourier(self.domain, max(self.degree, self._same_family(other).degree))

    def _same_family(self, other: Any) -> Fourier:
        if not isinstance(other, Fourier):
            raise mixing_error(other, f"a Fourier basis, as {self!r} is one")
        same_domain(self, other)
        return other

    def refine(self) -> Basis:
        """Return the basis with twice the harmonics (one instead of none)."""
        return Fourier(self.domain, max(2 * self.degree, 1))

    def with_zero(self, zero: Zero) -> Basis:
        """Return this basis if `zero` is None; a periodic basis has no ends to vanish at (ValueError)."""
        if ends(zero):
            msg = f"`zero` is {zero!r}, expected None for a periodic basis: use Legendre, Chebyshev or BSpline"
            raise ValueError(msg)
        return self

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"domain": list(self.domain), "harmonics": self.degree}
