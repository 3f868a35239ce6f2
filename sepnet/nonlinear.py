"""Polynomials in an unknown function and its derivatives: what nonlinear problems are stated in.

``V.unknown`` is a symbol u; operators are applied to it, ``d.x(u)``, and the results are added and multiplied. Every
such expression is a sum of monomials, a separable coefficient times a product of partial derivatives of u::

    R(u) = sum_m  c_m(x)  prod_j  D^(k_mj) u

with the hand-derived linearisation ``R'(v) w = sum_m c_m sum_j (prod_(l != j) D^(k_ml) v) D^(k_mj) w``, again an
operator with separable coefficients where v is separable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

import numpy as np

from sepnet.coefficients import Coefficient, Source, as_coefficient, constant
from sepnet.operators import Operator
from sepnet.terms import Factor, Term, collect

if TYPE_CHECKING:
    from sepnet.functions.base import SeparableFunction
    from sepnet.spaces import TensorSpace

__all__ = ["Jet", "NonlinearOperator"]

# A partial derivative of the unknown: the axes along which it is taken, sorted, and how often; u itself is ().
Jet: TypeAlias = tuple[tuple[str, int], ...]
Monomials: TypeAlias = Mapping[tuple[Jet, ...], Coefficient]


@final
@dataclass(frozen=True, eq=False)
class NonlinearOperator:
    """A polynomial in an unknown and its derivatives, with separable coefficients.

    It comes from ``u = V.unknown`` and from operators applied to it, ``d.x(u)``. Expressions are added, multiplied with
    each other, with numbers, coefficients and separable functions, raised to non-negative integer powers,
    differentiated (``d.x(u**2)`` is ``2 * u * d.x(u)``) and restricted to a face with `at`.

    Parameters
    ----------
    space : TensorSpace
        The space of the unknown.
    monomials : mapping of tuple of Jet to Coefficient
        The derivatives that are multiplied, sorted, to the coefficient of their product; the empty product is data.
    face : tuple of (str, float), optional
        The face on which everything is evaluated: axes and positions.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((-1, 1), cells=8), t=sn.BSpline((0, 1), cells=4))
    >>> u, d = V.unknown, V.d
    >>> d.t(u) + u * d.x(u) - 0.01 * (d.x**2)(u)
    NonlinearOperator(u_t + u u_x + u_xx, each with a coefficient)
    >>> (d.x(u**2) - 2 * u * d.x(u)).monomials
    {}
    """

    space: TensorSpace
    monomials: Monomials
    face: tuple[tuple[str, float], ...] = ()

    def __repr__(self) -> str:
        """Show the monomials without their coefficients."""
        shown = " + ".join(" ".join(map(_show, jets)) or "data" for jets in self.monomials) or "0"
        where = f" on {', '.join(f'{a} = {v:g}' for a, v in self.face)}" if self.face else ""
        return f"NonlinearOperator({shown}{', each with a coefficient' if self.monomials else ''}{where})"

    # --- algebra ------------------------------------------------------------------------------------------------

    def _other(self, other: object, sign: str) -> NonlinearOperator | None:
        """Return the other side of an operation as an expression; None for what this class knows nothing of."""
        if isinstance(other, NonlinearOperator):
            if other.space != self.space:
                msg = f"unknowns of different spaces meet, {self.space!r} and {other.space!r}: take one `u = V.unknown`"
                raise ValueError(msg)
            if other.face != self.face:
                msg = f"expressions on different faces meet, {self!r} and {other!r}: apply .at(...) last, to the whole"
                raise ValueError(msg)
            return other
        if isinstance(other, Operator):
            hint = "d.x(u)" if sign != "*" else "u * d.x(u)"
            msg = f"an expression in the unknown {sign} an operator: apply the operator to the unknown, e.g. {hint}"
            raise TypeError(msg)
        if isinstance(other, Real | Coefficient) or hasattr(other, "as_coefficient"):
            coefficient = as_coefficient(other, "the coefficient")
            self.space.check_axes(coefficient.axes, "the coefficient")
            return NonlinearOperator(self.space, _kept({(): coefficient}), self.face)
        return None

    def __add__(self, other: object) -> NonlinearOperator:
        """Add an expression, a number or data."""
        right = self._other(other, "+")
        if right is None:
            return NotImplemented
        sums = dict(self.monomials)
        for jets, coefficient in right.monomials.items():
            sums[jets] = sums.get(jets, Coefficient()) + coefficient
        return replace(self, monomials=_kept(sums))

    __radd__ = __add__

    def __neg__(self) -> NonlinearOperator:
        """Change the sign."""
        return replace(self, monomials={jets: -c for jets, c in self.monomials.items()})

    def __sub__(self, other: object) -> NonlinearOperator:
        """Subtract an expression, a number or data."""
        right = self._other(other, "-")
        return NotImplemented if right is None else self + (-right)

    def __rsub__(self, other: object) -> NonlinearOperator:
        """Subtract from a number or data."""
        return (-self) + other

    def __mul__(self, other: object) -> NonlinearOperator:
        """Multiply with an expression, a number, a coefficient or a separable function."""
        right = self._other(other, "*")
        if right is None:
            return NotImplemented
        products: dict[tuple[Jet, ...], Coefficient] = {}
        for mine, c in self.monomials.items():
            for theirs, e in right.monomials.items():
                jets = tuple(sorted((*mine, *theirs)))
                products[jets] = products.get(jets, Coefficient()) + c * e
        return replace(self, monomials=_kept(products))

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> NonlinearOperator:
        """Divide by a number."""
        if isinstance(other, Real):
            return self * (1.0 / float(other))
        msg = (
            f"an expression in the unknown is divided by {type(other).__name__}, expected a number: only polynomials "
            "in the unknown are known; multiply the equation by the denominator"
        )
        raise TypeError(msg)

    def __rtruediv__(self, other: object) -> NonlinearOperator:
        """Refuse, with the next step."""
        return self / self

    def __pow__(self, exponent: int) -> NonlinearOperator:
        """Raise to a non-negative integer power."""
        if isinstance(exponent, bool) or not isinstance(exponent, int | np.integer) or exponent < 0:
            msg = (
                f"the exponent of an expression in the unknown is {exponent!r}, expected an integer >= 0: only "
                "polynomials in the unknown are known; expand other functions of u, or take a new unknown (u = w**2)"
            )
            raise TypeError(msg)
        one = replace(self, monomials={(): constant(1.0)})
        return reduce(lambda product, _: product * self, range(int(exponent)), one)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Let NumPy scalars take part in arithmetic; refuse functions, with the next step."""
        operation = {"divide": "truediv", "true_divide": "truediv", "subtract": "sub", "add": "add", "multiply": "mul"}
        name = operation.get(ufunc.__name__)
        others = [a for a in inputs if a is not self]
        if method == "__call__" and name and len(others) == 1 and np.ndim(others[0]) == 0:
            side = "r" if others[0] is inputs[0] else ""
            return getattr(self, f"__{side}{name}__")(float(others[0]))
        if name and len(others) == 1:
            shape = np.shape(others[0])
            msg = (
                f"an expression in the unknown meets an array of shape {shape}, expected a number, a coefficient such "
                "as x or sn.apply(f, x), or a separable function: sn.interpolate(values, V) makes one"
            )
            raise TypeError(msg)
        msg = (
            f"np.{ufunc.__name__} of an expression in the unknown: only polynomials in the unknown are known; expand "
            "the function, e.g. u - u**3 / 6 for sin(u), and see that the range of u allows it"
        )
        raise TypeError(msg)

    def at(self, **faces: float) -> NonlinearOperator:
        """Evaluate on the face ``axis = value``, after everything else.

        Parameters
        ----------
        **faces : float
            Axis name to a position in that axis's domain.

        Returns
        -------
        NonlinearOperator

        Raises
        ------
        TypeError, ValueError
            As `Operator.at`.
        """
        known = dict(self.face)
        for axis in faces:
            if axis in known:
                msg = f"at({axis}={faces[axis]}): the expression is already evaluated at {axis} = {known[axis]:g}"
                raise ValueError(msg)
        position = self.space.identity.at(**faces).face
        return replace(self, face=tuple(sorted((known | position).items())))

    def under(self, operator: Operator) -> NonlinearOperator:
        """Return an operator applied to this expression, by the product rule: what ``operator(expression)`` calls."""
        if operator.space != self.space:
            msg = f"the operator is on {operator.space!r}, the unknown in {self.space!r}: rebind it with L.on(V)"
            raise ValueError(msg)
        face = operator.face
        if self.face and any(f.order > 0 or f.at is not None for t in operator.terms for _, f in t.factors):
            msg = "an operator is applied after the evaluation on a face: apply .at(...) last"
            raise ValueError(msg)
        total = replace(self, monomials={})
        for term in operator.terms:
            part = self
            for axis, factor in term.factors:
                for _ in range(factor.order):
                    part = part.derivative(axis)
            coefficients = tuple(
                (a, Factor(f.coefficient)) for a, f in term.factors if f.coefficient != Factor().coefficient
            )
            total = total + Coefficient((Term(term.weight, coefficients),)) * part
        return total.at(**face) if face else total

    def derivative(self, axis: str) -> NonlinearOperator:
        """Return the partial derivative along an axis, by the product rule."""
        slope = self.space.d[axis]
        result: dict[tuple[Jet, ...], Coefficient] = {}
        for jets, c in self.monomials.items():
            parts = [(jets, slope.apply(c))] if axis in c.axes else []
            for k, jet in enumerate(jets):
                raised = dict(jet) | {axis: dict(jet).get(axis, 0) + 1}
                parts.append((tuple(sorted((*jets[:k], tuple(sorted(raised.items())), *jets[k + 1 :]))), c))
            for key, part in parts:
                result[key] = result.get(key, Coefficient()) + part
        return replace(self, monomials=_kept(result))

    # --- what solvers ask ---------------------------------------------------------------------------------------

    @property
    def degree(self) -> int:
        """Degree of the polynomial: 0 for data, 1 for what is linear in the unknown."""
        return max(map(len, self.monomials), default=0)

    @property
    def data(self) -> Coefficient:
        """The part without the unknown, evaluated on the face."""
        return self._placed(self.monomials.get((), Coefficient()))

    @property
    def linear(self) -> Operator:
        """The part that is linear in the unknown."""
        parts = [self.partial(jets[0]).__rmul__(c) for jets, c in self.monomials.items() if len(jets) == 1]
        return self._total(parts)

    @property
    def jets(self) -> tuple[Jet, ...]:
        """The partial derivatives of the unknown that occur, sorted."""
        return tuple(sorted({jet for jets in self.monomials for jet in jets}))

    def partial(self, jet: Jet) -> Operator:
        """Return a partial derivative as operator, without face."""
        return Operator(self.space, (Term(1.0, tuple((axis, Factor(order=order)) for axis, order in jet)),))

    def _placed(self, data: Coefficient) -> Coefficient:
        return self.space.identity.at(**dict(self.face)).apply(data) if self.face else data

    def _total(self, parts: Iterable[Operator]) -> Operator:
        total = Operator(self.space, collect(t for part in parts for t in part.terms))
        return total.at(**dict(self.face)) if self.face and total.terms else total

    def value(self, v: Source, *, tol: float = 0.0) -> Coefficient:
        """Return the expression with a function in the place of the unknown, as data.

        Parameters
        ----------
        v : number, Coefficient or separable function
            The function; callables in it need their derivatives.
        tol : float, optional
            Separable functions: the relative L2 error that each product of derivatives may have, by which its rank
            comes down; 0 is exact.

        Returns
        -------
        Coefficient
            For example the source of a problem with the solution v.

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
        >>> (x,) = V.coordinates
        >>> u = V.unknown
        >>> float((u * V.d.x(u)).value(x**2)([[0.5]], ["x"])[0])
        0.25
        """
        products = _Products(self, v, tol)
        total = reduce(lambda a, b: a + b, (c * products.of(jets) for jets, c in self.monomials.items()), Coefficient())
        return self._placed(total)

    def linearised(self, v: Source, *, tol: float = 0.0) -> Operator:
        """Return the derivative at a function, an operator.

        Parameters
        ----------
        v, tol
            As in `value`.

        Returns
        -------
        Operator

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
        >>> (x,) = V.coordinates
        >>> u = V.unknown
        >>> (u * V.d.x(u)).linearised(x**2)
        Operator(2 separable terms: d.x)
        """
        products = _Products(self, v, tol)
        parts = []
        for jets, c in self.monomials.items():
            for k, jet in enumerate(jets):
                parts.append(self.partial(jet).__rmul__(c * products.of((*jets[:k], *jets[k + 1 :]))))
        return self._total(parts)

    def on(self, space: TensorSpace) -> NonlinearOperator:
        """Return the same expression in the unknown of another space with the same axes."""
        if space.names != self.space.names:
            msg = f"the new space has the axes {space.names}, expected {self.space.names}"
            raise ValueError(msg)
        return replace(self, space=space)


