"""Tensor-product spaces with named axes."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn, final

import numpy as np

from sepnet.bases.basis import Basis
from sepnet.coefficients import Coefficient, constant, coordinate
from sepnet.nonlinear import NonlinearOperator
from sepnet.operators import Derivatives, Operator
from sepnet.terms import Term

__all__ = ["TensorSpace"]

# Names of Python arguments that would clash with an axis in u.restrict(...).
TAKEN = frozenset({"self"})


@final
class _Axes(dict[str, Basis]):
    """The bases by axis name, with a sentence for a name that is none."""

    def __missing__(self, name: object) -> NoReturn:
        msg = f"there is no axis {name!r}, expected one of {', '.join(self)}"
        raise KeyError(msg)


@final
@dataclass(frozen=True, init=False, repr=False)
class TensorSpace:
    """The tensor product of univariate spaces, one per named axis.

    Space, time and parameters are axes alike. The order of the axes is the order in which they are given; points have
    one column per axis in that order.

    Parameters
    ----------
    **axes : Basis
        Axis name to its basis.

    Raises
    ------
    TypeError
        If a value is no basis.
    ValueError
        If there is no axis, or a name is taken by the library.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), t=sn.BSpline((0, 2), cells=4))
    >>> x, t = V.coordinates
    >>> V.d.t - (1 + x**2) * V.d.x**2
    Operator(2 separable terms: d.x**2, d.t)
    """

    items: tuple[tuple[str, Basis], ...] = field()

    def __init__(self, **axes: Basis) -> None:
        if not axes:
            msg = "TensorSpace needs at least one axis, e.g. TensorSpace(x=sn.BSpline((0, 1), cells=8))"
            raise ValueError(msg)
        for name, basis in axes.items():
            if not isinstance(basis, Basis):
                msg = f"axis {name!r} is {type(basis).__name__}, expected a basis such as sn.BSpline((0, 1), cells=8)"
                raise TypeError(msg)
            if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name) or name in TAKEN:
                msg = (
                    f"the axis name is {name!r}, expected an identifier without leading underscore that is no keyword "
                    f"and none of {', '.join(sorted(TAKEN))}, as it stands in V.d.x and u.restrict(x=0): choose another"
                )
                raise ValueError(msg)
            plain = unicodedata.normalize("NFKC", name)
            if plain != name:
                msg = (
                    f"the axis name is {name!r}, which Python reads as {plain!r} when it stands in V.d.{plain}: "
                    f"write {plain!r}"
                )
                raise ValueError(msg)
        object.__setattr__(self, "items", tuple(axes.items()))

    @property
    def axes(self) -> Mapping[str, Basis]:
        """The bases by axis name, in order."""
        return MappingProxyType(_Axes(self.items))

    @property
    def names(self) -> tuple[str, ...]:
        """Axis names in order."""
        return tuple(name for name, _ in self.items)

    @property
    def bases(self) -> tuple[Basis, ...]:
        """Bases in axis order."""
        return tuple(basis for _, basis in self.items)

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.items)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of basis functions per axis."""
        return tuple(basis.size for _, basis in self.items)

    @property
    def nodes(self) -> dict[str, np.ndarray]:
        """Interpolation points per axis, float64: the grid that `sepnet.interpolate` takes values on.

        ``np.meshgrid(*V.nodes.values(), indexing="ij")`` and ``u.on_grid(**V.nodes)`` are on this grid.
        """
        return {name: basis.nodes for name, basis in self.items}

    @property
    def coordinates(self) -> tuple[Coefficient, ...]:
        """The coordinate functions, in axis order: the letters of coefficient expressions."""
        return tuple(coordinate(name, basis.domain) for name, basis in self.items)

    @property
    def d(self) -> Derivatives:
        """The partial derivatives: ``V.d.x``, ``V.d.x**2``."""
        return Derivatives(self)

    @property
    def identity(self) -> Operator:
        """The identity; ``c * V.identity`` is multiplication by ``c``."""
        return Operator(self, (Term(),))

    @property
    def unknown(self) -> NonlinearOperator:
        """The unknown function u as a symbol, for nonlinear problems: ``d.t(u) + u * d.x(u)``."""
        return NonlinearOperator(self, {((),): constant(1.0)})

    def replace(self, **axes: Basis) -> TensorSpace:
        """Return the space with some axes exchanged, in the same order.

        Parameters
        ----------
        **axes : Basis
            Axis name to its new basis.

        Returns
        -------
        TensorSpace

        Raises
        ------
        ValueError
            If a name is no axis of this space.
        """
        self.check_axes(axes, "replace")
        return TensorSpace(**{**dict(self.items), **axes})

    def drop(self, *names: str) -> TensorSpace:
        """Return the space without the named axes.

        Parameters
        ----------
        *names : str
            Axis names; at least one axis must remain.

        Returns
        -------
        TensorSpace

        Raises
        ------
        ValueError
            If a name is no axis of this space, or none remains.
        """
        self.check_axes(names, "drop")
        if set(names) == set(self.names):
            msg = f"drop names all axes, {', '.join(self.names)}, expected at least one to remain"
            raise ValueError(msg)
        return TensorSpace(**{name: basis for name, basis in self.items if name not in names})

    def check_axes(self, names: Iterable[str], what: str) -> None:
        """Raise ValueError when a name is no axis of this space, TypeError when it is no str; `what` begins both."""
        for name in names:
            if not isinstance(name, str):
                msg = f"{what} names the axis {name!r}, expected a str, one of {', '.join(self.names)}"
                raise TypeError(msg)
            if name not in self.names:
                msg = f"{what} names the axis {name!r}, expected one of {', '.join(self.names)}"
                raise ValueError(msg)

    def __repr__(self) -> str:
        """Read like the constructor."""
        return "TensorSpace(" + ", ".join(f"{name}={basis!r}" for name, basis in self.items) + ")"
