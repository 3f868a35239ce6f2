"""Exact linear maps between univariate spaces, and the 1-D matrices of the calculus.

Everything here is set-up: float64 on the host, cached per basis; the functions move the matrices to where they live.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse

from sepnet.backends.arrays import Array, describe, device_of, from_host, gather, is_numpy, namespace
from sepnet.bases.basis import Basis, Quadrature, gauss_rule
from sepnet.bases.knots import match_breaks
from sepnet.bases.matrix_axis import Assembled
from sepnet.functions.host_map import HostMap, moved
from sepnet.spaces import TensorSpace
from sepnet.univariate import Applied, Univariate

__all__ = [
    "collocation_inverse",
    "common",
    "constant",
    "cross_mass",
    "derivative",
    "embed",
    "integrals",
    "join_breaks",
    "joint_roots",
    "local_polynomials",
    "mass",
    "mass_root",
    "mass_root_inverse",
    "product",
    "projection",
    "projector",
    "rule",
    "same_box",
    "same_home",
]

# A callable that is no polynomial is integrated with this many points a cell more than the basis alone needs.
EXTRA_POINTS = 8
# Up to here the condition number of a spline's mass matrix, its diagonal scaled to one, is below about 4**8.
MODERATE_DEGREE = 8


def rule(bases: Sequence[Basis], *, extra: int = 0) -> Quadrature:
    """Return a Gauss rule exact for products of two functions from `bases`, on the union of their breaks."""
    counts = [basis.quadrature().points.size // (basis.breaks.size - 1) for basis in bases]
    return gauss_rule(join_breaks([basis.breaks for basis in bases]), max(counts) + extra)


def join_breaks(several: Sequence[np.ndarray]) -> np.ndarray:
    """Return the union of breaks on the interval of the first.

    Breaks of one array are never merged, however close; breaks of two arrays are one where they differ by round-off
    (8 eps of the larger end, and a thousandth of the cells around them), as when bases are added.

    Parameters
    ----------
    several : sequence of ndarray (cells + 1,)
        Rising breaks, those of the basis itself first; the others are cut to its interval.

    Returns
    -------
    ndarray
    """
    joined = np.asarray(several[0])
    for other in several[1:]:
        if np.array_equal(joined, other):
            continue
        left, right = float(joined[0]), float(joined[-1])
        slack = 8 * np.finfo(np.float64).eps * max(abs(left), abs(right))
        near = min(slack, 1e-3 * float(joined[1] - left)), min(slack, 1e-3 * float(right - joined[-2]))
        inside = other[(other > left + near[0]) & (other < right - near[1])]
        if inside.size:
            merged = match_breaks(joined, np.concatenate([[left], inside, [right]]))
            joined = np.array([left, *(place for place, _, _ in merged), right])
    return joined


@lru_cache(maxsize=256)
def mass(basis: Basis) -> np.ndarray:
    """Return the matrix of ``int B_i B_j``, dense.

    Raises
    ------
    TypeError
        If it is that of a mesh.
    """
    if basis.kind == "sparse":
        msg = f"a dense mass matrix of {basis!r} was asked for"
        raise TypeError(msg)
    return np.asarray(cross_mass(basis, basis))


@lru_cache(maxsize=256)
def cross_mass(rows: Basis, columns: Basis) -> Any:
    """Return the matrix of ``int R_i C_j`` for two bases on one domain, dense; a `HostMap` on a mesh axis."""
    if isinstance(rows, Assembled) or isinstance(columns, Assembled):
        given = _one(rows, columns)
        unit = given.mass
        return unit if isinstance(unit, np.ndarray) else HostMap(lambda c: np.asarray(unit @ c))
    points, weights = rule([rows, columns])
    left, right = rows.tabulate(points), columns.tabulate(points)
    return np.asarray((left.T @ (right * weights[:, None])).todense())


@lru_cache(maxsize=256)
def mass_root(basis: Basis) -> Any:
    """Return the upper triangular ``S`` with ``S' S`` the mass matrix; a `HostMap`, no longer triangular, on a mesh.

    Splines of moderate degree have a well conditioned mass matrix, whatever the breaks, once its diagonal is scaled
    away, and Cholesky is blind to that scale. The others take a QR factorisation of the weighted values: their mass
    matrix has the square of the condition number of these and is numerically singular for the degrees of products.
    """
    if isinstance(basis, Assembled):
        if basis.kind == "dense":
            return basis.dense_root
        sparse = basis.mass_root
        return HostMap(lambda c: np.asarray(sparse.root @ c))
    if _tame(basis):
        root = _band_root(basis)
        return np.asarray(scipy.linalg.cholesky(mass(basis))) if root is None else root.toarray()
    points, weights = rule([basis])
    return np.asarray(np.linalg.qr(basis.tabulate(points).toarray() * np.sqrt(weights)[:, None])[1])


@lru_cache(maxsize=256)
def mass_root_inverse(basis: Basis) -> Any:
    """Return the inverse of `mass_root`."""
    if isinstance(basis, Assembled) and basis.kind == "sparse":
        return HostMap(basis.mass_root.unroot)
    root = mass_root(basis)
    return np.asarray(scipy.linalg.solve_triangular(root, np.eye(basis.size)))


def _tame(basis: Basis) -> bool:
    """Tell whether the mass matrix is banded, but for a wrap around, and safe to factorise."""
    return basis.kind in ("banded", "cyclic") and basis.degree <= MODERATE_DEGREE


def projector(basis: Basis, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the matrix that maps values at the points of a rule to the coefficients of the L2 projection.

    The rule must integrate the products of two functions of `basis` exactly.
    """
    table = basis.tabulate(points)
    if _tame(basis):
        return _solve_mass(basis, table.toarray().T * weights)
    frame, turn = np.linalg.qr(table.toarray() * np.sqrt(weights)[:, None])
    return np.asarray(scipy.linalg.solve_triangular(turn, frame.T * np.sqrt(weights)))


