"""Functions in canonical polyadic (CP) format: sums of products of univariate functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, final, overload

import numpy as np

from sepnet.backends.arrays import (
    Array,
    Namespace,
    as_device,
    as_dtype,
    as_namespace,
    eps,
    from_host,
    namespace,
    to_host,
)
from sepnet.bases.checks import whole_number
from sepnet.coefficients import Coefficient, finite
from sepnet.functions import axis_maps, evaluation, storage
from sepnet.functions.base import SeparableFunction
from sepnet.functions.checks import a_space, factors_of, position, text_notes
from sepnet.functions.columns import column_coefficient
from sepnet.functions.dense import number
from sepnet.functions.rounding import compress, norm_above_noise
from sepnet.separable_norm import separable_norm
from sepnet.spaces import TensorSpace

__all__ = ["CP", "Projection"]


class Projection(NamedTuple):
    """A projected function and the relative L2 error of the projection."""

    function: CP
    error: float


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

    def __init__(self, space: TensorSpace, factors: Sequence[Array]) -> None:
        self.factors = factors_of(space, factors)
        self.space = space

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Number of terms R."""
        return int(self.factors[0].shape[1])

    def __repr__(self) -> str:
        """One line: rank, axes, size and home."""
        axes = " x ".join(f"{name}[{n}]" for name, n in zip(self.space.names, self.space.shape, strict=True))
        dtype = str(self.dtype).rsplit(".", 1)[-1]
        return f"CP(rank={self.rank}, {axes}, {self.size} coefficients, {dtype})"

    def to(self, xp: Namespace = None, *, device: Any = None, dtype: Any = None) -> CP:
        """Return the function with its factors in another namespace, on another device or in another dtype.

        Parameters
        ----------
        xp : module, optional
            Array library; by default the present one.
        device : optional
            Device of `xp`; by default the present one if the library stays, else the library's default.
        dtype : optional
            ``"float32"`` or ``"float64"``, or that data type of any library; by default the present one.

        Returns
        -------
        CP
            Itself if nothing changes.

        Raises
        ------
        TypeError
            If `xp` is no array library.
        ValueError
            If there is no such device, or `dtype` is neither float32 nor float64.
        """
        target = self.xp if xp is None else as_namespace(xp)
        dtype = as_dtype(self.dtype if dtype is None else dtype, target)
        stays = target is self.xp and device is None
        device = self.device if stays else as_device(device, target)
        if target is self.xp and device == self.device:
            if dtype == self.dtype:
                return self
            return CP(self.space, [target.astype(f, dtype) for f in self.factors])
        return CP(self.space, [from_host(to_host(f), target, device=device, dtype=dtype) for f in self.factors])

    # --- values -------------------------------------------------------------------------------------------------

    def __call__(self, points: Array, /) -> Array:
        """Evaluate at points.

        Parameters
        ----------
        points : array of shape (n, d)
            One column per axis, in the namespace and on the device of the factors; lists are host data.

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        TypeError
            If the points live elsewhere: use ``u.to(...)``.
        ValueError
            If the shape is wrong or a point lies outside the box or is NaN.
        """
        return evaluation.value(self.space, self.factors, self._check_points(points))

    def gradient(self, points: Array, /) -> Array:
        """Evaluate the gradient.

        Parameters
        ----------
        points : array of shape (n, d)
            As in a call, which also has the errors.

        Returns
        -------
        array of shape (n, d)
        """
        return evaluation.gradient(self.space, self.factors, self._check_points(points))[1]

    def value_and_gradient(self, points: Array, /) -> tuple[Array, Array]:
        """Evaluate values and gradient in one pass.

        Parameters
        ----------
        points : array of shape (n, d)
            As in a call, which also has the errors.

        Returns
        -------
        values : array of shape (n,)
        gradient : array of shape (n, d)
        """
        return evaluation.gradient(self.space, self.factors, self._check_points(points))

    def hessian(self, points: Array, /) -> Array:
        """Evaluate the matrix of second derivatives.

        Parameters
        ----------
        points : array of shape (n, d)
            As in a call, which also has the errors.

        Returns
        -------
        array of shape (n, d, d)
        """
        return evaluation.hessian(self.space, self.factors, self._check_points(points))[2]

    def on_grid(self, **points: int | Array) -> Array:
        """Evaluate on a tensor grid.

        Parameters
        ----------
        **points : int or array of shape (m,)
            For every axis a number of equispaced points, both ends included, or the points; see `grid`.

        Returns
        -------
        array of shape (m_1, ..., m_d)

        Examples
        --------
        >>> import numpy as np
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
        >>> sn.CP(V, [np.ones((7, 1)), np.ones((7, 1))]).on_grid(x=3, y=[0.5])
        array([[1.],
               [1.],
               [1.]])
        """
        return evaluation.outer(evaluation.column_values(self.space, self.factors, self.grid(**points)))

    # --- algebra ------------------------------------------------------------------------------------------------

    def _with(self, factors: Sequence[Array]) -> CP:
        return CP(self.space, factors)

    def _scaled(self, weight: float) -> CP:
        return CP(self.space, (self.factors[0] * finite(weight, "the factor"), *self.factors[1:]))

    def _constant(self, value: float) -> CP:
        """Return a constant on the smallest space around this one that contains it."""
        bases = {name: basis.with_zero(None) for name, basis in self.space.items}
        hosts = [axis_maps.constant(basis)[:, None] for basis in bases.values()]
        hosts[0] = hosts[0] * finite(value, "the summand")
        columns = [self._here(h) for h in hosts]
        return CP(TensorSpace(**bases), columns)

    def _plus(self, other: SeparableFunction) -> CP:
        other = self._same_format(other)
        space, mine, theirs = axis_maps.common(self.space, self.factors, other.space, other.factors)
        xp = namespace(*mine, *theirs)
        return CP(space, [xp.concat([a, b], axis=1) for a, b in zip(mine, theirs, strict=True)])

    def _times(self, other: SeparableFunction) -> CP:
        other = self._same_format(other)
        space, factors = axis_maps.product(self.space, self.factors, other.space, other.factors)
        return CP(space, factors)

    def _same_format(self, other: object) -> CP:
        if not isinstance(other, CP):
            msg = f"`other` is {type(other).__name__}, expected a CP function"
            raise TypeError(msg)
        return other

    # --- calculus -----------------------------------------------------------------------------------------------

    def restrict(self, **values: float) -> CP | Array:
        """Fix some coordinates.

        Parameters
        ----------
        **values : float
            Axis name to a position in its domain.

        Returns
        -------
        CP or array of shape ()
            The function of the remaining coordinates; the value when none remains.

        Raises
        ------
        TypeError
            If a position is no real number.
        ValueError
            If a name is unknown or a position outside its domain.
        """
        self.space.check_axes(values, "restrict")
        rows = {}
        for name, value in values.items():
            basis = self.space.axes[name]
            slack = 4 * eps(self.dtype, self.xp) * max(map(abs, basis.domain))
            place = position(name, value, basis.domain, slack)
            rows[name] = basis.values(self._as_points([place]))
        return self._contract(rows)

    def _contract(self, rows: Mapping[str, Array]) -> CP | Array:
        """Contract some axes with rows of shape (1, n_i)."""
        if not rows:
            return self
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

    def derivative(self, axis: str, order: int = 1) -> CP:
        """Return a partial derivative, exactly.

        Parameters
        ----------
        axis : str
            Axis name.
        order : int, optional
            Order, at least zero.

        Returns
        -------
        CP
            On the space of degree ``p - order`` along `axis`.

        Raises
        ------
        TypeError
            If `order` is no integer.
        ValueError
            If there is no such axis, or it has fewer derivatives than that.
        """
        self.space.check_axes([axis], "derivative")
        order = whole_number("order", order, at_least=0)
        if order == 0:
            return self
        target, matrix = axis_maps.derivative(self.space.axes[axis], order)
        k = self.space.names.index(axis)
        moved = self._here(matrix) @ self.factors[k]
        return CP(self.space.replace(**{axis: target}), (*self.factors[:k], moved, *self.factors[k + 1 :]))

    @overload
    def integrate(self, *, density: Callable[[np.ndarray], np.ndarray] | None = None) -> Array: ...
    @overload
    def integrate(self, *axes: str, density: Callable[[np.ndarray], np.ndarray] | None = None) -> CP | Array: ...
    def integrate(self, *axes: str, density: Callable[[np.ndarray], np.ndarray] | None = None) -> CP | Array:
        """Integrate some coordinates out, all of them if none is named.

        Parameters
        ----------
        *axes : str
            Axis names.
        density : callable, optional
            Weight function on the (single) named axis, e.g. a probability density; evaluated at set-up on host arrays.

        Returns
        -------
        CP or array of shape ()

        Raises
        ------
        TypeError
            If `density` is no callable or returns no real numbers.
        ValueError
            If a name is unknown, or `density` is given for several axes.
        """
        self.space.check_axes(axes, "integrate")
        names = axes or self.space.names
        if density is not None and len(names) != 1:
            msg = f"`density` is given for the axes {', '.join(names)}, expected exactly one: integrate one at a time"
            raise ValueError(msg)
        rows = {name: self._here(axis_maps.integrals(self.space.axes[name], density)[None, :]) for name in names}
        return self._contract(rows)

    def inner(self, other: SeparableFunction) -> float:
        """Return the L2 inner product over the box, exactly (up to round-off of the sum).

        Parameters
        ----------
        other : CP
            A function on the same box, of the same namespace, device and dtype.

        Returns
        -------
        float

        Raises
        ------
        TypeError
            If `other` is no CP function.
        ValueError
            If the two live on different boxes.
        """
        other = self._same_format(other)
        axis_maps.same_box(self.space, other.space)
        axis_maps.same_home(self.factors, other.factors)
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
        return self._with(compress(self.factors, roots, inverses, tol=tol, rank=rank))

    def project(self, space: TensorSpace) -> Projection:
        """Return the L2 projection onto another space on the same box, with its relative error.

        Parameters
        ----------
        space : TensorSpace
            Same axis names and domains.

        Returns
        -------
        Projection
            ``function`` and ``error``, the L2 distance divided by the norm of this function; 0 for a function that is
            zero but for round-off.

        Raises
        ------
        TypeError
            If `space` is no TensorSpace.
        ValueError
            If it is one on another box.
        """
        a_space(space, "project")
        matrices = axis_maps.projection(self.space, space)
        projected = CP(space, [self._here(m) @ f for m, f in zip(matrices, self.factors, strict=True)])
        norm = norm_above_noise(self._weighted())
        return Projection(projected, self._distance(projected) / norm if norm > 0 else 0.0)

    def _distance(self, other: CP) -> float:
        """Return the L2 distance to a function on the same box, of any family, free of cancellation."""
        columns = []
        for k, (mine, theirs) in enumerate(zip(self.space.bases, other.space.bases, strict=True)):
            here, there = (self._here(root) for root in axis_maps.joint_roots(mine, theirs))
            sign = -1.0 if k == 0 else 1.0
            columns.append(self.xp.concat([here @ self.factors[k], sign * (there @ other.factors[k])], axis=1))
        return separable_norm(columns)

    def _here(self, host: np.ndarray) -> Array:
        """Move a host matrix to where the factors live."""
        return from_host(host, self.xp, device=self.device, dtype=self.dtype)

    def as_coefficient(self) -> Coefficient:
        """Return the function as data for problems: a sum of products of univariate functions (set-up, on the host)."""
        hosts = [to_host(f).astype(np.float64) for f in self.factors]
        return column_coefficient(self.space, hosts)

    def full(self) -> Array:
        """Return the dense array of coefficients, shape ``space.shape``.

        Raises
        ------
        ValueError
            If it would hold more than 2**27 numbers (1 GiB in float64).
        """
        total = int(np.prod([float(n) for n in self.space.shape]))
        if total > 2**27:
            msg = f"the dense array would hold {total:.3g} numbers, at most {2**27} are allowed: restrict axes first"
            raise ValueError(msg)
        return evaluation.outer(self.factors)

    # --- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, notes: Mapping[str, str] | None = None) -> None:
        """Write the function to an HDF5 file, atomically.

        Parameters
        ----------
        path : path
            File to write; replaced only when the new one is complete.
        notes : mapping of str to str, optional
            Free text to keep with it.

        Raises
        ------
        TypeError
            If `path` is no path, or `notes` no mapping of str to str.
        ValueError
            If `path` is empty, or a text of `notes` cannot be stored.
        OSError
            If the folder does not exist or cannot be written, or `path` is a folder.
        """
        hosts = tuple(to_host(f) for f in self.factors)
        storage.write(path, storage.Stored("CP", self.space, hosts, text_notes(notes)))
