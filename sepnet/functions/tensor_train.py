"""Functions as tensor trains: products of matrices that depend on one variable each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, prod
from typing import Any, final

import numpy as np

from sepnet.backends.arrays import Array, eps, namespace, to_host
from sepnet.coefficients import Coefficient, finite
from sepnet.functions import axis_maps, train_evaluation
from sepnet.functions.base import Projection, SeparableFunction
from sepnet.functions.checks import a_space, cores_of
from sepnet.functions.columns import column_coefficient
from sepnet.functions.cp import CP
from sepnet.functions.evaluation import column_values
from sepnet.functions.host_map import along, moved
from sepnet.functions.rounding import ROUND_OFF, check_accuracy
from sepnet.functions.train_products import fit_products, paths
from sepnet.functions.trains import (
    add_trains,
    cp_to_train,
    permute_train,
    round_train,
    scale,
    train_inner,
    train_norm,
    train_size,
    train_to_dense,
)
from sepnet.spaces import TensorSpace

__all__ = ["TensorTrain"]

# As data, a train is the sum over all paths through its ranks; beyond this many a fit is tried instead.
MAX_PATHS = 1024


@final
class TensorTrain(SeparableFunction):
    """A function ``u(x) = G_1(x_1) G_2(x_2) ... G_d(x_d)``, a product of matrices, ``G_i = sum_n C_i[:, n, :] B_in``.

    The format for accuracy: lowering its ranks is a matter of linear algebra, with an error that is known
    (`compress`), where sums of products (`CP`) have to be fitted. The ranks depend on the order of the axes along the
    train (`reorder`), which need not be that of the space.

    Parameters
    ----------
    space : TensorSpace
        Named axes with their bases.
    cores : sequence of arrays of shape (r_{i-1}, n_i, r_i)
        The ``C_i`` along the train, with ``r_0 = r_d = 1``; kept as they are, without a copy. One namespace, device and
        real floating dtype; anything `sepnet` runs on. Ranks are at least one; the zero function has zero cores.
    order : sequence of str, optional
        The axes along the train; by default the order of the space.

    Raises
    ------
    TypeError
        If the cores are no real floating arrays, or live in different places.
    ValueError
        If their number or shapes do not fit the space, or each other.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, degree=1), y=sn.BSpline((0, 1), cells=2, degree=1))
    >>> x, y = V.axes["x"].greville, V.axes["y"].greville
    >>> u = sn.TensorTrain(V, [np.stack([x, 1 + 0 * x], axis=1)[None], np.stack([1 + 0 * y, y])[:, :, None]])
    >>> u
    TensorTrain(ranks=2, x[5] x y[3], 16 coefficients, float64)
    >>> u([[0.5, 0.25]])  # x + y
    array([0.75])
    """

    __slots__ = ("cores", "line", "places", "space")

    cores: tuple[Array, ...]

    def __init__(self, space: TensorSpace, cores: Sequence[Array], order: Sequence[str] | None = None) -> None:
        line = a_space(space, "sn.TensorTrain")
        if order is not None and tuple(order) != line.names:
            line = TensorSpace(**{name: space.axes[name] for name in _each_once(space, order, "`order`")})
        self.cores = cores_of(line, cores)
        self.space = space
        # The axes along the train, and where each axis of the space stands in it.
        self.line = line
        self.places = [line.names.index(name) for name in space.names]

    @classmethod
    def from_cp(cls, u: CP) -> TensorTrain:
        """Write a sum of products as a train, exactly; all ranks are that of the sum, `compress` lowers them.

        Parameters
        ----------
        u : CP

        Returns
        -------
        TensorTrain

        Raises
        ------
        TypeError
            If `u` is no CP function.

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
        >>> x, y, z = V.coordinates
        >>> u = sn.TensorTrain.from_cp(sn.project((x + y + z) ** 2, V))
        >>> u.ranks, u.compress(tol=1e-10).ranks
        ((6, 6), (3, 3))
        """
        if not isinstance(u, CP):
            msg = f"TensorTrain.from_cp: `u` is {type(u).__name__}, expected a CP function"
            raise TypeError(msg)
        return cls(u.space, cp_to_train(u.factors))

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def order(self) -> tuple[str, ...]:
        """The axes along the train."""
        return self.line.names

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks between the axes, ``r_1 ... r_{d-1}``."""
        return tuple(int(core.shape[2]) for core in self.cores[:-1])

    @property
    def rank(self) -> int:
        """The largest rank; 1 with a single axis."""
        return max(self.ranks, default=1)

    def __repr__(self) -> str:
        """One line: ranks, axes, size and dtype."""
        ranks = "-".join(map(str, self.ranks))
        along = "" if self.order == self.space.names else f"along {'-'.join(self.order)}, "
        return f"TensorTrain({f'ranks={ranks}, ' if ranks else ''}{along}{self._axes_and_home()})"

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The cores."""
        return self.cores

    def _like(self, space: TensorSpace, arrays: Sequence[Array]) -> TensorTrain:
        """Return the train of other cores in the same order, of the axes that `space` has."""
        return TensorTrain(space, arrays, [name for name in self.order if name in space.names])

    def _stored(self) -> tuple[Sequence[Array], tuple[str, ...]]:
        order = () if self.order == self.space.names else self.order
        return [self.cores[place] for place in self.places], order

    def _along(self, of_axes: Sequence[Any]) -> list[Any]:
        """Return what belongs to the axes of the space in the order of the train."""
        return [of_axes[self.space.names.index(name)] for name in self.order]

    def _from_products(self, space: TensorSpace, factors: Sequence[Array]) -> TensorTrain:
        if set(space.names) != set(self.order):
            return TensorTrain(space, cp_to_train(factors))
        chain = [factors[space.names.index(name)] for name in self.order]
        return self._like(space, cp_to_train(chain))

    def _products(self) -> None:
        return None

    def _matrices(self) -> list[Array]:
        xp = self.xp
        flat = [(xp.permute_dims(core, (1, 0, 2)), int(core.shape[0]) * int(core.shape[2])) for core in self.cores]
        chain = [xp.reshape(core, (int(core.shape[0]), columns)) for core, columns in flat]
        return [chain[place] for place in self.places]

    def _with_matrices(self, space: TensorSpace, matrices: Sequence[Array]) -> TensorTrain:
        return self._like(space, self._folded(matrices))

    def _folded(self, matrices: Sequence[Array]) -> list[Array]:
        """Return matrices of as many columns as those of `_matrices` as cores, along the train."""
        xp, result = namespace(*matrices), []
        for matrix, core in zip(self._along(matrices), self.cores, strict=True):
            shape = (int(matrix.shape[0]), int(core.shape[0]), int(core.shape[2]))
            result.append(xp.permute_dims(xp.reshape(matrix, shape), (1, 0, 2)))
        return result

    # --- values -------------------------------------------------------------------------------------------------

    def _evaluate(self, points: Array, order: int) -> tuple[Array, ...]:
        xp, ranks = self.xp, (1, *self.ranks, 1)
        if self.order == self.space.names:
            return train_evaluation.derivatives(self.space, self._matrices(), ranks, points, order)
        there = xp.asarray(self._along(list(range(self.space.dim))), dtype=xp.int64, device=self.device)
        back = xp.asarray(self.places, dtype=xp.int64, device=self.device)
        matrices = self._along(self._matrices())
        results = train_evaluation.derivatives(self.line, matrices, ranks, xp.take(points, there, axis=1), order)
        moved = [results[0], *(xp.take(r, back, axis=1) for r in results[1:])]
        return (*moved[:2], *(xp.take(r, back, axis=2) for r in moved[2:]))

    def _on_grid(self, grid: Mapping[str, Array]) -> Array:
        values = self._folded(column_values(self.space, self._matrices(), grid))
        return self.xp.permute_dims(train_to_dense(values), tuple(self.places))

    def _dense(self) -> Array:
        return self.xp.permute_dims(train_to_dense(self.cores), tuple(self.places))

    # --- algebra ------------------------------------------------------------------------------------------------

    def _scaled(self, weight: float) -> TensorTrain:
        return self._like(self.space, scale(self.cores, finite(weight, "the factor")))

    def _plus(self, other: TensorTrain) -> TensorTrain:
        mine, theirs = self._joined(self._aligned(other))
        return self._like(mine.space, add_trains(mine.cores, theirs.cores))

    def _aligned(self, other: TensorTrain) -> TensorTrain:
        """Return the other function along this train; what has other axes is refused where the spaces meet."""
        return other if set(other.order) != set(self.order) else other.reorder(*self.order)

    def _times(self, other: TensorTrain) -> TensorTrain:
        other = self._aligned(other)
        space, matrices = axis_maps.product(self.space, self._matrices(), other.space, other._matrices())
        xp, cores = self.xp, []
        for matrix, a, b in zip(self._along(matrices), self.cores, other.cores, strict=True):
            (r, _, right), (s, _, far) = a.shape, b.shape
            n, r, right, s, far = (int(k) for k in (matrix.shape[0], r, right, s, far))
            core = xp.permute_dims(xp.reshape(matrix, (n, r, right, s, far)), (1, 3, 0, 2, 4))
            cores.append(xp.reshape(core, (r * s, n, right * far)))
        return self._like(space, cores)

    def reorder(self, *names: str) -> TensorTrain:
        """Return the same function on the same space along another order of the axes.

        Exact up to round-off. The ranks between the axes are others then, and may be much larger: axes that act upon
        each other should be neighbours.

        Parameters
        ----------
        *names : str
            All axis names, along the new train.

        Returns
        -------
        TensorTrain
            Itself if the order is the present one.

        Raises
        ------
        TypeError
            If a name is no str.
        ValueError
            If the names are not those of the axes, each once, or the function is not finite.

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
        >>> x, y, z = V.coordinates
        >>> u = sn.TensorTrain.from_cp(sn.project((1 + x * z) * (1 + y), V)).compress(tol=1e-10)
        >>> u.ranks, u.reorder("x", "z", "y").ranks
        ((2, 2), (2, 1))
        """
        _each_once(self.space, names, "reorder: the names")
        if names == self.order:
            return self
        # Below fifty units of round-off of the norm a singular value is noise, and would fill the ranks up.
        noise = 50 * eps(self.dtype, self.xp) * self._sound_norm()
        moves = [self.order.index(name) for name in names]
        cores, _ = permute_train(self._weighted(), moves, tol=noise)
        line = TensorSpace(**{name: self.space.axes[name] for name in names})
        return TensorTrain(self.space, _unweighted(line, cores), names)

    def permute(self, *names: str) -> TensorTrain:
        """Return the same function on a space with its axes in another order, and along that order.

        Points have their columns in the new order. Exact up to round-off; for the ranks see `reorder`.

        Parameters
        ----------
        *names : str
            All axis names, in the new order.

        Returns
        -------
        TensorTrain
            Itself if the order is the present one.

        Raises
        ------
        TypeError
            If a name is no str.
        ValueError
            If the names are not those of the axes, each once, or the function is not finite.

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
        >>> u = sn.TensorTrain.from_cp(sn.project(sn.product(x=np.sin, y=np.cos), V))
        >>> v = u.permute("z", "x", "y")
        >>> v.space.names, bool(np.allclose(v([[0.1, 0.2, 0.3]]), u([[0.2, 0.3, 0.1]])))
        (('z', 'x', 'y'), True)
        """
        _each_once(self.space, names, "permute: the names")
        if names == self.space.names == self.order:
            return self
        space = TensorSpace(**{name: self.space.axes[name] for name in names})
        return TensorTrain(space, self.reorder(*names).cores)

    # --- calculus -----------------------------------------------------------------------------------------------

    def _contract(self, rows: Mapping[str, Array]) -> TensorTrain | Array:
        xp = self.xp
        pending: Array = None
        kept: list[Array] = []
        for name, core in zip(self.order, self.cores, strict=True):
            moved = core if pending is None else xp.tensordot(pending, core, axes=([1], [0]))
            pending = None
            if name in rows:
                pending = xp.tensordot(rows[name], moved, axes=([1], [1]))[0, :, :]
            else:
                kept.append(moved)
        if not kept:
            return pending[0, 0]
        if pending is not None:
            kept[-1] = xp.tensordot(kept[-1], pending, axes=([2], [0]))
        return self._like(self.space.drop(*rows), kept)

    def _inner(self, other: TensorTrain) -> float:
        other = self._aligned(other)
        maps = [axis_maps.cross_mass(a, b) for a, b in zip(self.space.bases, other.space.bases, strict=True)]
        moved = [self._here(m) @ matrix for m, matrix in zip(maps, other._matrices(), strict=True)]
        return train_inner(self.cores, other._folded(moved))

    def norm(self) -> float:
        """Return the L2 norm over the box, free of cancellation: ``(u - v).norm()`` means something for close u, v."""
        return train_norm(self._weighted())

    def _weighted(self) -> list[Array]:
        """Return the cores in orthonormal coordinates, in which Euclidean and L2 norm are one."""
        roots = [axis_maps.mass_root(basis) for basis in self.space.bases]
        return self._folded([self._here(root) @ m for root, m in zip(roots, self._matrices(), strict=True)])

    def _norm_above_noise(self) -> float:
        weighted = self._weighted()
        norm = train_norm(weighted)
        noise = ROUND_OFF * eps(self.dtype, self.xp) * train_size(weighted)
        return 0.0 if isfinite(norm) and norm <= noise else norm

    def _distance(self, other: TensorTrain) -> float:
        other = self._aligned(other)
        roots = [axis_maps.joint_roots(a, b) for a, b in zip(self.space.bases, other.space.bases, strict=True)]
        mine = [self._here(root) @ m for (root, _), m in zip(roots, self._matrices(), strict=True)]
        theirs = [self._here(root) @ m for (_, root), m in zip(roots, other._matrices(), strict=True)]
        return train_norm(add_trains(self._folded(mine), scale(other._folded(theirs), -1.0)))

    def _sound_norm(self) -> float:
        """Return the norm above noise; raise ValueError where it is not finite, before a factorisation fails on it."""
        xp = self.xp
        if all(bool(xp.all(xp.isfinite(core))) for core in self.cores):
            norm = self._norm_above_noise()
            if isfinite(norm):
                return norm
        msg = "the function has coefficients that are not finite, or its norm overflows: check where it comes from"
        raise ValueError(msg)

    def compress(self, tol: float | None = None, *, rank: int | None = None) -> TensorTrain:
        """Return a function of lower ranks close to this one, by rounding in the L2 norm.

        Rounding is quasi-optimal: no train of the same ranks is closer than by a factor ``1 / sqrt(d - 1)``
        (Oseledets, SIAM J. Sci. Comput. 33, 2011, corollary 2.4).

        Parameters
        ----------
        tol : float, optional
            Relative L2 error allowed; the error is known from the singular values dropped, not estimated. By default
            1e-8, or with `rank` alone whatever that rank gives.
        rank : int, optional
            Largest rank allowed between any two axes.

        Returns
        -------
        TensorTrain
            Itself if no rank falls.

        Raises
        ------
        TypeError
            If `rank` is no integer.
        ValueError
            If `tol` is negative or NaN, `rank` is below one, both are given and `rank` does not suffice for `tol`, or
            the function is not finite.

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
        >>> u = sn.TensorTrain.from_cp(sn.project(sn.product(x=np.sin, y=np.cos), V))
        >>> (u * u + 3 * u * u).compress(tol=1e-10).ranks
        (1,)
        """
        wanted = 1e-8 if tol is None else tol
        check_accuracy(wanted, rank)
        total = self._sound_norm()
        if total == 0.0:
            return self._like(self.space, [self.xp.zeros_like(core[:1, :, :1]) for core in self.cores])
        cores, error = round_train(self._weighted(), tol=wanted * total, rank=rank)
        if rank is not None and tol is not None and error > tol * total:
            reached = error / total
            msg = (
                f"`rank` is {rank}, with which the relative error is {reached:.3g}, more than tol={tol:g}: raise either"
            )
            raise ValueError(msg)
        if tuple(int(core.shape[2]) for core in cores[:-1]) == self.ranks:
            return self
        return self._like(self.space, _unweighted(self.line, cores))

    # --- other formats --------------------------------------------------------------------------------------------

    def to_cp(self, tol: float = 1e-8, *, rank: int | None = None) -> Projection[CP]:
        """Return a sum of products close to this function, and its error.

        A train of two axes is one. With more axes the sum is fitted by alternating least squares, a few terms more at
        a time, until it reaches `tol`; its rank may have to be much larger than that of the train, or it may not be
        reached at all: look at the error.

        Parameters
        ----------
        tol : float, optional
            Relative L2 error to reach.
        rank : int, optional
            Largest number of terms; by default 128, and as many as there are paths through the train where these
            are fewer.

        Returns
        -------
        Projection
            ``function``, a `CP`, and ``error``, the relative L2 error, free of cancellation; it may exceed `tol`.

        Raises
        ------
        TypeError
            If `rank` is no integer.
        ValueError
            If `tol` is negative or NaN, `rank` is below one, or the function is not finite.

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
        >>> x, y, z = V.coordinates
        >>> u = sn.TensorTrain.from_cp(sn.project(x * y + y * z, V)).compress(tol=1e-12)
        >>> v, error = u.to_cp(tol=1e-6)
        >>> v.rank, error < 1e-6
        (2, True)
        """
        check_accuracy(tol, rank)
        total = self._sound_norm()
        if total == 0.0:
            return Projection(CP(self.space, [matrix[:, :0] for matrix in self._matrices()]), 0.0)
        factors, error = fit_products(self._weighted(), tol=tol * total, rank=rank)
        roots = [self._here(axis_maps.mass_root_inverse(basis)) for basis in self.line.bases]
        chain = [s @ f for s, f in zip(roots, factors, strict=True)]
        return Projection(CP(self.space, [chain[place] for place in self.places]), error / total)

    def as_coefficient(self) -> Coefficient:
        """Return the function as data for problems: a sum of products of univariate functions (set-up, on the host).

        The sum over all paths through the train is exact, and taken where there are at most 1024. Where there are
        more, a fit must reach 1e-12, as it does for trains that came from a sum of products.

        Returns
        -------
        Coefficient

        Raises
        ------
        ValueError
            If there are too many paths and no such fit, or the function is not finite.
        """
        host = self._like(self.space, [to_host(core).astype(np.float64) for core in self.cores]).compress(1e-14)
        if host.norm() == 0.0:
            return column_coefficient(self.space, [np.zeros((n, 0)) for n in self.space.shape])
        if prod(host.ranks) <= MAX_PATHS:
            chain = paths(host.cores)
            return column_coefficient(self.space, [chain[place] for place in host.places])
        fitted, error = host.to_cp(1e-12, rank=2 * host.rank)
        if error > 1e-12:
            ranks = "-".join(map(str, host.ranks))
            msg = (
                f"a function used as data is a train of ranks {ranks}, which is no sum of few products: approximate it "
                "by one first, e.g. u.to_cp(tol=1e-6).function"
            )
            raise ValueError(msg)
        return column_coefficient(self.space, fitted.factors)


def _each_once(space: TensorSpace, names: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names; raise TypeError or ValueError unless they are those of all axes."""
    space.check_axes(names, what.partition(":")[0])
    if sorted(names) != sorted(space.names):
        given = ", ".join(names) or "missing"
        msg = f"{what} are {given}, expected each of {', '.join(space.names)} once"
        raise ValueError(msg)
    return tuple(names)


def _unweighted(space: TensorSpace, cores: Sequence[Array]) -> list[Array]:
    """Return the coefficients of cores in orthonormal coordinates."""
    return [
        along(moved(axis_maps.mass_root_inverse(basis), core), core)
        for basis, core in zip(space.bases, cores, strict=True)
    ]
