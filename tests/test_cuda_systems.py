"""CUDA kernels of the linear systems, run on the CPU: against oracles, and against the generic implementation."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_support import MODES, ShimDriver, needs_compiler, on_host
from hypothesis import given
from hypothesis import strategies as st
from support import Backend

from sepnet.backends import cuda, generic
from sepnet.backends.arrays import to_host
from sepnet.backends.cuda import fill, normal

pytestmark = needs_compiler

DTYPES = (np.float32, np.float64)
modes = st.sampled_from(sorted(MODES))


def rows_of(problem: tuple, dtype: type) -> tuple:
    """Random windows, gains and weights of samples; half of the samples weigh nothing."""
    seed, n, axes = problem
    rng = np.random.default_rng(seed)
    first = tuple(rng.integers(0, m - q + 1, n) for m, q, _ in axes)
    values = tuple(rng.standard_normal((n, q)).astype(dtype) for _, q, _ in axes)
    gains = tuple(rng.standard_normal((n, r)).astype(dtype) for _, _, r in axes)
    curvature = (rng.random(n) * rng.integers(0, 2, n)).astype(dtype)
    return first, values, gains, curvature, rng.standard_normal(n).astype(dtype)


def jacobian(first: tuple, values: tuple, gains: tuple, sizes: tuple[int, ...]) -> np.ndarray:
    """The rows of the samples in double precision, as the contract defines them."""
    parts = []
    for f, v, g, size in zip(first, values, gains, sizes, strict=True):
        dense = np.zeros((len(f), size))
        for m in range(v.shape[1]):
            dense[np.arange(len(f)), f + m] = v[:, m]
        parts.append((dense[:, :, None] * g[:, None, :].astype(float)).reshape(len(f), size * g.shape[1]))
    return np.concatenate(parts, axis=1)


def check_normal(result: tuple, data: tuple, sizes: tuple[int, ...]) -> None:
    *windows, curvature, slope = data
    J, unit = jacobian(*windows, sizes), np.finfo(slope.dtype).eps
    wanted = J.T @ (curvature[:, None] * J), J.T @ slope
    size = np.abs(J).T @ (curvature[:, None] * np.abs(J)), np.abs(J).T @ np.abs(slope)
    for got, want, bound in zip(map(to_host, result), wanted, size, strict=True):
        part = np.tril if want.ndim == 2 else np.asarray
        assert got.shape == want.shape
        assert got.dtype == slope.dtype
        # a sum of n terms, each a product of two numbers that were rounded three times
        assert (np.abs(part(got - want)) <= (len(J) + 8) * unit * part(bound)).all()


@st.composite
def samples(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int, int]]]:
    """A seed, the number of samples, and of each axis its size, the width of its windows and its columns."""
    n, axes = draw(st.sampled_from([0, 1, 2, 31, 33, 90])), []  # 32 samples are a chunk
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.sampled_from([1, 2, 5, 12]))
        # 12 functions of 30 columns are more than the threads of a block
        axes.append((size, draw(st.integers(1, min(size, 5))), draw(st.sampled_from([1, 3, 30]))))
    return draw(st.integers(0, 2**31)), n, axes


@given(problem=samples(), dtype=st.sampled_from(DTYPES), mode=modes)
def test_normal_equations(problem: tuple, dtype: type, mode: str) -> None:
    data, sizes = rows_of(problem, dtype), tuple(m for m, _, _ in problem[2])
    check_normal(generic.normal_blocks(*data, sizes=sizes), data, sizes)
    with on_host(ShimDriver(mode)):
        check_normal(cuda.normal_blocks(*data, sizes=sizes), data, sizes)


@pytest.mark.parametrize("tile", [1, 40 * 87, 64 * 87, 2**25])
def test_tiles_and_panels(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples at a time give what all at once give, whether or not the samples fill the tiles."""
    problem = (5, 97, [(7, 3, 9), (12, 4, 2)])
    data, shim = rows_of(problem, np.float64), ShimDriver()
    monkeypatch.setattr(normal, "TILE_NUMBERS", tile)
    monkeypatch.setattr(normal, "PANEL", 20)
    with on_host(shim):
        result = cuda.normal_blocks(*data, sizes=(7, 12))
    check_normal(result, data, (7, 12))
    assert (result[0][:20, 20:] == 0).all()  # above the panels nothing is computed
    rows = min(max(tile // 87, normal.CHUNK), 97)
    assert shim.launches == ["normal_rows"] * 2 * -(-97 // rows)


def test_the_sum_over_samples_is_the_same_in_every_run() -> None:
    problem = (6, 80, [(6, 3, 4), (9, 2, 5)])
    data, results = rows_of(problem, np.float32), []
    for mode in MODES:
        for resident in (1, 4):
            with on_host(ShimDriver(mode, resident=resident)):
                results.append(cuda.normal_blocks(*data, sizes=(6, 9)))
    for matrix, vector in results[1:]:
        assert (matrix == results[0][0]).all()
        assert (vector == results[0][1]).all()


@given(
    seed=st.integers(0, 2**31), n=st.sampled_from([0, 1, 2, 40]), width=st.integers(1, 5), extra=st.integers(0, 6),
    rank=st.sampled_from([0, 1, 3, 300, 1100]), dtype=st.sampled_from(DTYPES), mode=modes,
)  # fmt: skip
def test_sums_over_windows(seed: int, n: int, width: int, extra: int, rank: int, dtype: type, mode: str) -> None:
    rng = np.random.default_rng(seed)
    first, values = rng.integers(0, extra + 1, n), rng.standard_normal((n, width)).astype(dtype)
    table = rng.standard_normal((width + extra, rank)).astype(dtype)
    with on_host(ShimDriver(mode)):
        got = cuda.window_values(first, values, table)
    assert got.dtype == dtype
    size = generic.window_values(first, np.abs(values), np.abs(table))
    # both add up `width` products in the same order
    assert (np.abs(got - generic.window_values(first, values, table)) <= 2 * width * np.finfo(dtype).eps * size).all()


@st.composite
def terms(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices, their lower bands (of others) and weights, not symmetric: random, in either precision."""
    count, size, dtype = draw(st.sampled_from([0, 1, 2, 5])), draw(st.integers(0, 9)), draw(st.sampled_from(DTYPES))
    rank = draw(st.sampled_from([0, 1, 2, 5, 40, 130]))  # 9 functions of 130 columns are more than a piece of a row
    width = draw(st.integers(0, size + 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    bands = rng.standard_normal((count, size, width + 1))
    bands[:, np.add.outer(np.arange(size), np.arange(width + 1)) >= size] = 0
    numbers = rng.standard_normal((count, size, size)), bands, rng.standard_normal((count, rank, rank))
    return tuple(a.astype(dtype) for a in numbers)  # type: ignore[return-value]


def check_fill(got: np.ndarray, wanted: np.ndarray, size: np.ndarray, count: int) -> None:
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    # both add up `count` products, in any order
    assert (np.abs(got - wanted) <= 2 * (count + 1) * np.finfo(got.dtype).eps * size).all()


@given(parts=terms(), mode=modes)
def test_dense(parts: tuple, mode: str) -> None:
    matrices, _, weights = parts
    with on_host(ShimDriver(mode)):
        got = cuda.fill_dense(matrices, weights)
    check_fill(
        got, generic.fill_dense(matrices, weights), generic.fill_dense(abs(matrices), abs(weights)), len(weights)
    )


@given(parts=terms(), mode=modes)
def test_dense_from_bands(parts: tuple, mode: str) -> None:
    _, bands, weights = parts
    with on_host(ShimDriver(mode)):
        got = cuda.fill_dense_from_bands(bands, weights)
    size = generic.fill_dense_from_bands(abs(bands), abs(weights))
    check_fill(got, generic.fill_dense_from_bands(bands, weights), size, len(weights))
    assert (got == got.T).all()


@given(parts=terms(), extra=st.integers(0, 3), mode=modes)
def test_blocks(parts: tuple, extra: int, mode: str) -> None:
    _, bands, weights = parts
    group = max(bands.shape[2] - 1, 1) + extra
    with on_host(ShimDriver(mode)):
        got = cuda.fill_blocks(bands, weights, group=group)
    wanted, size = (generic.fill_blocks(b, w, group=group) for b, w in ((bands, weights), (abs(bands), abs(weights))))
    # what comes after the diagonal function does not count, but is no leftover of memory
    rank, later = weights.shape[1], np.triu(np.ones((group, group), dtype=bool), 1)
    assert (got[0].reshape(len(got[0]), group, rank, group, rank).transpose(1, 3, 0, 2, 4)[later] == 0).all()
    for part, g, w, s in zip((np.tril, np.asarray), got, wanted, size, strict=True):
        check_fill(part(g), part(w), part(s), len(weights))


def test_read_only_and_strided_arrays_and_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    matrices, weights = rng.standard_normal((3, 6, 6)), rng.standard_normal((3, 4, 4))
    bands = np.where(np.add.outer(np.arange(6), np.arange(3)) < 6, rng.standard_normal((3, 6, 3)), 0)
    data = rows_of((3, 40, [(6, 3, 4), (9, 2, 1)]), np.float64)

    def strided(a: np.ndarray) -> np.ndarray:
        odd = np.repeat(a, 2, axis=-1)[..., ::2]
        odd.flags.writeable = False
        return odd

    moves = [lambda a: a, strided, torch.asarray, lambda a: torch.asarray(np.repeat(a, 2, axis=-1))[..., ::2]]
    results = []
    for move in moves:
        m, w, b = map(move, (matrices, weights, bands))
        first, values, gains = (tuple(map(move, group)) for group in data[:3])
        with on_host():
            results.append([
                cuda.fill_dense(m, w), cuda.fill_dense_from_bands(b, w), *cuda.fill_blocks(b, w, group=2),
                cuda.window_values(first[0], values[0], move(matrices[0])),
                *cuda.normal_blocks(first, values, gains, move(data[3]), move(data[4]), sizes=(6, 9)),
            ])  # fmt: skip
            assert all(type(r) is type(m) for r in results[-1])
    check_normal(results[-1][-2:], data, (6, 9))
    for other in results[1:]:
        # the library of the matrix product may differ, all else is the same
        for a, b in zip(results[0], other, strict=True):
            assert np.allclose(to_host(b), a, rtol=0, atol=1e-13)


def test_window_numbers_of_another_integer_type() -> None:
    """Torch has no unsigned index, NumPy on Windows had 32 bits: the kernel reads 64."""
    values, table = np.ones((3, 2)), np.arange(10.0).reshape(5, 2)
    first = np.array([0, 3, 1])
    with on_host():
        assert (
            cuda.window_values(first.astype(np.int32), values, table) == cuda.window_values(first, values, table)
        ).all()


def test_what_is_wrong_is_told_as_elsewhere() -> None:
    bands, weights = np.zeros((2, 4, 3)), np.zeros((2, 3, 3))
    calls = [
        lambda k: k.fill_dense(np.zeros((2, 4, 4)), weights[:1]),
        lambda k: k.fill_dense_from_bands(bands, weights[:, :2]),
        lambda k: k.fill_blocks(bands, weights, group=1),
        lambda k: k.window_values(np.zeros(2, dtype=int), np.zeros((3, 1)), np.zeros((3, 1))),
        lambda k: k.normal_blocks((), (), (), np.zeros(1), np.zeros(1), sizes=()),
    ]
    for call in calls:
        messages = []
        for kernels in (cuda, generic):
            with on_host(), pytest.raises(ValueError, match="expected") as caught:
                call(kernels)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    with pytest.raises(TypeError, match="use fill_dense_from_bands"):
        cuda.fill_band(bands, weights)


def test_host_and_device_agree_on_the_sizes_of_pieces() -> None:
    """Numbers that stand in both sources."""
    for module, file, names in ((fill, "fill.cu", ("STRIP", "COLUMNS")), (normal, "normal.cu", ("CHUNK",))):
        text = fill.Program(file, "float64").text
        for name in names:
            assert f"#define {name} {getattr(module, name)}\n" in text


def test_windows_on_another_device_are_refused() -> None:
    """A kernel would read them at an address of the other device."""
    torch = pytest.importorskip("torch")
    first, values, gains, *weights = rows_of((0, 4, [(5, 3, 2)]), np.float64)
    there = torch.asarray(first[0], device="meta")
    values, gains, *weights = (torch.asarray(a) for a in (values[0], gains[0], *weights))
    text = "`first` is torch int64 on meta and `values` is torch float64 on cpu, expected one device"
    with on_host() as shim:
        with pytest.raises(TypeError, match=text):
            cuda.window_values(there, values, torch.ones((5, 2), dtype=torch.float64))
        with pytest.raises(TypeError, match=text):
            cuda.normal_blocks((there,), (values,), (gains,), *weights, sizes=(5,))
        with pytest.raises(TypeError, match="expected one array library"):
            cuda.window_values(first[0], values, torch.ones((5, 2), dtype=torch.float64))
    assert shim.launches == []


def test_on_a_device(xp: Backend) -> None:
    """On a device where there is one, on the host for the libraries that are there."""
    if xp.name == "array-api-strict":
        pytest.skip("its arrays tell no address")
    problem = (9, 1000, [(20, 4, 8), (12, 3, 5)])
    data, rng = rows_of(problem, xp.host_dtype), np.random.default_rng(0)
    bands, weights = (rng.standard_normal(s).astype(xp.host_dtype) for s in ((3, 30, 4), (3, 20, 20)))
    bands[:, np.add.outer(np.arange(30), np.arange(4)) >= 30] = 0
    first = tuple(xp.xp.asarray(f, device=xp.device) for f in data[0])
    values, gains = (tuple(map(xp.asarray, group)) for group in data[1:3])

    def run() -> list:
        return [
            *cuda.normal_blocks(first, values, gains, xp.asarray(data[3]), xp.asarray(data[4]), sizes=(20, 12)),
            cuda.fill_dense_from_bands(xp.asarray(bands), xp.asarray(weights)),
            *cuda.fill_blocks(xp.asarray(bands), xp.asarray(weights), group=4),
        ]

    if xp.name in ("cupy", "torch-cuda"):
        results = run()
    else:
        with on_host():
            results = run()
    check_normal(tuple(results[:2]), data, (20, 12))
    wanted = [generic.fill_dense_from_bands(bands, weights), *generic.fill_blocks(bands, weights, group=4)]
    results[3] = np.tril(to_host(results[3]))
    wanted[1] = np.tril(wanted[1])
    for got, want in zip(results[2:], wanted, strict=True):
        check_fill(to_host(got), want, np.full(want.shape, np.abs(bands).max() * np.abs(weights).max()), 30)