@lru_cache(maxsize=256)
def _band_root(basis: Basis) -> scipy.sparse.dia_array | None:
    """Return the root of the mass matrix of a tame basis by its diagonals, None where these wrap around."""
    if basis.kind != "banded":
        return None
    points, weights = rule([basis])
    table = basis.tabulate(points)
    gram = (table.T @ (table * weights[:, None])).todia()
    width, n = basis.bandwidth, basis.size
    band = np.zeros((width + 1, n))
    for k in range(width + 1):
        band[width - k, k:] = gram.diagonal(k)
    root = scipy.linalg.cholesky_banded(band)
    return scipy.sparse.dia_array((root, np.arange(width, -1, -1)), shape=(n, n))


def _solve_mass(basis: Basis, right: np.ndarray) -> np.ndarray:
    """Solve with the mass matrix of a tame basis, in O(n) a column where it is banded."""
    root = _band_root(basis)
    if root is not None:
        return np.asarray(scipy.linalg.cho_solve_banded((root.data, False), right))
    return np.asarray(scipy.linalg.cho_solve((mass_root(basis), False), right))


def integrals(basis: Basis, density: Callable[[np.ndarray], np.ndarray] | None) -> np.ndarray:
    """Return ``int B_n density``, shape (size,)."""
    if density is None:
        return np.asarray(basis.integrals())
    if not callable(density):
        msg = f"`density` is {type(density).__name__}, expected a callable of points (n,) that returns values (n,)"
        raise TypeError(msg)

    @wraps(density)
    def real_density(x: np.ndarray) -> np.ndarray:
        values = density(x)
        if np.iscomplexobj(values):
            msg = "`density` returned complex numbers, expected real ones: take the part you mean, e.g. `.real`"
            raise TypeError(msg)
        return values

    weight = Univariate((1.0,), (Applied(real_density, (Univariate((0.0, 1.0)),)),))
    points, weights = rule([basis], extra=EXTRA_POINTS + basis.degree)
    return np.asarray(basis.tabulate(points).T @ (weights * weight(points)))


