"""The CUDA kernels for value, gradient and Hessian of CP functions, run on the CPU; see `cuda_support`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import pytest
from cuda_support import MODES, ShimDriver, needs_compiler, on_host
from hypothesis import given
from hypothesis import strategies as st
from oracles import cp
from support import Backend
from test_kernels import make_cp

from sepnet.backends import cuda, generic
from sepnet.backends.arrays import to_host

pytestmark = needs_compiler

# What is compiled for one variant: dtype, degrees, and the ranks to draw from, which are all divisible by the columns
# that a lane reads at once (two of double, four of float) or all not. One degree of all axes up to 7 is known to the
# compiler; more than eight axes are not unrolled.
VARIANTS = [
    (np.float64, [0, 0], [1, 3, 33]),
    (np.float64, [1], [1, 3, 33]),
    (np.float64, [2] * 12, [1, 5]),
    (np.float64, [3] * 6, [2, 8, 16, 70]),
    (np.float64, [3] * 6, [1, 7, 9]),
    (np.float64, [7, 7], [2, 4, 10]),
    (np.float64, [15, 0, 4], [1, 3, 17]),
    (np.float32, [3] * 6, [4, 16, 132]),
    (np.float32, [5, 5, 5], [1, 2, 6, 35]),
    (np.float32, [2, 0, 15], [4, 8]),
]
SIZES = st.sampled_from([0, 1, 2, 33])


def units(tables: Sequence[np.ndarray]) -> float:
    """The bound of the error in units of eps times the sum of the terms' magnitudes: (p + 1) d / 2, but at least 8."""
    return max(8.0, max(t.shape[1] for t in tables) * len(tables) / 2)


