"""Tucker tensors as matrices and a core: arithmetic, orthogonalisation, rounding, in any array namespace.

Matrices ``A_i`` of shape (n_i, r_i), at least one column each, and a core of shape (r_1, ..., r_d) are the tensor

    T[k_1, ..., k_d] = sum over j_1 ... j_d of  core[j_1, ..., j_d] A_1[k_1, j_1] ... A_d[k_d, j_d].

Everything here is about that tensor and its Euclidean norm; the functions of `sepnet.functions.tucker` bring their
matrices into orthonormal coordinates first, in which Euclidean and L2 norm are one. Sources: De Lathauwer, De Moor,
Vandewalle, A multilinear singular value decomposition, SIAM J. Matrix Anal. Appl. 21 (2000), called [D], and
Vannieuwenhoven, Vandebril, Meerbergen, A new truncation strategy for the higher-order singular value decomposition,
SIAM J. Sci. Comput. 34 (2012), called [V].
"""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp, hypot, isfinite, prod, sqrt

import numpy as np

from sepnet.backends.arrays import Array, device_of, from_host, namespace, needs_autograd
from sepnet.backends.threads import one_blas_thread
from sepnet.functions.dense import mode_product, number
from sepnet.functions.evaluation import outer
from sepnet.functions.trains import dense_to_train, orthogonalise_left, orthogonalise_right, train_norm, train_to_dense

__all__ = [
    "MAX_CORE",
    "add_tucker",
    "capped",
    "check_core",
    "contract",
    "cp_to_tucker",
    "multiply",
    "multiply_cores",
    "orthogonalise",
    "round_tucker",
    "st_hosvd",
    "train_to_tucker",
    "tucker_norm",
    "tucker_size",
    "tucker_terms",
    "tucker_to_train",
]

# 2**27 numbers are 1 GiB in float64.
MAX_CORE = 2**27


def check_core(ranks: Sequence[int], advice: str) -> None:
    """Raise ValueError, with the next step `advice`, unless a core of these ranks holds at most `MAX_CORE` numbers."""
    count = prod(ranks)
    if count > MAX_CORE:
        shape = " x ".join(map(str, ranks))
        msg = f"the core would be {shape} = {count:.3g} numbers, at most {MAX_CORE} are allowed: {advice}"
        raise ValueError(msg)


# ------------------------------------------------------------------------------------------------------------ algebra


def multiply(core: Array, matrices: Sequence[Array]) -> Array:
    """Multiply a core with one matrix an axis.

    The axes that shrink most come first, so that no intermediate is larger than the larger one of core and result.

    Parameters
    ----------
    core : array of shape (r_1, ..., r_d)
    matrices : sequence of arrays (n_i, r_i)

    Returns
    -------
    array of shape (n_1, ..., n_d)
    """
    for k in sorted(range(len(matrices)), key=lambda k: int(matrices[k].shape[0]) / int(matrices[k].shape[1])):
        core = mode_product(core, matrices[k], k)
    return core


def contract(core: Array, rows: Sequence[Array | None]) -> Array:
    """Contract axes of a core with rows of shape (1, r_i), and drop them; None leaves an axis as it is."""
    xp = namespace(core)
    for k in reversed(range(len(rows))):
        row = rows[k]
        if row is not None:
            core = xp.tensordot(core, row[0, :], axes=([k], [0]))
    return core


def capped(factors: Sequence[Array], core: Array) -> tuple[list[Array], Array]:
    """Return the same tensor with no rank above the rows of its matrix: such a matrix is taken into the core."""
    result = list(factors)
    for k, factor in enumerate(factors):
        n, rank = (int(m) for m in factor.shape)
        if rank > n:
            result[k], core = _identity(factor), mode_product(core, factor, k)
    return result, core


