"""Every kernel = oracle = generic, in every namespace; sizes, bad input, autograd, threads.

The bounds: a polynomial of degree p takes p fused steps, each rounding at most twice, and the local coordinate s is off
by two units; a product of d factors adds these up. So the error is below ``8 (p + 1) d eps`` times the sum of the
terms' magnitudes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import cell_of, cp, jet, kronecker_sum, lower_band, spline_axis
from support import Backend, dev_size

from sepnet.backends import dispatch, generic
from sepnet.backends.arrays import device_of, namespace, to_host
from sepnet.backends.capabilities import gap
from sepnet.backends.contract import differentiate


def make_breaks(rng: np.random.Generator, cells: int, graded: bool, left: float = -0.5) -> np.ndarray:
    steps = rng.uniform(0.05, 1, cells) ** 3 if graded else np.ones(cells)
    return left + np.concatenate([[0], np.cumsum(steps)]) / np.sum(steps) * 2


def make_points(rng: np.random.Generator, n: int, breaks: list[np.ndarray]) -> np.ndarray:
    """Random points, every third coordinate on a break (ends included)."""
    columns = []
    for b in breaks:
        x = rng.uniform(b[0], b[-1], n)
        x[::3] = rng.choice(b, len(x[::3]))
        columns.append(x)
    return np.stack(columns, axis=1)


def make_cp(
    seed: int, n: int, degrees: list[int], rank: int, cells: list[int], graded: bool, dtype: type = np.float64
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    # rounded first, so that oracle and kernel see the same numbers
    breaks = [make_breaks(rng, c, graded).astype(dtype) for c in cells]
    points = make_points(rng, n, breaks).astype(dtype)
    tables = [rng.standard_normal((c, p + 1, rank)).astype(dtype) for c, p in zip(cells, degrees, strict=True)]
    return points, breaks, tables


def assert_near(actual: object, expected: np.ndarray, bound: np.ndarray, like: Backend) -> None:
    assert namespace(actual) is namespace(like.asarray(np.zeros(1)))
    assert actual.dtype == like.dtype
    assert device_of(actual) == device_of(like.asarray(np.zeros(1)))
    host = to_host(actual)
    assert host.shape == expected.shape
    assert np.all(np.abs(host - expected) <= bound), float(np.max(np.abs(host - expected) - bound))


def check_cp(like: Backend, points: np.ndarray, breaks: list[np.ndarray], tables: list[np.ndarray]) -> None:
    expected, sizes = cp(points, breaks, tables)
    factor = 8 * sum(t.shape[1] for t in tables) * like.eps
    rank = tables[0].shape[2]
    x, b, t = like.asarray(points), tuple(map(like.asarray, breaks)), tuple(map(like.asarray, tables))
    for module in (dispatch, generic):
        results = [(module.cp_value(x, b, t),), module.cp_gradient(x, b, t), module.cp_hessian(x, b, t)]
        for group in results:
            for actual, want, size in zip(group, expected, sizes, strict=False):
                assert_near(actual, want, factor * size + rank * like.eps * size, like)


SHAPES = st.tuples(
    st.integers(0, 2**31),
    st.sampled_from([0, 1, 2, 7]),
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.sampled_from([0, 1, 2, 3, 8, 9, 16]),
    st.integers(1, 5),
    st.booleans(),
)


@given(shape=SHAPES, single=st.booleans())
def test_cp_is_oracle_and_generic_numpy(shape: tuple, single: bool) -> None:
    seed, n, degrees, rank, cells, graded = shape
    dtype = np.float32 if single else np.float64
    like = Backend("numpy", np, np.dtype(dtype))
    check_cp(like, *make_cp(seed, n, degrees, rank, [cells + i for i in range(len(degrees))], graded, dtype))


@dev_size
@given(shape=SHAPES)
def test_cp_is_oracle_everywhere(xp: Backend, shape: tuple) -> None:
    seed, n, degrees, rank, cells, graded = shape
    check_cp(xp, *make_cp(seed, n, degrees, rank, [cells] * len(degrees), graded, xp.host_dtype))


@pytest.mark.parametrize("degree", [8, 15, 30])
def test_high_degrees(xp: Backend, degree: int) -> None:
    check_cp(xp, *make_cp(degree, 5, [degree, 2], 3, [3, 1], True, xp.host_dtype))


@given(
    seed=st.integers(0, 2**31), n=st.sampled_from([0, 1, 2, 9]), degree=st.integers(0, 15), cells=st.integers(1, 9),
    graded=st.booleans(), left=st.sampled_from([-0.5, 0.0, 100.0]),
)  # fmt: skip
def test_local_values_are_scipys(seed: int, n: int, degree: int, cells: int, graded: bool, left: float) -> None:
    rng = np.random.default_rng(seed)
    breaks = make_breaks(rng, cells, graded, left)
    _, table, basis = spline_axis(breaks, degree)
    x = make_points(rng, n, [breaks])[:, 0]
    for module in (dispatch, generic):
        cell, values = module.local_values(x, breaks, table)
        dense = np.zeros((n, cells + degree))
        for k in range(n):
            dense[k, cell[k] : cell[k] + degree + 1] = values[k]
        assert cell.dtype == np.int64
        size = np.sum(np.abs(table), axis=1)[cell].max(axis=1, initial=0.0)[:, None]
        # the table is from scipy's derivatives, whose own round-off grows with the degree; x's counts 1/h times
        h = np.min(np.diff(breaks))
        bound = (8 * (degree + 1) ** 2 + 2 * degree**2 * abs(breaks).max() / h) * np.finfo(float).eps
        assert np.all(np.abs(dense - basis(x)) <= bound * (size + 1))


@dev_size
@given(seed=st.integers(0, 2**31), n=st.sampled_from([0, 1, 2, 9]), degree=st.integers(0, 9), graded=st.booleans())
def test_local_values_everywhere(xp: Backend, seed: int, n: int, degree: int, graded: bool) -> None:
    rng = np.random.default_rng(seed)
    dtype = xp.host_dtype
    breaks = make_breaks(rng, 4, graded).astype(dtype)
    table = rng.standard_normal((4, degree + 1, degree + 1)).astype(dtype)
    x = make_points(rng, n, [breaks])[:, 0].astype(dtype)
    expected = np.zeros((3, n, degree + 1))
    sizes = np.zeros((3, n, degree + 1))
    for k in range(n):
        expected[:, k], sizes[:, k] = jet(x[k], breaks, table)
    b, t = xp.asarray(breaks), xp.asarray(table)
    for order in range(3):
        cell, values = dispatch.local_values(xp.asarray(x), b, differentiate(t, b, order))
        assert to_host(cell).tolist() == [cell_of(v, breaks) for v in x]
        assert_near(values, expected[order], 8 * (degree + 3) * xp.eps * sizes[order], xp)


def test_differentiate_lowers_the_degree_and_keeps_the_shape() -> None:
    table = np.array([[[1.0], [2.0], [3.0]]])
    breaks = np.array([0.0, 0.5])  # ds/dx = 4
    assert differentiate(table, breaks, 0) is table
    assert differentiate(table, breaks).ravel().tolist() == [8.0, 24.0, 0.0]
    assert differentiate(table, breaks, 2).ravel().tolist() == [96.0, 0.0, 0.0]
    assert differentiate(table, breaks, 5).ravel().tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="`order` is -1"):
        differentiate(table, breaks, -1)


@pytest.mark.parametrize("breaks", [np.linspace(0, 1, 65), np.concatenate([[0], np.geomspace(1e-12, 1, 64)])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_next_to_breaks(breaks: np.ndarray, dtype: type) -> None:
    b = breaks.astype(dtype)
    x = np.concatenate([b, np.nextafter(b, b[0]), np.nextafter(b, b[-1]), np.geomspace(1e-14, 1, 997)]).astype(dtype)
    cell, _ = dispatch.local_values(x, b, np.ones((64, 1, 1), dtype=dtype))
    assert cell.tolist() == np.clip(np.searchsorted(b, x, side="right") - 1, 0, 63).tolist()


def test_strided_points_and_tables_are_taken_as_they_are(xp: Backend) -> None:
    points, breaks, tables = make_cp(3, 11, [3, 2], 5, [4, 3], True, xp.host_dtype)
    b, t = tuple(map(xp.asarray, breaks)), tuple(map(xp.asarray, tables))
    plain = dispatch.cp_hessian(xp.asarray(points), b, t)
    wide = xp.asarray(np.repeat(np.repeat(points, 2, axis=0), 3, axis=1))
    turned = [xp.asarray(np.ascontiguousarray(a.T)) for a in tables]
    flipped = tuple(namespace(a).permute_dims(a, (2, 1, 0)) for a in turned)
    for one, other in zip(plain, dispatch.cp_hessian(wide[::2, ::3], b, flipped), strict=True):
        assert np.array_equal(to_host(one), to_host(other))
    line = xp.asarray(np.repeat(points[:, :1], 2, axis=1))
    square = xp.asarray(np.ones((4, 2, 2)))
    assert to_host(dispatch.local_values(line[:, 0], b[0], square)[1]).shape == (11, 2)


@given(
    seed=st.integers(0, 2**31),
    terms=st.integers(0, 4),
    n=st.integers(0, 5),
    width=st.integers(1, 4),
    rank=st.integers(0, 4),
)
def test_fill_band_is_kronecker(seed: int, terms: int, n: int, width: int, rank: int) -> None:
    bands, weights, full = make_bands(seed, terms, n, width, rank)
    scale = np.abs(full).max(initial=1.0)
    band = dispatch.fill_band(bands, weights)
    assert band.flags.f_contiguous
    assert band.shape == (width * rank, n * rank)
    tolerance = 8 * (2 * terms + 1) * np.finfo(float).eps * max(scale, 16.0)
    assert np.allclose(band, lower_band(full, width * rank), rtol=0, atol=tolerance)
    assert np.allclose(dispatch.fill_dense_from_bands(bands, weights), full, rtol=0, atol=tolerance)
    memory = np.full(band.shape, np.nan, order="F")
    dispatch.fill_band(bands, weights, out=memory)
    assert np.array_equal(memory, band)


def make_bands(seed: int, terms: int, n: int, width: int, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Terms that are not symmetric one by one: each comes with its transpose."""
    rng = np.random.default_rng(seed)
    dense = np.triu(np.tril(rng.standard_normal((terms, n, n)), width - 1), 1 - width)
    blocks = rng.standard_normal((terms, rank, rank))
    dense = np.concatenate([dense, dense.transpose(0, 2, 1)])
    blocks = np.concatenate([blocks, blocks.transpose(0, 2, 1)])
    bands = np.zeros((2 * terms, n, width))
    for o in range(min(width, n)):
        bands[:, : n - o, o] = np.diagonal(dense, -o, axis1=1, axis2=2)
    return bands, blocks, kronecker_sum(dense, blocks)


