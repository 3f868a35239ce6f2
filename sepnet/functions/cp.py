"""Functions in canonical polyadic (CP) format: sums of products of univariate functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from sepnet.backends.arrays import Array, namespace, to_host
from sepnet.coefficients import Coefficient, finite
from sepnet.functions import axis_maps, evaluation
from sepnet.functions.base import SeparableFunction
from sepnet.functions.checks import factors_of
from sepnet.functions.columns import column_coefficient
from sepnet.functions.dense import number
from sepnet.functions.rounding import compress, norm_above_noise
from sepnet.separable_norm import separable_norm
from sepnet.spaces import TensorSpace

__all__ = ["CP"]


@final
class CP(SeparableFunction):
    """A function ``u(x) = sum_r prod_i phi_ir(x_i)`` with ``phi_ir = sum_n C_i[n, r] B_in``.

    Parameters
    ----------
    space : TensorSpace
        Named axes with their bases.
    factors : sequence of arrays of shape (n_i, R)
        Coefficient matrices ``C_i`` in axis order; kept as they are, without a copy. One namespace, device and real
        floating dtype; anything `sepnet` runs on.

    Raises
    ------
    TypeError
        If the factors are no real floating arrays, or live in different places.
    ValueError
        If their number or shapes do not fit the space.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, degree=1), y=sn.BSpline((0, 1), cells=2, degree=1))
    >>> u = sn.CP(V, [V.axes["x"].greville[:, None], V.axes["y"].greville[:, None]])
    >>> u([[0.5, 0.25]])
    array([0.125])
    """

    __slots__ = ("factors", "space")

    factors: tuple[Array, ...]

    def __init__(self, space: TensorSpace, factors: Sequence[Array]) -> None:
        self.factors = factors_of(space, factors)
        self.space = space

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Number of terms R."""
        return int(self.factors[0].shape[1])

    def __repr__(self) -> str:
        """One line: rank, axes, size and dtype."""
        return f"CP(rank={self.rank}, {self._axes_and_home()})"

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The factors."""
        return self.factors

    def _like(self, space: TensorSpace, arrays: Sequence[Array]) -> CP:
        return CP(space, arrays)

    def _from_products(self, space: TensorSpace, factors: Sequence[Array]) -> CP:
        return CP(space, factors)

    def _products(self) -> tuple[Array, ...]:
        return self.factors

    def _matrices(self) -> list[Array]:
        return list(self.factors)

    def _with_matrices(self, space: TensorSpace, matrices: Sequence[Array]) -> CP:
        return CP(space, matrices)

    # --- values -------------------------------------------------------------------------------------------------

    def _evaluate(self, points: Array, order: int) -> tuple[Array, ...]:
        if order == 0:
            return (evaluation.value(self.space, self.factors, points),)
        return (evaluation.gradient if order == 1 else evaluation.hessian)(self.space, self.factors, points)

    def _on_grid(self, grid: Mapping[str, Array]) -> Array:
        return evaluation.outer(evaluation.column_values(self.space, self.factors, grid))

    def _dense(self) -> Array:
        return evaluation.outer(self.factors)

    # --- algebra ------------------------------------------------------------------------------------------------

    def _scaled(self, weight: float) -> CP:
        return CP(self.space, (self.factors[0] * finite(weight, "the factor"), *self.factors[1:]))

    def _plus(self, other: CP) -> CP:
        mine, theirs = self._joined(other)
        xp = namespace(*mine.factors, *theirs.factors)
        both = [xp.concat([a, b], axis=1) for a, b in zip(mine.factors, theirs.factors, strict=True)]
        return CP(mine.space, both)

    def _times(self, other: CP) -> CP:
        space, factors = axis_maps.product(self.space, self.factors, other.space, other.factors)
        return CP(space, factors)

    # --- calculus -----------------------------------------------------------------------------------------------

    def _contract(self, rows: Mapping[str, Array]) -> CP | Array:
        """Contract some axes with rows of shape (1, n_i)."""
        xp = self.xp
        scale: Array = 1.0
        kept: dict[str, Array] = {}
        for name, factor in zip(self.space.names, self.factors, strict=True):
            if name in rows:
                scale = scale * (rows[name] @ factor)
            else:
                kept[name] = factor
        if not kept:
            return xp.sum(scale)
        first = next(iter(kept))
        kept[first] = kept[first] * scale
        return CP(self.space.drop(*rows), tuple(kept.values()))

    def _inner(self, other: CP) -> float:
        total: Array = 1.0
        for left, right, a, b in zip(self.space.bases, other.space.bases, self.factors, other.factors, strict=True):
            total = total * (a.T @ (self._here(axis_maps.cross_mass(left, right)) @ b))
        return number(self.xp.sum(total))

    def norm(self) -> float:
        """Return the L2 norm over the box, free of cancellation: ``(u - v).norm()`` means something for close u, v."""
        return separable_norm(self._weighted())

    def _weighted(self) -> list[Array]:
        """Return the columns in orthonormal coordinates, in which Euclidean and L2 norm are one."""
        roots = [axis_maps.mass_root(basis) for basis in self.space.bases]
        return [self._here(root) @ factor for root, factor in zip(roots, self.factors, strict=True)]

    def _norm_above_noise(self) -> float:
        return norm_above_noise(self._weighted())

    def _distance(self, other: CP) -> float:
        """Return the L2 distance to a function on the same box, of any family, free of cancellation."""
        columns = []
        for k, (mine, theirs) in enumerate(zip(self.space.bases, other.space.bases, strict=True)):
            here, there = (self._here(root) for root in axis_maps.joint_roots(mine, theirs))
            sign = -1.0 if k == 0 else 1.0
            columns.append(self.xp.concat([here @ self.factors[k], sign * (there @ other.factors[k])], axis=1))
        return separable_norm(columns)

    def compress(self, tol: float | None = None, *, rank: int | None = None) -> CP:
        """Return a function of lower rank close to this one.

        Parameters
        ----------
        tol : float, optional
            Relative L2 error allowed; the error is computed without cancellation, not estimated. By default 1e-8, or
            with `rank` alone whatever that rank gives.
        rank : int, optional
            Largest rank allowed; by default the present one, with which the function itself is returned.

        Returns
        -------
        CP

        Raises
        ------
        ValueError
            If `tol` is negative, or both are given and `rank` does not suffice for `tol`.

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
        >>> u = sn.project(sn.product(x=np.sin, y=np.cos), V)
        >>> (u * u + 3 * u * u).compress(tol=1e-10).rank
        1
        """
        roots = [axis_maps.mass_root(basis) for basis in self.space.bases]
        inverses = [axis_maps.mass_root_inverse(basis) for basis in self.space.bases]
        return CP(self.space, compress(self.factors, roots, inverses, tol=tol, rank=rank))

    def as_coefficient(self) -> Coefficient:
        """Return the function as data for problems: a sum of products of univariate functions (set-up, on the host)."""
        hosts = [to_host(f).astype(np.float64) for f in self.factors]
        return column_coefficient(self.space, hosts)