def add_tucker(
    factors: Sequence[Array], core: Array, others: Sequence[Array], other_core: Array
) -> tuple[list[Array], Array]:
    """Add two Tucker tensors: the matrices side by side, the cores on the diagonal.

    An axis on which that would be more columns than rows takes the identity as its matrix instead.

    Parameters
    ----------
    factors, others : sequence of arrays (n_i, r_i) and (n_i, s_i)
    core, other_core : arrays (r_1, ..., r_d) and (s_1, ..., s_d)

    Returns
    -------
    factors : list of arrays (n_i, min(r_i + s_i, n_i))
    core : array

    Raises
    ------
    ValueError
        If the core would hold more than `MAX_CORE` numbers.
    """
    xp = namespace(*factors, *others)
    sizes = [(int(a.shape[0]), int(a.shape[1]), int(b.shape[1])) for a, b in zip(factors, others, strict=True)]
    check_core([min(n, r + s) for n, r, s in sizes], "lower the ranks of both first, e.g. u.compress(tol=1e-6)")
    joined: list[Array] = []
    for k, (n, r, s) in enumerate(sizes):
        if r + s > n:
            core, other_core = mode_product(core, factors[k], k), mode_product(other_core, others[k], k)
            joined.append(_identity(factors[k]))
        else:
            joined.append(xp.concat([factors[k], others[k]], axis=1))
    for k, (n, r, s) in enumerate(sizes):
        if r + s <= n:
            core = xp.concat([core, _zeros(core, k, s)], axis=k)
            other_core = xp.concat([_zeros(other_core, k, r), other_core], axis=k)
    return joined, core + other_core


def _identity(factor: Array) -> Array:
    return namespace(factor).eye(int(factor.shape[0]), dtype=factor.dtype, device=device_of(factor))


def _zeros(core: Array, axis: int, count: int) -> Array:
    """Return zeros of the shape of a core but for one axis."""
    shape = tuple(count if k == axis else int(n) for k, n in enumerate(core.shape))
    return namespace(core).zeros(shape, dtype=core.dtype, device=device_of(core))


def multiply_cores(a: Array, b: Array) -> Array:
    """Return the Kronecker product of two cores, shape (r_1 s_1, ..., r_d s_d).

    Raises
    ------
    ValueError
        If it would hold more than `MAX_CORE` numbers.
    """
    shape = [int(r) * int(s) for r, s in zip(a.shape, b.shape, strict=True)]
    check_core(
        shape, "lower the ranks of both first, e.g. u.compress(tol=1e-6), or multiply tensor trains, u.to_train()"
    )
    xp = namespace(a, b)
    left = xp.reshape(a, tuple(m for r in a.shape for m in (int(r), 1)))
    right = xp.reshape(b, tuple(m for s in b.shape for m in (1, int(s))))
    return xp.reshape(left * right, tuple(shape))


# --------------------------------------------------------------------------------------------- orthogonal coordinates


def orthogonalise(factors: Sequence[Array], core: Array) -> tuple[list[Array], Array]:
    """Return the same tensor with orthonormal columns in all matrices, by one QR factorisation each.

    Parameters
    ----------
    factors : sequence of arrays (n_i, r_i)
    core : array of shape (r_1, ..., r_d)

    Returns
    -------
    frames : list of arrays (n_i, min(n_i, r_i))
    core : array
        Of the norm of the tensor. Nothing leaves the range of the dtype where the tensor does not.
    """
    frames, core, powers = _orthogonal(factors, core)
    return frames, _times(core, powers)


def _orthogonal(factors: Sequence[Array], core: Array) -> tuple[list[Array], Array, list[float]]:
    """Return orthonormal matrices, the core, and the powers of two taken out of everything, which costs no digit."""
    xp = namespace(*factors, core)
    frames, triangles = [], []
    powers = [_power(core), *(_power(factor) for factor in factors)]
    for factor, power in zip(factors, powers[1:], strict=True):
        frame, triangle = xp.linalg.qr(factor / power, mode="reduced")
        frames.append(frame)
        triangles.append(triangle)
    return frames, multiply(core / powers[0], triangles), powers


def _power(array: Array) -> float:
    """Return the largest power of two that is at most the largest entry; 1 where there is none."""
    largest = number(namespace(array).max(namespace(array).abs(array)))
    return 2.0 ** (frexp(largest)[1] - 1) if largest > 0.0 and isfinite(largest) else 1.0


def _times(value: Array, powers: Sequence[float]) -> Array:
    """Multiply an array or a number with numbers, in an order that keeps large ones and small ones in balance."""
    rest, scale = sorted(powers), 1.0
    while rest:
        factor = rest.pop(0 if scale >= 1.0 else -1)
        value, scale = value * factor, scale * factor
    return value


@one_blas_thread()
def tucker_norm(factors: Sequence[Array], core: Array) -> float:
    """Return the Euclidean norm, free of cancellation: that of the core once the matrices are orthonormal.

    Returns
    -------
    float
        With an error of a few units of round-off of `tucker_size`; NaN or infinite if the tensor is not finite.
    """
    _, core, powers = _orthogonal([_plain(factor) for factor in factors], _plain(core))
    return _scaled_norm(core, powers)


