"""The ways in: a dense array of values, a callable or an expression becomes a separable function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Literal, TypeAlias, overload

import numpy as np

from sepnet.backends.arrays import Array, device_of, float_name, from_host, namespace
from sepnet.bases.basis import Basis, gauss_rule
from sepnet.bases.checks import numbers
from sepnet.coefficients import Coefficient, as_coefficient
from sepnet.functions import axis_maps
from sepnet.functions.base import SeparableFunction
from sepnet.functions.checks import a_space
from sepnet.functions.cp import CP
from sepnet.functions.dense import decompose, mode_product, number
from sepnet.functions.rounding import check_accuracy
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.trains import dense_to_train
from sepnet.functions.tucker import Tucker
from sepnet.functions.tucker_tensors import st_hosvd
from sepnet.spaces import TensorSpace
from sepnet.univariate import Univariate, describe_callable

__all__ = ["interpolate", "project"]

# 2**26 samples are 0.5 GiB in float64; a callable is asked for this many points at a time.
MAX_SAMPLES = 2**26
CHUNK = 2**16

Format: TypeAlias = Literal["cp", "tt", "tucker"]


@overload
def interpolate(
    array: Array, space: TensorSpace, tol: float = 1e-6, *, rank: int | None = None, format: Literal["cp"] = "cp"
) -> CP: ...
@overload
def interpolate(
    array: Array, space: TensorSpace, tol: float = 1e-6, *, rank: int | None = None, format: Literal["tt"]
) -> TensorTrain: ...
@overload
def interpolate(
    array: Array, space: TensorSpace, tol: float = 1e-6, *, rank: int | None = None, format: Literal["tucker"]
) -> Tucker: ...
def interpolate(
    array: Array, space: TensorSpace, tol: float = 1e-6, *, rank: int | None = None, format: Format = "cp"
) -> CP | TensorTrain | Tucker:
    """Return the function of a space that takes given values at its nodes.

    Parameters
    ----------
    array : array of shape ``space.shape``
        Values on the grid of `TensorSpace.nodes`, one dimension per axis in order; lists are host data.
    space : TensorSpace
        The space.
    tol : float, optional
        Largest relative L2 error of the separated function against the full interpolant, apart from round-off. The
        error is computed, not estimated.
    rank : int, optional
        Largest rank. With it the error may stay above `tol`.
    format : {"cp", "tt", "tucker"}, optional
        A sum of products, fitted, or a tensor train or Tucker function, by singular value decompositions.

    Returns
    -------
    CP, TensorTrain or Tucker
        In the namespace, dtype and device of `array`.

    Raises
    ------
    TypeError
        If `array` holds no real floating numbers.
    ValueError
        If its shape is not that of the space, it is not finite, `tol` or `rank` is out of range, or there is no such
        format.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8), y=sn.BSpline((0, 1), cells=8))
    >>> x, y = np.meshgrid(*V.nodes.values(), indexing="ij")
    >>> u = sn.interpolate(1 / (1 + x + y), V, tol=1e-4)
    >>> u
    CP(rank=3, x[11] x y[11], 66 coefficients, float64)
    >>> round(float(u([[0.5, 0.5]])[0]), 3)
    0.5
    """
    a_space(space, "sn.interpolate")
    check_accuracy(tol, rank)
    _check_format(format)
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        array = numbers("sn.interpolate: `array`", array)
    xp = namespace(array)
    if tuple(array.shape) != space.shape:
        msg = (
            f"sn.interpolate: `array` has shape {tuple(array.shape)}, expected {space.shape}: one value for each point "
            "of the grid of V.nodes; for values elsewhere fit or sn.project a callable"
        )
        raise ValueError(msg)
    if float_name(array.dtype) is None:
        msg = f"sn.interpolate: `array` has dtype {array.dtype}, expected float32 or float64: convert it first"
        raise TypeError(msg)
    if not bool(xp.all(xp.isfinite(array))):
        msg = "sn.interpolate: `array` holds NaN or infinity, expected finite values: mask or fill them first"
        raise ValueError(msg)
    device, dtype = device_of(array), array.dtype
    for k, basis in enumerate(space.bases):
        matrix = axis_maps.mass_root(basis) @ axis_maps.collocation_inverse(basis)
        array = mode_product(array, from_host(matrix, xp, device=device, dtype=dtype), k)
    return _from_orthonormal(array, space, tol, rank, format)


def _check_format(format: object) -> None:
    if format not in ("cp", "tt", "tucker"):
        msg = f"`format` is {format!r}, expected 'cp' (a sum of products), 'tt' (a tensor train) or 'tucker'"
        raise ValueError(msg)


def _from_orthonormal(
    tensor: Array, space: TensorSpace, tol: float, rank: int | None, format: Format
) -> CP | TensorTrain | Tucker:
    """Separate an array of coefficients in orthonormal coordinates, in which Euclidean and L2 norm are one."""
    xp, device, dtype = namespace(tensor), device_of(tensor), tensor.dtype
    inverses = [axis_maps.mass_root_inverse(basis) for basis in space.bases]
    roots = [from_host(inverse, xp, device=device, dtype=dtype) for inverse in inverses]
    if format == "cp":
        columns = decompose(tensor, tol=tol, rank=rank)
        return CP(space, [s @ c for s, c in zip(roots, columns, strict=True)])
    allowed = tol * number(xp.linalg.vector_norm(tensor))
    if format == "tucker":
        frames, core, _ = st_hosvd(tensor, allowed, rank)
        return Tucker(space, [s @ frame for s, frame in zip(roots, frames, strict=True)], core)
    cores, _ = dense_to_train(tensor, allowed, rank)
    moved = [xp.tensordot(s, core, axes=([1], [1])) for s, core in zip(roots, cores, strict=True)]
    return TensorTrain(space, [xp.permute_dims(core, (1, 0, 2)) for core in moved])


@overload
def project(
    f: Callable[[np.ndarray], np.ndarray] | Coefficient | SeparableFunction | float,
    space: TensorSpace,
    rank: int | None = 8,
    *,
    tol: float = 1e-8,
    format: Literal["cp"] = "cp",
) -> CP: ...
@overload
def project(
    f: Callable[[np.ndarray], np.ndarray] | Coefficient | SeparableFunction | float,
    space: TensorSpace,
    rank: int | None = 8,
    *,
    tol: float = 1e-8,
    format: Literal["tt"],
) -> TensorTrain: ...
@overload
def project(
    f: Callable[[np.ndarray], np.ndarray] | Coefficient | SeparableFunction | float,
    space: TensorSpace,
    rank: int | None = 8,
    *,
    tol: float = 1e-8,
    format: Literal["tucker"],
) -> Tucker: ...
def project(
    f: Callable[[np.ndarray], np.ndarray] | Coefficient | SeparableFunction | float,
    space: TensorSpace,
    rank: int | None = 8,
    *,
    tol: float = 1e-8,
    format: Format = "cp",
) -> CP | TensorTrain | Tucker:
    """Return the L2 projection of a callable, an expression or a function into a space, at a bounded rank.

    An expression of the coordinates (`sn.product`, `sn.apply`, sums and products of these) is projected term by term,
    axis by axis, for any number of axes. A callable of points is sampled on a tensor grid of Gauss points, projected,
    and separated; that is for few axes. Measure the result with ``u.error(f)``.

    Parameters
    ----------
    f : callable, Coefficient, SeparableFunction or number
        A callable takes host points (n, d), float64, and returns values (n,); ``f(*points.T)`` helps with functions
        of several arguments.
    space : TensorSpace
        The space.
    rank : int or None, optional
        Largest rank; None: as high as `tol`, or the number of terms, needs.
    tol : float, optional
        For callables: relative L2 error of the separation (not of the projection) at which a lower rank than `rank`
        will do. An expression keeps one column a term, up to `rank`.
    format : {"cp", "tt", "tucker"}, optional
        A sum of products, a tensor train or a Tucker function.

    Returns
    -------
    CP, TensorTrain or Tucker
        On the host, in float64; ``u.to(...)`` moves it.

    Raises
    ------
    TypeError
        If `f` is none of these, or returns no real numbers.
    ValueError
        If the sampling grid is too large (more than 2**26 points), `f` depends on other axes, or returns a wrong
        shape or values that are not finite, or there is no such format.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8), y=sn.BSpline((0, 1), cells=8))
    >>> u = sn.project(lambda p: np.exp(-p[:, 0] * p[:, 1]), V, rank=4)
    >>> u.rank
    4
    >>> float(abs(u([[0.5, 0.5]])[0] - np.exp(-0.25))) < 1e-4
    True
    >>> sn.project(sn.product(x=np.sin), V)
    CP(rank=1, x[11] x y[11], 22 coefficients, float64)
    """
    a_space(space, "sn.project")
    check_accuracy(tol, rank)
    _check_format(format)
    if isinstance(f, Real | Coefficient | SeparableFunction):
        u = _project_expression(as_coefficient(f, "f"), space)
        if format != "cp":
            # Equal columns of the terms are one: what these formats save before their ranks are cut.
            exact = (TensorTrain if format == "tt" else Tucker).from_cp(u).compress(1e-14)
            return exact if rank is None or exact.rank <= rank else exact.compress(rank=rank)
        return u if rank is None or u.rank <= rank else u.compress(rank=rank)
    if not callable(f):
        msg = (
            f"sn.project: `f` is {type(f).__name__}, expected a callable of points (n, {space.dim}), an expression of "
            "the coordinates, or a function; for an array of values use sn.interpolate"
        )
        raise TypeError(msg)
    return _project_callable(f, space, rank, tol, format)


def _project_callable(
    f: Callable[[np.ndarray], np.ndarray], space: TensorSpace, rank: int | None, tol: float, format: Format
) -> CP | TensorTrain | Tucker:
    rules = [basis.quadrature(2 * basis.degree + 3) for basis in space.bases]
    tensor = _sample(f, space, [rule.points for rule in rules])
    for k, (basis, rule) in enumerate(zip(space.bases, rules, strict=True)):
        matrix = axis_maps.mass_root(basis) @ axis_maps.projector(basis, *rule)
        tensor = mode_product(tensor, matrix, k)
    return _from_orthonormal(tensor, space, tol, rank, format)


def _sample(f: Callable[[np.ndarray], np.ndarray], space: TensorSpace, points: Sequence[np.ndarray]) -> np.ndarray:
    shape = tuple(p.size for p in points)
    total = float(np.prod([float(n) for n in shape]))
    if total > MAX_SAMPLES:
        msg = (
            f"sn.project: `f` would be sampled at {' x '.join(map(str, shape))} = {total:.2g} points "
            f"({8 * total / 2**30:.2g} GiB), at most {MAX_SAMPLES} are allowed: write it with sn.product and sn.apply "
            "if it separates, take fewer cells, or project in fewer axes"
        )
        raise ValueError(msg)
    values = np.empty(int(total))
    for start in range(0, values.size, CHUNK):
        index = np.unravel_index(np.arange(start, min(start + CHUNK, values.size)), shape)
        block = np.stack([p[i] for p, i in zip(points, index, strict=True)], axis=1)
        values[start : start + CHUNK] = _checked(f, f(block), block, space)
    return values.reshape(shape)


def _checked(f: object, result: Any, block: np.ndarray, space: TensorSpace) -> np.ndarray:
    name = describe_callable(f)
    if result is None:
        msg = f"sn.project: the callable {name!r} returned None, expected real numbers (n,): does it `return`?"
        raise TypeError(msg)
    if np.iscomplexobj(result):
        msg = f"sn.project: the callable {name!r} returned complex numbers, expected real ones: take e.g. their `.real`"
        raise TypeError(msg)
    try:
        values = np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"sn.project: the callable {name!r} returned {type(result).__name__}, expected real numbers (n,)"
        raise TypeError(msg) from error
    if values.shape != (len(block),):
        msg = (
            f"sn.project: the callable {name!r} returned shape {values.shape} for points of shape {block.shape}, "
            f"expected ({len(block)},): one value a row, the columns are {', '.join(space.names)}"
        )
        raise ValueError(msg)
    if not np.isfinite(values).all():
        where = ", ".join(f"{a}={v:g}" for a, v in zip(space.names, block[~np.isfinite(values)][0], strict=True))
        msg = f"sn.project: the callable {name!r} is not finite at {where}: give it finite values there"
        raise ValueError(msg)
    return values


def _project_expression(f: Coefficient, space: TensorSpace) -> CP:
    space.check_axes(f.axes, "sn.project: `f`")
    factors = []
    for name, basis in space.items:
        functions = [term.factor(name).coefficient for term in f.terms]
        distinct = {function: _project_axis(function, basis) for function in set(functions)}
        factors.append(np.stack([distinct[c] for c in functions], axis=1) if functions else np.zeros((basis.size, 0)))
    factors[0] = factors[0] * np.array([term.weight for term in f.terms])
    return CP(space, factors)


def _project_axis(function: Univariate, basis: Basis) -> np.ndarray:
    """Return the coefficients of the L2 projection; what knows its breaks brings them along."""
    degree, extra = function.piece_degree, 0
    if degree is None:  # a callable is taken for no polynomial
        degree, extra = len(function.powers) - 1, axis_maps.EXTRA_POINTS + basis.degree
    count = basis.quadrature(2 * basis.degree + degree + 1).points.size // (basis.breaks.size - 1)
    rule = gauss_rule(axis_maps.join_breaks([basis.breaks, function.breaks]), count + extra)
    return np.asarray(axis_maps.projector(basis, *rule) @ function(rule.points))
