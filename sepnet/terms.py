"""Sums of separable terms: the algebra that coefficients and differential operators share.

A term is ``weight * prod over axes of  c(x) d^k/dx^k``, possibly evaluated on a face ``x = a``; axes that are not
named take part as the identity. A coefficient is a sum of terms of order zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import comb, isfinite
from typing import final

from sepnet.univariate import ONE, Univariate, add_polynomials

__all__ = ["IDENTITY", "Factor", "Term", "collect", "compose", "make_term", "multiply"]


@final
@dataclass(frozen=True)
class Factor:
    """What a term does on one axis: ``c(x) d^order/dx^order``, then, if `at` is given, evaluation at ``x = at``.

    On an axis given by matrices, `matrix` is the name of the matrix (in a load: of the vector) that a test term is
    integrated with; None stands for the mass.
    """

    coefficient: Univariate = ONE
    order: int = 0
    at: float | None = None
    matrix: str | None = None


IDENTITY = Factor()


@final
@dataclass(frozen=True)
class Term:
    """A weight times one `Factor` per axis; axes that are absent carry the identity."""

    weight: float = 1.0
    factors: tuple[tuple[str, Factor], ...] = ()

    def factor(self, axis: str) -> Factor:
        """Return the factor on `axis`."""
        return next((factor for name, factor in self.factors if name == axis), IDENTITY)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes on which the term is not the identity."""
        return tuple(name for name, _ in self.factors)


def make_term(weight: float, factors: Mapping[str, Factor]) -> Term:
    """Return the term in normal form: leading weights pulled out, identities dropped, axes sorted."""
    kept: dict[str, Factor] = {}
    for axis in sorted(factors):
        scale, coefficient = factors[axis].coefficient.normalised()
        weight *= scale
        factor = replace(factors[axis], coefficient=coefficient)
        if factor != IDENTITY:
            kept[axis] = factor
    if not isfinite(weight):
        msg = f"an expression has the weight {weight}: its numbers overflow, scale them"
        raise ValueError(msg)
    return Term(weight, tuple(kept.items())) if weight != 0.0 else Term(0.0)


def collect(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Add up like terms, and merge polynomial coefficients that differ on a single axis.

    ``1 + x**2`` becomes one term, ``x + y`` stays two: fewer terms means fewer matrices later.
    """
    current = _add_equal(terms)
    axes = sorted({axis for term in current for axis in term.axes})
    for axis in axes:
        current = _merge_axis(current, axis)
    return tuple(current)


def _add_equal(terms: Iterable[Term]) -> list[Term]:
    sums: dict[tuple[tuple[str, Factor], ...], float] = {}
    for term in terms:
        sums[term.factors] = sums.get(term.factors, 0.0) + term.weight
    return [Term(weight, factors) for factors, weight in sums.items() if weight != 0.0]


def _merge_axis(terms: list[Term], axis: str) -> list[Term]:
    groups: dict[object, list[Term]] = {}
    for term in terms:
        factor = term.factor(axis)
        others = tuple(item for item in term.factors if item[0] != axis)
        key = (others, factor.order, factor.at, factor.matrix, factor.coefficient.callables)
        groups.setdefault(key, []).append(term)
    merged: list[Term] = []
    for members in groups.values():
        if len(members) == 1:
            merged.append(members[0])
            continue
        first = members[0].factor(axis)
        total = add_polynomials([(m.weight, m.factor(axis).coefficient) for m in members])
        factors = dict(members[0].factors)
        factors[axis] = replace(first, coefficient=total)
        term = make_term(1.0, factors)
        if term.weight != 0.0:
            merged.append(term)
    return merged


def multiply(left: Iterable[Term], right: Iterable[Term]) -> tuple[Term, ...]:
    """Multiply a coefficient (terms of order zero, `left`) with any sum of terms."""
    return compose(left, right)


def compose(left: Iterable[Term], right: Iterable[Term]) -> tuple[Term, ...]:
    """Return ``left after right`` by Leibniz' rule."""
    right = tuple(right)
    return collect(term for a in left for b in right for term in _compose_terms(a, b))


def _compose_terms(a: Term, b: Term) -> list[Term]:
    partial: list[tuple[float, dict[str, Factor]]] = [(a.weight * b.weight, {})]
    for axis in sorted({*a.axes, *b.axes}):
        choices = _compose_factors(axis, a.factor(axis), b.factor(axis))
        partial = [(w * c, {**done, axis: f}) for w, done in partial for c, f in choices]
    return [term for term in (make_term(w, factors) for w, factors in partial) if term.weight != 0.0]


def _compose_factors(axis: str, a: Factor, b: Factor) -> list[tuple[float, Factor]]:
    if b.at is not None:
        if a.order == 0 and a.coefficient.constant is not None and a.at in (None, b.at):
            return [(a.coefficient.constant, b)]
        msg = f"an operator is applied after the evaluation .at({axis}={b.at:g}): apply .at(...) last"
        raise ValueError(msg)
    parts: list[tuple[float, Factor]] = []
    derivatives: tuple[Univariate, ...] = (b.coefficient,)
    for j in range(a.order + 1):
        weight = float(comb(a.order, j))
        parts.extend((weight, Factor(a.coefficient * d, a.order - j + b.order, a.at)) for d in derivatives)
        if j < a.order:
            derivatives = tuple(dd for d in derivatives for dd in d.derivative())
            if not derivatives:
                break
    return parts