def _scaled_norm(array: Array, powers: Sequence[float]) -> float:
    """Return the norm of an array times some numbers; it may overflow, silently, where the array would."""
    norm: float = _times(train_norm([namespace(array).reshape(array, (1, -1, 1))]), powers)
    return norm


def _plain(array: Array) -> Array:
    return array.detach() if needs_autograd(array) else array


def tucker_size(factors: Sequence[Array], core: Array) -> float:
    """Return the root of the sum of squares of all terms, each an entry of the core times the norms of its columns.

    That is what the round-off of the tensor is relative to; for orthonormal matrices it is the norm.
    """
    factors, core = [_plain(factor) for factor in factors], _plain(core)
    xp = namespace(*factors, core)
    powers = [_power(core), *(_power(factor) for factor in factors)]
    core = core / powers[0]
    for k, factor in enumerate(factors):
        norms = xp.linalg.vector_norm(factor / powers[k + 1], axis=0)
        core = core * xp.reshape(norms, tuple(-1 if e == k else 1 for e in range(len(factors))))
    return _scaled_norm(core, powers)


# ----------------------------------------------------------------------------------------------------------- rounding


@one_blas_thread()
def st_hosvd(tensor: Array, tol: float, rank: int | None = None) -> tuple[list[Array], Array, float]:
    """Return a Tucker tensor close to a dense array: the sequentially truncated higher-order SVD of [V].

    One axis after the other is projected onto the leading left singular vectors of its unfolding. What a step drops
    is orthogonal to what all others drop, so that the squares add: the error is known exactly ([V]). It is at most
    ``sqrt(d)`` times that of the best tensor of the same ranks, as for the truncated decomposition of [D], which works
    on the whole array for every axis. Short axes come first, where that costs least. Every step may use an equal share
    of the square of `tol` that the ones before left over.

    Parameters
    ----------
    tensor : array of shape (n_1, ..., n_d)
    tol : float
        Absolute error allowed in the Euclidean norm; ten units of round-off of the norm are dropped on any axis.
    rank : int, optional
        Largest rank on every axis; with it the error may exceed `tol`.

    Returns
    -------
    frames : list of arrays (n_i, r_i)
        Orthonormal columns, at least one.
    core : array of shape (r_1, ..., r_d)
    error : float
        Euclidean norm of the difference, apart from round-off.
    """
    xp = namespace(tensor)
    d = tensor.ndim
    frames: list[Array] = [None] * d
    core, spent = tensor, 0.0
    for step, k in enumerate(sorted(range(d), key=lambda k: int(tensor.shape[k]))):
        shape = [int(n) for n in core.shape]
        order = (k, *(e for e in range(d) if e != k))
        unfolded = xp.reshape(xp.permute_dims(core, order), (shape[k], -1))
        left = 1.0 - (spent / tol) ** 2 if spent < tol else 0.0
        # A matrix is a train of two cores, whose decomposition takes care of round-off and of the range of the dtype.
        (frame, rest), error = dense_to_train(unfolded, tol * sqrt(left / (d - step)), rank)
        spent = hypot(spent, error)
        frames[k] = frame[0, :, :]
        folded = xp.reshape(rest, (-1, *(shape[e] for e in order[1:])))
        core = xp.permute_dims(folded, tuple(order.index(e) for e in range(d)))
    return frames, core, spent


@one_blas_thread()
def round_tucker(
    factors: Sequence[Array], core: Array, *, tol: float, rank: int | None = None
) -> tuple[list[Array], Array, float]:
    """Lower the ranks to a certified error: `st_hosvd` of the core, once the matrices are orthonormal.

    Parameters
    ----------
    factors : sequence of arrays (n_i, r_i)
    core : array of shape (r_1, ..., r_d)
    tol, rank : float, int
        See `st_hosvd`.

    Returns
    -------
    frames, core, error
        See `st_hosvd`.
    """
    frames, whole = orthogonalise(factors, core)
    turns, small, error = st_hosvd(whole, tol, rank)
    return [frame @ turn for frame, turn in zip(frames, turns, strict=True)], small, error


# -------------------------------------------------------------------------------------------------------- other formats