def draw_case(
    variant: tuple, seed: int, n: int, cells: int, graded: bool
) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Points, breaks and tables of a variant; the rank goes by the seed."""
    dtype, degrees, ranks = variant
    sizes = [cells + i % 3 for i in range(len(degrees))]
    points, breaks, tables = make_cp(seed, n, degrees, ranks[seed % len(ranks)], sizes, graded, dtype)
    return points, tuple(breaks), tuple(tables)


@given(
    variant=st.sampled_from(VARIANTS), seed=st.integers(0, 2**31), n=SIZES, cells=st.integers(1, 6),
    graded=st.booleans(), mode=st.sampled_from(sorted(MODES)), resident=st.sampled_from([1, 3, 1000]),
)  # fmt: skip
def test_kernels_are_the_oracle(
    variant: tuple, seed: int, n: int, cells: int, graded: bool, mode: str, resident: int
) -> None:
    points, breaks, tables = draw_case(variant, seed, n, cells, graded)
    with on_host(ShimDriver(mode, resident=resident)) as shim:
        found = [(cuda.cp_value(points, breaks, tables),), cuda.cp_gradient(points, breaks, tables)]
        found.append(cuda.cp_hessian(points, breaks, tables))
    assert shim.launches == (["cp_value", "cp_gradient", "cp_hessian"] if n else [])
    few = slice(None, None, 1 + n // 9)  # the oracle is slow
    expected, sizes = cp(points[few], list(breaks), list(tables))
    for group in found:
        for result, want, size in zip(group, expected, sizes, strict=False):
            assert result.dtype == points.dtype
            assert result.shape == (n, *want.shape[1:])
            assert (np.abs(result[few] - want) <= units(tables) * np.finfo(points.dtype).eps * size).all()
    # all points, also those that the oracle left out
    reference = generic.cp_hessian(*(_double(a) for a in (points, breaks, tables)))
    for result, want in zip(found[2], reference, strict=True):
        assert np.allclose(result, want, rtol=0, atol=1e3 * np.finfo(points.dtype).eps * np.abs(want).max(initial=1))


def _double(a: np.ndarray | tuple[np.ndarray, ...]) -> object:
    return tuple(b.astype(float) for b in a) if isinstance(a, tuple) else a.astype(float)


def test_bad_points_and_shapes() -> None:
    points, breaks, tables = draw_case(VARIANTS[4], 3, 200, 3, True)
    with on_host():
        for kernel in (cuda.cp_value, cuda.cp_gradient, cuda.cp_hessian):
            for bad in (np.nan, -9.0, np.inf):
                wrong = points.copy()
                wrong[150, 1], wrong[20, 4], wrong[20, 5] = 8.5, bad, 7.5
                with pytest.raises(ValueError, match=rf"`points` has {bad} on axis 4 \('e'\)"):
                    kernel(wrong, breaks, tables, names=tuple("abcdef"))
        with pytest.raises(ValueError, match="have 5 and 6 axes"):
            cuda.cp_value(points, breaks[:5], tables)
        with pytest.raises(ValueError, match="`tables` have ranks"):
            cuda.cp_value(points, breaks, (tables[0][:, :, 1:], *tables[1:]))


def test_strided_and_read_only_arrays_and_torch() -> None:
    torch = pytest.importorskip("torch")
    points, breaks, tables = draw_case(VARIANTS[4], 2, 40, 3, True)
    wide = np.repeat(np.repeat(points, 2, axis=0), 3, axis=1)[::2, ::3]
    turned = tuple(np.ascontiguousarray(t.T).T for t in tables)
    for a in (wide, *turned):
        a.setflags(write=False)
    with on_host():
        plain = cuda.cp_hessian(points, breaks, tables)
        strided = cuda.cp_hessian(wide, breaks, turned)
        home = [torch.asarray(points).requires_grad_(), *(tuple(map(torch.asarray, a)) for a in (breaks, tables))]
        tensors = cuda.cp_hessian(*home)
    for one, other, tensor in zip(plain, strided, tensors, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, tensor.numpy())


def test_columns_off_the_wide_loads_are_read_singly() -> None:
    # a table that does not begin at a multiple of 16 bytes
    points, breaks, tables = draw_case(VARIANTS[3], 0, 10, 2, False)
    shifted = tuple(np.concatenate([[0.0], t.ravel()])[1:].reshape(t.shape) for t in tables)
    assert any(t.ctypes.data % 16 for t in shifted)
    with on_host():
        one, other = cuda.cp_value(points, breaks, tables), cuda.cp_value(points, breaks, shifted)
    assert np.allclose(one, other, rtol=0, atol=1e-13 * np.abs(one).max())


def where_it_is(like: Backend) -> contextlib.AbstractContextManager[object]:
    """Nothing for arrays on a device; for others the shim."""
    if like.name == "array-api-strict":
        pytest.skip("the CUDA kernels take CuPy's and torch's arrays, and NumPy's on the shim")
    return contextlib.nullcontext() if like.name == "cupy" else on_host()


def test_everywhere(xp: Backend) -> None:
    variant = (xp.host_dtype, [3] * 6, [16])
    points, breaks, tables = draw_case(variant, 6, 1000 if xp.name == "cupy" else 40, 5, True)
    with where_it_is(xp):
        home = xp.asarray(points), tuple(map(xp.asarray, breaks)), tuple(map(xp.asarray, tables))
        found = [(cuda.cp_value(*home),), cuda.cp_gradient(*home), cuda.cp_hessian(*home)]
    expected, sizes = cp(points, list(breaks), list(tables))
    for group in found:
        for result, want, size in zip(group, expected, sizes, strict=False):
            assert result.dtype == xp.dtype
            assert (np.abs(to_host(result) - want) <= units(tables) * xp.eps * size).all()


def test_many_axes_go_to_the_generic_kernels() -> None:
    points, breaks, tables = make_cp(1, 4, [1] * 101, 2, [2] * 101, False)
    arguments = points, tuple(breaks), tuple(t * 0.1 + 1 for t in tables)
    with on_host() as shim:
        for name in ("cp_value", "cp_gradient", "cp_hessian"):
            for a, b in zip(getattr(cuda, name)(*arguments), getattr(generic, name)(*arguments), strict=True):
                assert np.array_equal(a, b)
    assert shim.launches == []
