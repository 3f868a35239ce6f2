"""The CUDA kernels of tensor trains, run on the CPU: against an oracle, in every order of the threads."""

from __future__ import annotations

import itertools
import logging
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from cuda_support import MODES, ShimDriver, needs_compiler, on_host
from hypothesis import given
from hypothesis import strategies as st
from support import Backend
from test_kernels import make_breaks, make_points

from sepnet.backends import cuda, generic
from sepnet.backends.arrays import to_host
from sepnet.backends.cuda.layout import MOST_CORES
from sepnet.backends.cuda.train import plan_of

KERNELS = ("train_value", "train_gradient", "train_hessian")
Train = tuple[np.ndarray, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]
modes = st.sampled_from(sorted(MODES))


def make_train(
    seed: int, n: int, powers: Sequence[int], ranks: Sequence[int], graded: bool, dtype: type = np.float64
) -> Train:
    """Points, breaks and tables with `powers` coefficients an axis; the axes have 1 to 5 cells."""
    rng = np.random.default_rng(seed)
    breaks = [make_breaks(rng, int(rng.integers(1, 6)), graded).astype(dtype) for _ in powers]
    chain = [1, *ranks, 1]
    tables = [
        rng.standard_normal((len(b) - 1, p, chain[i], chain[i + 1])).astype(dtype)
        for i, (b, p) in enumerate(zip(breaks, powers, strict=True))
    ]
    return make_points(rng, n, breaks).astype(dtype), tuple(breaks), tuple(tables)


def jets(train: Train, sizes: bool = False) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Of each axis cell and s of the points, and the matrices and their two derivatives by x, (3, n, left, right).

    With `sizes` the terms' magnitudes are summed: |s| counts as 1, as its round-off is absolute.
    """
    cells, places, matrices = [], [], []
    for i, (b, table) in enumerate(zip(train[1], train[2], strict=True)):
        x, b = train[0][:, i].astype(np.longdouble), b.astype(np.longdouble)
        cell = np.clip(np.searchsorted(b, x, side="right") - 1, 0, len(b) - 2)
        slope = 2 / (b[cell + 1] - b[cell])
        s = np.ones_like(x) if sizes else (x - b[cell]) * slope - 1
        own = table.astype(np.longdouble)[cell]
        own = np.abs(own) if sizes else own
        jet = np.zeros((3, len(x), *table.shape[2:]), dtype=np.longdouble)
        for k in range(3):
            for m in range(k, table.shape[1]):
                jet[k] += (math.perm(m, k) * slope**k * s ** (m - k))[:, None, None] * own[:, m]
        cells.append(cell)
        places.append(s)
        matrices.append(jet)
    return cells, places, matrices


def product(matrices: list[np.ndarray], n: int) -> np.ndarray:
    """The product of matrices (n, left, right), the first with left = 1; in long double, which BLAS does not have."""
    total = np.ones((n, 1, 1), dtype=np.longdouble)
    for matrix in matrices:
        total = np.einsum("nab,nbc->nac", total, matrix)
    return total


def oracle(train: Train, sizes: bool = False) -> list[np.ndarray]:
    """[value, gradient, Hessian], by definition, or the magnitudes of what is summed."""
    n, d = train[0].shape
    _, _, every = jets(train, sizes)

    def entry(*axes: int) -> np.ndarray:
        return product([jet[axes.count(i)] for i, jet in enumerate(every)], n)[:, 0, 0]

    gradient = np.stack([entry(i) for i in range(d)], axis=1)
    hessian = np.empty((n, d, d), dtype=np.longdouble)
    for i in range(d):
        for k in range(i, d):
            hessian[:, i, k] = hessian[:, k, i] = entry(i, k)
    return [entry(), gradient, hessian]


def tolerance(train: Train) -> float:
    """Units of round-off that a result may be off, times the sum of its terms' magnitudes."""
    return max(8, max(t.shape[1] for t in train[2]) * len(train[2]) / 2) * float(np.finfo(train[0].dtype).eps)


def check(train: Train, mode: str, resident: int = 3) -> None:
    exact, sizes = oracle(train), oracle(train, sizes=True)
    for count, kernel in enumerate(KERNELS, 1):
        with on_host(ShimDriver(mode, resident=resident)) as shim:
            results = getattr(cuda, kernel)(*train)
        results = results if isinstance(results, tuple) else (results,)
        assert len(results) == count
        assert shim.launches == ([kernel] if len(train[0]) else [])
        for got, want, size in zip(results, exact, sizes, strict=False):
            assert got.shape == want.shape
            assert got.dtype == train[0].dtype
            assert np.all(np.abs(got - want) <= tolerance(train) * size), float(np.max(np.abs(got - want) / size))


