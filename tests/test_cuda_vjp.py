"""The CUDA kernels for the vector-Jacobian product of CP functions, run on the CPU; see `cuda_support`."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable

import numpy as np
import pytest
from cuda_support import MODES, ShimDriver, needs_compiler, on_host
from hypothesis import given
from hypothesis import strategies as st
from oracles import cell_of, jet
from support import Backend
from test_cuda_cp import SIZES, draw_case, units, where_it_is
from test_kernels import make_cp

from sepnet.backends import cuda, generic
from sepnet.backends.arrays import to_host

pytestmark = needs_compiler

# dtype, degrees and ranks, as in `test_cuda_cp`
VARIANTS = [
    (np.float64, [0, 0], [1, 3, 33]),
    (np.float64, [3] * 6, [2, 16, 70]),
    (np.float64, [1] * 9, [1, 5]),
    (np.float64, [15, 0, 4], [1, 3, 17]),
    (np.float32, [3, 3, 3], [4, 16, 132]),
    (np.float32, [3], [1, 2, 6, 35]),
]
# Shared memory of a block: enough for all tables here; too little for some, so that slices of columns, windows of rows
# or atomic additions are taken.
MEMORY = [227 * 1024, 24 * 1024, 6 * 1024]


class SmallDevice(ShimDriver):
    """A device of little shared memory."""

    def __init__(self, memory: int, mode: str = "ascending", **options: object) -> None:
        super().__init__(mode, **options)  # type: ignore[arg-type]
        self.memory = memory

    def shared_limit(self) -> int:
        return self.memory


def oracle(
    points: np.ndarray, breaks: tuple[np.ndarray, ...], tables: tuple[np.ndarray, ...], cotangent: np.ndarray
) -> list[tuple[np.ndarray, ...]]:
    """(points' cotangent, tables' cotangents) by definition, and the same of the terms' magnitudes; |s| counts as 1."""
    d = len(tables)
    results = []
    for which in (0, 1):
        pulled, sums = np.zeros(points.shape), [np.zeros(t.shape) for t in tables]
        for k, x in enumerate(points):
            y = np.broadcast_to(cotangent[k], tables[0].shape[2:]).astype(float)
            y = np.abs(y) if which else y
            jets = [jet(x[i], breaks[i], tables[i])[which] for i in range(d)]
            for i in range(d):
                gain = y * np.prod([jets[j][0] for j in range(d) if j != i], axis=0)
                pulled[k, i] = np.sum(gain * jets[i][1])
                c = cell_of(x[i], breaks[i])
                left, right = float(breaks[i][c]), float(breaks[i][c + 1])
                s = 1 if which else 2 * (float(x[i]) - left) / (right - left) - 1
                sums[i][c] += gain * np.power(float(s), np.arange(tables[i].shape[1]))[:, None]
        results.append((pulled, *sums))
    return results


@given(
    variant=st.sampled_from(VARIANTS), seed=st.integers(0, 2**31), n=SIZES, cells=st.integers(1, 6),
    graded=st.booleans(), mode=st.sampled_from(sorted(MODES)), memory=st.sampled_from(MEMORY),
    columns=st.booleans(), deterministic=st.booleans(),
)  # fmt: skip
def test_kernels_are_the_oracle(
    variant: tuple, seed: int, n: int, cells: int, graded: bool, mode: str, memory: int, columns: bool,
    deterministic: bool,
) -> None:  # fmt: skip
    points, breaks, tables = draw_case(variant, seed, n, cells, graded)
    rank, eps = tables[0].shape[2], np.finfo(points.dtype).eps
    shape = (n, rank) if columns else (n,)
    cotangent = np.random.default_rng(seed).standard_normal(shape).astype(points.dtype)
    vjp = cuda.cp_columns_vjp if columns else cuda.cp_vjp
    with on_host(SmallDevice(memory, mode)):
        pulled, sums = vjp(points, breaks, tables, cotangent, deterministic=deterministic)
        only = vjp(points, breaks, tables, cotangent, wanted="points")
        rest = vjp(points, breaks, tables, cotangent, wanted="tables", deterministic=True)
    expected, sizes = oracle(points, breaks, tables, cotangent)
    # the additions over the points of a cell: half a unit each
    bound = (units(tables) + n / 2) * eps
    for found, want, size, table in zip((pulled, *sums), expected, sizes, (points, *tables), strict=True):
        assert found.dtype == points.dtype
        assert found.shape == table.shape
        assert (np.abs(found - want) <= bound * size).all()
    assert only[1] is None
    assert np.array_equal(only[0], pulled)
    assert rest[0] is None
    for one, other, size in zip(sums, rest[1], sizes[1:], strict=True):
        assert (np.abs(one - other) <= bound * size).all()


