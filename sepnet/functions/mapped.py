"""A separable function asked in other coordinates than those in which it separates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from sepnet.backends.arrays import Array, from_host, namespace, to_host
from sepnet.bases.checks import whole_number
from sepnet.functions.errors import ErrorEstimate, estimate, real_values
from sepnet.functions.outside import Outside
from sepnet.functions.values import Values

if TYPE_CHECKING:
    from sepnet.coordinate_map import CoordinateMap

__all__ = ["Mapped"]


@final
@dataclass(frozen=True, eq=False)
class Mapped:
    """The function ``x -> u(q(x))`` of the physical coordinates x; ``M(u)`` makes it.

    Parameters
    ----------
    u : Values
        A function of the computational coordinates q, e.g. the solution.
    map : CoordinateMap
        The map between the two; its callables see arrays of the namespace of `u`.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(r=sn.BSpline((1, 2), cells=4), theta=sn.BSpline((0, 2 * np.pi), cells=4, periodic=True))
    >>> M = sn.polar(V)
    >>> v = M(sn.project(V.coordinates[0] ** 2, V))  # x**2 + y**2
    >>> v([[0.6, 0.8], [0.0, -2.0]]).round(12), v.gradient([[0.0, 1.5]]).round(12) + 0.0
    (array([1., 4.]), array([[0., 3.]]))
    """

    u: Values
    map: CoordinateMap

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the physical coordinates, the columns of points."""
        return self.map.names

    def __repr__(self) -> str:
        """Tell both sets of coordinates."""
        return f"Mapped({', '.join(self.names)} -> {self.u!r})"

    def __call__(self, points: Array, /, *, outside: Outside = "error") -> Array:
        """Evaluate at physical points.

        Parameters
        ----------
        points : array of shape (n, d)
            One column for each of `names`, in the namespace and on the device of the factors; lists are host data.
        outside : {"error", "clamp", "linear"}, optional
            What a point is whose image lies outside the box of `u`, as for `u` itself, in its coordinates.

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        TypeError
            If the points live elsewhere: use ``to(...)``.
        ValueError
            If the shape is wrong, or the image of a point lies outside the box (with ``outside="error"``).
        """
        return self.u(self._image(points, outside)[1], outside=outside)

    def gradient(self, points: Array, /, *, outside: Outside = "error") -> Array:
        """Evaluate the gradient with respect to the physical coordinates, by the chain rule.

        Parameters
        ----------
        points : array of shape (n, d)
            As in a call, which also has the errors.
        outside : {"error", "clamp", "linear"}, optional
            As in a call.

        Returns
        -------
        array of shape (n, d)
        """
        return self.value_and_gradient(points, outside=outside)[1]

    def value_and_gradient(self, points: Array, /, *, outside: Outside = "error") -> tuple[Array, Array]:
        """Evaluate values and gradient in one pass.

        Parameters
        ----------
        points : array of shape (n, d)
            As in a call, which also has the errors.
        outside : {"error", "clamp", "linear"}, optional
            As in a call.

        Returns
        -------
        values : array of shape (n,)
        gradient : array of shape (n, d)

        Raises
        ------
        ValueError
            As in a call, or where the Jacobian of the map is singular, as at the pole of polar coordinates.
        """
        _, image = self._image(points, outside)
        value, slope = self.u.value_and_gradient(image, outside=outside)
        xp = namespace(image)
        turned = xp.matrix_transpose(self.map.jacobian(image))
        singular = xp.linalg.det(turned) == 0.0
        if bool(xp.any(singular)):
            row = int(xp.argmax(xp.astype(singular, xp.int8)))
            where = ", ".join(f"{n} = {float(image[row, k]):g}" for k, n in enumerate(self.u.space.names))
            msg = (
                f"the Jacobian of the map is singular at the image of `points[{row}]`, {where}: ask for the gradient "
                "beside it"
            )
            raise ValueError(msg)
        return value, xp.linalg.solve(turned, slope[:, :, None])[:, :, 0]

    def to(self, xp: Any = None, *, device: Any = None, dtype: Any = None) -> Mapped:
        """Return the same function on another namespace, device or dtype; see `CP.to`."""
        return Mapped(self.u.to(xp, device=device, dtype=dtype), self.map)

    def error(self, reference: Callable[[np.ndarray], np.ndarray], *, n: int = 100_000, seed: int = 0) -> ErrorEstimate:
        """Measure the relative L2 error over the physical image of the box at random points.

        Parameters
        ----------
        reference : callable
            Host points (n, d), float64, one column for each of `names`, to values (n,).
        n : int, optional
            Number of points, drawn uniformly in the box of `u`; each counts by the volume element of the map.
        seed : int, optional
            Seed of the generator.

        Returns
        -------
        ErrorEstimate

        Raises
        ------
        TypeError
            If `reference` is not callable or returns no real numbers, or `n` or `seed` is no integer.
        ValueError
            If `n` is below two, or the reference is not finite or vanishes at all points.
        """
        n = whole_number("n", n, at_least=2)
        rng = np.random.default_rng(whole_number("seed", seed, at_least=0))
        if not callable(reference):
            msg = f"`reference` is {type(reference).__name__}, expected a callable of points (n, {len(self.names)})"
            raise TypeError(msg)
        low, high = np.array([b.domain for b in self.u.space.bases]).T
        image = low + (high - low) * rng.random((n, self.u.space.dim))
        exact = real_values(reference(self.map.to_physical(image)))
        if exact.shape != (n,) or not np.isfinite(exact).all():
            msg = f"`reference` returned shape {exact.shape} or values that are not finite, expected finite ({n},)"
            raise ValueError(msg)
        here = from_host(image, self.u.xp, device=self.u.device, dtype=self.u.dtype)
        values = to_host(self.u(here)).astype(np.float64)
        root = np.sqrt(np.abs(np.linalg.det(self.map.jacobian(image))))
        found = estimate(root * (values - exact), root * exact)
        return ErrorEstimate(found.value, found.low, found.high, float(np.abs(values - exact).max()), n)

    def _image(self, points: Array, outside: Outside) -> tuple[Array, Array]:
        """Return checked physical points and their images."""
        points = self.u._as_points(points)
        d = len(self.names)
        if points.ndim != 2 or int(points.shape[1]) != d:
            msg = (
                f"`points` has shape {tuple(points.shape)}, expected (n, {d}) with columns {', '.join(self.names)}; "
                "for one point write [[...]]"
            )
            raise ValueError(msg)
        image = self.map.to_computational(points)
        return points, self._inside(points, image) if outside == "error" else image

    def _inside(self, points: Array, image: Array) -> Array:
        """Return images moved by round-off into the box; refuse those farther out."""
        xp = namespace(image)
        if int(image.shape[0]) == 0:
            return image
        least, most = xp.min(image, axis=0), xp.max(image, axis=0)
        moved = False
        for k, (name, basis) in enumerate(self.u.space.items):
            low, high = basis.domain
            # The map's round-off may leave the box where the point does not.
            slack = 64 * float(xp.finfo(image.dtype).eps) * max(abs(low), abs(high), high - low)
            if not (float(least[k]) >= low - slack and float(most[k]) <= high + slack):
                bad = ~((image[:, k] >= low - slack) & (image[:, k] <= high + slack))
                row = int(xp.argmax(xp.astype(bad, xp.int8)))
                where = ", ".join(f"{n} = {float(points[row, j]):g}" for j, n in enumerate(self.names))
                msg = (
                    f"`points[{row}]`, {where}, has the image {name} = {float(image[row, k]):g}, outside the box "
                    f"[{low:g}, {high:g}] on which the function is known: ask inside it, or solve on a larger box; "
                    "outside='clamp' or 'linear' continues the function"
                )
                raise ValueError(msg)
            moved = moved or float(least[k]) < low or float(most[k]) > high
        if not moved:
            return image
        ends = np.array([basis.domain for basis in self.u.space.bases])
        low, high = (from_host(e, xp, device=self.u.device, dtype=image.dtype) for e in ends.T)
        return xp.minimum(xp.maximum(image, low), high)
