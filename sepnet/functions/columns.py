"""The columns of a separable function as univariate data, for right-hand sides and initial values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from typing import final

import numpy as np

from sepnet.bases.basis import Basis
from sepnet.coefficients import Coefficient
from sepnet.spaces import TensorSpace
from sepnet.terms import Factor, Term
from sepnet.univariate import Univariate

__all__ = ["Column", "column_coefficient"]


@final
class _Matrix:
    """All columns of one factor; remembers its last table of values, since columns are asked for one by one."""

    def __init__(self, basis: Basis, factor: np.ndarray) -> None:
        self.basis = basis
        self.factor = factor
        self._last: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]] = {}

    @cached_property
    def key(self) -> tuple[Basis, bytes]:
        """What makes two factors one: the basis and the coefficients."""
        return self.basis, np.ascontiguousarray(self.factor).tobytes()

    @cached_property
    def digest(self) -> int:
        """Hash of the key."""
        return hash(self.key)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the coefficients, the same in every process."""
        return sha256(self.key[1]).hexdigest()

    def values(self, x: np.ndarray, order: int, *, magnitude: bool = False) -> np.ndarray:
        """Return the derivatives of all columns at `x`, shape (n, R), or what their evaluation adds up."""
        last = self._last.get((order, magnitude))
        if last is None or not np.array_equal(last[0], x):
            table = self.basis.tabulate(x, order)
            last = (x, abs(table) @ np.abs(self.factor) if magnitude else table @ self.factor)
            self._last[order, magnitude] = last
        return last[1]


@final
class Column:
    """One column of a factor, or its derivative, as a univariate callable with known breaks."""

    def __init__(self, matrix: _Matrix, number: int, order: int = 0) -> None:
        self.matrix = matrix
        self.number = number
        self.order = order

    @property
    def key(self) -> str:
        """What factors are ordered by."""
        return f"{self.matrix.fingerprint}, {self.number}, {self.order}"

    def __eq__(self, other: object) -> bool:
        """Equal columns of equal factors are equal, so that like terms of functions are seen to be like."""
        if not isinstance(other, Column):
            return NotImplemented
        same = self.matrix is other.matrix or self.matrix.key == other.matrix.key
        return same and (self.number, self.order) == (other.number, other.order)

    def __hash__(self) -> int:
        """Hash of the same."""
        return hash((self.matrix.digest, self.number, self.order))

    @property
    def breaks(self) -> np.ndarray:
        """Where the column is not smooth: quadrature must know."""
        return self.matrix.basis.breaks

    @property
    def degree(self) -> int:
        """Polynomial degree between the breaks."""
        return self.matrix.basis.degree

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate at `x` of shape (n,)."""
        return self.matrix.values(x, self.order)[:, self.number]

    def magnitude(self, x: np.ndarray) -> np.ndarray:
        """Return the sum of the absolute values of all terms at `x`: for derivatives much larger than the value."""
        return self.matrix.values(x, self.order, magnitude=True)[:, self.number]

    def derivative(self) -> tuple[Univariate, ...]:
        """Return the derivative; exact, since a spline's derivatives are known."""
        if self.order >= self.matrix.basis.max_order:
            msg = f"derivative {self.order + 1} of a function in {self.matrix.basis!r} is needed: raise its degree"
            raise ValueError(msg)
        return (Univariate((1.0,), (Column(self.matrix, self.number, self.order + 1),)),)


def column_coefficient(space: TensorSpace, factors: Sequence[np.ndarray]) -> Coefficient:
    """Return a CP function with host factors as a `Coefficient`."""
    if not all(np.isfinite(factor).all() for factor in factors):
        msg = "a function used as data or coefficient has coefficients that are not finite: check where it comes from"
        raise ValueError(msg)
    matrices = [_Matrix(basis, factor) for basis, factor in zip(space.bases, factors, strict=True)]
    terms = []
    for r in range(factors[0].shape[1]):
        members = {
            name: Factor(Univariate((1.0,), (Column(matrix, r),)))
            for name, matrix in zip(space.names, matrices, strict=True)
        }
        terms.append(Term(1.0, tuple(sorted(members.items()))))
    return Coefficient(tuple(terms))