def test_fill_dense_everywhere(xp: Backend) -> None:
    bands, weights, full = make_bands(1, 3, 6, 3, 4)
    dense = np.random.default_rng(2).standard_normal((6, 5, 5))
    bound = np.full(full.shape, 8 * 7 * xp.eps * np.abs(full).max())
    assert_near(dispatch.fill_dense_from_bands(xp.asarray(bands), xp.asarray(weights)), full, bound, xp)
    other = kronecker_sum(dense, weights)
    bound = np.full(other.shape, 8 * 7 * xp.eps * np.abs(other).max())
    assert_near(dispatch.fill_dense(xp.asarray(dense), xp.asarray(weights)), other, bound, xp)
    if gap("fill_band", xp.library):
        with pytest.raises(TypeError, match="use fill_dense_from_bands"):
            dispatch.fill_band(xp.asarray(bands), xp.asarray(weights))


def test_fill_band_refuses_wrong_memory() -> None:
    bands, weights, _ = make_bands(1, 1, 3, 2, 2)
    with pytest.raises(ValueError, match="`out` is float64 of shape"):
        dispatch.fill_band(bands, weights, out=np.empty((4, 6)))
    with pytest.raises(ValueError, match="`bands` and `weights` have shapes"):
        dispatch.fill_band(bands, weights[:1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.6, 1.6])
