"""Functions as arrays at a place: where they live, and their values at points and on grids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sepnet.backends.arrays import (
    Array,
    Namespace,
    as_device,
    as_dtype,
    as_namespace,
    describe,
    device_of,
    from_host,
    namespace,
    to_host,
)
from sepnet.bases.checks import numbers, whole_number
from sepnet.coefficients import Coefficient
from sepnet.functions.checks import box_order
from sepnet.functions.errors import ErrorEstimate, estimate, real_values
from sepnet.functions.export import Place, as_dataarray
from sepnet.functions.host_map import moved
from sepnet.functions.outside import Outside, check_outside, continued
from sepnet.spaces import TensorSpace

if TYPE_CHECKING:
    from xarray import DataArray

__all__ = ["Values"]


class Values(ABC):
    """A function on a box, made of arrays in one place, that can be evaluated there."""

    space: TensorSpace

    # --- where it lives -----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def arrays(self) -> tuple[Array, ...]:
        """The arrays that make up the function, as `save` writes them."""

    @property
    def xp(self) -> Namespace:
        """Array namespace of the factors."""
        return namespace(*self.arrays)

    @property
    def device(self) -> Any:
        """Device of the factors."""
        return device_of(self.arrays[0])

    @property
    def dtype(self) -> Any:
        """Data type of the factors."""
        return self.arrays[0].dtype

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return sum(int(np.prod(a.shape)) for a in self.arrays)

    def _axes_and_home(self) -> str:
        """Return the end of a repr: axes, size and dtype."""
        axes = " x ".join(f"{name}[{n}]" for name, n in zip(self.space.names, self.space.shape, strict=True))
        return f"{axes}, {self.size} coefficients, {str(self.dtype).rsplit('.', 1)[-1]}"

    def to(self, xp: Namespace = None, *, device: Any = None, dtype: Any = None) -> Self:
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
        function
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
            return self._like(self.space, [target.astype(a, dtype) for a in self.arrays])
        moved = [from_host(to_host(a), target, device=device, dtype=dtype) for a in self.arrays]
        return self._like(self.space, moved)

    def _here(self, host: Any) -> Array:
        """Move a host matrix to where the factors live."""
        return moved(host, self.arrays[0])

    @abstractmethod
    def _like(self, space: TensorSpace, arrays: Sequence[Array]) -> Self:
        """Return a function of this format from its `arrays`."""

    @abstractmethod
    def _evaluate(self, points: Array, order: int) -> tuple[Array, ...]:
        """Return the values (n,), and up to `order` gradients (n, d) and Hessians (n, d, d)."""

    @abstractmethod
    def _on_grid(self, grid: Mapping[str, Array]) -> Array:
        """Return the values on a tensor grid."""

    # --- values -------------------------------------------------------------------------------------------------

    def __call__(self, points: Array, /, *, outside: Outside = "error") -> Array:
        """Evaluate at points.

        Parameters
        ----------
        points : array of shape (n, d)
            One column per axis, in the namespace and on the device of the factors; lists are host data.
        outside : {"error", "clamp", "linear"}, optional
            What a point outside the box is: an error, its nearest point of the box, or a point of the tangent there,
            ``u(P x) + grad u(P x) . (x - P x)`` with P x the nearest point.

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        TypeError
            If the points live elsewhere: use ``u.to(...)``.
        ValueError
            If the shape is wrong or a point lies outside the box (with ``outside="error"``), is infinite or NaN, or
            there is no such `outside`.

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
        >>> (x,) = V.coordinates
        >>> u = sn.project(x**2, V)
        >>> u([[2.0]], outside="clamp").round(12), u([[2.0]], outside="linear").round(12)
        (array([1.]), array([3.]))
        """
        return self._at(points, 0, outside)[0]

    def gradient(self, points: Array, /, *, outside: Outside = "error") -> Array:
        """Evaluate the gradient.

        Parameters
        ----------
        points : array of shape (n, d)
            As in a call, which also has the errors.
        outside : {"error", "clamp", "linear"}, optional
            As in a call. The gradient is that of the continued function: zero across clamped directions.

        Returns
        -------
        array of shape (n, d)
        """
        return self._at(points, 1, outside)[1]

    def value_and_gradient(self, points: Array, /, *, outside: Outside = "error") -> tuple[Array, Array]:
        """Evaluate values and gradient in one pass.

        Parameters
        ----------
        points : array of shape (n, d)
            As in a call, which also has the errors.
        outside : {"error", "clamp", "linear"}, optional
            As in `gradient`.

        Returns
        -------
        values : array of shape (n,)
        gradient : array of shape (n, d)
        """
        value, gradient = self._at(points, 1, outside)
        return value, gradient

    def hessian(self, points: Array, /, *, outside: Outside = "error") -> Array:
        """Evaluate the matrix of second derivatives.

        Parameters
        ----------
        points : array of shape (n, d)
            As in a call, which also has the errors.
        outside : {"error", "clamp"}, optional
            As in `gradient`; the tangent would need third derivatives, and is refused with the next step.

        Returns
        -------
        array of shape (n, d, d)
        """
        return self._at(points, 2, outside)[2]

    def _at(self, points: Array, order: int, outside: Outside) -> tuple[Array, ...]:
        points = self._check_points(points)
        if outside == "error":
            return self._evaluate(points, order)
        check_outside(outside)
        return continued(self._evaluate, self.space, points, order, outside)

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
        return self._on_grid(self.grid(**points))

    def grid(self, **points: int | Array) -> dict[str, Array]:
        """Return the points per axis that `on_grid` uses for the same arguments.

        Parameters
        ----------
        **points : int or array of shape (m,)
            For every axis either a number of equispaced points, both ends included, or the points themselves.

        Returns
        -------
        dict of str to array of shape (m,)
            In axis order, in the namespace, device and dtype of the factors.

        Raises
        ------
        ValueError
            If an axis is missing or unknown, or a count is below one.
        """
        self.space.check_axes(points, "grid")
        missing = [name for name in self.space.names if name not in points]
        if missing:
            msg = f"no points for the axis {missing[0]!r}: give a number or an array, or fix it with u.restrict(...)"
            raise ValueError(msg)
        return {name: self._axis_points(name, points[name]) for name in self.space.names}

    def to_xarray(self, *, name: str = "u", units: Mapping[str, str] | None = None, **points: Place) -> DataArray:
        """Return values on a tensor grid with the names and units of its axes, on the host.

        Parameters
        ----------
        name : str, optional
            What the values are called.
        units : mapping of str to str, optional
            Units of axes, and of the values under their name; they become the attributes ``units``.
        **points : int, float or array of shape (m,)
            For every axis a number of equispaced points, both ends included, or the points, of any array library. A
            float fixes the axis, which becomes a coordinate without dimension: ``t=1.0`` is a time, ``t=1`` one point.

        Returns
        -------
        xarray.DataArray
            In axis order, in the dtype of the factors, on the host wherever they are. Its attributes say the format,
            the rank and the version of sepnet.

        Raises
        ------
        ImportError
            If xarray is not installed.
        TypeError
            If something is of another kind.
        ValueError
            If an axis is missing or unknown, a position outside its domain, or a unit belongs to nothing.

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), t=sn.BSpline((0, 2), cells=4))
        >>> x, t = V.coordinates
        >>> u = sn.project(x * t, V)
        >>> field = u.to_xarray(x=3, t=2.0, units={"x": "m", "u": "K"})
        >>> field.dims, field.values.round(12), float(field.t), field.x.units
        (('x',), array([0., 1., 2.]), 2.0, 'm')
        """
        return as_dataarray(self, points, units, name)

    def _axis_points(self, name: str, value: int | Array) -> Array:
        low, high = self.space.axes[name].domain
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole and isinstance(value, Real | str | bytes):
            got = f"the {type(value).__name__} {value!r}"
            msg = f"axis {name!r}: got {got}, expected a whole number of points or an array; one point is [0.5]"
            raise TypeError(msg)
        if isinstance(value, int | np.integer):
            if value < 1:
                msg = f"axis {name!r}: got {value} points, expected at least one"
                raise ValueError(msg)
            host = np.linspace(low, high, int(value)) if value > 1 else np.array([(low + high) / 2])
            return from_host(host, self.xp, device=self.device, dtype=self.dtype)
        array = self._as_points(value, f"axis {name!r}: points")
        if array.ndim != 1:
            msg = f"axis {name!r}: the points have shape {tuple(array.shape)}, expected (m,)"
            raise ValueError(msg)
        return array

    def _as_points(self, points: Array, name: str = "`points`") -> Array:
        """Check that `points` live where the factors live; Python numbers and lists are host data."""
        xp = self.xp
        if isinstance(points, Real | list | tuple):
            return from_host(numbers(name, points), xp, device=self.device, dtype=self.dtype)
        stranger = f"{name} is {type(points).__name__}, expected an array or a list of numbers"
        if not hasattr(points, "shape") or not hasattr(points, "dtype"):
            raise TypeError(stranger)
        try:
            same = namespace(points) is xp and device_of(points) == self.device
        except TypeError as error:
            raise TypeError(stranger) from error
        if not same:
            there, here = describe(points), describe(self.arrays[0])
            msg = f"{name} are {there}, the function is {here}: move one of them, e.g. u.to(xp=..., device=...)"
            raise TypeError(msg)
        if not xp.isdtype(points.dtype, ("real floating", "integral")):
            msg = f"{name} have dtype {points.dtype}, expected real numbers"
            raise TypeError(msg)
        return points if points.dtype == self.dtype else xp.astype(points, self.dtype)

    def _check_points(self, points: Array) -> Array:
        points = self._as_points(points)
        d = self.space.dim
        if points.ndim != 2 or int(points.shape[1]) != d:
            msg = (
                f"`points` has shape {tuple(points.shape)}, expected (n, {d}) with columns "
                f"{', '.join(self.space.names)}; for one point write [[...]]"
            )
            raise ValueError(msg)
        return points

    def error(
        self,
        reference: Callable[[np.ndarray], np.ndarray] | Coefficient | Values,
        *,
        n: int = 100_000,
        seed: int = 0,
    ) -> ErrorEstimate:
        """Measure the relative L2 error against a reference at random points of the box.

        Parameters
        ----------
        reference : callable, Coefficient or SeparableFunction
            A callable takes host points (n, d), float64, and returns values (n,). The axes of the others are matched
            by name.
        n : int, optional
            Number of points, drawn uniformly.
        seed : int, optional
            Seed of the generator.

        Returns
        -------
        ErrorEstimate

        Raises
        ------
        TypeError
            If `reference` is none of these or returns no real numbers, or `n` or `seed` is no integer.
        ValueError
            If `n` is below two, or the reference is not finite, vanishes at all points or lives on another box.
        """
        n = whole_number("n", n, at_least=2)
        rng = np.random.default_rng(whole_number("seed", seed, at_least=0))
        order = box_order(self.space, reference.space) if isinstance(reference, Values) else []
        shares = rng.random((n, self.space.dim))
        host = np.stack([b.spread(column) for b, column in zip(self.space.bases, shares.T, strict=True)], axis=1)
        values = to_host(self(from_host(host, self.xp, device=self.device, dtype=self.dtype)))
        if isinstance(reference, Values):
            theirs = from_host(host[:, order], reference.xp, device=reference.device, dtype=reference.dtype)
            exact = to_host(reference(theirs)).astype(np.float64)
        elif isinstance(reference, Coefficient):
            exact = reference(host, self.space.names)
        elif callable(reference):
            exact = real_values(reference(host))
        else:
            expected = "a callable of points (n, d), an expression of the coordinates, or a function"
            msg = f"`reference` is {type(reference).__name__}, expected {expected}"
            raise TypeError(msg)
        if exact.shape != (n,) or not np.isfinite(exact).all():
            msg = f"`reference` returned shape {exact.shape} or values that are not finite, expected finite ({n},)"
            raise ValueError(msg)
        return estimate(values.astype(np.float64) - exact, exact)
