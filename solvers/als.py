"""Alternating least squares (ALS): one factor at a time, each step a quadratic problem on a linear space.

With all factors but ``C_i`` fixed, the energy ``J(v) = a(v, v) - 2 f(v)`` is quadratic in ``C_i``; its minimiser
solves ``sum_j A_ij C_i W_j' = F`` with ``W_j`` and ``F`` products over the other axes. After each step
``a(u, u) = f(u)``, and J never increases. (Beylkin and Mohlenkamp, SIAM J. Sci. Comput. 26, 2005, section 3.)

The columns of all factors are kept at norm one, and the size of the terms apart: the local system is as well
conditioned as it can be by scaling. The products over the axes to the left and right of an axis are carried along the
sweep.

In a sweep no array leaves the device or comes to it. What is read are numbers: one a step, by which the solution of the
local system is judged (`solve_axis`), and ``a(u, u)`` and ``f(u)`` together at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from sepnet.backends.arrays import Array, Namespace, device_of, from_host, namespace
from sepnet.solvers.axis_systems import solve_axis
from sepnet.solvers.on_device import beside, read
from sepnet.solvers.record import State
from sepnet.solvers.separable import SeparableMatrix, SeparableVector

__all__ = ["AlternatingLeastSquares"]


@final
class AlternatingLeastSquares:
    """The state of an ALS iteration for ``A u = b``, symmetric positive definite.

    Parameters
    ----------
    matrix : SeparableMatrix
        A, in the namespace the factors shall live in.
    load : SeparableVector
        b, likewise.
    seed : int
        Seed of the starting columns.
    """

    def __init__(self, matrix: SeparableMatrix, load: SeparableVector, *, seed: int = 0) -> None:
        self.matrix = matrix
        self.load = load
        self.factors: list[Array] = []
        self._rng = np.random.default_rng(seed)
        d = len(matrix.axes)
        self._grams: list[Array] = [None] * d
        self._values: list[Array] = [None] * d
        self._scale: Array | None = None

    @property
    def rank(self) -> int:
        """Present number of columns."""
        return int(self.factors[0].shape[1]) if self.factors else 0

    def start(self, factors: Sequence[Array]) -> None:
        """Begin from given factors."""
        self.factors = list(factors)
        xp = namespace(*factors)
        scale = xp.linalg.vector_norm(factors[0], axis=0)
        for factor in factors[1:]:
            scale = scale * xp.linalg.vector_norm(factor, axis=0)
        self._settle()
        self._scale = scale

    def grow(self, columns: int) -> None:
        """Append random columns to every factor."""
        like = self.matrix.axes[0].values
        xp: Namespace = namespace(like)
        sizes = [axis.size for axis in self.matrix.axes]
        # From the host's generator, so that every library starts from the same columns: one copy, between sweeps.
        drawn = self._rng.standard_normal((sum(sizes), columns))
        moved = from_host(drawn, xp, device=device_of(like), dtype=like.dtype)
        grown = []
        for i, size in enumerate(sizes):
            first = sum(sizes[:i])
            new = moved[first : first + size, :]
            grown.append(xp.concat([self.factors[i], new], axis=1) if self.factors else new)
        self.factors, self._scale = grown, None
        self._settle()

    def _settle(self) -> None:
        """Bring all columns to norm one and measure all factors."""
        xp = namespace(self.factors[0])
        for i, factor in enumerate(self.factors):
            self.factors[i] = factor / _safe(xp, xp.linalg.vector_norm(factor, axis=0))
            self._measure(i)

    def present(self) -> tuple[float, float]:
        """Return ``a(u, u)`` and ``f(u)`` of the present iterate."""
        factors = self.balanced()
        return self.matrix.energy(factors), self.load.inner(factors)

    def step(self, axis: int) -> tuple[float, float]:
        """Solve for one factor only; returns ``a(u, u)`` and ``f(u)``."""
        right, load_right = self._right_environments()
        xp = namespace(right[-1])
        left, load_left = xp.ones_like(right[-1]), xp.ones_like(load_right[-1])
        for i in range(axis):
            left = self.matrix.automaton.steps[i].left(left, self._grams[i])
            load_left = self.load.automaton.steps[i].left(load_left, self._values[i])
        energy, work = read(*self._solve(axis, left, right[axis], load_left, load_right[axis])())
        return energy, work

    def _solve(
        self, i: int, left: Array, right: Array, load_left: Array, load_right: Array
    ) -> Callable[[], tuple[Array, Array]]:
        """Minimise over factor i; leaves it normalised, its column norms in ``_scale``.

        Returns what computes ``a(u, u)`` and ``f(u)``, for few steps are asked for them.
        """
        xp = namespace(left)
        axis = self.matrix.axes[i]
        weights = self.matrix.automaton.steps[i].around(left, right)
        load = self.load.vectors[i].T @ self.load.automaton.steps[i].around(load_left, load_right)
        factor = solve_axis(axis, weights, load)
        self._scale = _safe(xp, xp.linalg.vector_norm(factor, axis=0))
        self.factors[i] = factor / self._scale
        self._measure(i)
        gram, scale = self._grams[i], self._scale

        def values() -> tuple[Array, Array]:
            return xp.sum(gram * weights * (scale[:, None] * scale[None, :])), xp.sum(load * factor)

        return values

    def sweep(self, after_step: Callable[[int, float, float], None] | None = None) -> tuple[float, float]:
        """Solve for every factor once, in axis order.

        Parameters
        ----------
        after_step : callable, optional
            Called after each step with the axis number, ``a(u, u)`` and ``f(u)`` (used to check the guarantees).

        Returns
        -------
        energy, work : float
            ``a(u, u)`` and ``f(u)`` at the end of the sweep.
        """
        xp = namespace(self.factors[0])
        right, load_right = self._right_environments()
        left, load_left = xp.ones_like(right[-1]), xp.ones_like(load_right[-1])
        last = len(self.factors) - 1
        for i in range(last + 1):
            values = self._solve(i, left, right[i], load_left, load_right[i])
            if after_step is not None:
                after_step(i, *read(*values()))
            if i < last:
                left = self.matrix.automaton.steps[i].left(left, self._grams[i])
                load_left = self.load.automaton.steps[i].left(load_left, self._values[i])
        energy, work = read(*values())
        return energy, work

    def _measure(self, i: int) -> None:
        """Renew what the other axes need of factor i: its Gram matrices, and its products with the load vectors."""
        axis, factor = self.matrix.axes[i], self.factors[i]
        self._grams[i] = axis.gram(factor, axis.apply(factor))
        self._values[i] = self.load.vectors[i] @ factor

    def _right_environments(self) -> tuple[list[Array], list[Array]]:
        """Return for every axis the products over all axes to its right."""
        like = self._grams[0]
        xp = namespace(like)
        right, load_right = [xp.ones_like(like[:1, :, :])], [xp.ones_like(self._values[0][:1, :])]
        for i in range(len(self.factors) - 1, 0, -1):
            right.append(self.matrix.automaton.steps[i].right(right[-1], self._grams[i]))
            load_right.append(self.load.automaton.steps[i].right(load_right[-1], self._values[i]))
        return right[::-1], load_right[::-1]

    def state(self) -> State:
        """Return all that the next sweep depends on."""
        arrays = {"factors": list(self.factors)}
        if self._scale is not None:
            arrays["scale"] = [self._scale]
        return State(arrays, {"random": self._rng.bit_generator.state})

    def restore(self, state: State) -> None:
        """Go back to a state; what follows is the same to the last bit."""
        like = self.matrix.axes[0].values
        self.factors = [beside(f, like) for f in state.arrays["factors"]]
        scale = state.arrays.get("scale")
        self._scale = None if scale is None else beside(scale[0], like)
        for i in range(len(self.factors)):
            self._measure(i)
        self._rng.bit_generator.state = state.numbers["random"]

    def balanced(self) -> list[Array]:
        """Return the factors with the norm of each term spread evenly over the axes."""
        if self._scale is None:
            return list(self.factors)
        share = self._scale ** (1.0 / len(self.factors))
        return [f * share for f in self.factors]


def _safe(xp: Namespace, norms: Array) -> Array:
    return xp.where(norms > 0, norms, xp.ones_like(norms))