@st.composite
def trains(draw: st.DrawFn, kinds: Sequence[tuple[int, int]], n: Sequence[int] = (0, 1, 2, 5, 45)) -> Train:
    """Trains of one of `kinds`: axes, and coefficients an axis, 0 for mixed degrees, 15 among them.

    Few kinds, as each is a program of its own; 45 points keep more than three blocks busy where a point takes a warp.
    """
    d, powers = draw(st.sampled_from(kinds))
    each = st.just(powers) if powers else st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 16])
    return make_train(
        draw(st.integers(0, 2**31)),
        draw(st.sampled_from(n)),
        # two degrees at least, or one that is not unrolled: else the kind would be another
        [*draw(st.lists(each, min_size=d - 1, max_size=d - 1)), powers or 16],
        draw(st.lists(st.sampled_from([1, 2, 3, 5, 8, 9, 17]), min_size=d - 1, max_size=d - 1)),
        draw(st.booleans()),
        draw(st.sampled_from([np.float32, np.float64])),
    )


@needs_compiler
@given(train=trains([(1, 4), (3, 0), (3, 4), (6, 4)]), mode=modes)
def test_kernels_are_the_oracle(train: Train, mode: str) -> None:
    check(train, mode)


@needs_compiler
@given(train=trains([(2, 1), (2, 8)]), mode=modes)
def test_lowest_and_highest_unrolled_degree(train: Train, mode: str) -> None:
    points, breaks, tables = train
    double = points.astype(float), tuple(b.astype(float) for b in breaks), tuple(t.astype(float) for t in tables)
    check(double, mode)


@needs_compiler
@pytest.mark.parametrize("ranks", [[0, 3], [8, 16], [17, 1], [1, 24], [40, 33], [300, 2]])
def test_ranks_around_the_lanes(ranks: list[int]) -> None:
    check(make_train(3, 4, [4, 4, 4], ranks, True), "shuffled")
    check(make_train(4, 3, [4, 16, 1], ranks, True, np.float32), "descending")


@needs_compiler
def test_more_axes_than_rows_that_go_together() -> None:
    check(make_train(5, 9, [2] * 11, [3, 2] * 5, True), "descending")


@needs_compiler
@given(train=trains([(3, 4)], n=[45]), mode=modes, resident=st.integers(1, 50))
def test_bits_do_not_depend_on_order_or_grid(train: Train, mode: str, resident: int) -> None:
    for kernel in KERNELS[1:]:
        with on_host():
            plain = getattr(cuda, kernel)(*train)
        with on_host(ShimDriver(mode, resident=resident)):
            other = getattr(cuda, kernel)(*train)
        for one, two in zip(plain, other, strict=True):
            assert np.array_equal(one, two)


@needs_compiler
@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.6, 1.6])
@pytest.mark.parametrize("mode", MODES)
def test_the_first_bad_point_is_named(bad: float, mode: str) -> None:
    train = make_train(5, 45, [4, 4, 4], [3, 2], False)
    train[0][7, 1], train[0][8, 0], train[0][40, 2] = bad, 9, 9
    for name in KERNELS:
        with on_host(ShimDriver(mode)):
            with pytest.raises(ValueError, match=r"`points` has .* on axis 1, expected .* \[-0.5, 1.5\]") as caught:
                getattr(cuda, name)(*train)
            with pytest.raises(ValueError, match=r"axis 1 \('omega'\)"):
                getattr(cuda, name)(*train, names=("t", "omega", "kappa"))
        assert str(bad) in str(caught.value)


@needs_compiler
def test_strided_and_read_only_arrays_give_the_same_bits() -> None:
    train = make_train(3, 11, [4, 4, 4], [5, 9], True)
    wide = np.repeat(np.repeat(train[0], 2, axis=0), 3, axis=1)
    flipped = tuple(np.ascontiguousarray(t.T).T for t in train[2])
    for array in (wide, *train[1], *flipped):
        array.setflags(write=False)
    with on_host():
        for kernel in KERNELS:
            plain, other = getattr(cuda, kernel)(*train), getattr(cuda, kernel)(wide[::2, ::3], train[1], flipped)
            for one, two in zip(plain, other, strict=True):
                assert np.array_equal(one, two)


