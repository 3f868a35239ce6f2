"""What is inverted: functions of the library or a callable, seen as one map with a Jacobian, on a box."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, Namespace, describe, device_of, from_host, namespace, to_host
from sepnet.bases.checks import numbers
from sepnet.functions.axis_maps import local_polynomials
from sepnet.functions.cp import CP
from sepnet.functions.sna import SNA
from sepnet.functions.values import Values
from sepnet.spaces import TensorSpace

__all__ = [
    "Bounds",
    "Invertible",
    "Model",
    "Tables",
    "as_model",
    "as_targets",
    "first_not_finite",
    "host_numbers",
    "repeated",
    "tables_of",
    "tiled",
]

Jet: TypeAlias = Callable[[Array], tuple[Array, Array]]
Invertible: TypeAlias = Values | Sequence[Values] | Jet
Bounds: TypeAlias = Mapping[str, float | tuple[float, float]] | Sequence[tuple[float, float]] | np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Model:
    """A map from a box to m outputs, with its Jacobian.

    Attributes
    ----------
    evaluate : callable
        Points (n, d) to values (n, m) and Jacobians (n, m, d), of finite or other numbers.
    functions : tuple of functions
        The outputs, where they are functions of the library; empty for a callable.
    low, high : ndarray (d,)
        The box, float64 on the host.
    names : tuple of str
        Names of the inputs, for texts.
    outputs : int or None
        m; None for a callable, which tells by its first values.
    like : array
        An array of the namespace, device and dtype in which everything happens.
    """

    evaluate: Jet
    functions: tuple[Values, ...]
    low: np.ndarray
    high: np.ndarray
    names: tuple[str, ...]
    outputs: int | None
    like: Array

    @property
    def dim(self) -> int:
        """Number of inputs d."""
        return len(self.names)

    @property
    def xp(self) -> Namespace:
        """Where it lives."""
        return namespace(self.like)

    def here(self, array: Array) -> Array:
        """Return an array where the model lives, in its dtype; one that lives elsewhere is moved."""
        if self.holds(array):
            return array if array.dtype == self.like.dtype else self.xp.astype(array, self.like.dtype)
        return from_host(to_host(array), self.xp, device=device_of(self.like), dtype=self.like.dtype)

    def holds(self, array: Any) -> bool:
        """Tell whether something is an array of the namespace and device of the model."""
        if not (hasattr(array, "dtype") and hasattr(array, "shape")):
            return False
        try:
            return namespace(array) is self.xp and bool(device_of(array) == device_of(self.like))
        except TypeError:  # a frame has a shape too
            return False

    def box(self) -> tuple[Array, Array]:
        """Return the ends of the box (d,) where the model lives."""
        return self.here(self.low), self.here(self.high)


def as_model(u: Invertible, y: Any, bounds: Bounds | None, *, dim: int | None = None) -> Model:
    """Return what is inverted.

    Parameters
    ----------
    u : function, sequence of functions on one box, or callable
        A callable takes points (n, d) to values (n, m) and Jacobians (n, m, d).
    y : object
        The target: a callable is called where it lives.
    bounds : mapping, sequence or array (d, 2), optional
        The box; by default that of the functions.
    dim : int, optional
        d, where a callable comes without bounds: it then has no box.

    Raises
    ------
    TypeError, ValueError
        In a sentence, for anything else.
    """
    if isinstance(u, Values):
        return _of_functions((u,), bounds)
    if isinstance(u, Sequence) and u and all(isinstance(f, Values) for f in u):
        return _of_functions(tuple(u), bounds)
    if not callable(u):
        msg = (
            f"`u` is {type(u).__name__}, expected a function such as sn.CP, a sequence of functions on one box, or a "
            "callable of points (n, d) that returns values (n, m) and Jacobians (n, m, d)"
        )
        raise TypeError(msg)
    return _of_callable(u, y, bounds, dim)


def _of_functions(functions: tuple[Values, ...], bounds: Bounds | None) -> Model:
    first = functions[0]
    for k, other in enumerate(functions[1:], start=1):
        same = first.space.names == other.space.names and all(
            a.domain == b.domain for a, b in zip(first.space.bases, other.space.bases, strict=True)
        )
        if not same:
            msg = f"`u[{k}]` lives on {other.space!r}, u[0] on {first.space!r}: several outputs need one box"
            raise ValueError(msg)
        if describe(other.arrays[0]) != describe(first.arrays[0]):
            msg = (
                f"`u[{k}]` is {describe(other.arrays[0])}, u[0] is {describe(first.arrays[0])}: move one with "
                "u.to(xp=..., device=..., dtype=...)"
            )
            raise TypeError(msg)

    parts = [_jet_of(f) for f in functions]

    def evaluate(points: Array) -> tuple[Array, Array]:
        xp = namespace(points)
        jets = [part(points) for part in parts]
        return xp.stack([v for v, _ in jets], axis=1), xp.stack([g for _, g in jets], axis=1)

    low, high = _box_in(first.space, bounds)
    return Model(evaluate, functions, low, high, first.space.names, len(functions), first.arrays[0])


class Tables(NamedTuple):
    """A CP function of splines as the kernels take it, and what is added to it."""

    breaks: tuple[Array, ...]
    tables: tuple[Array, ...]
    constant: Array | float


def tables_of(u: Values) -> Tables | None:
    """Return the tables of a CP function of splines, with or without a constant as a fit has it; None for others."""
    part: Values = u
    constant: Array | float = 0.0
    if isinstance(u, SNA) and u.activation == "identity" and not u.weights and tuple(u.parts) == (u.space.names,):
        part, constant = u.parts[u.space.names], u.constant
    if not isinstance(part, CP):
        return None
    pairs = [local_polynomials(basis, factor) for basis, factor in zip(part.space.bases, part.factors, strict=True)]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < len(pairs):
        return None
    return Tables(tuple(b for b, _ in known), tuple(t for _, t in known), constant)


def _jet_of(u: Values) -> Jet:
    """Return the value and gradient of a function; the tables of a CP are made once, not in every iteration."""
    tables, names = tables_of(u), u.space.names
    if tables is None:
        return u.value_and_gradient
    breaks, local, constant = tables

    def jet(points: Array) -> tuple[Array, Array]:
        value, gradient = dispatch.cp_gradient(points, breaks, local, names=names)
        return value + constant, gradient

    return jet


def _of_callable(u: Jet, y: Any, bounds: Bounds | None, dim: int | None) -> Model:
    if isinstance(bounds, Mapping):
        msg = "`bounds` is a mapping, but a callable has no names of inputs: give one pair (low, high) per input"
        raise TypeError(msg)
    if bounds is None and dim is None:
        msg = "`bounds` is missing: a callable has no box of its own, give one pair (low, high) per input"
        raise ValueError(msg)
    free = np.full((dim or 0, 2), (-np.inf, np.inf))
    low, high = (free if bounds is None else _pairs(bounds, dim)).T
    like = y if hasattr(y, "dtype") and hasattr(y, "shape") else np.zeros(1)
    if not namespace(like).isdtype(like.dtype, "real floating"):
        like = namespace(like).zeros((1,), device=device_of(like))

    def evaluate(points: Array) -> tuple[Array, Array]:
        result = u(points)
        shapes = [tuple(getattr(part, "shape", ())) for part in result] if isinstance(result, tuple | list) else []
        n, d = tuple(points.shape)
        fits = len(shapes) == 2 and len(shapes[0]) == 2 and shapes[0][0] == n and shapes[1] == (n, shapes[0][1], d)
        if not fits or shapes[0][1] < 1:
            msg = f"`u` returned arrays of shapes {shapes}, expected values ({n}, m) and Jacobians ({n}, m, {d})"
            raise ValueError(msg)
        values, jacobian = result
        if describe(values) != describe(points) or describe(jacobian) != describe(points):
            msg = (
                f"`u` returned {describe(values)} and {describe(jacobian)} for points that are {describe(points)}: "
                "return arrays of that kind, or give `y` as an array of the kind that `u` takes"
            )
            raise TypeError(msg)
        return values, jacobian

    return Model(evaluate, (), low.copy(), high.copy(), tuple(f"x{i}" for i in range(len(low))), None, like)


def _box_in(space: TensorSpace, bounds: Bounds | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the box, inside the domain."""
    domain = np.array([basis.domain for basis in space.bases])
    box = domain.copy()
    if isinstance(bounds, Mapping):
        space.check_axes(bounds, "`bounds`")
        for name, ends in bounds.items():
            pair = np.ravel(np.asarray(host_numbers(f"bounds[{name!r}]", ends)))
            if pair.size not in (1, 2):
                msg = f"bounds[{name!r}] has {pair.size} numbers, expected (low, high), or one number to fix the input"
                raise ValueError(msg)
            box[space.names.index(name)] = pair
    elif bounds is not None:
        box = _pairs(bounds, space.dim)
    for name, (left, right), (low, high) in zip(space.names, domain.tolist(), box.tolist(), strict=True):
        if not left <= low <= high <= right:
            msg = (
                f"bounds[{name!r}] is ({low!r}, {high!r}), expected rising numbers in the domain ({left!r}, {right!r}) "
                "of the axis: cut them to it, or take an axis that covers them"
            )
            raise ValueError(msg)
    return box[:, 0].copy(), box[:, 1].copy()


