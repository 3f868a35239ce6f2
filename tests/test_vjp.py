"""The vector-Jacobian products: oracle = CPU = generic = autograd, everywhere; sums in a fixed order.

The bounds are those of `test_kernels` and `test_train_kernels`: ``8 (p + 1)`` units of round-off per axis, two for each
term of the sums over the ranks, and one for each point that a sum takes in, all times the sum of the terms' magnitudes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import cell_of, jet
from support import Backend, dev_size
from test_kernels import assert_near, make_breaks, make_cp, make_points
from test_train_kernels import make_train

from sepnet.backends import dispatch, generic
from sepnet.backends.arrays import namespace, to_host

KERNELS = ("cp_vjp", "cp_columns_vjp", "train_vjp")
VALUES = {"cp_vjp": "cp_value", "cp_columns_vjp": "cp_columns", "train_vjp": "train_value"}
GRADIENTS = {"cp_vjp": "cp_gradient", "train_vjp": "train_gradient"}


class Problem(NamedTuple):
    """What a kernel is given, on the host."""

    kernel: str
    points: np.ndarray
    breaks: list[np.ndarray]
    tables: list[np.ndarray]
    cotangent: np.ndarray

    def put(self, like: Backend) -> tuple[Any, tuple[Any, ...], tuple[Any, ...], Any]:
        put = like.asarray
        return put(self.points), tuple(map(put, self.breaks)), tuple(map(put, self.tables)), put(self.cotangent)

    def units(self) -> int:
        """How many units of round-off a result may be off, the additions over the points left out."""
        if self.kernel == "train_vjp":
            return sum(8 * t.shape[1] + 2 * t.shape[2] + 2 for t in self.tables)
        return sum(8 * t.shape[1] + 2 for t in self.tables) + self.tables[0].shape[2]


class Shape(NamedTuple):
    seed: int
    n: int
    degrees: list[int]
    ranks: list[int]
    cells: int
    graded: bool
    dead: bool


@st.composite
def shapes(draw: st.DrawFn, most: int = 6, degree: int = 7, rank: int = 40) -> Shape:
    d = draw(st.integers(1, most))
    # few long vectors, many around the eight lanes of one
    ranks = st.one_of(st.integers(1, min(9, rank)), st.sampled_from([r for r in (16, 17, 24, 40) if r <= rank] or [1]))
    return Shape(
        draw(st.integers(0, 2**31)), draw(st.sampled_from([0, 1, 2, 7])),
        draw(st.lists(st.integers(0, degree), min_size=d, max_size=d)), draw(st.lists(ranks, min_size=d, max_size=d)),
        draw(st.integers(1, 5)), draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip


def make(kernel: str, shape: Shape, dtype: type = np.float64) -> Problem:
    """A random problem; where `dead`, a factor is zero everywhere, so that nobody can divide by it."""
    degrees, d = shape.degrees, len(shape.degrees)
    if kernel == "train_vjp":
        data = make_train(shape.seed, shape.n, degrees, shape.ranks[: d - 1], shape.cells, shape.graded, dtype)
    else:
        cells = [shape.cells + i for i in range(d)]
        data = make_cp(shape.seed, shape.n, degrees, shape.ranks[0], cells, shape.graded, dtype)
    rng = np.random.default_rng([shape.seed, 1])
    if shape.dead:
        data[2][int(rng.integers(d))][:] = 0
    size = (shape.n, shape.ranks[0]) if kernel == "cp_columns_vjp" else (shape.n,)
    return Problem(kernel, *data, rng.standard_normal(size).astype(dtype))


class Pull(NamedTuple):
    """Results of a vector-Jacobian product, or the magnitudes of what is summed."""

    points: np.ndarray
    tables: list[np.ndarray]


def oracle(problem: Problem) -> tuple[Pull, Pull]:
    """By definition, point by point; every product over the other axes is taken afresh."""
    _, points, breaks, tables, cotangent = problem
    both = tuple(Pull(np.zeros(points.shape), [np.zeros(t.shape) for t in tables]) for _ in range(2))
    for k, x in enumerate(points):
        jets = [jet(x[i], b, t.reshape(*t.shape[:2], -1)) for i, (b, t) in enumerate(zip(breaks, tables, strict=True))]
        for which, result in enumerate(both):
            y = np.abs(cotangent[k]) if which else cotangent[k]
            parts = [j[which].reshape(3, *t.shape[2:]) for j, t in zip(jets, tables, strict=True)]
            for i, b in enumerate(breaks):
                gain = gain_of(parts, i, y)
                c = cell_of(x[i], b)
                # in the magnitudes |s| counts as 1: its round-off is absolute
                s = 1.0 if which else 2 * (float(x[i]) - float(b[c])) / (float(b[c + 1]) - float(b[c])) - 1
                result.points[k, i] = np.sum(gain * parts[i][1])
                for m in range(tables[i].shape[1]):
                    result.tables[i][c, m] += gain * s**m
    return both


def gain_of(parts: list[np.ndarray], i: int, y: Any) -> np.ndarray:
    """What the sum of cotangent times value owes to each entry of axis i: its derivative by that entry."""
    if parts[0].ndim == 2:
        return np.prod([part[0] for j, part in enumerate(parts) if j != i], axis=0) * y * np.ones(parts[i].shape[1])
    row, column = np.ones((1, 1)), np.ones((1, 1))
    for part in parts[:i]:
        row = row @ part[0]
    for part in parts[:i:-1]:
        column = part[0] @ column
    return y * row.T @ column.T


def check(like: Backend, problem: Problem) -> None:
    expected, sizes = oracle(problem)
    arguments, factor = problem.put(like), problem.units() * like.eps
    for module in (dispatch, generic):
        kernel = getattr(module, problem.kernel)
        points, tables = kernel(*arguments)
        assert_near(points, expected.points, factor * sizes.points, like)
        assert isinstance(tables, tuple)
        for actual, want, size in zip(tables, expected.tables, sizes.tables, strict=True):
            assert_near(actual, want, (factor + len(problem.points) * like.eps) * size, like)
        alone, nothing = kernel(*arguments, wanted="points")
        assert nothing is None
        assert np.array_equal(to_host(alone), to_host(points))
        nothing, alone = kernel(*arguments, wanted="tables", deterministic=True)
        assert nothing is None
        assert all(np.array_equal(to_host(a), to_host(b)) for a, b in zip(alone, tables, strict=True))


@pytest.mark.parametrize("kernel", KERNELS)
@given(shape=shapes(), single=st.booleans())
def test_is_oracle_numpy(kernel: str, shape: Shape, single: bool) -> None:
    dtype = np.float32 if single else np.float64
    check(Backend("numpy", np, np.dtype(dtype)), make(kernel, shape, dtype))


@pytest.mark.parametrize("kernel", KERNELS)
@dev_size
@given(shape=shapes(most=4, rank=16))
def test_is_oracle_everywhere(xp: Backend, kernel: str, shape: Shape) -> None:
    check(xp, make(kernel, shape, xp.host_dtype))


@pytest.mark.parametrize("kernel", KERNELS)
def test_degree_15_and_one_cell(xp: Backend, kernel: str) -> None:
    check(xp, make(kernel, Shape(3, 4, [15, 0, 2], [9, 17, 1], 1, False, False), xp.host_dtype))


@pytest.mark.parametrize("kernel", ["cp_vjp", "train_vjp"])
@given(shape=shapes(most=4, degree=5, rank=17))
def test_is_autograd_of_the_generic_value(kernel: str, shape: Shape) -> None:
    torch = pytest.importorskip("torch")
    problem = make(kernel, shape)
    points, tables = getattr(dispatch, kernel)(*problem.put(Backend("numpy", np, np.float64)))
    leaves = [torch.asarray(a).requires_grad_() for a in (problem.points, *problem.tables)]
    value = getattr(generic, VALUES[kernel])(leaves[0], tuple(map(torch.asarray, problem.breaks)), tuple(leaves[1:]))
    scalar = value @ torch.asarray(problem.cotangent)
    wanted = torch.autograd.grad(scalar, leaves, allow_unused=True, materialize_grads=True)
    _, sizes = oracle(problem)
    # both are off by the bound
    factor = 2 * (problem.units() + shape.n) * np.finfo(float).eps
    for actual, want, size in zip((points, *tables), wanted, (sizes.points, *sizes.tables), strict=True):
        assert np.all(np.abs(actual - want.numpy()) <= factor * size)


@pytest.mark.parametrize("kernel", ["cp_vjp", "train_vjp"])
@given(seed=st.integers(0, 2**31), degrees=st.lists(st.integers(0, 2), min_size=1, max_size=2), rank=st.integers(1, 9))
def test_is_adjoint_of_differences(kernel: str, seed: int, degrees: list[int], rank: int) -> None:
    problem = make(kernel, Shape(seed, 5, degrees, [rank] * len(degrees), 3, True, False))
    rng, breaks = np.random.default_rng(seed), problem.breaks
    # middle fifths of cells, and steps that stay inside: along the line the value is a polynomial of degree
    # d (p + 1) <= 6, for which the rule of seven nodes is exact
    cells = [rng.integers(len(b) - 1, size=5) for b in breaks]
    widths = np.stack([np.diff(b)[c] for b, c in zip(breaks, cells, strict=True)], axis=1)
    points = np.stack([b[c] for b, c in zip(breaks, cells, strict=True)], axis=1)
    points = points + widths * rng.uniform(0.4, 0.6, points.shape)
    across = widths * rng.uniform(-0.1, 0.1, points.shape)
    up = [rng.standard_normal(t.shape) / 10 for t in problem.tables]

    def along(step: float) -> np.ndarray:
        tables = tuple(t + step * u for t, u in zip(problem.tables, up, strict=True))
        return np.asarray(getattr(dispatch, VALUES[kernel])(points + step * across, tuple(breaks), tables))

    rule = ((1, 45 / 60), (2, -9 / 60), (3, 1 / 60))
    forward = problem.cotangent @ sum(w * (along(k) - along(-k)) for k, w in rule)
    moved = problem._replace(points=points)
    back, tables = getattr(dispatch, kernel)(*moved.put(Backend("numpy", np, np.float64)))
    adjoint = np.sum(back * across) + sum(np.sum(t * u) for t, u in zip(tables, up, strict=True))
    # what is summed at the far nodes, and there the round-off of the points times the slopes; the weights add up to 2
    far = [np.abs(t) + 3 * np.abs(u) for t, u in zip(problem.tables, up, strict=True)]
    _, sizes = oracle(moved._replace(tables=far))
    size = np.sum(sizes.tables[0] * far[0]) + np.sum(sizes.points * (np.abs(across) + np.abs(points)))
    size += sum(np.sum(s * np.abs(u)) for s, u in zip(sizes.tables, up, strict=True))
    assert abs(forward - adjoint) <= 2 * (problem.units() + 5) * np.finfo(float).eps * size


@pytest.mark.parametrize("kernel", ["cp_vjp", "train_vjp"])
@given(shape=shapes(most=4, degree=5, rank=17))
def test_a_table_is_met_linearly(kernel: str, shape: Shape) -> None:
    problem = make(kernel, shape)
    points, breaks, tables, cotangent = problem.put(Backend("numpy", np, np.float64))
    slopes, pulled = getattr(dispatch, kernel)(points, breaks, tables, cotangent)
    _, sizes = oracle(problem)
    rng, factor = np.random.default_rng(shape.seed), 2 * (problem.units() + shape.n + 8) * np.finfo(float).eps
    for i, table in enumerate(tables):
        other = rng.standard_normal(table.shape)
        value = getattr(dispatch, VALUES[kernel])(points, breaks, (*tables[:i], other, *tables[i + 1 :]))
        entries = np.sqrt(table.size) * np.sum(sizes.tables[i] * np.abs(other))
        assert abs(cotangent @ value - np.sum(pulled[i] * other)) <= factor * entries
    _, gradient = getattr(dispatch, GRADIENTS[kernel])(points, breaks, tables)
    assert np.all(np.abs(slopes - cotangent[:, None] * gradient) <= factor * sizes.points)


def test_columns_are_the_products(xp: Backend) -> None:
    points, breaks, tables = make_cp(3, 9, [3, 0, 2], 11, [4, 1, 2], True, xp.host_dtype)
    x, b, t = xp.asarray(points), tuple(map(xp.asarray, breaks)), tuple(map(xp.asarray, tables))
    jets = [[jet(p[i], c, a) for i, (c, a) in enumerate(zip(breaks, tables, strict=True))] for p in points]
    expected, size = (np.array([np.prod([j[w][0] for j in point], axis=0) for point in jets]) for w in range(2))
    for module in (dispatch, generic):
        columns = module.cp_columns(x, b, t)
        assert_near(columns, expected, 8 * sum(a.shape[1] for a in tables) * xp.eps * size, xp)
    # one cotangent for all columns is that of their sum
    y = np.random.default_rng(3).standard_normal(9)
    alike = dispatch.cp_columns_vjp(x, b, t, xp.asarray(np.repeat(y[:, None], 11, axis=1)))
    plain = dispatch.cp_vjp(x, b, t, xp.asarray(y))
    for one, other in zip((alike[0], *alike[1]), (plain[0], *plain[1]), strict=True):
        assert np.array_equal(to_host(one), to_host(other))
    assert dispatch.cp_columns(x[:0, :], b, t).shape == (0, 11)


@pytest.mark.parametrize("kernel", KERNELS)
def test_torch_differentiates_it_again(kernel: str) -> None:
    torch = pytest.importorskip("torch")
    problem = make(kernel, Shape(5, 3, [3, 1], [2, 1], 2, True, False))
    points = 0.999 * problem.points + 0.0005  # off the breaks, where second derivatives jump
    breaks = tuple(map(torch.asarray, problem.breaks))
    leaves = [torch.asarray(a).requires_grad_() for a in (points, problem.cotangent, *problem.tables)]

    def pull(x: Any, y: Any, *tables: Any) -> tuple[Any, ...]:
        slopes, pulled = getattr(dispatch, kernel)(x, breaks, tables, y)
        return slopes, *pulled

    assert torch.autograd.gradcheck(pull, leaves)
    with pytest.raises(ValueError, match=r"`points` has 8\.0 on axis 0"):
        pull((leaves[0] * 0 + 8), *leaves[1:])


@pytest.mark.parametrize("kernel", KERNELS)
def test_strided_arrays_are_taken_as_they_are(xp: Backend, kernel: str) -> None:
    problem = make(kernel, Shape(3, 9, [3, 2], [5, 1], 4, True, False), xp.host_dtype)
    x, b, t, y = problem.put(xp)
    plain = getattr(dispatch, kernel)(x, b, t, y)
    wide = xp.asarray(np.repeat(np.repeat(problem.points, 2, axis=0), 3, axis=1))[::2, ::3]
    rare = xp.asarray(np.repeat(problem.cotangent, 2, axis=0))[::2, ...]
    deep = tuple(xp.asarray(np.repeat(table, 2, axis=2))[:, :, ::2, ...] for table in problem.tables)
    other = getattr(dispatch, kernel)(wide, b, deep, rare)
    for one, two in zip((plain[0], *plain[1]), (other[0], *other[1]), strict=True):
        assert np.array_equal(to_host(one), to_host(two))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.6])
def test_bad_points_are_named_as_by_the_value(xp: Backend, kernel: str, bad: float) -> None:
    problem = make(kernel, Shape(5, 9, [3, 1], [3, 1], 4, False, False), xp.host_dtype)
    problem.points[[4, 6], [1, 0]] = bad, -7
    x, b, t, y = problem.put(xp)
    with pytest.raises(ValueError, match=r"axis 1 \('omega'\)") as expected:
        getattr(dispatch, VALUES[kernel])(x, b, t, names=("t", "omega"))
    for module in (dispatch, generic):
        for wanted in ("both", "points", "tables"):
            with pytest.raises(ValueError, match="`points` has") as caught:
                getattr(module, kernel)(x, b, t, y, wanted=wanted, names=("t", "omega"))
            assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("kernel", KERNELS)
def test_arguments_are_checked(xp: Backend, kernel: str) -> None:
    x, b, t, y = make(kernel, Shape(5, 3, [1, 2], [2, 1], 2, False, False)).put(xp)
    for module in (dispatch, generic):
        run = getattr(module, kernel)
        with pytest.raises(ValueError, match=r"`points` has shape \(3, 1\), expected \(n, 2\)"):
            run(x[:, :1], b, t, y)
        with pytest.raises(ValueError, match=r"`cotangent` has shape \(2,.*expected \(3,"):
            run(x, b, t, y[:2, ...])
        with pytest.raises(ValueError, match=r"`cotangent` has shape \(3, 1.*expected \(3,"):
            run(x, b, t, namespace(y).expand_dims(y, axis=1))
        with pytest.raises(ValueError, match='`wanted` is \'all\', expected "both", "points" or "tables"'):
            run(x, b, t, y, wanted="all")


def test_mixed_arrays_are_refused() -> None:
    for kernel in KERNELS:
        x, b, t, y = make(kernel, Shape(5, 3, [1, 2], [2, 1], 2, False, False)).put(Backend("numpy", np, np.float64))
        with pytest.raises(TypeError, match=r"`cotangent` is numpy float32 on cpu and `points` is numpy float64"):
            getattr(dispatch, kernel)(x, b, t, y.astype(np.float32))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cotangent", [np.inf, np.nan])
def test_what_is_not_finite_stays_with_its_point(kernel: str, cotangent: float) -> None:
    problem = make(kernel, Shape(5, 7, [0, 1], [3, 1], 4, False, False))
    positive = problem._replace(tables=[np.abs(t) + 1 for t in problem.tables])
    positive.cotangent[2] = cotangent
    points, tables = getattr(dispatch, kernel)(*positive.put(Backend("numpy", np, np.float64)))
    # the slope of the constant factor is zero, and zero times infinity is none
    assert np.isnan(points[2, 0])
    assert np.array_equal(points[2, 1], cotangent, equal_nan=True)
    assert np.all(np.isfinite(np.delete(points, 2, axis=0)))
    for i, table in enumerate(tables):
        c = cell_of(positive.points[2, i], positive.breaks[i])
        assert not np.any(np.isfinite(table[c, 0]))
        assert np.all(np.isfinite(np.delete(table, c, axis=0)))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Chunks of some hundred points; returns the list of the numbers of chunks."""
    pytest.importorskip("numba")
    from sepnet.backends.cpu import accumulate

    counts: list[int] = []
    count = accumulate.chunk_count
    monkeypatch.setattr(accumulate, "CHUNK_WORK", 20_000)
    monkeypatch.setattr(accumulate, "chunk_count", lambda *sizes: counts.append(count(*sizes)) or counts[-1])
    return counts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", KERNELS)
