"""The algebra of sums of functions of few variables, and their other formats: exact, and sparse where they were."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real
from typing import Any, Self, overload

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.coefficients import Coefficient, constant, finite
from sepnet.functions import axis_maps
from sepnet.functions.algebra import Number
from sepnet.functions.base import SeparableFunction
from sepnet.functions.cp import CP
from sepnet.functions.dense import number
from sepnet.functions.sna_parts import (
    Parts,
    as_products,
    as_train,
    common_space,
    embed,
    extend,
    merged,
    opened,
    scaled,
    subspace,
    times,
)
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.values import Values
from sepnet.spaces import TensorSpace

__all__ = ["PROJECT", "SparseAlgebra"]

PROJECT = "sn.project(u, V, rank=...), which approximates it by a function with this calculus"


class SparseAlgebra(Values):
    """Sums, products and other formats of sums of functions of few variables."""

    constant: Array

    @property
    @abstractmethod
    def order(self) -> int:
        """The largest number of variables of a part."""

    @abstractmethod
    def _linear(self, what: str, advice: str) -> None:
        """Raise ValueError, with the next step `advice`, if something nonlinear is around the sum."""

    @abstractmethod
    def _terms(self) -> Parts:
        """Return the parts times their weights."""

    @abstractmethod
    def _sum_of(self, space: TensorSpace, head: Array, parts: Parts) -> Self:
        """Return a function of this kind from constant and parts."""

    def _loose(self) -> list[str]:
        """Return the axes along which the constant or some part is constant."""
        terms = self._terms()
        if not terms or number(self.constant) != 0:
            return list(self.space.names)
        return [name for name in self.space.names if any(name not in subset for subset in terms)]

    def _other(self, other: object) -> Self | None:
        """Return a function as one of this kind, checked to be linear and at the same place; None for anything else."""
        if isinstance(other, SeparableFunction):
            other = self._sum_of(other.space, 0 * self.constant, {other.space.names: other})
        if not isinstance(other, type(self)):
            return None
        axis_maps.same_home(self.arrays, other.arrays)
        return other

    # --- algebra ------------------------------------------------------------------------------------------------

    @overload
    def __add__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __add__(self, other: Values | Number) -> Self: ...
    def __add__(self, other: object) -> Any:
        """Add a number or a function, exactly, on the smallest space with both; an expression gives data."""
        if isinstance(other, Coefficient):
            return self.as_coefficient() + other
        if isinstance(other, Real):
            if other == 0:
                return self
            self._linear("+", PROJECT)
            return self._sum_of(self.space, self.constant + finite(float(other), "the summand"), self._terms())
        theirs = self._other(other)
        if theirs is None:
            return NotImplemented
        self._linear("+", PROJECT)
        theirs._linear("+", PROJECT)
        space = common_space(self.space, theirs.space)
        pieces = [(s, embed(part, space)) for u in (self, theirs) for s, part in u._terms().items()]
        return self._sum_of(space, self.constant + theirs.constant, merged(pieces))

    __radd__ = __add__

    def __neg__(self) -> Self:
        """Change the sign."""
        return self._scaled(-1.0)

    @overload
    def __sub__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __sub__(self, other: Values | Number) -> Self: ...
    def __sub__(self, other: Any) -> Any:
        """Subtract."""
        if isinstance(other, Real):
            return self.__add__(-float(other))
        return (
            self.__add__(-other)
            if isinstance(other, SeparableFunction | SparseAlgebra | Coefficient)
            else NotImplemented
        )

    @overload
    def __rsub__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __rsub__(self, other: Values | Number) -> Self: ...
    def __rsub__(self, other: Any) -> Any:
        """Subtract from."""
        return (-self).__add__(other)

    @overload
    def __mul__(self, other: Coefficient) -> Coefficient: ...
    @overload
    def __mul__(self, other: Values | Number) -> Self: ...
    def __mul__(self, other: object) -> Any:
        """Multiply with a number or a function: the product of two parts is a part of all their variables."""
        if isinstance(other, Coefficient):
            return self.as_coefficient() * other
        if isinstance(other, Real):
            return self._scaled(float(other))
        theirs = self._other(other)
        if theirs is None:
            return NotImplemented
        self._linear("*", PROJECT)
        theirs._linear("*", PROJECT)
        axis_maps.same_box(self.space, theirs.space)
        loose = {*self._loose(), *theirs._loose()}
        mine, others = opened(self.space, loose), opened(theirs.space, loose)
        pairs = zip(mine.items, others.bases, strict=True)
        space = TensorSpace(**{name: a.product_basis(b) for (name, a), b in pairs})
        left, right = self._terms(), theirs._terms()
        pieces = [
            ((*part.space.names,), part)
            for part in (times(p, mine, q, others, space) for p in left.values() for q in right.values())
        ]
        for u, terms in ((theirs, left), (self, right)):
            if number(u.constant) != 0:
                pieces += [(s, embed(scaled(part, u.constant), space)) for s, part in terms.items()]
        return self._sum_of(space, self.constant * theirs.constant, merged(pieces))

    __rmul__ = __mul__

    def __truediv__(self, other: Number) -> Self:
        """Divide by a number."""
        if not isinstance(other, Real):
            return NotImplemented
        if other == 0:
            msg = "a function is divided by zero, expected another number"
            raise ZeroDivisionError(msg)
        return self._scaled(1.0 / float(other))

    def _scaled(self, weight: float) -> Self:
        self._linear("*", PROJECT)
        weight = finite(weight, "the factor")
        parts = {s: part._scaled(weight) for s, part in self._terms().items()}
        return self._sum_of(self.space, self.constant * weight, parts)

    __array_ufunc__ = None

    # --- other formats ------------------------------------------------------------------------------------------

    def _wide(self) -> tuple[TensorSpace, list[SeparableFunction]]:
        """Return the smallest space with all parts, and functions on all its axes whose sum is this one."""
        space = opened(self.space, self._loose())
        terms = {s: embed(part, space) for s, part in merged(self._terms().items()).items()}
        if number(self.constant) != 0:
            name = next((s[0] for s in terms if len(s) == 1), space.names[0])
            axis = subspace(space, [name])
            ones = CP(axis, [self._here(axis_maps.constant(axis.bases[0])[:, None]) * self.constant])
            # A part of one variable takes the constant in, at no further rank.
            terms = merged([*terms.items(), ((name,), ones)])
        return space, [extend(part, space) for part in terms.values()]

    def to_cp(self) -> CP:
        """Return the function as a sum of products, exactly: parts are constant along the axes they do not have.

        An additive function of d variables is of rank d. A train or Tucker part gives one term for each path through
        its ranks, or entry of its core.

        Returns
        -------
        CP
            Of the sum of the parts' ranks; one more for a constant where no part is of one variable.

        Raises
        ------
        ValueError
            If a part would need more than 1024 terms, or the activation is not the identity.

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
        >>> additive = {(n,): sn.project(c**2, sn.TensorSpace(**{n: V.axes[n]})) for n, c in zip("xyz", V.coordinates)}
        >>> sn.SNA(V, additive, constant=1.0).to_cp()
        CP(rank=3, x[7] x y[7] x z[7], 63 coefficients, float64)
        """
        self._linear("to_cp", PROJECT)
        space, wide = self._wide()
        if not wide:
            return CP(space, [self._here(np.zeros((n, 0))) for n in space.shape])
        sums = [as_products(part).factors for part in wide]
        return CP(space, [self.xp.concat(list(columns), axis=1) for columns in zip(*sums, strict=True)])

    def to_train(self) -> TensorTrain:
        """Return the function as a tensor train along the order of the space, exactly up to round-off.

        Returns
        -------
        TensorTrain
            The ranks are the sums of those of the parts, at most; `compress` lowers them, to 2 for additive functions.

        Raises
        ------
        ValueError
            If the activation is not the identity.
        """
        self._linear("to_train", PROJECT)
        space, wide = self._wide()
        if not wide:
            return as_train(CP(space, [self._here(np.zeros((n, 0))) for n in space.shape]))
        first, *rest = [as_train(part).reorder(*space.names) for part in wide]
        return sum(rest, start=first)

    def as_coefficient(self) -> Coefficient:
        """Return the function as data for problems: a sum of products of univariate functions (set-up, on the host).

        Raises
        ------
        ValueError
            If a part of many paths or entries is no sum of few products, or the activation is not the identity.
        """
        self._linear("as_coefficient", PROJECT)
        data = [part.as_coefficient() for part in self._terms().values()]
        return sum(data, start=constant(number(self.constant)))
