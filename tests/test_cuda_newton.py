"""The CUDA kernel for Newton's method on level sets, run on the CPU, against the plain loop; see `cuda_support`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_support import MODES, ShimDriver, needs_compiler, on_host
from hypothesis import given
from hypothesis import strategies as st
from support import Backend
from test_cuda_cp import where_it_is
from test_kernels import make_cp

from sepnet.backends import cuda, generic
from sepnet.backends.arrays import to_host
from sepnet.backends.newton import OUT_OF_STEPS, REACHED, STATIONARY

pytestmark = needs_compiler

# dtype, degrees and ranks, as in `test_cuda_cp`
VARIANTS = [
    (np.float64, [3], [1, 3]),
    (np.float64, [1, 4, 2], [1, 3, 9, 33]),
    (np.float64, [3] * 6, [2, 16]),
    (np.float64, [2] * 9, [1, 5]),
    (np.float32, [3, 3], [4, 8, 132]),
    (np.float32, [2, 2, 2], [1, 3, 17]),
]


def draw_levels(variant: tuple, seed: int, n: int, cells: int) -> tuple[tuple, dict[str, Any]]:
    """Arguments of `cp_newton`: some axes are frozen, some starts at the box's corner, some targets out of reach."""
    dtype, degrees, ranks = variant
    d, rng = len(degrees), np.random.default_rng(seed)
    rank = ranks[seed % len(ranks)]
    _, breaks, tables = make_cp(seed, 0, degrees, rank, [cells + i % 2 for i in range(d)], True, dtype)
    # smooth enough for Newton's method to have something to do
    tables = [(t * 0.3 ** np.arange(t.shape[1])[:, None] / rank**0.5).astype(dtype) for t in tables]
    ends = np.array([[b[0], b[-1]] for b in breaks])
    low = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * rng.uniform(0, 0.4, d) * (rng.random(d) < 0.7)
    high = np.where(rng.random(d) < 0.15, low, low + (ends[:, 1] - low) * rng.uniform(0.3, 1, d))
    low, high = low.astype(dtype), high.astype(dtype)
    starts = (low + (high - low) * rng.random((n, d))).astype(dtype)
    starts[::5] = high
    starts = np.clip(starts, low, high)
    aims = np.clip(low + (high - low) * rng.random((n, d)), low, high).astype(dtype)
    targets = generic.cp_value(aims, tuple(breaks), tuple(tables)) + rng.choice([0, 0, 0, 3.0], n).astype(dtype)
    tol = np.full(n, 2000 * np.finfo(dtype).eps, dtype=dtype)
    return (starts, targets, low, high, tuple(breaks), tuple(tables)), {"tol": tol, "max_steps": 40}


@given(
    variant=st.sampled_from(VARIANTS), seed=st.integers(0, 2**31), n=st.sampled_from([0, 1, 2, 33]),
    cells=st.integers(1, 4), mode=st.sampled_from(sorted(MODES)), resident=st.sampled_from([1, 3]),
)  # fmt: skip
def test_kernel_is_the_loop(variant: tuple, seed: int, n: int, cells: int, mode: str, resident: int) -> None:
    arguments, options = draw_levels(variant, seed, n, cells)
    starts, targets, low, high, breaks, tables = arguments
    with on_host(ShimDriver(mode, resident=resident)) as shim:
        found = cuda.cp_newton(*arguments, **options)
    assert shim.launches == ["cp_newton"] * (n > 0)
    other = generic.cp_newton(*arguments, **options)
    eps = np.finfo(starts.dtype).eps
    assert found.points.dtype == found.values.dtype == starts.dtype
    assert found.steps.dtype == found.ends.dtype == np.int64
    assert ((found.points >= low) & (found.points <= high)).all()
    assert ((found.steps >= 1) & (found.steps <= 40)).all()
    assert np.isin(found.ends, [REACHED, STATIONARY, OUT_OF_STEPS]).all()
    misfit = np.abs(found.values - targets)
    assert ((misfit <= options["tol"]) == (found.ends == REACHED)).all()
    assert ((found.ends != OUT_OF_STEPS) | (found.steps == 40)).all()
    # the value is that of the point, and no worse than at the start
    here = generic.cp_value(found.points, breaks, tables)
    before = np.abs(generic.cp_value(starts, breaks, tables) - targets)
    scale = np.prod([np.abs(t).sum(axis=1).max(axis=0) for t in tables], axis=0).sum()
    assert (np.abs(found.values - here) <= 50 * eps * scale).all()
    assert (misfit <= before + 50 * eps * scale).all()
    # The same decisions but where one turns on round-off: of one sample in ten at most.
    same = (found.steps == other.steps) & (found.ends == other.ends)
    assert same.sum() >= 0.9 * n - 1
    reached = same & (found.ends == REACHED) & (found.steps <= 8)
    assert np.abs(found.points[reached] - other.points[reached]).max(initial=0) < 1e5 * eps**0.75


