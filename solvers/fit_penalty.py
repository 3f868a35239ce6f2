"""The roughness penalty of a fit, a property of the function: ``sum_i lambda_i ||d_i^2 u||^2``.

Over the box with the uniform probability, in coordinates that run from 0 to 1. For ``u = sum_r prod_i f_ir`` it is
``sum_i lambda_i sum_rs k_i[r, s] prod_{j != i} m_j[r, s]`` with the Gram matrices ``m_j = F_j' M_j F_j`` and
``k_i = F_i' S_i F_i``: a quadratic form in each factor, which no scaling of factors changes. The sum over i of such
products is the second part of a product of dual numbers ``m_j + eps lambda_j k_j``, so all of it costs one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

from sepnet.backends.arrays import Array, device_of, namespace
from sepnet.solvers.fit_algebra import flat, kron, picked, plus_diagonal
from sepnet.solvers.fit_columns import Columns, Factors, Places

__all__ = ["Penalty", "PenaltyTerms"]


class PenaltyTerms(NamedTuple):
    """Value of a penalty, minus half its gradient, and the matrix of its Gauss-Newton form."""

    value: float
    vector: Array
    matrix: Array


_Dual = tuple[Array, Array]  # (R, R) twice: a product, and the sum of the products with one factor bent


class _Grams(NamedTuple):
    mass: list[Array]  # (R, R) of the values of all columns, an axis each
    rough: list[Array]  # (R, R) of their second derivatives, times the weight of the axis
    smooth: list[Array]  # (size, R) mass matrix times factor
    bent: list[Array]  # (size, R) weighted roughness matrix times factor
    shrink: Array  # (R, R) weights of the inner products of two columns

    @property
    def one(self) -> _Dual:
        xp = namespace(self.shrink)
        return xp.ones_like(self.shrink), xp.zeros_like(self.shrink)

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
        dual = self._grams(columns, factors).product()[1]
        return float(namespace(dual).sum(dual))

    def block(self, columns: Columns, factors: Factors, axis: int) -> tuple[Array, Array, Array]:
        """Return the penalty as a quadratic form of one axis' factor.

        Returns
        -------
        own : array
            Matrix of the axis' own roughness, per unit of its weight.
        rest : array
            Matrix of the roughness on the other axes.
        load : array
            What columns without this axis add to the right side.
        """
        grams, places = self._grams(columns, factors), columns.places(factors[0])
        (total, dual), act, passive = grams.product(axis), places.active[axis], places.passive[axis]
        own = kron(places.axes[axis].roughness, picked(total, act, act))
        rest = kron(places.axes[axis].gram, picked(dual, act, act))
        # a passive column is constant on the axis: it has no roughness there, but meets the others' on the rest
        smooth = namespace(dual).take(grams.smooth[axis], passive, axis=1)
        return own, rest, -flat(smooth @ picked(dual, passive, act))

    def terms(self, columns: Columns, factors: Factors) -> PenaltyTerms:
        """Return value, gradient and Gauss-Newton matrix."""
        xp, P, at = namespace(*factors), columns.size, columns.offsets.tolist()
        home = {"dtype": factors[0].dtype, "device": device_of(factors[0])}
        vector, matrix = xp.zeros((P,), **home), xp.zeros((P, P), **home)
        if not any(self.weights) and not self.ridge and not self.apart:
            return PenaltyTerms(0.0, vector, matrix)
        grams, places = self._grams(columns, factors), columns.places(factors[0])
        after = [grams.one]
        for j in range(len(columns.axes) - 1, -1, -1):
            after.append(_times(grams.axis(j), after[-1]))
        after.reverse()
        before = grams.one
        for j, (axis, act) in enumerate(zip(places.axes, places.active, strict=True)):
            total, dual = grams.shrunk(_times(before, after[j + 1]))
            mine = slice(at[j], at[j + 1])
            load = grams.bent[j] @ total + grams.smooth[j] @ dual
            vector[mine] = -flat(xp.take(load, act, axis=1))
            own = kron(self.weights[j] * axis.roughness, picked(total, act, act))
            matrix[mine, mine] = own + kron(axis.gram, picked(dual, act, act))
            between = before
            for k in range(j + 1, len(columns.axes)):
                block = _cross(places, grams, j, k, grams.shrunk(_times(between, after[k + 1])))
                matrix[mine, at[k] : at[k + 1]] = block
                matrix[at[k] : at[k + 1], mine] = xp.matrix_transpose(block)
                between = _times(between, grams.axis(k))
            before = _times(before, grams.axis(j))
        return PenaltyTerms(float(xp.sum(grams.shrunk(before)[1])), vector, matrix)

    def _grams(self, columns: Columns, factors: Factors) -> _Grams:
        xp, places = namespace(*factors), columns.places(factors[0])
        R, home = columns.starts[-1], {"dtype": factors[0].dtype, "device": device_of(factors[0])}
        shrink = plus_diagonal(xp.full((R, R), self.ridge, **home), self.apart)
        shrink = xp.where(places.free | places.free.T, xp.zeros_like(shrink), shrink)
        grams = _Grams([], [], [], [], shrink)
        for weight, axis, full, absent in zip(
            self.weights, places.axes, columns.padded(factors), places.absent, strict=True
        ):
            smooth, bent = axis.gram @ full, weight * (axis.roughness @ full)
            mass = full.T @ smooth
            # where the basis does not contain the constant, `padded` has its projection, but the column is the constant
            mass = xp.where(absent & absent.T, xp.ones_like(mass), mass)
            bent = xp.where(absent.T, xp.zeros_like(bent), bent)
            rough = full.T @ bent
            rough = xp.where(absent, xp.zeros_like(rough), rough)
            for group, matrix in zip(grams[:4], (mass, rough, smooth, bent), strict=True):
                group.append(matrix)
        return grams


def _cross(places: Places, grams: _Grams, j: int, k: int, rest: _Dual) -> Array:
    """Return the block of two axes: ``(A_j F_j)[n, s] (A_k F_k)[m, r] W[r, s]`` at (n, r), (m, s), summed over A.

    `rest` is the product over the other axes.
    """
    xp, act_j, act_k = namespace(*rest), places.active[j], places.active[k]
    total, dual = (picked(w, act_j, act_k) for w in rest)
    left, bent_left = (xp.take(a[j], act_k, axis=1) for a in (grams.smooth, grams.bent))
    right, bent_right = (xp.take(a[k], act_j, axis=1) for a in (grams.smooth, grams.bent))
    first = total[None, :, :] * bent_left[:, None, :] + dual[None, :, :] * left[:, None, :]
    block = first[:, :, None, :] * right.T[None, :, :, None]
    block += (total[None, :, :] * left[:, None, :])[:, :, None, :] * bent_right.T[None, :, :, None]
    shape = int(left.shape[0]) * int(act_j.shape[0]), int(right.shape[0]) * int(act_k.shape[0])
    return xp.reshape(block, shape)
