"""The roughness penalty of a fit, a property of the function: ``sum_i lambda_i ||d_i^2 u||^2``.

Over the box with the uniform probability, in coordinates that run from 0 to 1. For ``u = sum_r prod_i f_ir`` it is
``sum_i lambda_i sum_rs k_i[r, s] prod_{j != i} m_j[r, s]`` with the Gram matrices ``m_j = F_j' M_j F_j`` and
``k_i = F_i' S_i F_i``: a quadratic form in each factor, which no scaling of factors changes. The sum over i of such
products is the second part of a product of dual numbers ``m_j + eps lambda_j k_j``, so all of it costs one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from sepnet.solvers.fit_columns import Columns, Factors

__all__ = ["Penalty", "PenaltyTerms"]


class PenaltyTerms(NamedTuple):
    """Value of a penalty, minus half its gradient, and the matrix of its Gauss-Newton form."""

    value: float
    vector: np.ndarray
    matrix: np.ndarray


_Dual = tuple[np.ndarray, np.ndarray]  # (R, R) twice: a product, and the sum of the products with one factor bent


class _Grams(NamedTuple):
    mass: list[np.ndarray]  # (R, R) of the values of all columns, an axis each
    rough: list[np.ndarray]  # (R, R) of their second derivatives, times the weight of the axis
    smooth: list[np.ndarray]  # (size, R) mass matrix times factor
    bent: list[np.ndarray]  # (size, R) weighted roughness matrix times factor
    shrink: np.ndarray  # (R, R) weights of the inner products of two columns

    @property
    def one(self) -> _Dual:
        return np.ones_like(self.shrink), np.zeros_like(self.shrink)

    def axis(self, j: int) -> _Dual:
        return self.mass[j], self.rough[j]

    def product(self, *skip: int) -> _Dual:
        """Return the product of all ``mass + eps rough`` but those of the axes `skip`, as a dual number."""
        result = self.one
        for j in range(len(self.mass)):
            if j not in skip:
                result = _times(result, self.axis(j))
        return self.shrunk(result)

    def shrunk(self, product: _Dual) -> _Dual:
        return product[0], product[1] + self.shrink * product[0]


def _times(a: _Dual, b: _Dual) -> _Dual:
    return a[0] * b[0], a[1] * b[0] + a[0] * b[1]


@final
@dataclass(frozen=True)
class Penalty:
    """``sum_i weights[i] ||d_i^2 u||^2 + ridge ||u - constant||^2 + apart sum_r ||u_r||^2``.

    Parameters
    ----------
    weights : tuple of float
        One an axis, not negative.
    ridge : float, optional
        Weight of the squared norm of all but the column of the constant: in L2, or what the axes measure in.
    apart : float, optional
        Weight of the squared norms of the single columns but that of the constant. A best sum of R products need not
        exist: columns may grow without bound and cancel (de Silva and Lim, SIAM J. Matrix Anal. Appl. 30, 2008). A
        little of this forbids it, and no scaling of factors changes it either.
    """

    weights: tuple[float, ...]
    ridge: float = 0.0
    apart: float = 0.0

    def value(self, columns: Columns, factors: Factors) -> float:
        """Return the penalty of a function."""
        return float(self._grams(columns, factors).product()[1].sum())

    def block(self, columns: Columns, factors: Factors, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the penalty as a quadratic form of one axis' factor.

        Returns
        -------
        own : ndarray
            Matrix of the axis' own roughness, per unit of its weight.
        rest : ndarray
            Matrix of the roughness on the other axes.
        load : ndarray
            What columns without this axis add to the right side.
        """
        grams, act = self._grams(columns, factors), columns.active[axis]
        total, dual = grams.product(axis)
        pick = np.ix_(act, act)
        own = np.kron(columns.axes[axis].roughness, total[pick])
        rest = np.kron(columns.axes[axis].gram, dual[pick])
        passive = columns.passive[axis]
        # a passive column is constant on the axis: it has no roughness there, but meets the others' on the rest
        load = -(grams.smooth[axis][:, passive] @ dual[np.ix_(passive, act)]).ravel()
        return own, rest, load

    def terms(self, columns: Columns, factors: Factors) -> PenaltyTerms:
        """Return value, gradient and Gauss-Newton matrix."""
        P, at, active = columns.size, columns.offsets, columns.active
        vector, matrix = np.zeros(P), np.zeros((P, P))
        if not any(self.weights) and not self.ridge and not self.apart:
            return PenaltyTerms(0.0, vector, matrix)
        grams = self._grams(columns, factors)
        after = [grams.one]
        for j in range(len(columns.axes) - 1, -1, -1):
            after.append(_times(grams.axis(j), after[-1]))
        after.reverse()
        before = grams.one
        for j, axis in enumerate(columns.axes):
            total, dual = grams.shrunk(_times(before, after[j + 1]))
            pick, mine = np.ix_(active[j], active[j]), slice(at[j], at[j + 1])
            vector[mine] = -(grams.bent[j] @ total + grams.smooth[j] @ dual)[:, active[j]].ravel()
            matrix[mine, mine] = np.kron(self.weights[j] * axis.roughness, total[pick])
            matrix[mine, mine] += np.kron(axis.gram, dual[pick])
            between = before
            for k in range(j + 1, len(columns.axes)):
                block = _cross(columns, grams, j, k, grams.shrunk(_times(between, after[k + 1])))
                matrix[mine, at[k] : at[k + 1]] = block
                matrix[at[k] : at[k + 1], mine] = block.T
                between = _times(between, grams.axis(k))
            before = _times(before, grams.axis(j))
        return PenaltyTerms(float(grams.shrunk(before)[1].sum()), vector, matrix)

    def _grams(self, columns: Columns, factors: Factors) -> _Grams:
        free = columns.constant_columns
        shrink = np.full((columns.starts[-1],) * 2, self.ridge)
        shrink[np.diag_indices_from(shrink)] += self.apart
        shrink[free, :] = shrink[:, free] = 0.0
        grams = _Grams([], [], [], [], shrink)
        padded = columns.padded(factors)
        for weight, axis, full, passive in zip(self.weights, columns.axes, padded, columns.passive, strict=True):
            smooth, bent = axis.gram @ full, weight * (axis.roughness @ full)
            mass = full.T @ smooth
            # where the basis does not contain the constant, `padded` has its projection, but the column is the constant
            mass[np.ix_(passive, passive)] = 1.0
            bent[:, passive] = 0.0
            rough = full.T @ bent
            rough[passive] = 0.0
            for group, matrix in zip(grams[:4], (mass, rough, smooth, bent), strict=True):
                group.append(matrix)
        return grams


def _cross(columns: Columns, grams: _Grams, j: int, k: int, rest: _Dual) -> np.ndarray:
    """Return the block of two axes: ``(A_j F_j)[n, s] (A_k F_k)[m, r] W[r, s]`` at (n, r), (m, s), summed over A.

    `rest` is the product over the other axes.
    """
    act_j, act_k = columns.active[j], columns.active[k]
    total, dual = (w[np.ix_(act_j, act_k)] for w in rest)
    left, bent_left = grams.smooth[j][:, act_k], grams.bent[j][:, act_k]
    right, bent_right = grams.smooth[k][:, act_j], grams.bent[k][:, act_j]
    first = total[None] * bent_left[:, None, :] + dual[None] * left[:, None, :]
    block = first[:, :, None, :] * right.T[None, :, :, None]
    block += (total[None] * left[:, None, :])[:, :, None, :] * bent_right.T[None, :, :, None]
    return np.asarray(block.reshape(left.shape[0] * len(act_j), right.shape[0] * len(act_k)))
