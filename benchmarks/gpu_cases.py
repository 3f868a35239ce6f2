"""What `gpu.py` measures: inputs for every kernel, and how many bytes and operations each takes.

The counts are those of the formulas, not of the code: bytes that must come from and go to memory once, additions and
multiplications one each. The third count, numbers read through the cache, is that of the tables, which all points
read again: it says what the first-level cache has to give where neither memory nor arithmetic binds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

# multiples of 1 / 60 are rounded, as breaks are in use
AXES, CELLS, DEGREE, RANK = 6, 60, 3, 16
CHAIN = (1, 4, 14, 20, 16, 4, 1)


@dataclass(frozen=True)
class Case:
    """One measurement: `kernel` on `arguments`; what it must move and compute."""

    kernel: str
    label: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    items: int
    traffic: int
    flops: int
    cached: int = 0
    units: float = 8.0
    """Units of round-off of the sum of the terms' magnitudes that a result may be off by."""


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return `function` of every NumPy array in tuples and dicts; all else stays."""
    if isinstance(tree, np.ndarray):
        return function(tree)
    if isinstance(tree, dict):
        return {key: mapped(function, value) for key, value in tree.items()}
    return tuple(mapped(function, value) for value in tree) if isinstance(tree, tuple) else tree


def size_of(*trees: Any) -> int:
    """Return the number of bytes of all NumPy arrays in `trees`."""
    total = 0

    def add(array: np.ndarray) -> np.ndarray:
        nonlocal total
        total += array.nbytes
        return array

    mapped(add, trees)
    return total


def cases(dtype: str, fraction: float = 1.0) -> Iterator[Case]:
    """Give all cases in `dtype`; `fraction` scales the number of points, with 64 at least."""
    rng = np.random.default_rng(0)

    def n(points: float) -> int:
        return max(int(points * fraction), 64)

    for make in (_local, _products, _trains, _samples, _fills):
        for case in make(rng, n, np.dtype(dtype)):
            yield rounded(case, dtype)


def rounded(case: Case, dtype: str) -> Case:
    """Return the case with its numbers rounded to `dtype`."""
    arguments, options = mapped(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, (case.arguments, case.options))
    return replace(case, arguments=arguments, options=options)


Sizes = Callable[[float], int]


def _points(rng: np.random.Generator, n: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    return rng.random((n, AXES)), (np.linspace(0, 1, CELLS + 1),) * AXES


def _local(rng: np.random.Generator, n: Sizes, dtype: np.dtype[Any]) -> Iterator[Case]:
    m, q = n(1e7), DEGREE + 1
    arguments = rng.random(m), np.linspace(0, 1, CELLS + 1), rng.standard_normal((CELLS, q, q))
    traffic = m * (dtype.itemsize * (1 + q) + 8)
    yield Case("local_values", "cubic", arguments, {}, m, traffic, m * (2 * DEGREE * q + 3), m * q * q)


def _products(rng: np.random.Generator, n: Sizes, dtype: np.dtype[Any]) -> Iterator[Case]:
    """Give values, derivatives and their transposes of sums of products."""
    d, p, byte = AXES, DEGREE, dtype.itemsize
    units = max(8.0, (p + 1) * d / 2)

    def tables(rank: int) -> tuple[np.ndarray, ...]:
        return tuple(rng.standard_normal((CELLS, p + 1, rank)) for _ in range(d))

    # a column: Horner's rule with one, two or three rows an axis, and the products over the axes
    value, gradient, hessian = d * (2 * p + 1), d * (4 * p + 6), d * (6 * p + 9) + 2 * d * (d - 1)
    place = 6 * d
    for rank in (1, RANK, 128):
        m = n(1e7 if rank <= RANK else 2e6)
        x, b = _points(rng, m)
        t = tables(rank)
        read = d * (p + 1) * rank
        plain = {"options": {}, "items": m, "cached": m * read, "units": units}
        for kernel, results, work in (
            ("cp_value", 1, value + 1),
            ("cp_gradient", 1 + d, gradient + 1),
            ("cp_hessian", 1 + d + d * d, hessian + 1),
            ("cp_columns", rank, value),
        ):
            if rank == RANK or kernel == "cp_value":
                few = slice(None) if kernel != "cp_hessian" else slice(0, n(2e6))
                k = len(x[few])
                traffic = byte * k * (d + results) + size_of(t) * byte // 8
                own = plain | {"items": k, "cached": k * read}
                yield Case(
                    kernel, f"rank {rank}", (x[few], b, t), traffic=traffic, flops=k * (rank * work + place), **own
                )
        if rank != RANK:
            continue
        for kernel, shape in (("cp_vjp", (m,)), ("cp_columns_vjp", (m, rank))):
            y = rng.standard_normal(shape)
            traffic = byte * (m * 2 * d + y.size + 3 * sum(a.size for a in t))
            work = m * (rank * (gradient + 2 * d * (p + 1)) + place)
            for steady in (False, True):
                label = f"rank {rank}, deterministic" if steady else f"rank {rank}"
                own = plain | {"options": {"deterministic": steady}, "cached": 2 * m * read}
                yield Case(kernel, label, (x, b, t, y), traffic=traffic, flops=work, **own)
        k = n(1e6)
        targets, tol = rng.standard_normal(k) * 0.1, np.full(k, 1e-3)
        ends = np.zeros(d), np.ones(d)
        # a step is a gradient; ten steps a sample are counted, whatever it takes
        yield Case(
            "cp_newton", f"rank {rank}, at most 10 steps", (x[:k], targets, *ends, b, t),
            {"tol": tol, "max_steps": 10}, k, byte * k * (2 * d + 3), 10 * k * rank * gradient, 10 * k * read,
        )  # fmt: skip


def _trains(rng: np.random.Generator, n: Sizes, dtype: np.dtype[Any]) -> Iterator[Case]:
    """Give values, derivatives and their transposes of a tensor train."""
    d, p, byte = AXES, DEGREE, dtype.itemsize
    pairs = list(pairwise(CHAIN))
    t = tuple(rng.standard_normal((CELLS, p + 1, left, right)) for left, right in pairs)
    full = sum(left * right for left, right in pairs)
    # rows times the p + 1 coefficient matrices, then Horner's rule on rows; both ways for a gradient
    value = 2 * (p + 1) * full
    turns = sum(i * 4 * left * right for i, (left, right) in enumerate(pairs))
    units = max(8.0, (p + 1) * d / 2)
    for kernel, points, results, work in (
        ("train_value", 2e6, 1, value),
        ("train_gradient", 2e6, 1 + d, (4 * p + 6) * full),
        ("train_hessian", 5e5, 1 + d + d * d, (6 * p + 9) * full + turns),
    ):
        m = n(points)
        x, b = _points(rng, m)
        traffic = byte * (m * (d + results) + sum(a.size for a in t))
        yield Case(kernel, _ranks(), (x, b, t), {}, m, traffic, m * work, m * (p + 1) * full, units)
    m = n(1e6)
    x, b = _points(rng, m)
    traffic = byte * (m * (2 * d + 1) + 3 * sum(a.size for a in t))
    work = m * full * (4 * p + 6 + 2 * (p + 1))
    for steady in (False, True):
        label = f"{_ranks()}, deterministic" if steady else _ranks()
        arguments = (x, b, t, rng.standard_normal(m))
        yield Case(
            "train_vjp", label, arguments, {"deterministic": steady}, m, traffic, work, 2 * m * (p + 1) * full, units
        )


def _ranks() -> str:
    return "ranks " + "-".join(map(str, CHAIN[1:-1]))


def _samples(rng: np.random.Generator, n: Sizes, dtype: np.dtype[Any]) -> Iterator[Case]:
    """Give the sums over samples of a fit: 10 cells an axis."""
    q, functions, byte = DEGREE + 1, 10 + DEGREE, dtype.itemsize
    m = n(4e6)
    first = rng.integers(0, 10, m)
    arguments = first, rng.standard_normal((m, q)), rng.standard_normal((functions, RANK))
    traffic = m * (8 + byte * (q + RANK))
    yield Case("window_values", f"rank {RANK}", arguments, {}, m, traffic, m * 2 * q * RANK, m * q * RANK)
    m = n(2e5)
    firsts = tuple(rng.integers(0, 10, m) for _ in range(AXES))
    values, gains = (tuple(rng.standard_normal((m, k)) for _ in range(AXES)) for k in (q, RANK))
    wide, total = AXES * q * RANK, AXES * functions * RANK
    yield Case(
        "normal_blocks", f"{AXES} axes, rank {RANK}", (firsts, values, gains, rng.random(m), rng.standard_normal(m)),
        {"sizes": (functions,) * AXES}, m, m * (8 * AXES + byte * (AXES * (q + RANK) + 2)) + byte * total**2 // 2,
        m * wide * (wide + 1), units=8.0 + np.sqrt(m),
    )  # fmt: skip


def _fills(rng: np.random.Generator, n: Sizes, dtype: np.dtype[Any]) -> Iterator[Case]:
    """Give the matrices of an ALS step at rank 128: 37 functions of an axis, half-bandwidth 3, 30 terms."""
    terms, size, width, byte = 30, 37, DEGREE + 1, dtype.itemsize
    rank = max(int(128 * min(1.0, n(1e4) / 1e4)), 2)
    bands = rng.standard_normal((terms, size, width))
    for o in range(width):
        bands[:, size - o :, o] = 0
    half = rng.standard_normal((terms, rank, rank))
    weights, label = half + half.transpose(0, 2, 1), f"{size} functions, rank {rank}, {terms} terms"
    side = size * rank
    inside = size * (2 * width - 1) * rank * rank
    yield Case(
        "fill_dense_from_bands", label, (bands, weights), {}, side * side, byte * side * side, 2 * terms * inside,
        units=8.0 + terms,
    )  # fmt: skip
    group = width - 1
    blocks = -(-size // group)
    entries = (2 * blocks - 1) * (group * rank) ** 2
    yield Case(
        "fill_blocks", label, (bands, weights), {"group": group}, entries, byte * entries,
        2 * terms * size * width * rank * rank, units=8.0 + terms,
    )  # fmt: skip
    full = rng.standard_normal((terms, size, size))
    yield Case(
        "fill_dense", label, (full, weights), {}, side * side, byte * side * side, 2 * terms * side * side,
        units=8.0 + terms,
    )  # fmt: skip


def magnitudes(case: Case) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs for which the kernel gives the sums of the magnitudes of its terms.

    These are absolute values, and points at the right ends of their cells: the local coordinate s is itself a
    difference of terms of size one, so that its round-off, and what its powers count, does not fall with s.
    """
    arguments, options = mapped(lambda a: np.abs(a) if a.dtype.kind == "f" else a, (case.arguments, case.options))
    if case.kernel == "local_values":
        points, breaks = case.arguments[:2]
        return (_at_ends(points, breaks), breaks, *arguments[2:]), options
    if case.kernel.startswith(("cp_", "train_")):
        points, breaks = case.arguments[:2]
        columns = [_at_ends(points[:, i], b) for i, b in enumerate(breaks)]
        return (np.stack(columns, axis=1), breaks, *arguments[2:]), options
    return arguments, options


def _at_ends(x: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    cell = np.clip(np.searchsorted(breaks, x, side="right") - 1, 0, len(breaks) - 2)
    return np.nextafter(breaks[cell + 1], breaks[cell])  # off the end, which belongs to the next cell
