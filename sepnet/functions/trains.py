"""Tensor trains as lists of cores: arithmetic, orthogonalisation, rounding, in any array namespace.

A train of d cores ``G_i`` of shape (r_{i-1}, n_i, r_i), with r_0 = r_d = 1, is the tensor

    T[j_1, ..., j_d] = G_1[:, j_1, :] G_2[:, j_2, :] ... G_d[:, j_d, :]          (a product of d matrices).

Everything here is about that tensor and its Euclidean norm; the functions of `sepnet.functions.tensor_train` bring
their cores into orthonormal coordinates first, in which Euclidean and L2 norm are one. The source of the algorithms
is Oseledets, Tensor-train decomposition, SIAM J. Sci. Comput. 33 (2011), called [O] below.

Sweeps divide what they carry by powers of two, which costs no digit, so that no intermediate leaves the range of the
dtype when the tensor itself does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp, hypot, inf, isfinite, ldexp, nan, sqrt

import numpy as np

from sepnet.backends.arrays import Array, device_of, eps, is_numpy, namespace, needs_autograd
from sepnet.backends.threads import one_blas_thread
from sepnet.functions.dense import number

__all__ = [
    "add_trains",
    "cp_to_train",
    "dense_to_train",
    "orthogonalise_left",
    "orthogonalise_right",
    "permute_train",
    "round_train",
    "scale",
    "train_inner",
    "train_norm",
    "train_size",
    "train_to_dense",
]


# ------------------------------------------------------------------------------------------------------------ algebra


def add_trains(a: Sequence[Array], b: Sequence[Array]) -> list[Array]:
    """Add two trains exactly; the ranks add ([O], section 4.1).

    Parameters
    ----------
    a, b : sequence of arrays (r, n_i, r')
        Cores with the same n_i, in one namespace, device and dtype.

    Returns
    -------
    list of arrays
    """
    xp = namespace(*a, *b)
    if len(a) == 1:
        return [a[0] + b[0]]
    first = xp.concat([a[0], b[0]], axis=2)
    last = xp.concat([a[-1], b[-1]], axis=0)
    return [first, *(_block_diagonal(x, y) for x, y in zip(a[1:-1], b[1:-1], strict=True)), last]


def _block_diagonal(a: Array, b: Array) -> Array:
    xp = namespace(a, b)

    def zeros(rows: int, columns: int) -> Array:
        return xp.zeros((rows, int(a.shape[1]), columns), dtype=a.dtype, device=device_of(a))

    upper = xp.concat([a, zeros(int(a.shape[0]), int(b.shape[2]))], axis=2)
    lower = xp.concat([zeros(int(b.shape[0]), int(a.shape[2])), b], axis=2)
    return xp.concat([upper, lower], axis=0)


def scale(cores: Sequence[Array], weight: float) -> list[Array]:
    """Multiply a train by a number; only the first core changes."""
    return [cores[0] * weight, *cores[1:]]


def train_inner(a: Sequence[Array], b: Sequence[Array]) -> float:
    """Return the Euclidean inner product of two trains with the same n_i ([O], algorithm 4)."""
    xp = namespace(*a, *b)
    carried = xp.ones((1, 1), dtype=a[0].dtype, device=device_of(a[0]))
    for left, right in zip(a, b, strict=True):
        half = xp.tensordot(carried, right, axes=([1], [0]))
        carried = xp.tensordot(left, half, axes=([0, 1], [0, 1]))
    return number(carried[0, 0])


# ----------------------------------------------------------------------------------------------- orthogonal sweeps


@one_blas_thread()
def orthogonalise_left(cores: Sequence[Array]) -> list[Array]:
    """Return the same tensor with all cores but the last left-orthonormal: ``sum_j G[:, j, :]' G[:, j, :] = I``.

    Parameters
    ----------
    cores : sequence of arrays (r, n_i, r')

    Returns
    -------
    list of arrays
        The last core holds the norm. A rank larger than the rows of its unfolding is cut to them.
    """
    swept, exponent = _sweep_left(cores)
    return [*swept[:-1], _times_power(swept[-1], exponent)]


@one_blas_thread()
def orthogonalise_right(cores: Sequence[Array]) -> list[Array]:
    """Return the same tensor with all cores but the first right-orthonormal: ``sum_j G[:, j, :] G[:, j, :]' = I``.

    Parameters
    ----------
    cores : sequence of arrays (r, n_i, r')

    Returns
    -------
    list of arrays
        The first core holds the norm. A rank larger than the columns of its unfolding is cut to them.
    """
    swept, exponent = _sweep_right(cores)
    return [_times_power(swept[0], exponent), *swept[1:]]


@one_blas_thread()
def train_norm(cores: Sequence[Array]) -> float:
    """Return the Euclidean norm, free of cancellation.

    The square root of `train_inner` cannot see a norm below the square root of the round-off of its terms; here the
    cores are orthogonalised by one QR factorisation each, and the norm is that of the last one ([O], section 3).

    Parameters
    ----------
    cores : sequence of arrays (r, n_i, r')

    Returns
    -------
    float
        With an error of a few units of round-off of the cores' norms multiplied; NaN if a core is not finite.
    """
    solid = [a.detach() if needs_autograd(a) else a for a in cores]
    carried, exponent = _unit(solid[0])
    for following in solid[1:]:
        grown, more = _unit(following)
        carried, rest = _unit(_from_left(_triangle(carried), grown))
        exponent += more + rest
    return _ldexp(number(_norm(carried)), exponent)


def _triangle(core: Array) -> Array:
    """Return the triangle of a left QR factorisation; NumPy can leave the other factor out, half of the work."""
    xp = namespace(core)
    r, n, s = _shape(core)
    unfolded = xp.reshape(core, (r * n, s))
    return np.linalg.qr(unfolded, mode="r") if is_numpy(xp) else xp.linalg.qr(unfolded, mode="reduced")[1]


def train_size(cores: Sequence[Array]) -> float:
    """Return the root of the sum of squares over all paths through the train, each the product of its columns' norms.

    That is what the round-off of a train is relative to: for a train in orthogonal form it is the norm, for the
    difference of two the root of the sum of their squares, for a sum of products that of its terms.
    """
    xp = namespace(*cores)
    carried: Array = None
    exponent = 0
    for core in cores:
        scaled, more = _unit(core.detach() if needs_autograd(core) else core)
        squares = xp.sum(scaled * scaled, axis=1)
        carried, rest = _unit(squares if carried is None else carried @ squares)
        exponent += 2 * more + rest
    # An odd power of two is split off before the root is taken.
    return _ldexp(sqrt(number(carried[0, 0]) * 2.0 ** (exponent % 2)), exponent // 2)


def _sweep_left(cores: Sequence[Array]) -> tuple[list[Array], int]:
    """Return left-orthonormal cores, the last one scaled to about one, and the power of two taken out of it."""
    result = list(cores)
    result[0], exponent = _unit(result[0])
    for k in range(len(result) - 1):
        result[k], carried = _qr_left(result[k])
        result[k + 1], more = _unit(_from_left(carried, result[k + 1]))
        exponent += more
    return result, exponent


def _sweep_right(cores: Sequence[Array]) -> tuple[list[Array], int]:
    result = list(cores)
    result[-1], exponent = _unit(result[-1])
    for k in range(len(result) - 1, 0, -1):
        result[k], carried = _qr_right(result[k])
        result[k - 1], more = _unit(_from_right(result[k - 1], carried))
        exponent += more
    return result, exponent


def _qr_left(core: Array) -> tuple[Array, Array]:
    xp = namespace(core)
    r, n, s = _shape(core)
    q, triangle = xp.linalg.qr(xp.reshape(core, (r * n, s)), mode="reduced")
    return xp.reshape(q, (r, n, -1)), triangle


def _qr_right(core: Array) -> tuple[Array, Array]:
    xp = namespace(core)
    r, n, s = _shape(core)
    q, triangle = xp.linalg.qr(xp.reshape(core, (r, n * s)).T, mode="reduced")
    return xp.reshape(q.T, (-1, n, s)), triangle.T


def _from_left(matrix: Array, core: Array) -> Array:
    return namespace(core).tensordot(matrix, core, axes=([1], [0]))


def _from_right(core: Array, matrix: Array) -> Array:
    return namespace(core).tensordot(core, matrix, axes=([2], [0]))


# ----------------------------------------------------------------------------------------------------------- rounding


@one_blas_thread()
def round_train(cores: Sequence[Array], *, tol: float, rank: int | None = None) -> tuple[list[Array], float]:
    """Lower the ranks to a certified error: TT-SVD rounding ([O], algorithm 2).

    After orthogonalisation from the right, one SVD a cut goes from left to right. What a cut drops is orthogonal to
    what all later cuts drop, so that the squares add (Pythagoras): the error is known exactly and not only bounded.
    Any other tensor of the same ranks is away by at least ``1 / sqrt(d - 1)`` of it ([O], corollary 2.4): rounding is
    quasi-optimal. Every cut may use an equal share of the square of `tol` that the cuts before left over, which lowers
    the ranks where [O] gives every cut the same.

    Parameters
    ----------
    cores : sequence of arrays (r, n_i, r')
    tol : float
        Absolute error allowed in the Euclidean norm, at least zero.
    rank : int, optional
        Largest rank at every cut; with it the error may exceed `tol`.

    Returns
    -------
    cores : list of arrays
        Left-orthonormal but for the last. A rank is at least one; the zero tensor has ranks one.
    error : float
        Euclidean norm of the difference, apart from round-off: a few units of the norm of the cores given.
    """
    result, exponent = _sweep_right(cores)
    allowed, spent = _ldexp(tol, -exponent), 0.0
    for k in range(len(result) - 1):
        left, right, error = _split(result[k], _share(allowed, spent, len(result) - 1 - k), rank)
        spent = hypot(spent, error)
        result[k], result[k + 1] = left, _from_left(right, result[k + 1])
    return [*result[:-1], _times_power(result[-1], exponent)], _ldexp(spent, exponent)


def _share(allowed: float, spent: float, cuts: int) -> float:
    """Return the root of an equal share of what is left of ``allowed**2``."""
    if not isfinite(allowed):
        return allowed
    left = 1.0 - (spent / allowed) ** 2 if spent < allowed else 0.0
    return allowed * sqrt(max(left, 0.0) / cuts)


def _split(core: Array, allowed: float, rank: int | None) -> tuple[Array, Array, float]:
    """Return a left-orthonormal core of the lowest rank within `allowed`, the matrix to carry on, and the error."""
    xp = namespace(core)
    r, n, s = _shape(core)
    u, sigma, vh = xp.linalg.svd(xp.reshape(core, (r * n, s)), full_matrices=False)
    kept, error = _kept([number(sigma[k]) for k in range(int(sigma.shape[0]))], allowed, rank)
    return xp.reshape(u[:, :kept], (r, n, kept)), sigma[:kept, None] * vh[:kept, :], error


def _kept(sigma: Sequence[float], allowed: float, rank: int | None) -> tuple[int, float]:
    """Return how many singular values stay, at least one, and the root of the sum of squares of the others."""
    kept, tail = len(sigma), 0.0
    while kept > 1 and (hypot(tail, sigma[kept - 1]) <= allowed or (rank is not None and kept > rank)):
        kept -= 1
        tail = hypot(tail, sigma[kept])
    return kept, tail


@one_blas_thread()
def permute_train(cores: Sequence[Array], order: Sequence[int], *, tol: float) -> tuple[list[Array], float]:
    """Return the train of the tensor with its axes in another order, by swapping neighbours.

    A swap merges two neighbouring cores and splits them again the other way round by an SVD, with everything to the
    left and right of them orthonormal, so that its error is known. The ranks of another order are other ranks, and
    may be much larger.

    Parameters
    ----------
    cores : sequence of arrays (r, n_i, r')
    order : sequence of int
        ``order[k]`` is the axis of the given train that becomes axis k; a permutation.
    tol : float
        Absolute error allowed to each swap in the Euclidean norm.

    Returns
    -------
    cores : list of arrays
    error : float
        Bound of the Euclidean norm of the difference, apart from round-off: the sum over the swaps.
    """
    result, exponent = _sweep_right(cores)
    places = list(order)
    allowed, error = _ldexp(tol, -exponent), 0.0
    labels = list(range(len(result)))
    centre = 0
    for target, label in enumerate(places):
        for k in range(labels.index(label) - 1, target - 1, -1):
            centre = _move_centre(result, centre, k)
            result[k], result[k + 1], lost = _swap(result[k], result[k + 1], allowed)
            labels[k], labels[k + 1] = labels[k + 1], labels[k]
            error += lost
    result[centre] = _times_power(result[centre], exponent)
    return result, _ldexp(error, exponent)


def _move_centre(cores: list[Array], start: int, stop: int) -> int:
    """Carry the core that is not orthonormal from `start` to `stop`, in place."""
    for k in range(start, stop):
        cores[k], carried = _qr_left(cores[k])
        cores[k + 1] = _from_left(carried, cores[k + 1])
    for k in range(start, stop, -1):
        cores[k], carried = _qr_right(cores[k])
        cores[k - 1] = _from_right(cores[k - 1], carried)
    return stop


def _swap(left: Array, right: Array, allowed: float) -> tuple[Array, Array, float]:
    """Return the two cores in the other order, the first with the norm, the second right-orthonormal."""
    xp = namespace(left, right)
    (r, n, _), (_, m, s) = _shape(left), _shape(right)
    merged = xp.permute_dims(_from_right(left, right), (0, 2, 1, 3))
    u, sigma, vh = xp.linalg.svd(xp.reshape(merged, (r * m, n * s)), full_matrices=False)
    kept, error = _kept([number(sigma[k]) for k in range(int(sigma.shape[0]))], allowed, None)
    first = xp.reshape(u[:, :kept] * sigma[None, :kept], (r, m, kept))
    return first, xp.reshape(vh[:kept, :], (kept, n, s)), error


# -------------------------------------------------------------------------------------------------- other formats


def cp_to_train(factors: Sequence[Array]) -> list[Array]:
    """Write ``sum_r  a_1[:, r] x ... x a_d[:, r]`` as a train, exactly: diagonal cores, a row and a column at the ends.

    Parameters
    ----------
    factors : sequence of arrays (n_i, R)
        R = 0, the zero tensor, gives zero cores of rank one.

    Returns
    -------
    list of arrays (r, n_i, r')
        All ranks are R.
    """
    xp = namespace(*factors)
    rank = int(factors[0].shape[1])
    if rank == 0:
        kind = {"dtype": factors[0].dtype, "device": device_of(factors[0])}
        return [xp.zeros((1, int(f.shape[0]), 1), **kind) for f in factors]
    if len(factors) == 1:
        return [xp.sum(factors[0], axis=1)[None, :, None]]
    identity = xp.eye(rank, dtype=factors[0].dtype, device=device_of(factors[0]))
    middle = [identity[:, None, :] * f[None, :, :] for f in factors[1:-1]]
    return [factors[0][None, :, :], *middle, factors[-1].T[:, :, None]]


@one_blas_thread()
def dense_to_train(array: Array, tol: float, rank: int | None = None) -> tuple[list[Array], float]:
    """Return a train close to a dense array: TT-SVD ([O], algorithm 1), with the error of `round_train`.

    Parameters
    ----------
    array : array of shape (n_1, ..., n_d)
    tol : float
        Absolute error allowed in the Euclidean norm; not less than some units of round-off of the norm can be had.
    rank : int, optional
        Largest rank at every cut; with it the error may exceed `tol`.

    Returns
    -------
    cores : list of arrays (r, n_i, r')
        Left-orthonormal but for the last.
    error : float
        Euclidean norm of the difference, apart from round-off.
    """
    xp = namespace(array)
    shape = tuple(int(n) for n in array.shape)
    rest, exponent = _unit(array)
    allowed, spent = _ldexp(tol, -exponent), 0.0
    # Singular values below the round-off of the factorisations are noise and would fill the ranks up.
    floor = 10 * eps(array.dtype, xp) * number(_norm(rest))
    cores: list[Array] = []
    r = 1
    for k, n in enumerate(shape[:-1]):
        matrix = xp.reshape(rest, (r * n, -1))
        square = matrix
        # The frame of a wide matrix from the triangle of its transpose: small, and no digits are squared away.
        if matrix.shape[1] > matrix.shape[0]:
            square = xp.linalg.qr(matrix.T, mode="reduced")[1].T
        u, sigma, _ = xp.linalg.svd(square, full_matrices=False)
        share = max(_share(allowed, spent, len(shape) - 1 - k), floor)
        kept, error = _kept([number(sigma[j]) for j in range(int(sigma.shape[0]))], share, rank)
        spent = hypot(spent, error)
        cores.append(xp.reshape(u[:, :kept], (r, n, kept)))
        rest, r = u[:, :kept].T @ matrix, kept
    cores.append(_times_power(xp.reshape(rest, (r, shape[-1], 1)), exponent))
    return cores, _ldexp(spent, exponent)


def train_to_dense(cores: Sequence[Array]) -> Array:
    """Return the dense array of shape (n_1, ..., n_d): one matrix product of the two halves of the train."""
    xp = namespace(*cores)
    shape = tuple(int(core.shape[1]) for core in cores)
    if len(cores) == 1:
        return xp.reshape(cores[0], shape)
    # Split where the two halves are most nearly of one size: that is the least memory beside the result.
    sizes = [1.0]
    for n in shape:
        sizes.append(sizes[-1] * max(n, 1))
    cut = min(range(1, len(cores)), key=lambda k: sizes[k] + sizes[-1] / sizes[k])
    left, right = cores[0], cores[-1]
    for core in cores[1:cut]:
        left = xp.tensordot(left, core, axes=([left.ndim - 1], [0]))
    for core in reversed(cores[cut:-1]):
        right = xp.tensordot(core, right, axes=([2], [0]))
    rank = int(cores[cut].shape[0])
    return xp.reshape(xp.reshape(left, (-1, rank)) @ xp.reshape(right, (rank, -1)), shape)


# -------------------------------------------------------------------------------------------------------- small parts


def _shape(core: Array) -> tuple[int, int, int]:
    r, n, s = (int(k) for k in core.shape)
    return r, n, s


def _norm(array: Array) -> Array:
    return namespace(array).linalg.vector_norm(array)


def _unit(array: Array) -> tuple[Array, int]:
    """Return the array divided by a power of two that leaves its largest entry in [1, 2), and the exponent."""
    xp = namespace(array)
    largest = number(xp.max(xp.abs(array)))
    if largest == 0.0 or not isfinite(largest):
        return array, 0
    exponent = frexp(largest)[1] - 1
    return (array if exponent == 0 else array / 2.0**exponent), exponent


def _times_power(array: Array, exponent: int) -> Array:
    """Return ``array * 2**exponent`` in two steps, since the power alone may leave the range of floats."""
    half = exponent // 2
    return array if exponent == 0 else array * _ldexp(1.0, half) * _ldexp(1.0, exponent - half)


def _ldexp(value: float, exponent: int) -> float:
    if value != value:
        return nan
    try:
        return ldexp(value, exponent)
    except OverflowError:
        return inf
