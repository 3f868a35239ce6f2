"""What every separable function is: the part of the calculus that does not depend on the format."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Self, TypeVar, overload

import numpy as np

from sepnet.backends.arrays import Array, eps, to_host
from sepnet.bases.checks import whole_number
from sepnet.coefficients import finite
from sepnet.functions import axis_maps, storage
from sepnet.functions.algebra import Algebra
from sepnet.functions.checks import a_space, position, text_notes
from sepnet.functions.values import Values
from sepnet.spaces import TensorSpace

__all__ = ["Projection", "SeparableFunction"]

F = TypeVar("F", bound="SeparableFunction")


class Projection(NamedTuple, Generic[F]):
    """A function close to another one, and its relative L2 error."""

    function: F
    error: float


class SeparableFunction(Values, Algebra):
    """A function on a tensor space in a separable format.

    The calculus is closed and exact: sums, products and derivatives are functions of the same format, on the smallest
    space that contains them. Arrays come back in the namespace, dtype and device of the factors; points must live
    where the factors live.

    A format says what its arrays are (`arrays`, `_like`), how it is evaluated (`_evaluate`, `_on_grid`), how maps of
    single axes act on it (`_matrices`, `_with_matrices`, `_contract`), and how functions are added, multiplied and
    measured; all else is here.
    """

    # --- what a format has to say -----------------------------------------------------------------------------------

    @abstractmethod
    def _from_products(self, space: TensorSpace, factors: Sequence[Array]) -> Self:
        """Write ``sum_r prod_i`` of columns, matrices (n_i, R), in this format, exactly."""

    @abstractmethod
    def _products(self) -> tuple[Array, ...] | None:
        """Return the matrices (n_i, R) of which `_from_products` is made, None where the format has no such."""

    @abstractmethod
    def _matrices(self) -> list[Array]:
        """Return one matrix (n_i, columns) an axis, on which maps of that axis act from the left."""

    @abstractmethod
    def _with_matrices(self, space: TensorSpace, matrices: Sequence[Array]) -> Self:
        """Return the function with other matrices of as many columns."""

    @abstractmethod
    def _contract(self, rows: Mapping[str, Array]) -> Any:
        """Contract at least one axis with a row of shape (1, n_i) each; an array of shape () when no axis is left."""

    @abstractmethod
    def _dense(self) -> Array:
        """Return the dense array of coefficients."""

    @abstractmethod
    def _inner(self, other: Self) -> float:
        """Return the L2 inner product with a function of this format on the same box, in the same place."""

    @abstractmethod
    def _norm_above_noise(self) -> float:
        """Return the L2 norm, and exactly zero where it is round-off of what is added up."""

    @abstractmethod
    def _distance(self, other: Self) -> float:
        """Return the L2 distance to a function of this format on the same box, of any family, free of cancellation."""

    # --- calculus -----------------------------------------------------------------------------------------------

    def restrict(self, **values: float) -> Self | Array:
        """Fix some coordinates.

        Parameters
        ----------
        **values : float
            Axis name to a position in its domain.

        Returns
        -------
        function or array of shape ()
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
        contracted: Self | Array = self._contract(rows) if rows else self
        return contracted

    def derivative(self, axis: str, order: int = 1) -> Self:
        """Return a partial derivative, exactly.

        Parameters
        ----------
        axis : str
            Axis name.
        order : int, optional
            Order, at least zero.

        Returns
        -------
        function
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
        matrices = self._matrices()
        matrices[k] = self._here(matrix) @ matrices[k]
        return self._with_matrices(self.space.replace(**{axis: target}), matrices)

    @overload
    def integrate(self, *, density: Callable[[np.ndarray], np.ndarray] | None = None) -> Array: ...
    @overload
    def integrate(self, *axes: str, density: Callable[[np.ndarray], np.ndarray] | None = None) -> Self | Array: ...
    def integrate(self, *axes: str, density: Callable[[np.ndarray], np.ndarray] | None = None) -> Self | Array:
        """Integrate some coordinates out, all of them if none is named.

        Parameters
        ----------
        *axes : str
            Axis names.
        density : callable, optional
            Weight function on the (single) named axis, e.g. a probability density; evaluated at set-up on host arrays.

        Returns
        -------
        function or array of shape ()

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
        contracted: Self | Array = self._contract(rows)
        return contracted

    def inner(self, other: SeparableFunction) -> float:
        """Return the L2 inner product over the box, exactly (up to round-off of the sum).

        Parameters
        ----------
        other : SeparableFunction
            A function on the same box, of the same namespace, device and dtype.

        Returns
        -------
        float

        Raises
        ------
        TypeError
            If `other` is no such function, or lives elsewhere.
        ValueError
            If the two live on different boxes.
        """
        mine, theirs = self._pair(other)
        axis_maps.same_box(mine.space, theirs.space)
        axis_maps.same_home(mine.arrays, theirs.arrays)
        return float(mine._inner(theirs))

    @abstractmethod
    def norm(self) -> float:
        """Return the L2 norm over the box, free of cancellation: ``(u - v).norm()`` means something for close u, v."""

    @abstractmethod
    def compress(self, tol: float | None = None, *, rank: int | None = None) -> Self:
        """Return a function of lower rank close to this one."""

    def project(self, space: TensorSpace) -> Projection[Self]:
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
        maps = axis_maps.projection(self.space, space)
        moved = [self._here(m) @ f for m, f in zip(maps, self._matrices(), strict=True)]
        projected = self._with_matrices(space, moved)
        norm = self._norm_above_noise()
        return Projection(projected, self._distance(projected) / norm if norm > 0 else 0.0)

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
        return self._dense()

    # --- algebra ------------------------------------------------------------------------------------------------

    def _pair(self, other: object) -> tuple[Any, Any]:
        """Return both functions in one format: sums of products are written in that of the other.

        Raises
        ------
        TypeError
            If `other` is no function, or neither is a sum of products.
        """
        if not isinstance(other, SeparableFunction):
            msg = f"`other` is {type(other).__name__}, expected a function such as {type(self).__name__}"
            raise TypeError(msg)
        if type(self) is type(other):
            return self, other
        theirs, mine = other._products(), self._products()
        if theirs is not None:
            return self, self._from_products(other.space, theirs)
        if mine is not None:
            return other._from_products(self.space, mine), other
        pair = f"{type(self).__name__} and {type(other).__name__}"
        msg = f"functions meet that are {pair}: convert one, e.g. with u.to_train()"
        raise TypeError(msg)

    def _joined(self, other: Self) -> tuple[Self, Self]:
        """Write two functions of one format on the smallest space that contains both."""
        space, mine, theirs = axis_maps.common(self.space, self._matrices(), other.space, other._matrices())
        return self._with_matrices(space, mine), other._with_matrices(space, theirs)

    def _constant(self, value: float) -> Self:
        """Return a constant on the smallest space around this one that contains it."""
        bases = {name: basis.with_zero(None) for name, basis in self.space.items}
        hosts = [axis_maps.constant(basis)[:, None] for basis in bases.values()]
        hosts[0] = hosts[0] * finite(value, "the summand")
        return self._from_products(TensorSpace(**bases), [self._here(h) for h in hosts])

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
        arrays, order = self._stored()
        hosts = tuple(to_host(a) for a in arrays)
        storage.write(path, storage.Stored(type(self).__name__, self.space, hosts, text_notes(notes), order))

    def _stored(self) -> tuple[Sequence[Array], tuple[str, ...]]:
        """Return one array an axis, and an order of the axes if the format has one that is not that of the space."""
        return self.arrays, ()
