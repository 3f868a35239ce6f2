"""From a tensor train to a sum of products: all paths, or a fit of fewer terms.

In orthonormal coordinates throughout; see `sepnet.functions.trains` for the cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from sepnet.backends.arrays import Array, device_of, eps, from_host, namespace, needs_autograd
from sepnet.backends.threads import one_blas_thread
from sepnet.functions.trains import add_trains, cp_to_train, round_train, scale, train_norm

__all__ = ["fit_products", "paths"]

# Beyond this many columns ALS costs more than a train is worth.
MAX_RANK = 128
MAX_SWEEPS = 200


def paths(cores: Sequence[Array]) -> list[Array]:
    """Return the exact sum of products: one term for each way through the ranks, ``r_1 ... r_{d-1}`` of them.

    Parameters
    ----------
    cores : sequence of arrays (r, n_i, r')

    Returns
    -------
    list of arrays (n_i, r_1 ... r_{d-1})
    """
    xp = namespace(*cores)
    ranks = [int(core.shape[2]) for core in cores[:-1]]
    ends = np.zeros(prod(ranks), dtype=np.int64)
    states = [ends, *np.unravel_index(np.arange(prod(ranks)), ranks), ends] if ranks else [ends, ends]
    result = []
    for core, left, right in zip(cores, states[:-1], states[1:], strict=True):
        n, width = int(core.shape[1]), int(core.shape[2])
        flat = xp.reshape(xp.permute_dims(core, (1, 0, 2)), (n, -1))
        chosen = from_host(left * width + right, xp, device=device_of(core), dtype="int64")
        result.append(xp.take(flat, chosen, axis=1))
    return result


@one_blas_thread()
def fit_products(cores: Sequence[Array], *, tol: float, rank: int | None = None) -> tuple[list[Array], float]:
    """Approximate a train by a sum of products.

    Two axes: the singular value decomposition, which is optimal. More: alternating least squares with a growing number
    of columns, the new ones being the rank-one parts that rounding finds in the residual; after each sweep a step
    further along its change is tried (Bro, Multi-way analysis in the food industry, 1998, section 4.4).

    Parameters
    ----------
    cores : sequence of arrays (r, n_i, r')
    tol : float
        Absolute error to reach in the Euclidean norm.
    rank : int or None, optional
        Largest number of columns; by default `MAX_RANK`, and all paths where they are fewer.

    Returns
    -------
    factors : list of arrays (n_i, R)
    error : float
        Euclidean norm of the difference, free of cancellation; it may exceed `tol`.
    """
    target, lost = round_train([c.detach() if needs_autograd(c) else c for c in cores], tol=0.1 * tol)
    count = prod(int(core.shape[2]) for core in target[:-1])
    limit = MAX_RANK if rank is None else rank
    if count == 1:
        return paths(target), lost
    if len(target) == 2:
        rounded, lost = round_train(cores, tol=tol, rank=rank)
        return paths(rounded), lost
    # The target was rounded by a tenth of `tol`; the rest is for the fit.
    goal = 0.9 * tol
    best: list[Array] | None = None
    error = float("inf")
    while error > goal:
        have = 0 if best is None else int(best[0].shape[1])
        most = min(limit, count - 1)  # all paths are exact, and need no fit
        if have >= most:
            break
        start = _extended(target, best, min(max(1, have // 4), most - have))
        trial, found = _sweeps(target, start, goal)
        if found >= error:  # the new columns did not help: more of them will not either
            break
        best, error = trial, found
    if error > goal and count <= limit:
        return paths(target), lost
    assert best is not None
    return best, _error(cores, best)


def _error(target: Sequence[Array], factors: Sequence[Array]) -> float:
    return train_norm(_residual(target, factors))


def _residual(target: Sequence[Array], factors: Sequence[Array]) -> list[Array]:
    return add_trains(target, scale(cp_to_train(factors), -1.0))


def _extended(target: Sequence[Array], factors: Sequence[Array] | None, count: int) -> list[Array]:
    """Return the columns and `count` new ones, each the rank-one part of what the others leave."""
    xp = namespace(*target)
    result = None if factors is None else list(factors)
    for _ in range(count):
        residual = list(target) if result is None else _residual(target, result)
        term = [core[0, :, :] for core in round_train(residual, tol=0.0, rank=1)[0]]
        result = term if result is None else [xp.concat([a, b], axis=1) for a, b in zip(result, term, strict=True)]
    assert result is not None
    return result


def _sweeps(target: Sequence[Array], start: Sequence[Array], tol: float) -> tuple[list[Array], float]:
    """Alternate least squares until `tol`, or until the error falls by less than 1 % in ten sweeps."""
    current, error, last = list(start), _error(target, start), float("inf")
    for sweep in range(MAX_SWEEPS):
        before, current = current, _sweep(target, current)
        if sweep % 5 != 4:
            continue
        error = _error(target, current)
        length = (sweep + 1) ** (1 / 3)
        further = [a + length * (b - a) for a, b in zip(before, current, strict=True)]
        trial = _error(target, further)
        if trial < error:
            current, error = further, trial
        if error <= tol or error > 0.99 * last:
            break
        last = error
    return current, error


def _sweep(target: Sequence[Array], factors: Sequence[Array]) -> list[Array]:
    """Solve for the columns of every axis in turn; those of the last carry the norms."""
    xp = namespace(*factors)
    current, d = list(factors), len(factors)
    rank = int(current[0].shape[1])
    kind = {"dtype": current[0].dtype, "device": device_of(current[0])}
    ridge, identity = 10 * eps(current[0].dtype, xp), xp.eye(rank, **kind)
    # The target contracted with the columns of all later axes, (R, r, 1), and of all earlier ones, (R, 1, r).
    after = [xp.ones((rank, 1, 1), **kind)]
    for core, columns in zip(reversed(target[1:]), reversed(current[1:]), strict=True):
        after.append(_between(core, columns) @ after[-1])
    before = xp.ones((rank, 1, 1), **kind)
    grams = [f.T @ f for f in current]
    for i, core in enumerate(target):
        # (R, 1, r) times (n, 1, r, r') times (R, r', 1), for every n and column
        half = xp.tensordot(core, after[d - 1 - i][:, :, 0], axes=([2], [1]))
        right = xp.sum(xp.permute_dims(half, (1, 0, 2)) * before[:, 0, :].T[None, :, :], axis=1)
        gram = xp.ones((rank, rank), **kind)
        for k in range(d):
            gram = gram * grams[k] if k != i else gram
        shift = ridge * xp.sum(gram * identity) / rank
        current[i] = xp.linalg.solve(gram + shift * identity, right.T).T
        if i < d - 1:
            norm = xp.linalg.vector_norm(current[i], axis=0)
            current[i] = current[i] / xp.where(norm > 0, norm, xp.ones_like(norm))
        grams[i] = current[i].T @ current[i]
        before = before @ _between(core, current[i])
    return current


def _between(core: Array, columns: Array) -> Array:
    """Return the core contracted with each column, shape (R, r, r')."""
    xp = namespace(core, columns)
    return xp.permute_dims(xp.tensordot(core, columns, axes=([1], [0])), (2, 0, 1))