def cp_to_tucker(factors: Sequence[Array]) -> tuple[list[Array], Array]:
    """Write ``sum_r  a_1[:, r] x ... x a_d[:, r]`` as a Tucker tensor: the core has ones on its superdiagonal.

    An axis with fewer rows than columns takes the identity as its matrix instead, and the core its columns.

    Parameters
    ----------
    factors : sequence of arrays (n_i, R)
        R = 0, the zero tensor, gives a zero core of ranks one.

    Returns
    -------
    factors : list of arrays (n_i, min(n_i, R))
    core : array

    Raises
    ------
    ValueError
        If the core would hold more than `MAX_CORE` numbers.
    """
    xp = namespace(*factors)
    rank, home = int(factors[0].shape[1]), device_of(factors[0])
    if rank == 0:
        zeros = [xp.zeros((int(f.shape[0]), 1), dtype=f.dtype, device=home) for f in factors]
        return zeros, xp.zeros((1,) * len(factors), dtype=factors[0].dtype, device=home)
    advice = "lower the rank of the sum of products first, e.g. u.compress(tol=1e-6), or use sn.TensorTrain.from_cp(u)"
    check_core([min(rank, int(f.shape[0])) for f in factors], advice)
    identity = xp.eye(rank, dtype=factors[0].dtype, device=home)
    wide = [int(f.shape[0]) < rank for f in factors]
    core = outer([f if w else identity for f, w in zip(factors, wide, strict=True)])
    return [_identity(f) if w else f for f, w in zip(factors, wide, strict=True)], core


def tucker_terms(factors: Sequence[Array], core: Array) -> list[Array]:
    """Return the exact sum of products: one term for each entry of the core along all axes but that of largest rank.

    Parameters
    ----------
    factors : sequence of arrays (n_i, r_i)
    core : array of shape (r_1, ..., r_d)

    Returns
    -------
    list of arrays (n_i, R)
        R is the product of the ranks without the largest.
    """
    xp = namespace(*factors, core)
    ranks = [int(r) for r in core.shape]
    longest = ranks.index(max(ranks))
    others = [k for k in range(len(ranks)) if k != longest]
    count = prod(ranks[k] for k in others)
    chosen = np.unravel_index(np.arange(count), [ranks[k] for k in others]) if others else ()
    unfolded = xp.reshape(xp.permute_dims(core, (longest, *others)), (ranks[longest], count))
    result: list[Array] = list(factors)
    result[longest] = factors[longest] @ unfolded
    for k, index in zip(others, chosen, strict=True):
        result[k] = xp.take(factors[k], from_host(index, xp, device=device_of(core), dtype="int64"), axis=1)
    return result


@one_blas_thread()
def tucker_to_train(factors: Sequence[Array], core: Array) -> list[Array]:
    """Write a Tucker tensor as a train of the lowest ranks, exactly up to round-off: the core becomes a train.

    Returns
    -------
    list of arrays (r, n_i, r')
    """
    xp = namespace(*factors, core)
    frames, whole = orthogonalise(factors, core)
    small, _ = dense_to_train(whole, 0.0)
    moved = [xp.tensordot(frame, part, axes=([1], [1])) for frame, part in zip(frames, small, strict=True)]
    return [xp.permute_dims(part, (1, 0, 2)) for part in moved]


@one_blas_thread()
def train_to_tucker(cores: Sequence[Array]) -> tuple[list[Array], Array]:
    """Write a train as a Tucker tensor of the lowest ranks, exactly up to round-off.

    With all other cores orthonormal, the singular values of a core unfolded along its axis are those of the whole
    tensor unfolded along that axis: none but round-off is dropped.

    Parameters
    ----------
    cores : sequence of arrays (r, n_i, r')

    Returns
    -------
    factors : list of arrays (n_i, r_i)
        Orthonormal columns.
    core : array of shape (r_1, ..., r_d)

    Raises
    ------
    ValueError
        If the core would hold more than `MAX_CORE` numbers.
    """
    xp = namespace(*cores)
    parts, frames = orthogonalise_right(cores), []
    for k, part in enumerate(parts):
        left, n, right = (int(m) for m in part.shape)
        unfolded = xp.reshape(xp.permute_dims(part, (1, 0, 2)), (n, left * right))
        (frame, rest), _ = dense_to_train(unfolded, 0.0)
        frames.append(frame[0, :, :])
        parts[k] = xp.permute_dims(xp.reshape(rest, (-1, left, right)), (1, 0, 2))
        if k + 1 < len(parts):
            parts[k], parts[k + 1] = orthogonalise_left([parts[k], parts[k + 1]])
    check_core(
        [int(frame.shape[1]) for frame in frames], "lower the ranks of the train first, e.g. u.compress(tol=1e-6)"
    )
    return frames, train_to_dense(parts)
