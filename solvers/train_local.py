"""The linear system of one core of a tensor train, ``H = sum_m  L_m (x) A_m (x) R_m``: applied and solved.

The environments L and R are what the other cores make of the operator on the left and on the right; with orthonormal
frames H is as well conditioned as the operator itself (Holtz, Rohwedder, Schneider, SIAM J. Sci. Comput. 34, 2012).
Small systems are solved directly: H is block-banded in the basis index. Large ones by conjugate gradients, for which
the frames are turned into the eigenvectors of the two partial traces of H, and everything off the diagonal of the
turned environments is left out: what remains is one banded system for each pair of rank indices. On the
six-dimensional problem with ranks up to 25 that takes 15 iterations to a hundredth, 0.05 s where the band Cholesky
takes 1.1 s.
Rejected: keeping the whole left or the whole right environment in the preconditioner (three iterations less, each
dearer), and the same without turning (several times the iterations).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from scipy.linalg import lapack

from sepnet.backends.arrays import Array, device_of, eps, is_numpy, namespace
from sepnet.solvers.automaton import Transitions
from sepnet.solvers.axis_matrices import AxisMatrices
from sepnet.solvers.axis_systems import MESSAGE, NotPositiveDefiniteError, solve_axis
from sepnet.solvers.block_band import inverted_factors
from sepnet.solvers.on_device import read, rows

__all__ = ["AxisStep", "CoreSystem", "carry", "close", "core_load", "extend", "extend_load"]

# Systems whose band Cholesky takes fewer multiplications than this are solved directly.
DIRECT = 3e7
# Conjugate gradients: fall of the preconditioned residual, iterations at most.
ACCURACY, MOST_ITERATIONS = 1e-2, 100
# The ridge of the preconditioner in units of round-off, and its growth after a failure.
RIDGE, GROWTH = 4.0, 1e3


@final
@dataclass(frozen=True)
class AxisStep:
    """What a bilinear form is on one axis: its matrices, and the moves of the automaton over it."""

    axis: AxisMatrices
    moves: Transitions

    @cached_property
    def multiply(self) -> Callable[[Array], Array]:
        """Multiply X (moves, N, K) with the matrix of each move."""
        return self.axis.chosen(self.moves.letter)

    @cached_property
    def _mirror(self) -> AxisStep:
        other = AxisStep(self.axis, self.moves.reversed())
        # the same letters: the stack of matrices is made once, not in every sweep
        other.__dict__.update(multiply=self.multiply, _mirror=self)
        return other

    def reversed(self) -> AxisStep:
        """Return the step for the axes in reverse order."""
        return self._mirror


def carry(step: AxisStep, env: Array, core: Array) -> Array:
    """Carry a left environment over a core, without testing the result.

    Parameters
    ----------
    step : AxisStep
        The axis.
    env : array of shape (S, a, b)
        Test rank a, trial rank b.
    core : array of shape (b, n, e)
        The trial function's core.

    Returns
    -------
    array of shape (S', n, a, e)
    """
    xp = namespace(env, core)
    states, a, b = (int(k) for k in env.shape)
    _, n, e = (int(k) for k in core.shape)
    product = xp.reshape(xp.reshape(env, (states * a, b)) @ xp.reshape(core, (b, n * e)), (states, a, n, e))
    product = xp.reshape(xp.permute_dims(product, (0, 2, 1, 3)), (states, n, a * e))
    applied = step.multiply(rows(product, step.moves.source))
    total = step.moves.to_target @ xp.reshape(applied, (int(applied.shape[0]), n * a * e))
    return xp.reshape(total, (-1, n, a, e))


def extend(step: AxisStep, env: Array, test: Array, trial: Array) -> Array:
    """Carry a left environment (S, a, b) over the cores (a, n, c) and (b, n, e): returns (S', c, e)."""
    xp = namespace(env, test, trial)
    carried = carry(step, env, trial)
    states, n, a, e = (int(k) for k in carried.shape)
    flat = xp.reshape(xp.permute_dims(test, (2, 1, 0)), (int(test.shape[2]), n * a))
    return xp.matmul(flat[None, :, :], xp.reshape(carried, (states, n * a, e)))


def close(carried: Array, right: Array) -> Array:
    """Close what `carry` returned (S', n, a, e) by a right environment (S', c, e): returns a core (a, n, c)."""
    xp = namespace(carried, right)
    states, n, a, e = (int(k) for k in carried.shape)
    total = xp.sum(xp.matmul(xp.reshape(carried, (states, n * a, e)), xp.matrix_transpose(right)), axis=0)
    return xp.permute_dims(xp.reshape(total, (n, a, -1)), (1, 0, 2))


def core_load(vectors: Array, moves: Transitions, left: Array, right: Array) -> Array:
    """Return the load of one core, shape (a, n, c), from vectors (J, n) and environments (S, a) and (S', c)."""
    xp = namespace(vectors, left, right)
    pairs = rows(left, moves.source)[:, :, None] * rows(right, moves.target)[:, None, :]
    count, a, c = (int(k) for k in pairs.shape)
    total = vectors.T @ (moves.to_letter @ xp.reshape(pairs, (count, a * c)))
    return xp.permute_dims(xp.reshape(total, (-1, a, c)), (1, 0, 2))


def extend_load(vectors: Array, moves: Transitions, left: Array, core: Array) -> Array:
    """Carry a left environment (S, a) of the load over a core (a, n, c): returns (S', c)."""
    xp = namespace(vectors, left, core)
    a, n, c = (int(k) for k in core.shape)
    values = vectors @ xp.reshape(xp.permute_dims(core, (1, 0, 2)), (n, a * c))
    values = xp.reshape(rows(values, moves.letter), (-1, a, c))
    carried = xp.matmul(rows(left, moves.source)[:, None, :], values)[:, 0, :]
    return moves.to_target @ carried


@final
class CoreSystem:
    """The system of one core.

    Parameters
    ----------
    step : AxisStep
        The axis.
    left, right : arrays of shape (S, a, a) and (S', c, c)
        Environments.
    """

    def __init__(self, step: AxisStep, left: Array, right: Array) -> None:
        self.step, self.left, self.right = step, left, right

    def apply(self, core: Array) -> Array:
        """Return ``H X`` for a core of shape (a, n, c)."""
        return close(carry(self.step, self.left, core), self.right)

    def energy(self, core: Array) -> float:
        """Return ``<X, H X>``."""
        return float(namespace(core).sum(core * self.apply(core)))

    def solve(self, load: Array, guess: Array) -> Array:
        """Solve ``H X = F``; large systems only until the error of `guess` has fallen to about a hundredth.

        Whatever was solved, ``<X, H X> = <F, X>`` holds to round-off.

        Raises
        ------
        NotPositiveDefiniteError
            If H is not positive definite.
        """
        a, n, c = (int(k) for k in load.shape)
        if a * c == 1 or n * (a * c) ** 3 * (self.step.axis.width + 1) ** 2 <= DIRECT:
            xp = namespace(load)
            flat = xp.reshape(xp.permute_dims(load, (1, 0, 2)), (n, a * c))
            solution = solve_axis(self.step.axis, self._weights(), flat)
            return xp.permute_dims(xp.reshape(solution, (n, a, c)), (1, 0, 2))
        return self._scaled(load, self._iterate(load, guess))

    def _scaled(self, load: Array, core: Array) -> Array:
        """Scale so that energy and work agree: the best multiple, and the identity ``a(u, u) = f(u)``."""
        xp = namespace(core)
        energy, work = xp.sum(core * self.apply(core)), xp.sum(load * core)
        one = xp.ones_like(energy)
        return core * xp.where(energy > 0.0, work / xp.where(energy > 0.0, energy, one), one)

    def _weights(self) -> Array:
        """Return the products of the environments summed for each matrix, (J, a c, a c).

        All moves are multiplied for each matrix, though most have another one: a letter at a time, with a tenth of the
        multiplications, took eight launches for each letter, and all this is a hundredth of the factorisation.
        """
        xp = namespace(self.left, self.right)
        moves, a, c = self.step.moves, int(self.left.shape[1]), int(self.right.shape[1])
        left, right = rows(self.left, moves.source), rows(self.right, moves.target)
        one, two = xp.reshape(left, (-1, a * a)), xp.reshape(right, (-1, c * c))
        if a <= c:
            one, two = moves.to_letter[:, :, None] * one, two[None, :, :]
        else:
            one, two = one[None, :, :], moves.to_letter[:, :, None] * two
        blocks = xp.reshape(xp.matmul(xp.matrix_transpose(one), two), (-1, a, a, c, c))
        return xp.reshape(xp.permute_dims(blocks, (0, 1, 3, 2, 4)), (-1, a * c, a * c))

    # --- conjugate gradients ------------------------------------------------------------------------------------

    def _iterate(self, load: Array, guess: Array) -> Array:
        precondition = self._preconditioner()
        xp = namespace(load)
        x = guess
        residual = load - self.apply(x)
        z = precondition(residual)
        direction, square = z, xp.sum(residual * z)
        (first,) = read(square)
        for _ in range(MOST_ITERATIONS if first > 0.0 else 0):  # the preconditioner is definite: nothing is left over
            # Carried out before it is known whether it is sound: so an iteration waits once for the device, not twice.
            applied = self.apply(direction)
            bend = xp.sum(direction * applied)
            length = square / xp.where(bend > 0.0, bend, xp.ones_like(bend))
            further, left_over = x + length * direction, residual - length * applied
            z = precondition(left_over)
            following = xp.sum(left_over * z)
            curvature, size = read(bend, following)
            if not curvature > 0.0:
                noise = eps(load.dtype, xp) * float(xp.linalg.vector_norm(direction) * xp.linalg.vector_norm(applied))
                if curvature >= -noise:
                    break
                raise NotPositiveDefiniteError(MESSAGE)
            x, residual = further, left_over
            if not size > ACCURACY**2 * first:
                break
            direction, square = z + (following / square) * direction, following
        return x

    def _preconditioner(self) -> Callable[[Array], Array]:
        """Return the inverse of H with the environments reduced to their diagonals in the frames of its traces."""
        xp = namespace(self.left, self.right)
        moves = self.step.moves
        sums = xp.sum(moves.to_letter, axis=0) * rows(self.step.axis.traces, moves.letter)
        left, right = rows(self.left, moves.source), rows(self.right, moves.target)
        turn_left = _eigenvectors(xp, left, sums * _trace(xp, right))
        turn_right = _eigenvectors(xp, right, sums * _trace(xp, left))
        one = xp.sum(turn_left[None, :, :] * xp.matmul(left, turn_left), axis=1)
        two = xp.sum(turn_right[None, :, :] * xp.matmul(right, turn_right), axis=1)
        a, c = int(one.shape[1]), int(two.shape[1])
        weights = moves.to_letter @ xp.reshape(one[:, :, None] * two[:, None, :], (int(one.shape[0]), a * c))
        substitute = _pair_systems(self.step.axis, weights)

        def precondition(core: Array) -> Array:
            n = int(core.shape[1])
            turned = xp.reshape(turn_left.T @ xp.reshape(core, (a, n * c)), (a, n, c)) @ turn_right
            solved = substitute(xp.reshape(xp.permute_dims(turned, (0, 2, 1)), (a * c, n)))
            back = xp.permute_dims(xp.reshape(solved, (a, c, n)), (0, 2, 1))
            return xp.reshape(turn_left @ xp.reshape(back, (a, n * c)), (a, n, c)) @ turn_right.T

        return precondition


def _trace(xp: Any, stack: Array) -> Array:
    """Return the traces of a stack of square matrices."""
    identity = xp.eye(int(stack.shape[1]), dtype=stack.dtype, device=stack.device)
    return xp.sum(xp.sum(stack * identity, axis=2), axis=1)


def _eigenvectors(xp: Any, stack: Array, weights: Array) -> Array:
    """Return the eigenvectors of the symmetric part of a weighted sum of matrices."""
    total = xp.sum(weights[:, None, None] * stack, axis=0)
    return xp.linalg.eigh((total + xp.matrix_transpose(total)) / 2)[1]


def _pair_systems(axis: AxisMatrices, weights: Array) -> Callable[[Array], Array]:
    """Return the solver of ``sum_j weights[j, k] A_j x_k = f_k`` for f of shape (K, n)."""
    xp = namespace(weights)
    if is_numpy(xp) and axis.kind == "banded":
        return _pair_bands(axis, weights)
    n = axis.size
    flat = xp.reshape(axis.dense(), (axis.count, n * n))
    matrices = xp.reshape(weights.T @ flat, (-1, n, n))
    scale = (xp.abs(_trace(xp, matrices)) / n)[:, None, None] * xp.eye(
        n, dtype=weights.dtype, device=device_of(weights)
    )
    ridge = RIDGE * eps(weights.dtype, xp)
    while ridge < 1.0:
        # As a preconditioner the explicit inverse is as good as a substitution, and every namespace has it; that of the
        # factor, since the product of two halves is definite whatever their round-off.
        half, sound = inverted_factors(matrices + ridge * scale)
        if bool(sound):
            turned = xp.matrix_transpose(half)
            return lambda f: xp.matmul(turned, xp.matmul(half, f[:, :, None]))[:, :, 0]
        ridge *= GROWTH
    raise NotPositiveDefiniteError(MESSAGE)


def _pair_bands(axis: AxisMatrices, weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """All systems as one band: LAPACK is called once, where a call for each costs more than its work."""
    double = weights.dtype == np.float64
    factorise, substitute = (lapack.dpbtrf, lapack.dpbtrs) if double else (lapack.spbtrf, lapack.spbtrs)
    assert axis.lower is not None
    lower = np.tensordot(weights.T, axis.lower, axes=1)
    count, n, width = lower.shape
    ridge = RIDGE * float(np.finfo(weights.dtype).eps)
    while True:
        band = np.asfortranarray(lower.reshape(count * n, width).T)
        band[0] += ridge * (np.abs(band[0]) + np.abs(band[0]).mean())
        factor, info = factorise(band, lower=1, overwrite_ab=1)
        if info == 0:
            break
        ridge *= GROWTH
        # Not finite, or not definite by far more than round-off: no ridge would help.
        if not ridge < 1.0:
            raise NotPositiveDefiniteError(MESSAGE)
    return lambda f: substitute(factor, np.ascontiguousarray(f).reshape(-1), lower=1)[0].reshape(count, n)