@lru_cache(maxsize=256)
def derivative(basis: Basis, order: int) -> tuple[Basis, np.ndarray]:
    """Return the space of the derivatives, and the matrix that maps coefficients to theirs."""
    target = basis.derivative_basis(order)
    return target, target.interpolate(basis.tabulate(target.nodes, order).toarray())


def common(
    space: TensorSpace, factors: Sequence[Array], other: TensorSpace, others: Sequence[Array]
) -> tuple[TensorSpace, list[Array], list[Array]]:
    """Write two functions on the smallest space that contains both."""
    same_box(space, other)
    same_home(factors, others)
    if space == other:
        return space, list(factors), list(others)
    bases = {
        name: a if a == b else a.sum_basis(b) for name, a, b in zip(space.names, space.bases, other.bases, strict=True)
    }
    target = TensorSpace(**bases)
    return target, _embed(target, space, factors), _embed(target, other, others)


@lru_cache(maxsize=256)
def _embedding(fine: Basis, coarse: Basis) -> Any:
    if isinstance(fine, Assembled) or isinstance(coarse, Assembled):
        _one(fine, coarse)
        return HostMap(lambda c: c)
    return np.eye(fine.size) if fine == coarse else np.asarray(fine.embed(coarse))


def _embed(target: TensorSpace, space: TensorSpace, factors: Sequence[Array]) -> list[Array]:
    embedded = []
    for fine, coarse, factor in zip(target.bases, space.bases, factors, strict=True):
        if fine == coarse:
            embedded.append(factor)
            continue
        embedded.append(moved(_embedding(fine, coarse), factor) @ factor)
    return embedded


def embed(target: TensorSpace, space: TensorSpace, factors: Sequence[Array]) -> list[Array]:
    """Write a function of `space` in the larger space `target`."""
    return _embed(target, space, factors)


def product(
    space: TensorSpace, factors: Sequence[Array], other: TensorSpace, others: Sequence[Array]
) -> tuple[TensorSpace, list[Array]]:
    """Multiply two functions: values at the nodes of the product space, interpolated there."""
    same_box(space, other)
    same_home(factors, others)
    xp = namespace(*factors)
    bases, result = {}, []
    for name, a, b, f, g in zip(space.names, space.bases, other.bases, factors, others, strict=True):
        target = a.product_basis(b)
        bases[name] = target
        if is_numpy(xp):  # sparse on the host, where nothing has to be differentiable
            values = (a.tabulate(target.nodes) @ f)[:, :, None] * (b.tabulate(target.nodes) @ g)[:, None, :]
            result.append(target.interpolate(values.reshape(target.size, -1)).astype(f.dtype))
            continue
        device, dtype = device_of(f), f.dtype
        left = from_host(a.tabulate(target.nodes).toarray(), xp, device=device, dtype=dtype) @ f
        right = from_host(b.tabulate(target.nodes).toarray(), xp, device=device, dtype=dtype) @ g
        values = xp.reshape(left[:, :, None] * right[:, None, :], (target.size, -1))
        inverse = from_host(collocation_inverse(target), xp, device=device, dtype=dtype)
        result.append(inverse @ values)
    return TensorSpace(**bases), result


@lru_cache(maxsize=256)
def collocation_inverse(basis: Basis) -> np.ndarray:
    """Return the matrix that maps values at the nodes to coefficients.

    Raises
    ------
    TypeError
        If it is the identity of a mesh axis, which is too large to be written down.
    """
    if isinstance(basis, Assembled) and basis.kind == "sparse":
        msg = f"a dense array on {basis!r} is too large to be separated: solve for the function, or give sn.CP factors"
        raise TypeError(msg)
    return basis.interpolate(np.eye(basis.size))


