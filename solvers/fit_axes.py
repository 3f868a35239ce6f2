"""One axis of a fit: where samples touch its functions, and the Gram matrices of its penalty."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, final

import numpy as np
import scipy.linalg

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, device_of, from_host, gather, library_name, namespace
from sepnet.bases.basis import Basis
from sepnet.bases.bspline import BSpline
from sepnet.functions.axis_maps import mass

__all__ = ["AxisArrays", "FitAxis", "Window", "derivative_gram"]

Window = tuple[Array, Array]  # number of the first function (n,), and values of it and the next ones (n, q)


class AxisArrays(NamedTuple):
    """What a fit needs of an axis, where its samples live: see the properties of `FitAxis`.

    `first`, `table` and `breaks` are None for functions that are not piecewise polynomials.
    """

    constant: Array
    gram: Array
    roughness: Array
    spread: Array | None
    first: Array | None
    table: Array | None
    breaks: Array | None


@final
@dataclass(frozen=True)
class FitAxis:
    """An axis on which samples are fitted.

    Samples touch *windows* of neighbouring functions. Where functions are left out at an end, or wrap around a
    periodic axis, the windows go over a longer list, of which `spread` makes the functions of the basis.

    Parameters
    ----------
    basis : Basis or None
        None is the axis of the constant: one function, equal to one, whatever the sample.
    labels : bool, optional
        The axis counts outputs. Columns of it alone are the outputs' constants.
    norm : ndarray of shape (size, size), optional
        Matrix of the norm in which functions are measured, the constant's being one; by default that of L2.
    """

    basis: Basis | None
    labels: bool = False
    norm: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return 1 if self.basis is None else self.basis.size

    @cached_property
    def constant(self) -> np.ndarray:
        """Coefficients of the constant one, shape (size,), nearest in L2 where the basis does not contain it."""
        if self.basis is None:
            return np.ones(1)
        length = self.basis.domain[1] - self.basis.domain[0]
        return np.linalg.solve(self.mass, self.basis.integrals() / length)

    @cached_property
    def mass(self) -> np.ndarray:
        """Gram matrix of the functions for the uniform probability on the axis."""
        if self.basis is None:
            return np.ones((1, 1))
        return mass(self.basis) / (self.basis.domain[1] - self.basis.domain[0])

    @property
    def gram(self) -> np.ndarray:
        """Gram matrix of the functions in `norm`."""
        return self.mass if self.norm is None else self.norm

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return coefficients (size, count) of random functions: independent ones, or such as `norm` expects."""
        numbers = rng.standard_normal((self.size, count))
        if self.norm is None:
            return numbers
        return np.asarray(scipy.linalg.solve_triangular(np.linalg.cholesky(self.norm), numbers, lower=True, trans="T"))

    @cached_property
    def roughness(self) -> np.ndarray:
        """Gram matrix of the second derivatives in the coordinate that runs from 0 to 1, uniform probability.

        Of the first derivatives for splines of degree one, and zero for degree zero.
        """
        order = 0 if self.basis is None else min(2, self.basis.max_order)
        if self.basis is None or order == 0:
            return np.zeros((self.size, self.size))
        return derivative_gram(self.basis, order)

    @cached_property
    def _windows(self) -> tuple[np.ndarray, np.ndarray] | None:
        """First function of the window of each cell, and `spread`, shape (windows, size); None for global functions."""
        if not isinstance(self.basis, BSpline):
            return None
        pieces, degree = self.basis.pieces, self.basis.degree
        steps = [degree - c for c in self.basis.continuity[: len(pieces.index) - 1]]
        first = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
        spread = np.zeros((int(first[-1]) + degree + 1, self.size))
        cell, place = np.nonzero(np.abs(pieces.table).max(axis=1) > 0)
        spread[first[cell] + place, pieces.index[cell, place]] = 1.0
        return first, spread

    @property
    def spread(self) -> np.ndarray | None:
        """Matrix (windows, size) from coefficients to window functions, None where it is the identity."""
        if self._windows is None:
            return None
        matrix = self._windows[1]
        same = matrix.shape[0] == matrix.shape[1] and bool((matrix == np.eye(self.size)).all())
        return None if same else matrix

    @property
    def length(self) -> int:
        """Number of window functions."""
        return self.size if self._windows is None else int(self._windows[1].shape[0])

    @cached_property
    def _copies(self) -> dict[tuple[str, str, str], AxisArrays]:
        return {}

    def arrays(self, like: Array) -> AxisArrays:
        """Return the arrays of the axis where another one lives, in its dtype; they are moved there once."""
        xp, device = namespace(like), device_of(like)
        key = library_name(xp), str(device), str(like.dtype)
        if key not in self._copies:

            def here(array: np.ndarray | None) -> Array | None:
                return None if array is None else from_host(array, xp, device=device, dtype=like.dtype)

            first = None if self._windows is None else from_host(self._windows[0], xp, device=device, dtype="int64")
            pieces = None if self.basis is None or first is None else self.basis.pieces
            self._copies[key] = AxisArrays(
                here(self.constant), here(self.gram), here(self.roughness), here(self.spread), first,
                *(map(here, (pieces.table, pieces.breaks)) if pieces is not None else (None, None)),
            )  # fmt: skip
        return self._copies[key]

    def window(self, points: Array, name: str) -> Window:
        """Return the windows of points (n,), which lie in the domain.

        Raises
        ------
        ValueError
            If a point does not.
        """
        xp, device = namespace(points), device_of(points)
        n = int(points.shape[0])
        if self.basis is None:
            ones = xp.ones((n, 1), dtype=points.dtype, device=device)
            return xp.zeros((n,), dtype=xp.int64, device=device), ones
        own = self.arrays(points)
        if own.table is None:
            return xp.zeros((n,), dtype=xp.int64, device=device), self.basis.values(points)
        cell, values = dispatch.local_values(points, own.breaks, own.table, names=(name,))
        return gather(own.first, cell), values


def derivative_gram(basis: Basis, order: int) -> np.ndarray:
    """Return the Gram matrix of derivatives in the coordinate that runs from 0 to 1, uniform probability."""
    rule, length = basis.quadrature(), basis.domain[1] - basis.domain[0]
    values = basis.tabulate(rule.points, order).toarray() * length**order
    return np.asarray(values.T @ (rule.weights[:, None] * values) / length)