def test_longest_step_falls_and_rises_by_the_rules() -> None:
    """Functions that bend so much that most samples have steps refused: to the letter, every sample in double."""
    rng = np.random.default_rng(5)
    breaks = (np.linspace(0, 1, 9),)
    tables = (rng.standard_normal((8, 4, 1)),)  # jumps at the breaks
    starts, targets = rng.random((400, 1)), rng.uniform(-2, 2, 400)
    arguments = starts, targets, np.zeros(1), np.ones(1), breaks, tables
    for max_steps in (1, 7, 200):
        options = {"tol": np.full(400, 1e-9), "max_steps": max_steps}
        with on_host():
            found = cuda.cp_newton(*arguments, **options)
        expected = generic.cp_newton(*arguments, **options)
        assert np.array_equal(found.steps, expected.steps)
        assert np.array_equal(found.ends, expected.ends)
        assert np.allclose(found.points, expected.points, rtol=0, atol=1e-9)
    # without the rule of the longest step there would be no such ends
    assert np.mean(expected.steps > 20) > 0.3


def test_all_ends_and_more_samples_than_groups() -> None:
    """Every group takes many samples, one after the other; a sample's result does not depend on its neighbours."""
    arguments, options = draw_levels(VARIANTS[2], 0, 300, 3)
    starts, targets, *rest = arguments
    options["max_steps"] = 6
    with on_host(ShimDriver(resident=1)):
        found = cuda.cp_newton(*arguments, **options)
        options["tol"] = options["tol"][:1]
        alone = [cuda.cp_newton(starts[k : k + 1], targets[k : k + 1], *rest, **options) for k in range(0, 300, 37)]
    assert set(found.ends.tolist()) == {REACHED, STATIONARY, OUT_OF_STEPS}
    for k, one in zip(range(0, 300, 37), alone, strict=True):
        for a, b in zip(found, one, strict=True):
            assert np.array_equal(a[k], b[0])


def test_everywhere(xp: Backend) -> None:
    arguments, options = draw_levels((xp.host_dtype, [3] * 6, [16]), 2, 60, 3)
    with where_it_is(xp):
        home = [tuple(map(xp.asarray, a)) if isinstance(a, tuple) else xp.asarray(a) for a in arguments]
        found = cuda.cp_newton(*home, tol=xp.asarray(options["tol"]), max_steps=40)
    expected = generic.cp_newton(*arguments, **options)
    points, values, steps, ends = map(to_host, found)
    assert (found.points.dtype, found.steps.dtype) == (xp.dtype, xp.xp.int64)
    assert ((points >= arguments[2]) & (points <= arguments[3])).all()
    assert ((np.abs(values - arguments[1]) <= options["tol"]) == (ends == REACHED)).all()
    # where a decision turns on round-off, one sample goes another way
    assert np.mean((steps == expected.steps) & (ends == expected.ends)) >= 0.9


def test_no_way_to_go_is_stationary_after_one_step() -> None:
    with on_host():
        for dtype in (np.float64, np.float32):
            breaks = (np.array([0, 1, 2], dtype=dtype),) * 2
            flat, steep = np.ones((2, 4, 4), dtype=dtype), np.ones((2, 4, 4), dtype=dtype)
            flat[:, 1:] = 0
            steep *= 1e20  # its square is no number of float32
            unknown = np.full_like(flat, np.nan)
            low, high = np.zeros(2, dtype=dtype), np.full(2, 2, dtype=dtype)
            start, one = np.array([[1.5, 0.5]], dtype=dtype), np.ones(1, dtype=dtype)
            for tables, end, steps in (((flat, flat), STATIONARY, 1), ((unknown, flat), STATIONARY, 1)):
                found = cuda.cp_newton(start, one * 9, low, high, breaks, tables, tol=one, max_steps=30)
                assert (found.ends[0], found.steps[0]) == (end, steps)
                assert np.array_equal(found.points, start)
            found = cuda.cp_newton(
                start, one * dtype(3e20), low, high, breaks, (steep, flat), tol=one * dtype(1e17), max_steps=60
            )
            assert found.ends[0] == REACHED
            frozen = start[0].copy()
            found = cuda.cp_newton(start, one * 9, frozen, frozen, breaks, (steep, flat), tol=one, max_steps=3)
            assert (found.ends[0], found.steps[0]) == (STATIONARY, 1)


def test_bad_input() -> None:
    arguments, options = draw_levels(VARIANTS[1], 4, 3, 2)
    starts, targets, low, high, *rest = arguments
    wrong = starts.copy()
    wrong[1, 2] = np.nan
    with on_host():
        with pytest.raises(ValueError, match=r"`points` has nan on axis 2 \('z'\)"):
            cuda.cp_newton(wrong, targets, low, high, *rest, **options, names=("x", "y", "z"))
        with pytest.raises(ValueError, match="the box has"):
            cuda.cp_newton(starts, targets, low - 9, high, *rest, **options)
        with pytest.raises(ValueError, match="`targets` has shape"):
            cuda.cp_newton(starts, targets[1:], low, high, *rest, **options)


def test_torch_and_strided_arrays() -> None:
    torch = pytest.importorskip("torch")
    arguments, options = draw_levels(VARIANTS[2], 7, 20, 3)
    starts, *others, tables = arguments
    wide = np.repeat(starts, 2, axis=1)[:, ::2]
    turned = tuple(np.ascontiguousarray(t.T).T for t in tables)
    with on_host():
        plain = cuda.cp_newton(*arguments, **options)
        strided = cuda.cp_newton(wide, *others, turned, **options)
        home = [tuple(map(torch.asarray, a)) if isinstance(a, tuple) else torch.asarray(a) for a in arguments]
        tensors = cuda.cp_newton(*home, tol=torch.asarray(options["tol"]), max_steps=40)
    for one, other, tensor in zip(plain, strided, tensors, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, tensor.numpy())