@lru_cache(maxsize=256)
def joint_roots(first: Basis, second: Basis) -> tuple[Any, Any]:
    """Return ``S, T`` with ``|S a - T b|`` the L2 distance of two functions, whatever the families of the bases."""
    if isinstance(first, Assembled) or isinstance(second, Assembled):
        given = _one(first, second)
        return mass_root(given), mass_root(given)
    if first == second:
        return mass_root(first), mass_root(first)
    if _tame(first) and _tame(second):
        both = first.sum_basis(second)
        if _tame(both):
            band = _band_root(both)
            root = mass_root(both) if band is None else band
            return root @ _embedding(both, first), root @ _embedding(both, second)
    points, weights = rule([first, second])
    values = np.hstack([first.tabulate(points).toarray(), second.tabulate(points).toarray()])
    root = np.linalg.qr(values * np.sqrt(weights)[:, None])[1]
    return root[:, : first.size], root[:, first.size :]


def projection(source: TensorSpace, target: TensorSpace) -> list[Any]:
    """Return the matrices of the L2 projection, one per axis."""
    same_box(source, target)
    return [_projection(new, old) for old, new in zip(source.bases, target.bases, strict=True)]


def _one(first: Basis, second: Basis) -> Assembled:
    """Return the axis given by matrices that both are; TypeError where they differ."""
    common = first.sum_basis(second) if isinstance(first, Assembled) else second.sum_basis(first)
    assert isinstance(common, Assembled)
    return common


@lru_cache(maxsize=256)
def _projection(new: Basis, old: Basis) -> Any:
    if isinstance(new, Assembled) or isinstance(old, Assembled):
        _one(new, old)
        return HostMap(lambda c: c)
    if new == old:
        return np.eye(new.size)
    if _tame(new):
        return _solve_mass(new, cross_mass(new, old))
    points, weights = rule([new, old])
    roots = np.sqrt(weights)[:, None]
    frame, turn = np.linalg.qr(new.tabulate(points).toarray() * roots)
    return np.asarray(scipy.linalg.solve_triangular(turn, frame.T @ (old.tabulate(points).toarray() * roots)))


def same_box(space: TensorSpace, other: TensorSpace) -> None:
    """Raise ValueError unless the axes have the same names and domains."""
    if space.names != other.names:
        msg = f"functions of different axes meet, {space.names} and {other.names}: restrict or integrate one first"
        raise ValueError(msg)
    for name, a, b in zip(space.names, space.bases, other.bases, strict=True):
        if a.domain != b.domain:
            msg = f"axis {name!r} has the domains {a.domain} and {b.domain}: both functions must live on one box"
            raise ValueError(msg)


def same_home(factors: Sequence[Array], others: Sequence[Array]) -> None:
    """Raise TypeError unless namespace, device and dtype agree."""
    namespace(*factors, *others)
    a, b = factors[0], others[0]
    if a.dtype != b.dtype or device_of(a) != device_of(b):
        msg = f"functions meet that are {describe(a)} and {describe(b)}: move one with u.to(device=..., dtype=...)"
        raise TypeError(msg)


@lru_cache(maxsize=256)
def constant(basis: Basis) -> np.ndarray:
    """Return the coefficients of the function 1.

    Raises
    ------
    ValueError
        If the basis does not contain it, since its functions vanish at an end, or it is not known to.
    """
    if isinstance(basis, Assembled) and not basis.has_constants:
        msg = f"{basis!r} is not known to contain constants: all dofs must be there, and their load loads['unit']"
        raise ValueError(msg)
    if basis.zero is not None:
        msg = f"{basis!r} does not contain constants"
        raise ValueError(msg)
    return basis.interpolate(np.ones(basis.size))


def local_polynomials(basis: Basis, factor: Array) -> tuple[Array, Array] | None:
    """Return breaks and the local polynomials (cells, p + 1, R) of the columns of `factor`, None for spectral bases."""
    pieces = basis.pieces
    if pieces is None:
        return None
    xp, device = namespace(factor), device_of(factor)
    table = from_host(pieces.table, xp, device=device, dtype=factor.dtype)
    index = from_host(pieces.index, xp, device=device, dtype="int64")
    breaks = from_host(pieces.breaks, xp, device=device, dtype=factor.dtype)
    return breaks, table @ gather(factor, index)
