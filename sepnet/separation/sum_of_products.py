"""From a tensor train to a sum of few products, by Gauss-Newton: `u.to_cp` with fewer terms where a fit pays.

How many terms a coefficient has decides what an operator costs, so that they are worth a search. The train is written
in orthonormal frames of few columns an axis (its higher-order singular value decomposition), and in these the columns
U_i of the sum are found by a damped Gauss-Newton (Levenberg-Marquardt) method on all of them together, with the exact
normal equations: for the tensor ``[[U_1 ... U_d]]`` these are made of small Gram matrices (Tomasi and Bro, Comput.
Stat. Data Anal. 50, 2006; Sorber, Van Barel and De Lathauwer, SIAM J. Optim. 23, 2013). Alternating least squares
(`TensorTrain.to_cp`) crawls where two columns are nearly parallel, and ends with half as many terms more.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log, prod, sqrt

import numpy as np
import scipy.linalg

from sepnet.backends.threads import one_blas_thread
from sepnet.functions import CP, TensorTrain, axis_maps
from sepnet.functions.trains import add_trains, cp_to_train, round_train, scale, train_norm

__all__ = ["sum_of_products"]

# Unknowns up to which the normal equations are factorised, and operations allowed on the way up and down, some five
# seconds each: beyond, alternating least squares with more terms.
MOST_UNKNOWNS, WORK = 1500, 4e10
# Steps for one number of terms, and the steps over which the error must fall by a fifth for the search to go on.
# Valleys are long: with a quarter of this patience the sums have half as many terms more (12 for 8 in
# 1 / (1 + x_1 + ... + x_6) at 1e-6, 33 for 23 in a ring beam).
STEPS, WINDOW, GAIN = 300, 40, 0.8
# Share of the tolerance for the frames; the rest is for the fit.
FRAME_SHARE = 0.1


@one_blas_thread()
def sum_of_products(train: TensorTrain, tol: float, rank: int) -> tuple[CP, float]:
    """Return a sum of products close to a train, and its error.

    Parameters
    ----------
    train : TensorTrain
        Float64, on the host.
    tol : float
        Relative L2 error to reach.
    rank : int
        Largest number of terms.

    Returns
    -------
    function : CP
    error : float
        Relative L2 error, free of cancellation; it may exceed `tol`.
    """
    short = train.compress(FRAME_SHARE * tol)
    least = short.rank
    if len(short.cores) <= 2 or least == 1 or train.norm() == 0.0:
        return train.to_cp(tol, rank=rank)
    if least > rank:
        # Out of reach, and a fit of that many terms would take minutes: what the rank is good for.
        return sum_of_products(train, 10 * tol, rank)
    weighted = [
        np.tensordot(axis_maps.mass_root(b), c, axes=(1, 1)) for b, c in zip(short.line.bases, short.cores, strict=True)
    ]
    cores = [w.transpose(1, 0, 2) for w in weighted]
    norm = train_norm(cores)
    frames, small = _frames(cores, FRAME_SHARE * tol * norm)
    most = min(rank, MOST_UNKNOWNS // sum(f.shape[1] for f in frames), prod(short.ranks))
    if least > most:
        return train.to_cp(tol, rank=rank)
    found, _ = _search(
        [c / norm if k == 0 else c for k, c in enumerate(small)], least, most, (1 - 2 * FRAME_SHARE) * tol
    )
    if found is None:
        return train.to_cp(tol, rank=rank)
    factors = []
    for basis, frame, columns in zip(short.line.bases, frames, found, strict=True):
        factors.append(axis_maps.mass_root_inverse(basis) @ (frame @ columns))
    factors[0] = factors[0] * norm
    function = CP(train.space, [factors[place] for place in short.places])
    return function, (TensorTrain.from_cp(function) - train).norm() / norm


def _frames(cores: Sequence[np.ndarray], allowed: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return orthonormal frames an axis that lose at most `allowed` together, and the cores in them."""
    share = allowed / sqrt(len(cores))
    right = list(cores)
    for k in range(len(right) - 1, 0, -1):
        r, n, s = right[k].shape
        q, turn = np.linalg.qr(right[k].reshape(r, n * s).T)
        right[k] = q.T.reshape(-1, n, s)
        right[k - 1] = np.tensordot(right[k - 1], turn.T, axes=(2, 0))
    frames, small, centre = [], [], right[0]
    for k in range(len(right)):
        r, n, s = centre.shape
        u, sigma, _ = np.linalg.svd(centre.transpose(1, 0, 2).reshape(n, r * s), full_matrices=False)
        tails = np.sqrt(np.cumsum(sigma[::-1] ** 2)[::-1])
        frames.append(u[:, : max(1, int(np.sum(tails > share)))])
        small.append(np.einsum("nm,rns->rms", frames[k], cores[k]))
        if k + 1 < len(right):
            triangle = np.linalg.qr(centre.reshape(r * n, s), mode="r")
            centre = np.tensordot(triangle, right[k + 1], axes=(1, 0))
    return frames, small


def _search(target: Sequence[np.ndarray], least: int, most: int, tol: float) -> tuple[list[np.ndarray] | None, float]:
    """Add columns until the error is within `tol`, then take single ones away as long as it stays there."""
    columns: list[np.ndarray] | None = None
    count, left, last = least, WORK, (0, 1.0)
    while True:
        columns = _extended(target, columns, count)
        columns, error, spent = _fit(target, columns, tol)
        left -= spent
        if error <= tol or count == most or left < 0:
            break
        # Half of the columns still needed if the error goes on to fall as it did with the last ones.
        rate = log(last[1] / error) / (count - last[0]) if error < last[1] else 0.0
        needed = log(error / tol) / rate if rate > 0 else inf
        last = (count, error)
        count = min(most, count + max(1, int(min(0.5 * needed, 0.5 * count))))
    if error > tol:
        return None, error
    # Down again, which takes a few steps a column: the way up ends with up to three times the columns needed.
    left = WORK
    while columns[0].shape[1] > least and left > 0:
        sizes = prod(np.linalg.norm(c, axis=0) for c in columns)
        fewer = [np.delete(c, int(np.argmin(sizes)), axis=1) for c in columns]
        trial, found, spent = _fit(target, fewer, tol)
        left -= spent
        if found > tol:
            break
        columns, error = trial, found
    return columns, error