@final
class _Products:
    """Products of derivatives of one function, each computed once."""

    def __init__(self, expression: NonlinearOperator, v: Source, tol: float) -> None:
        self.expression, self.tol = expression, tol
        self.function: SeparableFunction | None = None
        if hasattr(v, "compress"):
            self.function = cast("SeparableFunction", v)
            names = self.function.space.names
            if names != expression.space.names:
                msg = f"`v` has the axes {', '.join(names)}, expected {', '.join(expression.space.names)}"
                raise ValueError(msg)
        else:
            self.data = as_coefficient(v, "v")
            expression.space.check_axes(self.data.axes, "`v`")
        self._known: dict[tuple[Jet, ...], Coefficient] = {(): constant(1.0)}

    def of(self, jets: tuple[Jet, ...]) -> Coefficient:
        if jets not in self._known:
            if self.function is None:
                factors = [self.expression.partial(jet).apply(self.data) for jet in jets]
                self._known[jets] = reduce(lambda a, b: a * b, factors)
            else:
                self._known[jets] = self._of_function(self.function, jets)
        return self._known[jets]

    def _of_function(self, v: SeparableFunction, jets: tuple[Jet, ...]) -> Coefficient:
        shorten: Callable[[Any], Any] = (lambda f: f.compress(self.tol)) if self.tol else (lambda f: f)
        parts = [reduce(lambda f, item: f.derivative(*item), jet, v) for jet in jets]
        result: Coefficient = shorten(reduce(lambda a, b: shorten(a * b), parts)).as_coefficient()
        return result


def _kept(monomials: Monomials) -> Monomials:
    return {jets: c for jets, c in monomials.items() if c.terms}


def _show(jet: Jet) -> str:
    return "u_" + "".join(axis * order for axis, order in jet) if jet else "u"