@needs_compiler
def test_every_library_that_has_addresses(xp: Backend) -> None:
    if xp.name == "array-api-strict":
        pytest.skip("its arrays tell no address")
    train = make_train(6, 45, [4, 4, 4], [5, 9], True, xp.host_dtype)
    mine = xp.asarray(train[0]), tuple(map(xp.asarray, train[1])), tuple(map(xp.asarray, train[2]))
    exact, sizes = oracle(train), oracle(train, sizes=True)
    if xp.name in ("cupy", "torch-cuda"):
        results = cuda.train_hessian(*mine)
    else:
        with on_host():
            results = cuda.train_hessian(*mine)
    for got, want, size in zip(results, exact, sizes, strict=True):
        assert type(got) is type(mine[0])
        assert got.dtype == xp.dtype
        assert np.all(np.abs(to_host(got) - want) <= tolerance(train) * size)


class Small(ShimDriver):
    """A device whose blocks have little shared memory."""

    def shared_limit(self) -> int:
        return 1024


def test_what_does_not_fit_goes_to_the_generic_kernels(caplog: pytest.LogCaptureFixture) -> None:
    large, long = (
        make_train(1, 5, [4, 4], [70], False),
        make_train(1, 3, [1] * (MOST_CORES + 1), [1] * MOST_CORES, False),
    )
    for train, shim, text in (
        (large, Small(), "rank 70 with 2 axes needs [0-9]+ bytes of shared memory a warp, of which a block has 1024"),
        (long, ShimDriver(), "65 axes, of which the kernels for tensor trains take at most 64"),
    ):
        assert plan_of(shim, train[2], 8, 2).gap
        for kernel in KERNELS:
            caplog.clear()
            with on_host(shim), caplog.at_level(logging.INFO):
                results = getattr(cuda, kernel)(*train)
            for one, two in zip(results, getattr(generic, kernel)(*train), strict=True):
                assert np.array_equal(one, two)
            assert shim.launches == []
            assert re.search(f"{kernel} takes the generic kernel: {text}", caplog.text)


def test_places_in_a_cell_are_of_32_bits() -> None:
    one, huge = np.float64(0), [(1, 1, 1, 2**15), (1, 2, 2**15, 2**15), (1, 1, 2**15, 1)]
    shim = ShimDriver()
    shim.shared_limit = lambda: 2**30  # type: ignore[method-assign]
    plan = plan_of(shim, tuple(np.broadcast_to(one, shape) for shape in huge), 8, 2)
    assert plan.gap is not None
    assert plan.gap.startswith("2147483648 coefficients in a cell")


@given(
    ranks=st.lists(st.integers(0, 400), max_size=7), itemsize=st.sampled_from([4, 8]), vectors=st.integers(2, 40),
    limit=st.sampled_from([48, 100, 227]),
)  # fmt: skip
def test_plans_fit(ranks: list[int], itemsize: int, vectors: int, limit: int) -> None:
    shim, chain = ShimDriver(), [1, *ranks, 1]
    shim.shared_limit = lambda: limit * 1024  # type: ignore[method-assign]
    tables = tuple(np.empty((1, 1, a, b)) for a, b in itertools.pairwise(chain))
    plan = plan_of(shim, tables, itemsize, vectors)
    needed = (vectors * max(chain) + 3 * len(tables)) * itemsize
    assert plan.each >= needed
    assert plan.each % 16 == 0
    assert plan.threads % 32 == 32 % plan.group == 0
    # beside it the ends of the axes, four numbers each, and an int for each rank, as ptxas rounds them
    own = 4 * itemsize * len(tables) + 4 * len(chain)
    own += -own % 16
    fits = 32 // plan.group * plan.each + own <= limit * 1024
    assert (plan.gap is None) == fits == (plan.shared + own <= limit * 1024)


def test_the_largest_rank_fits() -> None:
    # 232272 bytes of vectors, and 224 of the kernel's own: 64 more than a block of an H100 has
    tables = tuple(np.broadcast_to(0.0, (1, 1, a, b)) for a, b in itertools.pairwise([1, *[1209] * 5, 1]))
    assert plan_of(ShimDriver(), tables, 8, 24).gap
    assert plan_of(ShimDriver(), tuple(t[:, :, :1208, :1208] for t in tables), 8, 24).gap is None


@needs_compiler
def test_a_dropped_barrier_shows() -> None:
    end = "        }\n    }\n    __syncwarp();\n}"
    train = make_train(6, 45, [4, 4, 4], [5, 9], True)

    def drop(text: str) -> str:
        assert text.count(end) >= 1
        return text.replace(end, end.replace("    __syncwarp();\n", ""), 1)

    wanted = oracle(train)[0]
    wrong = []
    for mode in MODES:
        with on_host(ShimDriver(mode, edit=drop)):
            wrong.append(not np.allclose(cuda.train_value(*train).astype(float), wanted.astype(float)))
    assert any(wrong)