def test_bad_points_are_named(xp: Backend, bad: float) -> None:
    points, breaks, tables = make_cp(5, 9, [3, 1, 2], 3, [4, 3, 2], False, xp.host_dtype)
    points[4, 1] = bad
    x, b, t = xp.asarray(points), tuple(map(xp.asarray, breaks)), tuple(map(xp.asarray, tables))
    for kernel in (dispatch.cp_value, dispatch.cp_gradient, dispatch.cp_hessian):
        with pytest.raises(
            ValueError, match=r"`points` has .* on axis 1, expected a number in the domain \[-0.5, 1.5\]"
        ) as caught:
            kernel(x, b, t)
        assert str(float(xp.host_dtype(bad))) in str(caught.value)
        with pytest.raises(ValueError, match=r"axis 1 \('omega'\)"):
            kernel(x, b, t, names=("t", "omega", "kappa"))
    square = xp.asarray(np.ones((3, 1, 1)))
    with pytest.raises(ValueError, match=r"axis 0 \('omega'\)"):
        dispatch.local_values(x[:, 1], b[1], square, names=("omega",))


def test_ends_with_round_off_belong_to_the_domain(xp: Backend) -> None:
    ends = np.array([0.1, 0.7, 1.1], dtype=xp.host_dtype)
    x = np.array([np.nextafter(ends[0], -1, dtype=ends.dtype), np.nextafter(ends[-1], 2, dtype=ends.dtype)])
    cell, values = dispatch.local_values(xp.asarray(x), xp.asarray(ends), xp.asarray(np.ones((2, 1, 1))))
    assert to_host(cell).tolist() == [0, 1]
    assert to_host(values).tolist() == [[1.0], [1.0]]


