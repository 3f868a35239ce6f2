"""Every tensor-train kernel = oracle = generic, in every namespace; sizes, bad input, autograd, threads.

The bounds are those of `test_kernels`, ``8 (p + 1)`` units of round-off per axis for the polynomials, and two more for
each term of the sums over the ranks, all times the sum of the terms' magnitudes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import jet
from support import Backend, dev_size
from test_kernels import assert_near, make_breaks, make_cp, make_points

from sepnet.backends import dispatch, generic
from sepnet.backends.arrays import namespace, to_host

KERNELS = ("train_value", "train_gradient", "train_hessian")

Train = tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]


def make_train(
    seed: int, n: int, degrees: list[int], ranks: list[int], cells: int, graded: bool, dtype: type = np.float64
) -> Train:
    """Points, breaks and tables; `ranks` are the inner ones, and axis i has i cells more than `cells`, modulo 4."""
    rng = np.random.default_rng(seed)
    # rounded first, so that oracle and kernel see the same numbers
    breaks = [make_breaks(rng, (cells + i - 1) % 4 + 1, graded).astype(dtype) for i in range(len(degrees))]
    chain = [1, *ranks, 1]
    tables = [
        rng.standard_normal((len(b) - 1, p + 1, chain[i], chain[i + 1])).astype(dtype)
        for i, (b, p) in enumerate(zip(breaks, degrees, strict=True))
    ]
    return make_points(rng, n, breaks).astype(dtype), breaks, tables


def oracle(
    points: np.ndarray, breaks: list[np.ndarray], tables: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """[value, gradient, Hessian] and the magnitudes of what is summed, by definition, point by point."""
    n, d = points.shape
    shapes = [(n,), (n, d), (n, d, d)]
    both = [np.zeros(s) for s in shapes], [np.zeros(s) for s in shapes]
    for k in range(n):
        jets = [jet(points[k, i], breaks[i], t.reshape(*t.shape[:2], -1)) for i, t in enumerate(tables)]
        for which, results in enumerate(both):

            def entry(*axes: int, which: int = which, jets: list[tuple[np.ndarray, ...]] = jets) -> float:
                row = np.ones((1, 1))
                for i, table in enumerate(tables):
                    row = row @ jets[i][which][axes.count(i)].reshape(table.shape[2:])
                return float(row[0, 0])

            results[0][k] = entry()
            results[1][k] = [entry(i) for i in range(d)]
            results[2][k] = [[entry(i, j) for j in range(d)] for i in range(d)]
    return both


def units(tables: list[np.ndarray]) -> int:
    """How many units of round-off the kernels may be off."""
    return sum(8 * t.shape[1] + 2 * t.shape[2] for t in tables)


def put(like: Backend, train: Train) -> tuple[object, tuple[object, ...], tuple[object, ...]]:
    points, breaks, tables = train
    return like.asarray(points), tuple(map(like.asarray, breaks)), tuple(map(like.asarray, tables))


def check(like: Backend, train: Train) -> None:
    expected, sizes = oracle(*train)
    arguments = put(like, train)
    for module in (dispatch, generic):
        for kernel in KERNELS:
            results = getattr(module, kernel)(*arguments)
            results = results if isinstance(results, tuple) else (results,)
            assert len(results) == KERNELS.index(kernel) + 1
            for actual, want, size in zip(results, expected, sizes, strict=False):
                assert_near(actual, want, units(train[2]) * like.eps * size, like)


@st.composite
def shapes(draw: st.DrawFn, n: tuple[int, ...] = (0, 1, 2, 5), least: int = 1) -> tuple:
    d = draw(st.integers(least, 5))
    return (
        draw(st.integers(0, 2**31)),
        draw(st.sampled_from(n)),
        draw(st.lists(st.integers(0, 5), min_size=d, max_size=d)),
        draw(st.lists(st.integers(1, 9), min_size=d - 1, max_size=d - 1)),
        draw(st.integers(1, 4)),
        draw(st.booleans()),
    )


@given(shape=shapes(), single=st.booleans())
def test_train_is_oracle_and_generic_numpy(shape: tuple, single: bool) -> None:
    dtype = np.float32 if single else np.float64
    check(Backend("numpy", np, np.dtype(dtype)), make_train(*shape, dtype))


@dev_size
@given(shape=shapes())
def test_train_is_oracle_everywhere(xp: Backend, shape: tuple) -> None:
    check(xp, make_train(*shape, xp.host_dtype))


@pytest.mark.parametrize("ranks", [[0, 3], [8, 16], [17, 1], [1, 24], [40, 33]])
def test_ranks_around_the_lanes(xp: Backend, ranks: list[int]) -> None:
    check(xp, make_train(3, 4, [3, 0, 8], ranks, 3, True, xp.host_dtype))


@given(
    seed=st.integers(0, 2**31),
    degrees=st.lists(st.integers(0, 5), min_size=2, max_size=4),
    rank=st.integers(1, 9),
    cells=st.integers(1, 4),
)
def test_a_cp_is_a_train_of_diagonal_matrices(seed: int, degrees: list[int], rank: int, cells: int) -> None:
    points, breaks, tables = make_cp(seed, 4, degrees, rank, [cells] * len(degrees), True)
    cores = [t[:, :, :, None] * np.eye(rank) for t in tables]
    cores[0], cores[-1] = tables[0][:, :, None, :], tables[-1][:, :, :, None]
    _, sizes = oracle(points, breaks, cores)
    expected = dispatch.cp_hessian(points, tuple(breaks), tuple(tables))
    actual = dispatch.train_hessian(points, tuple(breaks), tuple(cores))
    for one, other, size in zip(actual, expected, sizes, strict=True):
        assert np.all(np.abs(one - other) <= 2 * units(cores) * np.finfo(float).eps * size)


@given(shape=shapes(n=(3,)))
def test_derivatives_are_differences(shape: tuple) -> None:
    _, breaks, tables = make_train(*shape)
    rng = np.random.default_rng(shape[0])
    # a tenth of the cell around a point of its middle fifth: all seven nodes lie in one cell, where the rule below is
    # exact up to degree 6, so that only round-off is left, which the division by the step enlarges
    cells = [rng.integers(len(b) - 1, size=3) for b in breaks]
    steps = np.stack([np.diff(b)[c] for b, c in zip(breaks, cells, strict=True)], axis=1) / 10
    points = np.stack([b[c] for b, c in zip(breaks, cells, strict=True)], axis=1)
    points += steps * rng.uniform(4, 6, points.shape)
    b, t = tuple(breaks), tuple(tables)
    _, gradient, hessian = dispatch.train_hessian(points, b, t)
    _, (value_size, gradient_size, _) = oracle(points, breaks, tables)
    for axis in range(len(t)):
        h = steps[:, axis]
        by_value, by_gradient = np.zeros(3), np.zeros((3, len(t)))
        for m, weight in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60)):
            for sign in (1, -1):
                moved = points.copy()
                moved[:, axis] += sign * m * h
                by_value += sign * weight * dispatch.train_value(moved, b, t) / h
                by_gradient += sign * weight * dispatch.train_gradient(moved, b, t)[1] / h[:, None]
        # the weights' magnitudes sum up to 1.9; points of size 1.5 are rounded against steps of h
        bound = 4 * (units(tables) + 2 * np.max(np.abs(points)) / h) * np.finfo(float).eps / h
        assert np.all(np.abs(gradient[:, axis] - by_value) <= bound * value_size)
        assert np.all(np.abs(hessian[:, axis] - by_gradient) <= bound[:, None] * gradient_size)


def test_strided_points_and_tables_are_taken_as_they_are(xp: Backend) -> None:
    train = make_train(3, 11, [3, 2, 4], [5, 9], 3, True, xp.host_dtype)
    points, b, t = put(xp, train)
    wide = xp.asarray(np.repeat(np.repeat(train[0], 2, axis=0), 3, axis=1))
    turned = [xp.asarray(np.ascontiguousarray(a.T)) for a in train[2]]
    flipped = tuple(namespace(a).permute_dims(a, (3, 2, 1, 0)) for a in turned)
    for kernel in KERNELS:
        plain, other = getattr(dispatch, kernel)(points, b, t), getattr(dispatch, kernel)(wide[::2, ::3], b, flipped)
        for one, two in zip(plain, other, strict=True):
            assert np.array_equal(to_host(one), to_host(two))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.6, 1.6])
def test_bad_points_are_named(xp: Backend, bad: float) -> None:
    train = make_train(5, 9, [3, 1, 2], [3, 2], 2, False, xp.host_dtype)
    train[0][4, 1] = bad
    arguments = put(xp, train)
    for name in KERNELS:
        kernel = getattr(dispatch, name)
        with pytest.raises(
            ValueError, match=r"`points` has .* on axis 1, expected a number in the domain \[-0.5, 1.5\]"
        ) as caught:
            kernel(*arguments)
        assert str(float(xp.host_dtype(bad))) in str(caught.value)
        with pytest.raises(ValueError, match=r"axis 1 \('omega'\)"):
            kernel(*arguments, names=("t", "omega", "kappa"))


@pytest.mark.parametrize("kernel", KERNELS)
def test_shapes_are_checked(xp: Backend, kernel: str) -> None:
    x, b, t = put(xp, make_train(5, 3, [1, 2], [2], 2, False))
    for args, text in (
        ((x[:, :1], b, t), r"`points` has shape \(3, 1\), expected \(n, 2\)"),
        ((x, b[:1], t), "`breaks` and `tables` have 1 and 2 axes"),
        ((x, (), ()), "expected the same number >= 1"),
        ((x, (b[0], b[1][1:]), t), "of axis 1 have shapes"),
        ((x, b, (t[0], t[1][..., 0])), r"\(cells, degree \+ 1, left rank, right rank\)"),
        ((x, b, (t[0], t[1][:, :, :1, :])), r"`tables` have ranks \[\(1, 2\), \(1, 1\)\], expected a chain"),
        ((x[:, :1], b[:1], t[:1]), r"`tables` have ranks \[\(1, 2\)\], expected a chain"),
        ((x[:, :1], b[1:], t[1:]), r"`tables` have ranks \[\(2, 1\)\], expected a chain"),
    ):
        for module in (dispatch, generic):
            with pytest.raises(ValueError, match=text):
                getattr(module, kernel)(*args)


def test_mixed_arrays_are_refused() -> None:
    torch = pytest.importorskip("torch")
    points, breaks, tables = make_train(5, 3, [1, 2], [2], 2, False)
    for name in KERNELS:
        kernel = getattr(dispatch, name)
        with pytest.raises(TypeError, match="expected one array library"):
            kernel(torch.asarray(points), tuple(breaks), tuple(tables))
        with pytest.raises(TypeError, match=r"`tables` is numpy float32 on cpu and `points` is numpy float64.*u\.to"):
            kernel(points, tuple(breaks), (tables[0], tables[1].astype(np.float32)))


def test_torch_differentiates_points_and_tables() -> None:
    torch = pytest.importorskip("torch")
    points, breaks, tables = make_train(7, 3, [3, 0, 4], [2, 3], 3, True)
    points += 1e-3 * (1 - points)  # off the breaks, where second derivatives jump
    b = tuple(map(torch.asarray, breaks))
    leaves = [torch.asarray(a).requires_grad_() for a in (points, *tables)]
    for name in KERNELS:
        kernel = getattr(dispatch, name)
        assert torch.autograd.gradcheck(lambda x, *t, kernel=kernel: kernel(x, b, t), leaves)
    value, gradient = dispatch.train_gradient(leaves[0], b, tuple(leaves[1:]))
    (by_autograd,) = torch.autograd.grad(value.sum(), leaves[0])
    assert torch.allclose(by_autograd, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "rank"), [(4097, 3), (700, 64)])
def test_generic_chunks_change_nothing(n: int, rank: int) -> None:
    points, breaks, tables = make_train(8, n, [2, 3, 1], [rank, 5], 4, True)
    b, t = tuple(breaks), tuple(tables)
    whole, last = generic.train_gradient(points, b, t), generic.train_gradient(points[-3:], b, t)
    _, sizes = oracle(points[-3:], breaks, tables)
    for one, two, size in zip(whole, last, sizes, strict=False):
        assert one.shape[0] == n
        assert np.all(np.abs(one[-3:] - two) <= 2 * units(tables) * np.finfo(float).eps * size)


def test_threads_give_the_same_bits_and_find_the_first_bad_point(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    from sepnet.backends.cpu import jit

    points, breaks, tables = make_train(9, 5000, [3, 2], [9], 4, True)
    b, t = tuple(breaks), tuple(tables)
    alone = [getattr(dispatch, kernel)(points, b, t) for kernel in KERNELS[1:]]
    slices: list[int] = []
    monkeypatch.setattr(jit, "PARALLEL_FROM", 1000)
    monkeypatch.setattr(jit.numba, "get_num_threads", lambda: slices.append(1) or 3)
    together = [getattr(dispatch, kernel)(points, b, t) for kernel in KERNELS[1:]]
    assert slices
    for group, other in zip(alone, together, strict=True):
        for one, two in zip(group, other, strict=True):
            assert np.array_equal(one, two)
    points[[1200, 4800], [1, 0]] = 7.5, 8.5
    with pytest.raises(ValueError, match=r"has 7\.5 on axis 1"):
        dispatch.train_value(points, b, t)


def test_ranks_degrees_and_axes_are_run_time_numbers() -> None:
    pytest.importorskip("numba")
    from sepnet.backends.cpu.train import _gradient

    for ranks, degrees in (([3], [3, 3]), ([16, 2], [5, 2, 0])):
        points, breaks, tables = make_train(1, 4, degrees, ranks, 2, True)
        dispatch.train_gradient(points, tuple(breaks), tuple(tables))
    in_double = [s for s in _gradient.signatures if "float64" in str(s)]
    assert len(in_double) == 1
    assert "Literal" not in str(in_double[0])