def _residual(target: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    return add_trains(target, scale(cp_to_train(columns), -1.0))


def _extended(target: Sequence[np.ndarray], columns: list[np.ndarray] | None, count: int) -> list[np.ndarray]:
    """Return the columns and further ones, each the rank-one part of what the others leave."""
    while columns is None or columns[0].shape[1] < count:
        rest = list(target) if columns is None else _residual(target, columns)
        term = [core[0] for core in round_train(rest, tol=0.0, rank=1)[0]]
        columns = term if columns is None else [np.hstack(pair) for pair in zip(columns, term, strict=True)]
    return columns


def _fit(target: Sequence[np.ndarray], start: list[np.ndarray], tol: float) -> tuple[list[np.ndarray], float, float]:
    """Minimise the distance to the target by Levenberg and Marquardt, until `tol` or as long as it falls.

    Returns the columns, the distance, and the number of operations.
    """
    current = _balanced(start)
    error = train_norm(_residual(target, current))
    history = [error]
    damping, grow, spent = 1e-3 * error, 2.0, 0.0
    # A factorisation, and what small products of arrays cost in Python.
    each = sum(c.size for c in start) ** 3 / 3 + 1e6 * len(start) ** 2
    for _ in range(STEPS):
        if error <= tol:
            break
        grams = [c.T @ c for c in current]
        matrix, gradient = _normal_equations(target, current, grams)
        while True:
            spent += each
            shifted = matrix.copy()
            shifted[np.diag_indices_from(shifted)] += damping
            step = scipy.linalg.solve(shifted, -gradient, assume_a="pos", overwrite_a=True, check_finite=False)
            trial = _moved(current, step)
            found = train_norm(_residual(target, trial))
            if found < error or damping > 1e6:
                break
            damping, grow = damping * grow, 2 * grow
        if not found < error:
            break
        predicted = -float(step @ gradient) - 0.5 * float(step @ (matrix @ step))
        gain = 0.5 * (error**2 - found**2) / predicted if predicted > 0 else 0.0
        damping = max(damping * max(0.1, 1 - (2 * gain - 1) ** 3), 1e-15)
        grow = 2.0
        current, error = _balanced(trial), found
        history.append(error)
        if len(history) > WINDOW and error > GAIN * history[-1 - WINDOW]:
            break
    return current, error, spent


def _balanced(columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Scale the columns so that all factors of a product have one norm."""
    norms = [np.linalg.norm(c, axis=0) for c in columns]
    each = prod(np.maximum(n, 1e-300) ** (1 / len(columns)) for n in norms)
    return [c * (each / np.maximum(n, 1e-300)) for c, n in zip(columns, norms, strict=True)]


def _moved(columns: Sequence[np.ndarray], step: np.ndarray) -> list[np.ndarray]:
    result, at = [], 0
    for c in columns:
        result.append(c + step[at : at + c.size].reshape(c.shape))
        at += c.size
    return result


def _through(core: np.ndarray, columns: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """Return what the columns before and in an axis make of the train: (R, r) to (R, r')."""
    between = np.tensordot(columns, core, axes=(0, 1))
    return np.asarray((carried[:, None, :] @ between)[:, 0, :])


def _normal_equations(
    target: Sequence[np.ndarray], columns: Sequence[np.ndarray], grams: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return J'J and J'(X - T), the unknowns axis by axis, rows of the columns first."""
    d, r = len(columns), columns[0].shape[1]
    sizes = [c.size for c in columns]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    matrix, gradient = np.empty((ends[-1], ends[-1])), np.empty(ends[-1])
    before, after = [np.ones((r, 1))], [np.ones((r, 1))]
    for core, c in zip(target[:-1], columns[:-1], strict=True):
        before.append(_through(core, c, before[-1]))
    for core, c in zip(reversed(target[1:]), reversed(columns[1:]), strict=True):
        after.append(_through(core.transpose(2, 1, 0), c, after[-1]))
    for i, c in enumerate(columns):
        half = np.tensordot(before[i], target[i], axes=(1, 0))
        image = (half @ after[d - 1 - i][:, :, None])[:, :, 0].T
        others = prod((g for k, g in enumerate(grams) if k != i), start=np.ones((r, r)))
        gradient[ends[i] : ends[i + 1]] = (c @ others - image).ravel()
        rows = slice(ends[i], ends[i + 1])
        matrix[rows, rows] = np.kron(np.eye(c.shape[0]), others)
        for j in range(i + 1, d):
            rest = prod((g for k, g in enumerate(grams) if k not in (i, j)), start=np.ones((r, r)))
            # d/dU_i[m, a] and d/dU_j[n, b]:  rest[a, b] U_i[m, b] U_j[n, a]
            block = (c[:, None, None, :] * rest[None, :, None, :]) * columns[j].T[None, :, :, None]
            block = block.reshape(c.size, -1)
            columns_of = slice(ends[j], ends[j + 1])
            matrix[rows, columns_of], matrix[columns_of, rows] = block, block.T
    return matrix, gradient
