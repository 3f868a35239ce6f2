"""The CUDA kernel for the values of local functions, run on the CPU; see `cuda_support`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cuda_support import MODES, ShimDriver, needs_compiler, on_host
from hypothesis import given
from hypothesis import strategies as st
from oracles import cell_of, jet
from support import Backend
from test_cuda_cp import where_it_is
from test_kernels import make_breaks, make_points

from sepnet.backends import cuda, generic
from sepnet.backends.arrays import to_host
from sepnet.backends.contract import differentiate

CPU = Path("/proc/cpuinfo")
FUSES = CPU.exists() and " fma " in CPU.read_text()

pytestmark = needs_compiler

# Each pair of dtype and degree is a variant to compile; above degree 7 the loop over the powers is not unrolled.
VARIANTS = [*((np.float64, p) for p in (*range(8), 15)), (np.float32, 3), (np.float32, 15)]


@given(
    variant=st.sampled_from(VARIANTS), seed=st.integers(0, 2**31), n=st.sampled_from([0, 1, 2, 9, 300]),
    cells=st.integers(1, 9), width=st.sampled_from([0, 1, 2, 4, 5, 16, 40]), graded=st.booleans(),
    left=st.sampled_from([-0.5, 100.0]), mode=st.sampled_from(sorted(MODES)), order=st.integers(0, 2),
)  # fmt: skip
def test_values_are_the_oracles(
    variant: tuple, seed: int, n: int, cells: int, width: int, graded: bool, left: float, mode: str, order: int
) -> None:
    dtype, degree = variant
    rng = np.random.default_rng(seed)
    breaks = make_breaks(rng, cells, graded, left).astype(dtype)
    table = rng.standard_normal((cells, degree + 1, width)).astype(dtype)
    x = np.clip(make_points(rng, n, [breaks])[:, 0].astype(dtype), breaks[0], breaks[-1])
    with on_host(ShimDriver(mode)) as shim:
        cell, values = cuda.local_values(x, breaks, differentiate(table, breaks, order))
    assert shim.launches == ["local_values"] * (n > 0)
    assert cell.dtype == np.int64
    assert values.dtype == dtype
    assert cell.tolist() == [cell_of(v, breaks) for v in x]
    for k in range(0, n, 1 + n // 20):
        expected, sizes = jet(x[k], breaks, table)
        # two products more for each derivative of the table
        bound = max(8, (degree + 1) / 2 + 2 * order) * np.finfo(dtype).eps * sizes[order]
        assert (np.abs(values[k] - expected[order]) <= bound).all()


@pytest.mark.parametrize("breaks", [np.linspace(0, 1, 65), np.concatenate([[0], np.geomspace(1e-12, 1, 64)])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_next_to_breaks(breaks: np.ndarray, dtype: type) -> None:
    b = breaks.astype(dtype)
    x = np.concatenate([b, np.nextafter(b, b[0]), np.nextafter(b, b[-1]), np.geomspace(1e-14, 1, 997)]).astype(dtype)
    with on_host(ShimDriver(resident=1)):
        cell, _ = cuda.local_values(x, b, np.ones((64, 4, 1), dtype=dtype))
    assert cell.tolist() == np.clip(np.searchsorted(b, x, side="right") - 1, 0, 63).tolist()


def test_everywhere(xp: Backend) -> None:
    rng = np.random.default_rng(1)
    breaks = make_breaks(rng, 6, True).astype(xp.host_dtype)
    table = rng.standard_normal((6, 4, 4)).astype(xp.host_dtype)
    x = make_points(rng, 500, [breaks])[:, 0].astype(xp.host_dtype)
    with where_it_is(xp):
        cell, values = cuda.local_values(*map(xp.asarray, (x, breaks, table)))
    assert cell.dtype == xp.xp.int64
    assert to_host(cell).tolist() == [cell_of(v, breaks) for v in x]
    for v, found in zip(x, to_host(values), strict=True):
        expected, sizes = jet(v, breaks, table)
        assert (np.abs(found - expected[0]) <= 8 * xp.eps * sizes[0]).all()


def test_bad_points_and_shapes() -> None:
    b, t = np.linspace(0.0, 1, 4), np.ones((3, 4, 2))
    x = np.linspace(0, 1, 700)
    with on_host():
        ends = np.array([np.nextafter(0.0, -1), np.nextafter(1.0, 2)])
        assert cuda.local_values(ends, b, t)[0].tolist() == [0, 2]
        for bad in (np.nan, -0.1, 1.1, np.inf):
            wrong = x.copy()
            wrong[[650, 300]] = bad
            wrong[500] = 7.5
            with pytest.raises(ValueError, match=rf"`points` has {bad} on axis 0 \('x'\), expected .* \[0\.0, 1\.0\]"):
                cuda.local_values(wrong, b, t, names=("x",))
        with pytest.raises(ValueError, match=r"expected \(n,\)"):
            cuda.local_values(x[:, None], b, t)


def test_strided_and_read_only_arrays_and_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    b, t, x = np.linspace(0, 1, 6), rng.standard_normal((5, 4, 4)), rng.random(50)
    expected = generic.local_values(x, b, t)
    wide, turned = np.repeat(x, 3)[::3], np.ascontiguousarray(t.T).T
    for a in (wide, turned, b):
        a.setflags(write=False)
    with on_host():
        plain = cuda.local_values(x, b, t)
        strided = cuda.local_values(wide, b, turned)
        tensors = cuda.local_values(*(torch.asarray(a) for a in (x, b.copy(), t)))
    for found in (plain, strided, tuple(a.numpy() for a in tensors)):
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], plain[1])
    assert np.allclose(plain[1], expected[1], rtol=0, atol=1e-14)


@pytest.mark.skipif(not FUSES, reason="this machine's processor has no fused multiply-add")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_local_coordinate_is_the_hosts_to_the_bit(dtype: type) -> None:
    """A device fuses products and sums; a fused s differs by half a unit of 1, which is much where s is near 0."""
    rng = np.random.default_rng(0)
    breaks = np.cumsum(rng.uniform(0.2, 1.0, 40)).astype(dtype)
    points = rng.uniform(breaks[0], breaks[-1], 2000).astype(dtype)
    table = np.zeros((39, 2, 1), dtype=dtype)
    table[:, 1] = 1  # the function s
    with on_host(ShimDriver(extra=("-O2", "-mfma", "-ffp-contract=fast"))):
        cells, values = cuda.local_values(points, breaks, table)
    left = breaks[cells]
    assert np.array_equal(values[:, 0], (points - left) * (2 / (breaks[cells + 1] - left)) - 1)
