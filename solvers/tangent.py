"""The tangent map of the CP format in the inner product of a separable matrix: what Gauss-Newton multiplies with.

Write ``u(C) = sum_r c_1r (x) ... (x) c_dr`` for the function with factors ``C = (C_1, ..., C_d)``, and T for its
derivative: ``T P = sum_e u(C_1, ..., P_e, ..., C_d)``. For ``A = sum_m w_m A_1[m] (x) ... (x) A_d[m]`` the blocks of
T' A T follow by inserting this. With the R x R matrices

    G_e[m] = C_e' A_e[m] C_e        (unperturbed),        E_e[m] = C_e' A_e[m] P_e        (first-order change)

one gets, for the factor of axis i and with elementwise products of the R x R matrices,

    (T' A T P)_i = sum_m w_m  A_i[m] P_i W_i[m]'  +  sum_m w_m  A_i[m] C_i X_i[m]',
    W_i[m] = prod_{e /= i} G_e[m],        X_i[m] = sum_{e /= i} E_e[m]  prod_{k /= i, e} G_k[m].

The first sum is the matrix of the ALS step of axis i, the diagonal block. The second sum are the other blocks, and it
is the derivative of a product: the pair (product of the G, its first-order change) is carried over the axes like a dual
number, by the automaton of the terms, ``left' = left(dL, G) + left(L, E)``. Axes to the left of i give the blocks below
the diagonal, axes to the right those above it; a sweep in either direction costs O(d), where the sum over pairs
(i, e) would cost O(d^2). As each sweep asks for ``P_i`` only when axis i is reached, it solves triangular systems too.

The derivation is ours. For data tensors, A = I, the products are in Tomasi and Bro (Comput. Statist. Data Anal. 50,
2006, section 3) and Phan, Tichavsky and Cichocki (SIAM J. Matrix Anal. Appl. 34, 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from sepnet.backends.arrays import Array, eps, namespace
from sepnet.solvers.on_device import read
from sepnet.solvers.separable import SeparableMatrix, SeparableVector

__all__ = ["Tangent"]

# The round-off of the functional in units of the last place of the magnitudes it sums.
NOISE = 4.0


@final
class Tangent:
    """The functional ``J(u) = u' A u - 2 b' u``, its gradient and T' A T at one set of factors.

    Parameters
    ----------
    matrix : SeparableMatrix
        A, symmetric.
    load : SeparableVector
        b.
    factors : sequence of arrays (N_i, R)
        Where the map is linearised, in the namespace of A and b.

    Attributes
    ----------
    weights : list of arrays (J_i, R, R)
        ``W_i``: the diagonal block of axis i is ``C -> sum_j A_i[j] C W_i[j]'``.
    gradient : list of arrays (N_i, R)
        Half the derivative of J for each factor: ``T' (A u - b)``.
    energy, work : float
        ``u' A u`` and ``b' u``.
    noise : float
        Round-off of J: differences below it mean nothing.
    """

    def __init__(self, matrix: SeparableMatrix, load: SeparableVector, factors: Sequence[Array]) -> None:
        self.matrix = matrix
        self.factors = list(factors)
        xp = namespace(*factors)
        self._grams = [a.gram(c, a.apply(c)) for a, c in zip(matrix.axes, factors, strict=True)]
        values = [v @ c for v, c in zip(load.vectors, factors, strict=True)]
        steps, moves = matrix.automaton.steps, load.automaton.steps
        self._left, self._right = [xp.ones_like(self._grams[0][:1, :, :])], [xp.ones_like(self._grams[0][:1, :, :])]
        left, right = [xp.ones_like(values[0][:1, :])], [xp.ones_like(values[0][:1, :])]
        for i in range(len(factors) - 1):
            self._left.append(steps[i].left(self._left[-1], self._grams[i]))
            left.append(moves[i].left(left[-1], values[i]))
        for i in range(len(factors) - 1, 0, -1):
            self._right.insert(0, steps[i].right(self._right[0], self._grams[i]))
            right.insert(0, moves[i].right(right[0], values[i]))
        self.weights: list[Array] = []
        self.gradient: list[Array] = []
        for i, (axis, factor) in enumerate(zip(matrix.axes, factors, strict=True)):
            self.weights.append(steps[i].around(self._left[i], self._right[i]))
            loads = load.vectors[i].T @ moves[i].around(left[i], right[i])
            self.gradient.append(axis.times(self.weights[i], factor) - loads)
            if i == 0:
                energies, works = self._grams[0] * self.weights[0], loads * factor
        sizes = xp.sum(xp.abs(energies)) + 2.0 * xp.sum(xp.abs(works))
        self.energy, self.work, size = read(xp.sum(energies), xp.sum(works), sizes)
        self.noise = NOISE * eps(factors[0].dtype, xp) * size

    @property
    def functional(self) -> float:
        """J at the factors."""
        return self.energy - 2.0 * self.work

    def forward(self, visit: Callable[[int, Array | None], Array]) -> list[Array]:
        """Go through the axes from the first to the last with the blocks of T' A T below the diagonal.

        Parameters
        ----------
        visit : callable
            Takes the axis i and ``sum_{e < i} (T' A T)_{ie} P_e``, of shape (N_i, R), None at the first axis; returns
            ``P_i``.

        Returns
        -------
        list of arrays (N_i, R)
            All ``P_i``.
        """
        result: list[Array] = []
        carried = None
        for i, (axis, step, factor) in enumerate(
            zip(self.matrix.axes, self.matrix.automaton.steps, self.factors, strict=True)
        ):
            coupling = None if carried is None else axis.times(step.around(carried, self._right[i]), factor)
            result.append(visit(i, coupling))
            if i + 1 < len(self.factors):
                passed = step.left(self._left[i], axis.gram(factor, axis.apply(result[-1])))
                carried = passed if carried is None else passed + step.left(carried, self._grams[i])
        return result

    def backward(self, visit: Callable[[int, Array | None], Array]) -> list[Array]:
        """Go through the axes from the last to the first with the blocks above the diagonal; see `forward`."""
        result: list[Array] = []
        carried = None
        for i in range(len(self.factors) - 1, -1, -1):
            axis, step, factor = self.matrix.axes[i], self.matrix.automaton.steps[i], self.factors[i]
            coupling = None if carried is None else axis.times(step.around(self._left[i], carried), factor)
            result.append(visit(i, coupling))
            if i > 0:
                passed = step.right(self._right[i], axis.gram(factor, axis.apply(result[-1])))
                carried = passed if carried is None else passed + step.right(carried, self._grams[i])
        return result[::-1]