def test_shapes_are_checked(xp: Backend) -> None:
    points, breaks, tables = make_cp(5, 3, [1, 2], 2, [2, 2], False)
    x, b, t = xp.asarray(points), tuple(map(xp.asarray, breaks)), tuple(map(xp.asarray, tables))
    for args, text in (
        ((x[:, :1], b, t), r"expected \(n, 2\)"),
        ((x, b[:1], t), "`breaks` and `tables` have 1 and 2 axes"),
        ((x, (b[0], b[1][1:]), t), "of axis 1 have shapes"),
        ((x, b, (t[0], t[1][:, :, :1])), r"`tables` have ranks \[2, 1\]"),
    ):
        with pytest.raises(ValueError, match=text):
            dispatch.cp_value(*args)
    with pytest.raises(ValueError, match=r"expected \(n,\)"):
        dispatch.local_values(x, b[0], t[0])


def test_mixed_arrays_are_refused() -> None:
    torch = pytest.importorskip("torch")
    strict = pytest.importorskip("array_api_strict")
    points, breaks, tables = make_cp(5, 3, [1, 2], 2, [2, 2], False)
    with pytest.raises(TypeError, match="expected one array library"):
        dispatch.cp_value(torch.asarray(points), tuple(breaks), tuple(tables))
    with pytest.raises(TypeError, match=r"`tables` is numpy float32 on cpu and `points` is numpy float64.*u\.to"):
        dispatch.cp_value(points, tuple(breaks), (tables[0], tables[1].astype(np.float32)))
    with pytest.raises(TypeError, match="expected float32 or float64"):
        dispatch.fill_dense(np.ones((1, 2, 2), dtype=int), np.ones((1, 2, 2)))
    there = strict.Device("device1")
    with pytest.raises(TypeError, match="device1"):
        dispatch.fill_dense(strict.ones((1, 2, 2)), strict.ones((1, 2, 2), device=there))


