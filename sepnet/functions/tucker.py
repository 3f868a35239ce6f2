"""Functions in Tucker format: a small dense core, and a matrix of univariate functions on every axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, prod
from typing import final

import numpy as np

from sepnet.backends.arrays import Array, device_of, eps, float_name, namespace, to_host
from sepnet.coefficients import Coefficient, finite
from sepnet.functions import axis_maps, tucker_evaluation
from sepnet.functions.base import Projection, SeparableFunction
from sepnet.functions.checks import a_space, one_array_an_axis, one_home
from sepnet.functions.columns import column_coefficient
from sepnet.functions.cp import CP
from sepnet.functions.dense import number
from sepnet.functions.evaluation import column_values
from sepnet.functions.host_map import along
from sepnet.functions.rounding import ROUND_OFF, check_accuracy
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.train_products import fit_products
from sepnet.functions.tucker_tensors import (
    add_tucker,
    capped,
    contract,
    cp_to_tucker,
    multiply,
    multiply_cores,
    round_tucker,
    train_to_tucker,
    tucker_norm,
    tucker_size,
    tucker_terms,
    tucker_to_train,
)
from sepnet.spaces import TensorSpace

__all__ = ["Tucker"]

# As a sum of products a function has one term an entry of its core; beyond this many a fit is tried instead.
MAX_TERMS = 1024


@final
class Tucker(SeparableFunction):
    """A function ``u(x) = sum over j_1 ... j_d of core[j_1, ..., j_d] prod_i phi_{i,j_i}(x_i)``.

    The ``phi_{i,j} = sum_n C_i[n, j] B_in`` are ``r_i`` functions an axis, and the core combines each with each. The
    format for few axes: lowering the ranks is linear algebra with a known error (`compress`) that does not depend on
    the order of the axes, but the core holds ``r_1 ... r_d`` numbers; beyond five or six axes take `TensorTrain`.

    Parameters
    ----------
    space : TensorSpace
        Named axes with their bases.
    factors : sequence of arrays of shape (n_i, r_i)
        Coefficient matrices ``C_i`` in axis order, at least one column each; kept as they are, without a copy. One
        namespace, device and real floating dtype; anything `sepnet` runs on.
    core : array of shape (r_1, ..., r_d)
        In the same place; kept without a copy. The zero function has a zero core.

    Raises
    ------
    TypeError
        If factors or core are no real floating arrays, or live in different places.
    ValueError
        If their number or shapes do not fit the space, or each other.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, degree=1), y=sn.BSpline((0, 1), cells=2, degree=1))
    >>> powers = [np.stack([b.greville**0, b.greville], axis=1) for b in V.bases]  # 1 and x, 1 and y
    >>> u = sn.Tucker(V, powers, np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> u
    Tucker(ranks=2-2, x[5] x y[3], 20 coefficients, float64)
    >>> u([[0.5, 0.25]])  # x + y
    array([0.75])
    """

    __slots__ = ("core", "factors", "space")

    factors: tuple[Array, ...]
    core: Array

    def __init__(self, space: TensorSpace, factors: Sequence[Array], core: Array) -> None:
        self.factors = _factors_of(space, factors)
        self.core = _core_of(self.factors, core)
        self.space = space

    @classmethod
    def from_cp(cls, u: CP) -> Tucker:
        """Write a sum of products in this format, exactly: the core has ones on its superdiagonal.

        An axis with fewer basis functions than terms takes all of these as its functions.

        Parameters
        ----------
        u : CP

        Returns
        -------
        Tucker
            All ranks are that of the sum, or the number of basis functions; `compress` lowers them.

        Raises
        ------
        TypeError
            If `u` is no CP function.
        ValueError
            If the core would hold more than 2**27 numbers.

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
        >>> x, y, z = V.coordinates
        >>> u = sn.Tucker.from_cp(sn.project((x + y + z) ** 2, V))
        >>> u.ranks, u.compress(tol=1e-10).ranks
        ((6, 6, 6), (3, 3, 3))
        """
        if not isinstance(u, CP):
            msg = f"Tucker.from_cp: `u` is {type(u).__name__}, expected a CP function"
            raise TypeError(msg)
        return cls(u.space, *cp_to_tucker(u.factors))

    @classmethod
    def from_train(cls, u: TensorTrain) -> Tucker:
        """Write a tensor train in this format, at the lowest ranks, exactly up to round-off.

        Parameters
        ----------
        u : TensorTrain

        Returns
        -------
        Tucker

        Raises
        ------
        TypeError
            If `u` is no tensor train.
        ValueError
            If the core would hold more than 2**27 numbers, or the function is not finite.

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
        >>> x, y, z = V.coordinates
        >>> u = sn.Tucker.from_train(sn.project((x + y + z) ** 2, V, format="tt"))
        >>> u.ranks
        (3, 3, 3)
        """
        if not isinstance(u, TensorTrain):
            msg = f"Tucker.from_train: `u` is {type(u).__name__}, expected a TensorTrain"
            raise TypeError(msg)
        _check_finite(u)
        xp, cores = u.xp, []
        for name, core in zip(u.order, u.cores, strict=True):
            cores.append(along(u._here(axis_maps.mass_root(u.space.axes[name])), core))
        frames, core = train_to_tucker(cores)
        places = [u.order.index(name) for name in u.space.names]
        return cls(u.space, _unweighted(u, [frames[k] for k in places]), xp.permute_dims(core, tuple(places)))

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def ranks(self) -> tuple[int, ...]:
        """The number of functions on each axis, the shape of the core."""
        return tuple(int(r) for r in self.core.shape)

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max(self.ranks)

    def __repr__(self) -> str:
        """One line: ranks, axes, size and dtype."""
        return f"Tucker(ranks={'-'.join(map(str, self.ranks))}, {self._axes_and_home()})"

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The factors, and the core as the last."""
        return (*self.factors, self.core)

    def _like(self, space: TensorSpace, arrays: Sequence[Array]) -> Tucker:
        return Tucker(space, arrays[:-1], arrays[-1])

    def _from_products(self, space: TensorSpace, factors: Sequence[Array]) -> Tucker:
        return Tucker(space, *cp_to_tucker(factors))

    def _products(self) -> None:
        return None

    def _matrices(self) -> list[Array]:
        return list(self.factors)

    def _with_matrices(self, space: TensorSpace, matrices: Sequence[Array]) -> Tucker:
        return Tucker(space, matrices, self.core)

    # --- values -------------------------------------------------------------------------------------------------

    def _evaluate(self, points: Array, order: int) -> tuple[Array, ...]:
        return tucker_evaluation.derivatives(self.space, self.factors, self.core, points, order)

    def _on_grid(self, grid: Mapping[str, Array]) -> Array:
        return multiply(self.core, column_values(self.space, self.factors, grid))

    def _dense(self) -> Array:
        return multiply(self.core, self.factors)

    # --- algebra ------------------------------------------------------------------------------------------------

    def _scaled(self, weight: float) -> Tucker:
        return Tucker(self.space, self.factors, self.core * finite(weight, "the factor"))

    def _plus(self, other: Tucker) -> Tucker:
        mine, theirs = self._joined(other)
        return Tucker(mine.space, *add_tucker(mine.factors, mine.core, theirs.factors, theirs.core))

    def _times(self, other: Tucker) -> Tucker:
        space, factors = axis_maps.product(self.space, self.factors, other.space, other.factors)
        return Tucker(space, *capped(factors, multiply_cores(self.core, other.core)))

    # --- calculus -----------------------------------------------------------------------------------------------

    def _contract(self, rows: Mapping[str, Array]) -> Tucker | Array:
        pairs = list(zip(self.space.names, self.factors, strict=True))
        core = contract(self.core, [rows[name] @ factor if name in rows else None for name, factor in pairs])
        kept = [factor for name, factor in pairs if name not in rows]
        return Tucker(self.space.drop(*rows), kept, core) if kept else core

    def _inner(self, other: Tucker) -> float:
        maps = [axis_maps.cross_mass(a, b) for a, b in zip(self.space.bases, other.space.bases, strict=True)]
        pairs = zip(self.factors, maps, other.factors, strict=True)
        moved = multiply(other.core, [a.T @ (self._here(m) @ b) for a, m, b in pairs])
        return number(self.xp.sum(self.core * moved))

    def norm(self) -> float:
        """Return the L2 norm over the box, free of cancellation: ``(u - v).norm()`` means something for close u, v."""
        return tucker_norm(self._weighted(), self.core)

    def _weighted(self) -> list[Array]:
        """Return the columns in orthonormal coordinates, in which Euclidean and L2 norm are one."""
        roots = [axis_maps.mass_root(basis) for basis in self.space.bases]
        return [self._here(root) @ factor for root, factor in zip(roots, self.factors, strict=True)]

    def _norm_above_noise(self) -> float:
        weighted = self._weighted()
        norm = tucker_norm(weighted, self.core)
        noise = ROUND_OFF * eps(self.dtype, self.xp) * tucker_size(weighted, self.core)
        return 0.0 if isfinite(norm) and norm <= noise else norm

    def _distance(self, other: Tucker) -> float:
        roots = [axis_maps.joint_roots(a, b) for a, b in zip(self.space.bases, other.space.bases, strict=True)]
        mine = [self._here(root) @ f for (root, _), f in zip(roots, self.factors, strict=True)]
        theirs = [self._here(root) @ f for (_, root), f in zip(roots, other.factors, strict=True)]
        return tucker_norm(*add_tucker(mine, self.core, theirs, -other.core))

    def _sound_norm(self) -> float:
        """Return the norm above noise; raise ValueError where it is not finite, before a factorisation fails on it."""
        _check_finite(self)
        return self._norm_above_noise()

    def compress(self, tol: float | None = None, *, rank: int | None = None) -> Tucker:
        """Return a function of lower ranks close to this one, by the sequentially truncated higher-order SVD.

        In the L2 norm, axis by axis; at most ``sqrt(d)`` times as far away as the best function of the same ranks
        (De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21, 2000; Vannieuwenhoven, Vandebril, Meerbergen,
        SIAM J. Sci. Comput. 34, 2012).

        Parameters
        ----------
        tol : float, optional
            Relative L2 error allowed; the error is known from the singular values dropped, not estimated. By default
            1e-8, or with `rank` alone whatever that rank gives.
        rank : int, optional
            Largest rank allowed on any axis.

        Returns
        -------
        Tucker
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
        >>> u = sn.Tucker.from_cp(sn.project(sn.product(x=np.sin, y=np.cos), V))
        >>> (u * u + 3 * u * u).compress(tol=1e-10).ranks
        (1, 1)
        """
        wanted = 1e-8 if tol is None else tol
        check_accuracy(wanted, rank)
        total = self._sound_norm()
        if total == 0.0:
            zero = self.xp.zeros((1,) * self.space.dim, dtype=self.dtype, device=self.device)
            return Tucker(self.space, [self.xp.zeros_like(factor[:, :1]) for factor in self.factors], zero)
        frames, core, error = round_tucker(self._weighted(), self.core, tol=wanted * total, rank=rank)
        if rank is not None and tol is not None and error > tol * total:
            reached = error / total
            msg = (
                f"`rank` is {rank}, with which the relative error is {reached:.3g}, more than tol={tol:g}: raise either"
            )
            raise ValueError(msg)
        if tuple(int(r) for r in core.shape) == self.ranks:
            return self
        return Tucker(self.space, _unweighted(self, frames), core)

    # --- other formats --------------------------------------------------------------------------------------------

    def to_train(self) -> TensorTrain:
        """Return the function as a tensor train of the lowest ranks, exactly up to round-off.

        Returns
        -------
        TensorTrain

        Raises
        ------
        ValueError
            If the function is not finite.

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
        >>> x, y, z = V.coordinates
        >>> sn.Tucker.from_cp(sn.project((x + y + z) ** 2, V)).to_train().ranks
        (3, 3)
        """
        if self._sound_norm() == 0.0:
            return TensorTrain.from_cp(CP(self.space, [factor[:, :0] for factor in self.factors]))
        cores = []
        for basis, core in zip(self.space.bases, tucker_to_train(self._weighted(), self.core), strict=True):
            cores.append(along(self._here(axis_maps.mass_root_inverse(basis)), core))
        return TensorTrain(self.space, cores)

    def to_cp(self, tol: float = 1e-8, *, rank: int | None = None) -> Projection[CP]:
        """Return a sum of products close to this function, and its error.

        A sum is fitted by alternating least squares, a few terms more at a time, until it reaches `tol`. Where that
        fails, all entries of the core are taken, if they are few enough: one term for each but along the axis of
        largest rank, which is exact.

        Parameters
        ----------
        tol : float, optional
            Relative L2 error to reach.
        rank : int, optional
            Largest number of terms; by default 128 for a fit, and 1024 for all entries of the core.

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
        >>> v, error = sn.Tucker.from_cp(sn.project(x * y + y * z, V)).compress(tol=1e-12).to_cp(tol=1e-6)
        >>> v.rank, error < 1e-6
        (2, True)
        """
        check_accuracy(tol, rank)
        total = self._sound_norm()
        if total == 0.0:
            return Projection(CP(self.space, [factor[:, :0] for factor in self.factors]), 0.0)
        weighted = self._weighted()
        # No more than round-off is dropped, so that the terms of what is left are those of the function.
        frames, core, lost = round_tucker(weighted, self.core, tol=0.0)
        count = prod(core.shape) // max(core.shape)
        if count > 1:
            factors, error = fit_products(tucker_to_train(weighted, self.core), tol=tol * total, rank=rank)
            short = int(factors[0].shape[1]) <= count
            if (error <= tol * total and short) or count > (MAX_TERMS if rank is None else rank):
                return Projection(CP(self.space, _unweighted(self, factors)), error / total)
        return Projection(CP(self.space, _unweighted(self, tucker_terms(frames, core))), lost / total)

    def as_coefficient(self) -> Coefficient:
        """Return the function as data for problems: a sum of products of univariate functions (set-up, on the host).

        The sum over all entries of the core, along all axes but that of largest rank, is exact, and taken where these
        are at most 1024. Where there are more, a fit must reach 1e-12, as it does for a function that came from a sum
        of products.

        Returns
        -------
        Coefficient

        Raises
        ------
        ValueError
            If there are too many terms and no such fit, or the function is not finite.
        """
        host = self._like(self.space, [to_host(array).astype(np.float64) for array in self.arrays]).compress(1e-14)
        if host.norm() == 0.0:
            return column_coefficient(self.space, [np.zeros((n, 0)) for n in self.space.shape])
        if prod(host.ranks) // host.rank <= MAX_TERMS:
            return column_coefficient(self.space, tucker_terms(host.factors, host.core))
        fitted, error = host.to_cp(1e-12, rank=2 * host.rank)
        if error > 1e-12:
            ranks = "-".join(map(str, host.ranks))
            msg = (
                f"a function used as data has a core of ranks {ranks}, which is no sum of few products: approximate it "
                "by one first, e.g. u.to_cp(tol=1e-6).function, or lower the ranks, u.compress(tol=1e-6)"
            )
            raise ValueError(msg)
        return column_coefficient(self.space, fitted.factors)


def _unweighted(u: SeparableFunction, matrices: Sequence[Array]) -> list[Array]:
    """Return the coefficients of columns in orthonormal coordinates, in the place of `u`."""
    inverses = [axis_maps.mass_root_inverse(basis) for basis in u.space.bases]
    return [u._here(inverse) @ matrix for inverse, matrix in zip(inverses, matrices, strict=True)]


def _check_finite(u: SeparableFunction) -> None:
    """Raise ValueError where coefficients or norm are not finite, before a factorisation fails on them."""
    xp = u.xp
    if not all(bool(xp.all(xp.isfinite(array))) for array in u.arrays) or not isfinite(u.norm()):
        msg = "the function has coefficients that are not finite, or its norm overflows: check where it comes from"
        raise ValueError(msg)


def _factors_of(space: TensorSpace, factors: object) -> tuple[Array, ...]:
    """Return the matrices of a Tucker function on `space` as a tuple, or raise TypeError or ValueError."""
    a_space(space, "sn.Tucker")
    arrays = one_array_an_axis(space, factors, "factor", "(n_i, r_i)")
    for (name, basis), factor in zip(space.items, arrays, strict=True):
        if factor.ndim != 2 or int(factor.shape[0]) != basis.size or int(factor.shape[1]) < 1:
            msg = (
                f"the factor of axis {name!r} has shape {tuple(factor.shape)}, expected ({basis.size}, r) with r >= 1; "
                "the zero function has a zero core"
            )
            raise ValueError(msg)
    one_home(space, arrays, "factor")
    return arrays


def _core_of(factors: Sequence[Array], core: Array) -> Array:
    """Return the core that goes with the factors, or raise TypeError or ValueError."""
    ranks = tuple(int(factor.shape[1]) for factor in factors)
    if not hasattr(core, "shape") or not hasattr(core, "dtype"):
        msg = f"`core` is {type(core).__name__}, expected an array of shape {ranks}; np.asarray(...) makes one of lists"
        raise TypeError(msg)
    namespace(*factors, core)
    if float_name(core.dtype) is None or core.dtype != factors[0].dtype or device_of(core) != device_of(factors[0]):
        where = f"{core.dtype} on {device_of(core)}, the factors are {factors[0].dtype} on {device_of(factors[0])}"
        msg = f"`core` is {where}, expected one place and dtype: move them together"
        raise TypeError(msg)
    if tuple(core.shape) != ranks:
        msg = f"`core` has shape {tuple(core.shape)}, expected {ranks}: one entry for each choice of a column per axis"
        raise ValueError(msg)
    return core
