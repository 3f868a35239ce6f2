"""The calculus of sums of functions of few variables: closed, exact, and sparse where they were sparse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import hypot, prod, sqrt
from typing import Any, Self, overload

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.bases.checks import whole_number
from sepnet.functions import axis_maps
from sepnet.functions.base import Projection, SeparableFunction
from sepnet.functions.checks import a_space
from sepnet.functions.dense import number
from sepnet.functions.rounding import check_accuracy
from sepnet.functions.sna_algebra import PROJECT, SparseAlgebra
from sepnet.functions.sna_parts import (
    Density,
    Parts,
    embed,
    formats,
    merged,
    opened,
    split_means,
    subspace,
    volume,
    weights_and_mass,
)
from sepnet.functions.values import Values
from sepnet.spaces import TensorSpace

__all__ = ["SparseCalculus"]

# A part of k axes has 2**k parts with zero means; beyond this many axes norms are those of the whole as a train.
MANY_AXES = 6


class SparseCalculus(SparseAlgebra):
    """Derivatives, integrals, means, norms and projections of sums of functions of few variables."""

    # --- calculus -----------------------------------------------------------------------------------------------

    def derivative(self, axis: str, order: int = 1) -> Self:
        """Return a partial derivative, exactly; parts without the axis are gone.

        Parameters
        ----------
        axis : str
            Axis name.
        order : int, optional
            Order, at least zero.

        Returns
        -------
        SNA
            On the space of degree ``p - order`` along `axis`.

        Raises
        ------
        TypeError
            If `order` is no integer.
        ValueError
            If there is no such axis, it has fewer derivatives than that, or the activation is not the identity.
        """
        self._linear("derivative", "u.gradient(points) or u.hessian(points)")
        self.space.check_axes([axis], "derivative")
        if whole_number("order", order, at_least=0) == 0:
            return self
        space = self.space.replace(**{axis: axis_maps.derivative(self.space.axes[axis], order)[0]})
        parts = {s: part.derivative(axis, order) for s, part in self._terms().items() if axis in s}
        return self._sum_of(space, 0 * self.constant, parts)

    @overload
    def integrate(self, *, density: Density | None = None) -> Array: ...
    @overload
    def integrate(self, *axes: str, density: Density | None = None) -> Self | Array: ...
    def integrate(self, *axes: str, density: Density | None = None) -> Self | Array:
        """Integrate some coordinates out, all of them if none is named.

        Parameters
        ----------
        *axes : str
            Axis names.
        density : callable, optional
            Weight function on the (single) named axis; evaluated at set-up on host arrays.

        Returns
        -------
        SNA or array of shape ()

        Raises
        ------
        TypeError
            If `density` is no callable or returns no real numbers.
        ValueError
            If a name is unknown, `density` is given for several axes, or the activation is not the identity.
        """
        self._linear("integrate", PROJECT)
        self.space.check_axes(axes, "integrate")
        names = tuple(dict.fromkeys(axes)) or self.space.names
        if density is not None and len(names) != 1:
            msg = f"`density` is given for the axes {', '.join(names)}, expected exactly one: integrate one at a time"
            raise ValueError(msg)
        wide = opened(self.space, names)
        mass = {name: weights_and_mass(wide.axes[name], density)[1] for name in names}
        head, pieces = self.constant * prod(mass.values()), []
        for subset, part in self._terms().items():
            inside = [name for name in subset if name in mass]
            kept = tuple(name for name in subset if name not in mass)
            total: Any = part.integrate(*inside, density=density) if inside else part
            factor = prod(mass[name] for name in names if name not in subset)
            if kept:
                pieces.append((kept, total * factor))
            else:
                head = head + factor * total
        if len(names) == self.space.dim:
            return head
        return self._sum_of(self.space.drop(*names), head, merged(pieces))

    def anova(self, density: Mapping[str, Density] | None = None) -> Self:
        """Return the same function with parts whose mean over each of their variables is zero (ANOVA form).

        Constant and parts are then unique, the constant is the mean, and the parts are orthogonal to each other
        (Hoeffding, Ann. Math. Statist. 19, 1948; Sobol, Math. Model. Comput. Exp. 1, 1993). Exact up to round-off.

        Parameters
        ----------
        density : mapping of str to callable, optional
            Densities of a product measure by axis, of any mass; uniform on the other axes.

        Returns
        -------
        SNA
            On bases that contain constants.

        Raises
        ------
        TypeError
            If a density is no callable or returns no real numbers.
        ValueError
            If there is no such axis, a density has no positive mass, or the activation is not the identity.

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.Legendre((-1, 1), 2), y=sn.Legendre((-1, 1), 2))
        >>> x, y = V.coordinates
        >>> u = sn.SNA(V, {("x", "y"): sn.project(x * y + x**2, V)}).anova()
        >>> float(u.constant.round(12)), {s: round(p.norm(), 6) for s, p in u.parts.items()}
        (0.333333333333, {('x',): 0.421637, ('y',): 0.0, ('x', 'y'): 0.666667})
        """
        self._linear("anova", PROJECT)
        density = {} if density is None else density
        self.space.check_axes(density, "anova: `density`")
        space, rows = opened(self.space, self.space.names), {}
        for name, basis in space.items:
            row, mass = weights_and_mass(basis, density.get(name))
            if not (np.isfinite(mass) and mass > 0):
                msg = f"anova: the density on axis {name!r} has the integral {mass}, expected a positive number"
                raise ValueError(msg)
            rows[name] = self._here(row[None, :] / mass)
        wide = {subset: embed(part, space) for subset, part in self._terms().items()}
        return self._sum_of(space, *split_means(space, self.constant, wide, rows))

    def inner(self, other: Values) -> float:
        """Return the L2 inner product over the box, exactly (up to round-off).

        Parameters
        ----------
        other : SNA or SeparableFunction
            A function on the same box, of the same namespace, device and dtype.

        Returns
        -------
        float

        Raises
        ------
        TypeError
            If `other` is no such function, or lives elsewhere.
        ValueError
            If the two live on different boxes, or an activation is not the identity.
        """
        self._linear("inner", PROJECT)
        theirs = self._other(other)
        if theirs is None:
            msg = f"`other` is {type(other).__name__}, expected a function such as SNA or CP"
            raise TypeError(msg)
        theirs._linear("inner", PROJECT)
        if max(self.order, theirs.order) > MANY_AXES:
            return self.to_train().inner(theirs.to_train())
        # Parts with zero means are orthogonal: only those of equal subsets meet.
        mine, theirs = self.anova(), theirs.anova()
        total = number(mine.constant) * number(theirs.constant) * volume(self.space)
        second = theirs._terms()
        for subset, part in mine._terms().items():
            if subset in second:
                total += _inner(part, second[subset]) * volume(self.space, subset)
        return total

    def norm(self) -> float:
        """Return the L2 norm over the box, free of cancellation: ``(u - v).norm()`` means something for close u, v.

        Raises
        ------
        ValueError
            If the activation is not the identity.
        """
        self._linear("norm", PROJECT)
        if self.order > MANY_AXES:
            return self.to_train().norm()
        return self.anova()._hypot(lambda part: part.norm())

    def project(self, space: TensorSpace) -> Projection[Any]:
        """Return the L2 projection onto another space on the same box, part by part, with its relative error.

        Parameters
        ----------
        space : TensorSpace
            Same axis names and domains.

        Returns
        -------
        Projection
            ``function``, a `SNA`, and ``error``, the L2 distance divided by the norm of this function.

        Raises
        ------
        TypeError
            If `space` is no TensorSpace.
        ValueError
            If it is one on another box or does not contain constants where they are needed, or the activation is not
            the identity.
        """
        self._linear("project", PROJECT)
        a_space(space, "project")
        axis_maps.same_box(self.space, space)
        bare = [name for name in self._loose() if space.axes[name].zero is not None]
        if bare:
            msg = (
                f"project: functions of the space vanish at an end of axis {bare[0]!r}, along which a part is "
                "constant: take zero=None there, or project the whole, u.to_cp().project(W)"
            )
            raise ValueError(msg)
        function = self._projected(space)
        if self.order > MANY_AXES or any(basis.zero is not None for basis in space.bases):
            return Projection(function, self.to_train().project(space).error)
        # The projection keeps means, so that the errors of parts with zero means are orthogonal too.
        plain = self.anova()
        moved = plain._projected(space)._terms()
        terms = plain._terms().items()
        far = [part._distance(moved[subset]) * sqrt(volume(self.space, subset)) for subset, part in terms]
        norm = plain._hypot(lambda part: part._norm_above_noise())
        return Projection(function, hypot(*far) / norm if norm > 0 else 0.0)

    def _hypot(self, measure: Callable[[SeparableFunction], float]) -> float:
        """Return the norm of orthogonal parts from the norms of each."""
        norms = [measure(part) * sqrt(volume(self.space, subset)) for subset, part in self._terms().items()]
        return hypot(number(self.constant) * sqrt(volume(self.space)), *norms)

    def _projected(self, space: TensorSpace) -> Self:
        maps = dict(zip(space.names, axis_maps.projection(self.space, space), strict=True))
        parts: Parts = {}
        for subset, part in self._terms().items():
            matrices = [self._here(maps[name]) @ m for name, m in zip(subset, part._matrices(), strict=True)]
            parts[subset] = part._with_matrices(subspace(space, subset), matrices)
        return self._sum_of(space, self.constant, parts)

    def compress(self, tol: float = 1e-8) -> Self:
        """Return a function with parts of lower ranks close to this one.

        The tolerance is shared out evenly among the parts, so that the errors add up to no more than it (triangle
        inequality); a part below its share is dropped. Between parts nothing is exchanged: `anova` does that.

        Parameters
        ----------
        tol : float, optional
            Relative L2 error allowed.

        Returns
        -------
        SNA

        Raises
        ------
        ValueError
            If `tol` is negative or NaN, or the activation is not the identity.
        """
        self._linear("compress", PROJECT)
        check_accuracy(tol, None)
        terms = merged(self._terms().items())
        share = tol * self.norm() / max(len(terms), 1)
        parts: Parts = {}
        for subset, part in terms.items():
            norm = part.norm() * sqrt(volume(self.space, subset))
            if norm > share:
                parts[subset] = part if len(subset) == 1 else part.compress(share / norm)
        return self._sum_of(self.space, self.constant, parts)


def _inner(left: Any, right: Any) -> float:
    """Return the L2 inner product of two functions of any formats."""
    left, right = formats(left, right)
    return float(left.inner(right))