def test_torch_differentiates_points_and_tables() -> None:
    torch = pytest.importorskip("torch")
    points, breaks, tables = make_cp(7, 4, [3, 0, 5], 2, [3, 2, 1], True)
    points += 1e-3 * (1 - points)  # off the breaks, where second derivatives jump
    b = tuple(map(torch.asarray, breaks))
    leaves = [torch.asarray(a).requires_grad_() for a in (points, *tables)]
    for kernel in (dispatch.cp_value, dispatch.cp_gradient, dispatch.cp_hessian):
        assert torch.autograd.gradcheck(lambda x, *t, kernel=kernel: kernel(x, b, t), leaves)
    value, gradient = dispatch.cp_gradient(leaves[0], b, tuple(leaves[1:]))
    (by_autograd,) = torch.autograd.grad(value.sum(), leaves[0])
    assert torch.allclose(by_autograd, gradient, rtol=1e-12, atol=1e-12)
    x, table = torch.asarray(points[:, 0]).requires_grad_(), torch.asarray(tables[0]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, t: dispatch.local_values(x, b[0], t)[1], (x, table))


@pytest.mark.parametrize("n", [4096, 4097, 9000])
def test_generic_chunks_change_nothing(n: int) -> None:
    points, breaks, tables = make_cp(8, n, [2, 3], 3, [4, 4], True)
    whole = generic.cp_gradient(points, tuple(breaks), tuple(tables))
    last = generic.cp_gradient(points[-3:], tuple(breaks), tuple(tables))
    for a, b in zip(whole, last, strict=True):
        assert a.shape[0] == n
        assert np.allclose(a[-3:], b, rtol=1e-13, atol=1e-13)


def test_threads_give_the_same_bits_and_find_the_first_bad_point(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    from sepnet.backends.cpu import jit

    monkeypatch.setattr(jit, "PARALLEL_FROM", 1000)
    slices: list[int] = []
    points, breaks, tables = make_cp(9, 5000, [3, 2], 9, [5, 4], True)
    b, t = tuple(breaks), tuple(tables)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        monkeypatch.setattr(jit, "ThreadPoolExecutor", None)  # must not be touched
        alone = dispatch.cp_hessian(points, b, t)
    finally:
        numba.set_num_threads(before)
        monkeypatch.undo()
    monkeypatch.setattr(jit, "PARALLEL_FROM", 1000)
    monkeypatch.setattr(jit.numba, "get_num_threads", lambda: slices.append(1) or 3)
    together = dispatch.cp_hessian(points, b, t)
    assert slices
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
    points[[1200, 4800], [1, 0]] = 7.5, 8.5
    with pytest.raises(ValueError, match=r"has 7\.5 on axis 1"):
        dispatch.cp_value(points, b, t)


def test_rank_degree_and_axes_are_run_time_numbers() -> None:
    pytest.importorskip("numba")
    from sepnet.backends.cpu.cp import _value

    for rank, degrees in ((3, [3, 3]), (16, [5, 2, 0])):
        points, breaks, tables = make_cp(1, 4, degrees, rank, [2] * len(degrees), True)
        dispatch.cp_value(points, tuple(breaks), tuple(tables))
    in_double = [s for s in _value.signatures if "float64" in str(s)]
    assert len(in_double) == 1
    assert "Literal" not in str(in_double[0])


def test_importing_dispatch_does_not_import_numba() -> None:
    import subprocess
    import sys

    code = "import sys, sepnet.backends.dispatch; sys.exit('numba' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