def _pairs(bounds: Any, dim: int | None) -> np.ndarray:
    """Return rising bounds (d, 2)."""
    box = np.array(host_numbers("`bounds`", bounds))
    if box.ndim != 2 or box.shape[1] != 2 or (dim is not None and box.shape[0] != dim) or not box.size:
        wanted = "d" if dim is None else str(dim)
        msg = f"`bounds` has shape {box.shape}, expected ({wanted}, 2): one pair (low, high) per input"
        raise ValueError(msg)
    if not (box[:, 0] <= box[:, 1]).all():
        k = int(np.argmin(box[:, 0] <= box[:, 1]))
        low, high = box[k].tolist()
        msg = f"`bounds` has ({low!r}, {high!r}) for input {k}, expected rising numbers: low <= high"
        raise ValueError(msg)
    return box


def host_numbers(name: str, value: Any) -> np.ndarray:
    """Return numbers, or an array of any library, as float64 on the host."""
    return np.asarray(numbers(name, to_host(value) if hasattr(value, "shape") else value), dtype=np.float64)


def as_targets(y: Any, model: Model, outputs: int) -> Array:
    """Return the targets (T, m), where the model lives and in its dtype.

    For one output y is a number or T numbers; for m outputs it is m numbers or an array (T, m).

    Raises
    ------
    TypeError, ValueError
        If y is no such array, is not finite, or lives elsewhere than the functions.
    """
    if hasattr(y, "dtype") and getattr(y, "shape", ()) != () and model.functions and not model.holds(y):
        msg = f"`y` is {describe(y)}, the function is {describe(model.like)}: move one of them, e.g. with u.to(...)"
        raise TypeError(msg)
    given = y if model.holds(y) and _is_real(y) else host_numbers("`y`", y)
    xp, shape = namespace(given), tuple(int(n) for n in given.shape)
    targets = given if given.ndim > 1 else xp.reshape(given, (-1, 1) if outputs == 1 else (1, -1))
    if targets.ndim != 2 or targets.shape[1] != outputs or not int(targets.shape[0]):
        wanted = "a number or (T,)" if outputs == 1 else f"({outputs},) or (T, {outputs})"
        msg = f"`y` has shape {shape}, expected {wanted}: one row of targets for each inversion, at least one"
        raise ValueError(msg)
    row = first_not_finite(targets)
    if row is not None:
        wrong = next(v for v in to_host(targets[row, :]).tolist() if not np.isfinite(v))
        msg = f"`y` is {wrong!r} for target {row}, expected finite numbers: leave it out"
        raise ValueError(msg)
    return model.here(targets)


def _is_real(array: Array) -> bool:
    return bool(namespace(array).isdtype(array.dtype, "real floating"))


def first_not_finite(array: Array) -> int | None:
    """Return the number of the first row of an array (n, m) with a number that is not finite, or None.

    A reduction where the array lives; nothing is copied.
    """
    xp = namespace(array)
    finite = xp.all(xp.isfinite(array), axis=1)
    return None if bool(xp.all(finite)) else int(xp.argmin(xp.astype(finite, xp.uint8)))


def repeated(array: Array, times: int) -> Array:
    """Return an array (n, m) with each row as many times, shape (n times, m)."""
    xp, (n, m) = namespace(array), tuple(int(k) for k in array.shape)
    return xp.reshape(xp.broadcast_to(array[:, None, :], (n, times, m)), (n * times, m))


def tiled(array: Array, times: int) -> Array:
    """Return an array (n, m) as many times, one after the other, shape (times n, m)."""
    xp, (n, m) = namespace(array), tuple(int(k) for k in array.shape)
    return xp.reshape(xp.broadcast_to(array[None, :, :], (times, n, m)), (times * n, m))