def test_any_number_of_threads_gives_the_same_bits(
    kernel: str, dtype: type, small_chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sepnet.backends.cpu import accumulate

    problem = make(kernel, Shape(9, 5000, [3, 2], [9, 1], 4, True, False), dtype)
    arguments, results = problem.put(Backend("numpy", np, dtype)), []
    for threads in (1, 2, 3):
        monkeypatch.setattr(accumulate.numba, "get_num_threads", lambda threads=threads: threads)
        points, tables = getattr(dispatch, kernel)(*arguments)
        results.append((points, *tables))
    assert min(small_chunks) > 3
    for other in results[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(results[0], other, strict=True))
    # chunks, and tiles of points within them, change the order of additions only
    whole = getattr(generic, kernel)(*(a[:600] if k in (0, 3) else a for k, a in enumerate(arguments)))
    part = getattr(dispatch, kernel)(*(a[:600] if k in (0, 3) else a for k, a in enumerate(arguments)))
    _, sizes = oracle(problem._replace(points=problem.points[:600], cotangent=problem.cotangent[:600]))
    # the order of additions changes each sum by a unit for every two of the points at most
    factor = (2 * problem.units() + 600) * np.finfo(dtype).eps
    for one, two, size in zip((whole[0], *whole[1]), (part[0], *part[1]), (sizes.points, *sizes.tables), strict=True):
        assert np.all(np.abs(one - two) <= factor * size)
    problem.points[[1200, 4800], [1, 0]] = 7.5, 8.5
    with pytest.raises(ValueError, match=r"has 7\.5 on axis 1"):
        getattr(dispatch, kernel)(*problem.put(Backend("numpy", np, dtype)))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((0, 8, 100, 8), 1),
        ((4096, 2048, 2048, 4), 8),  # a batch of a layer: a million coefficients a chunk
        ((10**9, 384, 24576, 8), 16),
        ((10**8, 384, 10**7, 8), 1),  # 80 MB of sums
        ((10**7, 1, 10**6, 4), 2),  # a sum for every ten points
    ],
)
def test_the_sums_stay_small_beside_the_work(sizes: tuple[int, int, int, int], expected: int) -> None:
    pytest.importorskip("numba")
    from sepnet.backends.cpu.accumulate import chunk_count

    assert chunk_count(*sizes) == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_memory_is_read_before_it_is_written(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    empty = np.empty

    def poisoned(*arguments: Any, **options: Any) -> np.ndarray:
        array = empty(*arguments, **options)
        array.view(np.uint8 if array.flags.c_contiguous else array.dtype).fill(255)
        return array

    problem = make(kernel, Shape(5, 300, [3, 2, 1], [5, 3, 1], 4, True, False))
    arguments = problem.put(Backend("numpy", np, np.float64))
    clean = getattr(dispatch, kernel)(*arguments)
    monkeypatch.setattr(np, "empty", poisoned)
    soiled = getattr(dispatch, kernel)(*arguments)
    for one, two in zip((clean[0], *clean[1]), (soiled[0], *soiled[1]), strict=True):
        assert np.array_equal(one, two)


def test_many_cells_and_generic_chunks_change_nothing() -> None:
    # more cells than the places that a tile is sorted into, and more points than a chunk of the generic code
    rng = np.random.default_rng(4)
    breaks = [make_breaks(rng, c, False) for c in (3000, 2)]
    points, cotangent = make_points(rng, 400, breaks), rng.standard_normal(400)
    tables = [rng.standard_normal((3000, 3, 1, 3)), rng.standard_normal((2, 2, 3, 1))]
    train = Problem("train_vjp", points, breaks, tables, cotangent)
    cp = Problem("cp_vjp", points, breaks, [t.reshape(*t.shape[:2], -1) for t in tables], cotangent)
    for problem in (train, cp):
        arguments = problem.put(Backend("numpy", np, np.float64))
        one, other = (getattr(module, problem.kernel)(*arguments) for module in (dispatch, generic))
        _, sizes = oracle(problem)
        factor = (2 * problem.units() + 400) * np.finfo(float).eps
        for a, b, size in zip((one[0], *one[1]), (other[0], *other[1]), (sizes.points, *sizes.tables), strict=True):
            assert np.all(np.abs(a - b) <= factor * size)


def test_ranks_degrees_and_axes_are_run_time_numbers() -> None:
    pytest.importorskip("numba")
    from sepnet.backends.cpu.cp_vjp import _vjp as of_cp
    from sepnet.backends.cpu.train_vjp import _vjp as of_train

    for degrees, rank in (([3, 3], 3), ([5, 2, 0], 16)):
        for kernel in KERNELS:
            problem = make(kernel, Shape(1, 4, degrees, [rank] * len(degrees), 2, True, False))
            getattr(dispatch, kernel)(*problem.put(Backend("numpy", np, np.float64)), wanted="tables")
    for compiled in (of_cp, of_train):
        in_double = [s for s in compiled.signatures if "float64" in str(s)]
        assert len(in_double) == 1
        assert "Literal" not in str(in_double[0])
