"""Lower the rank of a CP function, to a certified error."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from sepnet.backends.arrays import Array, device_of, eps, namespace
from sepnet.backends.threads import one_blas_thread
from sepnet.bases.checks import real_number
from sepnet.functions.dense import number, truncated_svd
from sepnet.functions.host_map import moved
from sepnet.separable_norm import MANY_COLUMNS, gram_square, separable_norm

__all__ = ["check_accuracy", "compress", "fit", "norm_above_noise"]

MAX_SWEEPS = 60
# A sum this many units of round-off below its terms is zero: coefficients carry a few tens from sums and projections.
ROUND_OFF = 1e3


@one_blas_thread()
def compress(
    factors: Sequence[Array],
    roots: Sequence[Any],
    inverses: Sequence[Any],
    *,
    tol: float | None,
    rank: int | None,
) -> list[Array]:
    """Return factors of the lowest rank found with relative error at most `tol` in the norm ``|S_i .|``.

    The function is written in orthonormal coordinates ``F_i = S_i C_i``. With one axis it is of rank one, with two the
    singular value decomposition is optimal. With more, ranks are tried by bisection between one and the present rank;
    each is reached by ALS from the columns that a pivoted Cholesky factorisation of their Gram matrix chooses, so that
    equal and dependent columns are never chosen together. The error is that of the difference, orthogonalised: it is
    certified and not estimated.

    Parameters
    ----------
    factors : sequence of arrays (n_i, R)
        Coefficient matrices.
    roots, inverses : sequence of ndarray (n_i, n_i), or HostMap on mesh axes
        Roots of the mass matrices and their inverses, on the host.
    tol : float or None
        Relative error allowed; None stands for 1e-8, and with `rank` for whatever that rank gives.
    rank : int or None
        Largest rank allowed.

    Returns
    -------
    list of arrays (n_i, R')

    Raises
    ------
    TypeError
        If `rank` is no integer.
    ValueError
        If `tol` is negative or NaN, `rank` is below one, or both are given and `rank` does not suffice for `tol`.
    """
    wanted = 1e-8 if tol is None else tol
    check_accuracy(wanted, rank)
    scaled = [moved(s, f) @ f for s, f in zip(roots, factors, strict=True)]
    total = norm_above_noise(scaled)
    if int(factors[0].shape[1]) == 0 or total == 0.0:
        return [f[:, :0] for f in factors]
    best, error = _shorten(scaled, wanted, rank, total)
    if rank is not None and tol is not None and error > tol:
        msg = f"`rank` is {rank}, with which the relative error is {error:.3g}, more than tol={tol:g}: raise either"
        raise ValueError(msg)
    if best is None:
        return list(factors)
    return [moved(s, f) @ f for s, f in zip(inverses, best, strict=True)]


def norm_above_noise(scaled: Sequence[Array]) -> float:
    """Return the norm of a sum of rank-one tensors, and exactly zero where it is round-off of its terms."""
    norm = separable_norm(scaled)
    xp, dtype = namespace(*scaled), scaled[0].dtype
    sizes = xp.ones(int(scaled[0].shape[1]), dtype=dtype, device=device_of(scaled[0]))
    noise = ROUND_OFF * eps(dtype, xp)
    if norm == 0.0:
        return 0.0
    for columns in scaled:
        # Scaled by the largest entry, since squares of large or small data leave the range.
        largest = number(xp.max(xp.abs(columns)))
        sizes = sizes * xp.linalg.vector_norm(columns / largest, axis=0)
        noise *= largest
    return 0.0 if norm <= noise * number(xp.sum(sizes)) else norm


def check_accuracy(tol: float, rank: int | None) -> None:
    """Raise unless `tol` is a number >= 0 and `rank` an integer >= 1 or None."""
    if not real_number("`tol`", tol) >= 0.0:
        msg = f"`tol` is {tol}, expected a number >= 0"
        raise ValueError(msg)
    if rank is None:
        return
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer):
        msg = f"`rank` is {rank!r}, expected an integer >= 1"
        raise TypeError(msg)
    if rank < 1:
        msg = f"`rank` is {rank}, expected an integer >= 1"
        raise ValueError(msg)


def _shorten(scaled: Sequence[Array], tol: float, rank: int | None, total: float) -> tuple[list[Array] | None, float]:
    """Return the shortened factors (None: they stay as they are) and the relative error."""
    xp = namespace(*scaled)
    present = int(scaled[0].shape[1])
    if len(scaled) == 1:
        return (None, 0.0) if present == 1 else ([xp.sum(scaled[0], axis=1)[:, None]], 0.0)
    frames, small = [], []
    for f in scaled:
        q, r = xp.linalg.qr(f, mode="reduced")
        frames.append(q)
        small.append(r)
    if len(scaled) == 2:
        left, right, lost = truncated_svd(small[0] @ small[1].T, tol * total, rank)
        if int(left.shape[1]) >= present:
            return None, 0.0
        return [frames[0] @ left, frames[1] @ right], lost / total
    best, error = _bisect(small, tol, rank, total)
    return (None if best is None else [q @ f for q, f in zip(frames, best, strict=True)]), error


def _bisect(target: Sequence[Array], tol: float, rank: int | None, total: float) -> tuple[list[Array] | None, float]:
    present = int(target[0].shape[1])
    top = present if rank is None else min(rank, present)
    pivots = _pivots(target, top)
    best: list[Array] | None = None
    error = 0.0
    low, high = 1, top
    if top < present:
        best, error = _attempt(target, pivots, top, tol, total)
        if error > tol:
            return best, error
    while low < high:
        middle = (low + high) // 2
        trial, found = _attempt(target, pivots, middle, tol, total)
        if found <= tol:
            best, error, high = trial, found, middle
        else:
            low = middle + 1
    return best, error


def _attempt(
    target: Sequence[Array], pivots: Sequence[int], rank: int, tol: float, total: float
) -> tuple[list[Array], float]:
    xp = namespace(*target)
    chosen = xp.asarray(list(pivots[:rank]), dtype=xp.int64, device=device_of(target[0]))
    fitted = fit(target, [xp.take(f, chosen, axis=1) for f in target], tol=tol * total)
    return fitted, _distance(target, fitted, tol * total) / total


def _pivots(target: Sequence[Array], count: int) -> list[int]:
    """Return at most `count` rank-one terms, each the one farthest from the span of those before."""
    xp = namespace(*target)
    gram = target[0].T @ target[0]
    for f in target[1:]:
        gram = gram * (f.T @ f)
    rank = int(gram.shape[0])
    diagonal = xp.sum(gram * xp.eye(rank, dtype=gram.dtype, device=device_of(gram)), axis=0)
    floor = 10 * rank * eps(gram.dtype, xp) * number(xp.max(diagonal))
    chosen: list[int] = []
    rows: list[Array] = []
    for _ in range(count):
        k = int(xp.argmax(diagonal))
        pivot = number(diagonal[k])
        if pivot <= floor:
            break
        row = gram[k, :]
        for earlier in rows:
            row = row - earlier[k] * earlier
        row = row / pivot**0.5
        rows.append(row)
        chosen.append(k)
        diagonal = diagonal - row * row
    return chosen


def _difference(a: Sequence[Array], b: Sequence[Array]) -> list[Array]:
    xp = namespace(*a)
    signs = [-1.0] + [1.0] * (len(a) - 1)
    return [xp.concat([x, s * y], axis=1) for x, y, s in zip(a, b, signs, strict=True)]


def _distance(a: Sequence[Array], b: Sequence[Array], allowed: float) -> float:
    """Return the distance; with many columns an upper bound of it, where round-off is small beside `allowed`."""
    both = _difference(a, b)
    if int(both[0].shape[1]) > MANY_COLUMNS:
        square, noise = gram_square(both)
        if noise <= 0.5 * allowed**2:
            return sqrt(square + noise)
    return separable_norm(both)


def _watched(a: Sequence[Array], b: Sequence[Array]) -> float:
    """Return the distance for watching an iteration: with many columns not below the noise of the Gram formula."""
    both = _difference(a, b)
    if int(both[0].shape[1]) > MANY_COLUMNS:
        return sqrt(max(gram_square(both)))
    return separable_norm(both)


def fit(target: Sequence[Array], start: Sequence[Array], *, tol: float) -> list[Array]:
    """Approximate a CP tensor (orthonormal coordinates) by one of lower rank, by ALS from `start`.

    Stops when the error is below `tol` or no longer falls by 0.1 % over five sweeps.
    """
    xp = namespace(*target)
    d = len(target)
    current = list(start)
    rank = int(current[0].shape[1])
    ridge = 10 * eps(target[0].dtype, xp)
    identity = xp.eye(rank, dtype=target[0].dtype, device=device_of(target[0]))
    last = float("inf")
    for sweep in range(MAX_SWEEPS):
        for i in range(d):
            cross: Array = 1.0
            gram: Array = 1.0
            for e in range(d):
                if e != i:
                    cross = cross * (target[e].T @ current[e])
                    gram = gram * (current[e].T @ current[e])
            trace = xp.sum(gram * identity) / rank
            current[i] = xp.linalg.solve(gram + (ridge * trace) * identity, (target[i] @ cross).T).T
            if i < d - 1:
                norm = xp.linalg.vector_norm(current[i], axis=0)
                current[i] = current[i] / xp.where(norm > 0, norm, xp.ones_like(norm))
        if sweep in (0, 1) or sweep % 5 == 4:
            error = _watched(target, current)
            if error <= tol or (sweep % 5 == 4 and error > 0.999 * last):
                break
            if sweep % 5 == 4:
                last = error
    return current
