"""A sum of products while it is being fitted, and the moves that change its shape but not its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_penalty import Penalty

__all__ = ["Model", "empty_model"]

_Group = tuple[tuple[int, ...], dict[int, np.ndarray]]


@final
@dataclass(frozen=True)
class Model:
    """Columns, their coefficients, and the penalty under which they were fitted."""

    columns: Columns
    factors: Factors
    penalty: Penalty

    def groups(self) -> list[_Group]:
        """Return the factors of each subset by axis."""
        return [
            (subset, {i: self.factors[i][:, self.columns.place(i, k)] for i in subset})
            for k, subset in enumerate(self.columns.subsets)
        ]

    def joined(self, columns: Columns, factors: Factors) -> Model:
        """Return the model with more columns, those of a subset side by side."""
        more = Model(columns, factors, self.penalty)
        return _model_of(self.columns.axes, [*self.groups(), *more.groups()], self.penalty)

    def without(self, axis: int) -> Model:
        """Return the model with the mean along an axis instead of its factors; columns of it alone become constants."""
        basis = self.columns.axes[axis].basis
        if basis is None:
            msg = "the constant has no axis to leave out"
            raise ValueError(msg)
        row = basis.integrals() / (basis.domain[1] - basis.domain[0])
        constant = next(i for i, a in enumerate(self.columns.axes) if a.basis is None)
        groups: list[_Group] = []
        for subset, parts in self.groups():
            rest = tuple(i for i in subset if i != axis)
            if axis in parts:
                scale = row @ parts.pop(axis)
                rest = rest or (constant,)
                parts[rest[0]] = parts.get(rest[0], np.ones((1, len(scale)))) * scale
            groups.append((rest, parts))
        return _model_of(self.columns.axes, groups, self.penalty).tidy()

    def tidy(self) -> Model:
        """Return the model with one column of the constant and one for each axis that stands alone: they add up."""
        groups = [
            (s, {i: f.sum(axis=1, keepdims=True) for i, f in parts.items()} if len(s) == 1 else parts)
            for s, parts in self.groups()
        ]
        return _model_of(self.columns.axes, groups, self.penalty)

    def refined(self, axes: dict[int, FitAxis]) -> Model:
        """Return the same function on finer axes."""
        new = tuple(axes.get(i, axis) for i, axis in enumerate(self.columns.axes))
        factors = list(self.factors)
        for i, axis in axes.items():
            coarse = self.columns.axes[i].basis
            if axis.basis is not None and coarse is not None:
                factors[i] = np.asarray(axis.basis.embed(coarse) @ factors[i])
        return Model(Columns(new, self.columns.subsets, self.columns.ranks), factors, self.penalty)


def empty_model(axes: tuple[FitAxis, ...], penalty: Penalty) -> Model:
    """Return the model without columns."""
    return Model(Columns(axes, (), ()), [np.zeros((axis.size, 0)) for axis in axes], penalty)


def _model_of(axes: tuple[FitAxis, ...], groups: list[_Group], penalty: Penalty) -> Model:
    """Return the model of groups of columns; those of one subset go side by side."""
    merged: dict[tuple[int, ...], list[dict[int, np.ndarray]]] = {}
    for subset, parts in groups:
        merged.setdefault(subset, []).append(parts)
    ranks = tuple(sum(parts[subset[0]].shape[1] for parts in same) for subset, same in merged.items())
    factors = [
        np.concatenate(
            [np.zeros((axis.size, 0)), *(parts[i] for s, same in merged.items() if i in s for parts in same)], axis=1
        )
        for i, axis in enumerate(axes)
    ]
    return Model(Columns(axes, tuple(merged), ranks), factors, penalty)