def test_deterministic_bits_on_any_device() -> None:
    """Several parts of the points; any order of threads, number of blocks and size of the shared memory."""
    points, breaks, tables = draw_case(VARIANTS[1], 1, 1000, 3, True)
    # the parts are not of one size, and behind the points there are more
    points, cotangent = points[:901], np.random.default_rng(1).standard_normal(1000)[:901]
    found, launches = [], []
    for memory in MEMORY:
        for mode, resident in (("ascending", 1), ("descending", 3), ("shuffled", 1000)):
            with on_host(SmallDevice(memory, mode, resident=resident)) as shim:
                found.append(cuda.cp_vjp(points, breaks, tables, cotangent, deterministic=True))
            launches += shim.launches
    assert set(launches) == {"cp_pull", "cp_spread", "cp_spread_sum"}
    expected = generic.cp_vjp(points, breaks, tables, cotangent)
    for pulled, sums in found:
        for one, other, want in zip(
            (pulled, *sums), (found[0][0], *found[0][1]), (expected[0], *expected[1]), strict=True
        ):
            assert np.array_equal(one, other)
            # 901 points over few cells: round-off of sums, far below what a lost point would do
            assert np.allclose(one, want, rtol=0, atol=1e-12 * np.abs(want).max())


def test_large_tables_take_atomic_additions_unless_deterministic() -> None:
    points, breaks, tables = draw_case(VARIANTS[1], 1, 50, 6, True)
    cotangent = np.ones(50)
    expected = generic.cp_vjp(points, breaks, tables, cotangent)[1]
    for deterministic, kernels in ((False, ["cp_spread_atomic"]), (True, ["cp_spread", "cp_spread_sum"])):
        with on_host(SmallDevice(8 * 1024)) as shim:
            options = {"wanted": "tables", "deterministic": deterministic}
            _, sums = cuda.cp_vjp(points, breaks, tables, cotangent, **options)
        assert shim.launches == kernels
        for one, want in zip(sums, expected, strict=True):
            assert np.allclose(one, want, rtol=0, atol=1e-13 * np.abs(want).max())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("sepnet.backends.cuda.cp_vjp")
    points, breaks, tables = draw_case(VARIANTS[5], 3, 3000, 5, False)
    cotangent = np.ones(3000, dtype=np.float32)
    expected = generic.cp_vjp(points, breaks, tables, cotangent)[1]
    size = sum(t.size for t in tables)
    taken: list[int] = []
    empty_like = module.empty_like

    def counting(like: np.ndarray, *shape: int) -> np.ndarray:
        taken.append(int(np.prod(shape)) // size)
        return empty_like(like, *shape)

    monkeypatch.setattr(module, "empty_like", counting)
    for limit, parts in ((2**24, 12), (5 * size, 5), (1, 1)):
        monkeypatch.setattr(module, "PARTIAL", limit)
        taken.clear()
        with on_host():
            _, sums = cuda.cp_vjp(points, breaks, tables, cotangent, wanted="tables")
        assert taken == [1, parts]
        assert np.allclose(sums[0], expected[0], rtol=0, atol=1e-4 * np.abs(expected[0]).max())


def test_everywhere(xp: Backend) -> None:
    points, breaks, tables = draw_case((xp.host_dtype, [3] * 6, [16]), 6, 40, 5, True)
    cotangent = np.linspace(-1, 1, 40).astype(xp.host_dtype)
    with where_it_is(xp):
        home = xp.asarray(points), tuple(map(xp.asarray, breaks)), tuple(map(xp.asarray, tables))
        pulled, sums = cuda.cp_vjp(*home, xp.asarray(cotangent))
        again = cuda.cp_vjp(*home, xp.asarray(cotangent), deterministic=True)[1]
    expected, sizes = oracle(points, breaks, tables, cotangent)
    for found, want, size in zip((pulled, *sums), expected, sizes, strict=True):
        assert found.dtype == xp.dtype
        assert (np.abs(to_host(found) - want) <= (units(tables) + 20) * xp.eps * size).all()
    for one, other in zip(sums, again, strict=True):
        assert np.array_equal(to_host(one), to_host(other))


@given(
    axes=st.sampled_from([1, 2, 6, 8, 9, 50, 100]), cells=st.integers(1, 3000), powers=st.sampled_from([1, 4, 40]),
    rank=st.sampled_from([0, 1, 3, 4, 16, 130]), n=st.integers(0, 10**9), memory=st.sampled_from([64, 99, 163, 227]),
    single=st.booleans(),
)  # fmt: skip
def test_plans_fit(axes: int, cells: int, powers: int, rank: int, n: int, memory: int, single: bool) -> None:
    """Every plan fits into the shared memory, covers all rows and columns, and gives each group a point at a time."""
    module = importlib.import_module("sepnet.backends.cuda.cp_vjp")
    each = 4 if single else 8
    vector = 1 if axes > 8 or rank % (16 // each) else 16 // each
    points = types.SimpleNamespace(dtype=np.dtype(np.float32 if single else np.float64))
    driver = SmallDevice(memory * 1024)
    call = types.SimpleNamespace(
        driver=driver, points=points, tables=(None,) * axes, vector=vector, n=n, rank=rank, rows=axes * cells * powers
    )
    plan, threads, shared = module._plan(call)
    width, window, tile, parts = (int(plan[k]) for k in ("width", "window", "tile", "parts"))
    # the ends of the axes and their first rows are there too, four numbers and one of 8 bytes
    assert shared + axes * (4 * each + 8) <= memory * 1024
    assert shared >= window * width * each + tile * axes * (width * each + each + 4)
    assert 1 <= window <= call.rows
    assert width * int(plan["slices"]) >= rank
    assert threads % 32 == width % vector == 0
    assert tile % (threads * vector // width) == 0 < tile
    assert parts <= 1024
    assert (parts * -(-n // parts) >= n) if n else parts == 0
    assert parts * call.rows * rank <= max(2**24, call.rows * rank)


def test_many_axes() -> None:
    """Tiles of many axes fit into the shared memory of every device; past the most axes the generic kernels serve."""
    for d, memory in ((100, 227 * 1024), (100, 64 * 1024), (101, 0)):
        points, breaks, tables = make_cp(1, 20, [1] * d, 5, [2] * d, False)
        cotangent = np.linspace(-1, 1, 20)
        arguments = points, tuple(breaks), tuple(0.1 * t + 1 for t in tables), cotangent
        with on_host(SmallDevice(memory)) as shim:
            found = cuda.cp_vjp(*arguments, deterministic=True)
        assert bool(shim.launches) == (d == 100)
        expected = generic.cp_vjp(*arguments)
        for one, want in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
            assert np.allclose(one, want, rtol=0, atol=1e-12 * np.abs(want).max())


def test_no_columns_no_points_and_bad_input() -> None:
    points, breaks, tables = draw_case(VARIANTS[3], 3, 300, 2, True)
    cotangent, none = np.ones(300), tuple(t[:, :, :0] for t in tables)
    with on_host():
        pulled, sums = cuda.cp_vjp(points, breaks, none, cotangent)
        assert not pulled.any()
        assert [s.shape for s in sums] == [t.shape for t in none]
        pulled, sums = cuda.cp_vjp(points[:0], breaks, tables, cotangent[:0])
        assert pulled.shape == (0, 3)
        assert not any(s.any() for s in sums)
        points[250, 1], points[100, 2] = 7.5, np.nan
        for wanted in ("both", "points", "tables"):
            for t in (tables, none):
                with pytest.raises(ValueError, match=r"`points` has nan on axis 2 \('z'\)"):
                    cuda.cp_vjp(points, breaks, t, cotangent, wanted=wanted, names=("x", "y", "z"))
        with pytest.raises(ValueError, match="`wanted` is 'all'"):
            cuda.cp_vjp(points, breaks, tables, cotangent, wanted="all")
        with pytest.raises(ValueError, match=r"`cotangent` has shape \(300,\), expected \(300, \d+\)"):
            cuda.cp_columns_vjp(points, breaks, tables, cotangent)


def test_torch_and_strided_arrays() -> None:
    torch = pytest.importorskip("torch")
    points, breaks, tables = draw_case(VARIANTS[1], 4, 30, 2, True)
    cotangent = np.linspace(-1, 1, 30)
    turned = tuple(np.ascontiguousarray(t.T).T for t in tables)
    with on_host():
        plain = cuda.cp_vjp(points, breaks, tables, cotangent)
        strided = cuda.cp_vjp(np.asfortranarray(points), breaks, turned, np.repeat(cotangent, 2)[::2])
        home = [tuple(map(torch.asarray, a)) for a in (breaks, tables)]
        tensors = cuda.cp_vjp(torch.asarray(points), *home, torch.asarray(cotangent))
    for one, other, tensor in zip(
        (plain[0], *plain[1]), (strided[0], *strided[1]), (tensors[0], *tensors[1]), strict=True
    ):
        assert np.array_equal(one, other)
        assert np.array_equal(one, tensor.numpy())


def without(text: str, number: int) -> Callable[[str], str]:
    """An edit that drops the `number`-th barrier of the source after the place of `text`."""

    def edit(source: str) -> str:
        start = source.index(text)
        for _ in range(number):
            start = source.index("__syncthreads();", start) + 1
        return source[: start - 1] + source[start + len("__syncthreads();") - 1 :]

    return edit


@pytest.mark.parametrize(
    ("kernel", "number"), [("cp_spread(", 1), ("cp_spread(", 2), ("cp_spread_sum(", 1), ("cp_spread_sum(", 2)]
)
def test_a_dropped_barrier_is_seen(kernel: str, number: int) -> None:
    points, breaks, tables = draw_case(VARIANTS[5], 2, 700, 5, True)
    cotangent = np.ones(700, dtype=np.float32)
    expected = generic.cp_vjp(points, breaks, tables, cotangent)[1][0]

    def wrong(edit: Callable[[str], str] | None) -> bool:
        found = []
        for mode in MODES:
            with on_host(ShimDriver(mode, edit=edit, resident=1)):
                _, sums = cuda.cp_vjp(points, breaks, tables, cotangent, wanted="tables")
            found.append(sums[0])
        return not all(np.allclose(f, expected, rtol=0, atol=1e-4 * np.abs(expected).max()) for f in found)

    assert not wrong(None)
    assert wrong(without(kernel, number))
