"""Cholesky by blocks, in every namespace, against dense matrices."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from solver_support import ratio
from support import Backend, dev_size

from sepnet.backends import dispatch
from sepnet.backends.arrays import to_host
from sepnet.solvers import block_band
from sepnet.solvers.axis_systems import RIDGE
from sepnet.solvers.block_band import (
    factorise_band,
    factorise_bordered,
    factorise_dense,
    group_size,
    inverted_factors,
)


def host(array: Any) -> np.ndarray:
    return np.asarray(to_host(array), dtype=np.float64)


def definite(rng: np.random.Generator, terms: int, n: int, width: int, rank: int, wrap: bool = False) -> Any:
    """Positive definite A_j, banded or with wrap-around, and W_j: H is definite with a condition of some hundreds."""
    matrices, weights = [], []
    for _ in range(terms):
        factor = np.eye(n)
        for o in range(1, width + 1):
            factor += np.diag(rng.uniform(-0.5, 0.5, n - o), -o) if n > o else 0.0
        a = factor @ factor.T
        if wrap:
            # a definite matrix on each pair of ends that meet
            for k in range(width):
                a[k, k] += 0.3
                a[n - width + k, n - width + k] += 0.3
                a[k, n - width + k] = a[n - width + k, k] = 0.2
        matrices.append(a)
        root = rng.standard_normal((rank, rank)) / np.sqrt(rank) + np.eye(rank)
        weights.append(root @ root.T + 0.1 * np.eye(rank))
    return np.array(matrices), np.array(weights)


def lower_bands(matrices: np.ndarray, width: int) -> np.ndarray:
    terms, n, _ = matrices.shape
    bands = np.zeros((terms, n, width + 1))
    for o in range(min(width, n - 1) + 1):
        bands[:, : n - o, o] = np.array([np.diagonal(a, -o) for a in matrices])
    return bands


def whole(matrices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return sum(np.kron(a, w) for a, w in zip(matrices, weights, strict=True))


def check_solutions(xp: Backend, H: np.ndarray, factored: Any, rng: np.random.Generator, ridge: float = 0.0) -> None:
    """LAPACK's residual ratio below 30, for a vector and for a matrix of loads."""
    assert bool(factored.sound)
    H = H + ridge * np.diag(np.diag(H) + np.diag(H).mean())
    for shape in ((H.shape[0],), (H.shape[0], 3)):
        load = xp.asarray(rng.standard_normal(shape))
        x = factored.solve(load)
        assert tuple(x.shape) == shape
        assert x.dtype == xp.dtype
        for column, b in zip(host(x).reshape(shape[0], -1).T, host(load).reshape(shape[0], -1).T, strict=True):
            # rounding matrices and weights to the dtype changes H by two units for each term: as much again
            assert ratio(H, column, b, xp.eps) < 30 + 30


SIZES = st.tuples(st.integers(1, 13), st.integers(0, 3), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))


@dev_size
@given(SIZES, st.integers(0, 2**31))
def test_blocks_are_those_of_the_dense_matrix(xp: Backend, sizes: tuple[int, ...], seed: int) -> None:
    n, width, rank, terms, extra = sizes
    group = max(width, 1) + extra
    rng = np.random.default_rng(seed)
    bands = rng.standard_normal((terms, n, width + 1))
    for o in range(1, width + 1):
        bands[:, max(n - o, 0) :, o] = 0.0
    weights = rng.standard_normal((terms, rank, rank))
    weights = weights + weights.transpose(0, 2, 1)
    diagonal, below = dispatch.fill_blocks(xp.asarray(bands), xp.asarray(weights), group=group)
    count, size = -(-n // group), group * rank
    assert (tuple(diagonal.shape), tuple(below.shape)) == ((count, size, size), (count - 1, size, size))
    assert diagonal.dtype == below.dtype == xp.dtype
    expected = np.eye(count * size)
    expected[: n * rank, : n * rank] = to_host(dispatch.fill_dense_from_bands(bands, weights))
    found = scipy.linalg.block_diag(*host(diagonal))
    for b, block in enumerate(host(below)):
        found[(b + 1) * size : (b + 2) * size, b * size : (b + 1) * size] = block
    # sums of `terms` products of numbers below 5 or so, rounded to the dtype
    np.testing.assert_allclose(np.tril(found), np.tril(expected), rtol=0, atol=xp.eps * 100 * terms)


def test_a_group_that_is_too_small_is_refused(xp: Backend) -> None:
    with pytest.raises(ValueError, match="`group` is 1, expected at least 2"):
        dispatch.fill_blocks(xp.asarray(np.zeros((1, 5, 3))), xp.asarray(np.zeros((1, 2, 2))), group=1)


def test_blocks_take_the_memory_of_blocks() -> None:
    terms, n, width, rank, group = 12, 400, 3, 8, 8
    bands, weights = np.ones((terms, n, width + 1)), np.ones((terms, rank, rank))
    dispatch.fill_blocks(bands, weights, group=group)
    tracemalloc.start()
    dispatch.fill_blocks(bands, weights, group=group)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the blocks, twice n g R^2, before and after they are put in order; terms n^2 would be four times that
    assert peak < 8 * 5 * n * group * rank**2 < 8 * terms * n**2


@dev_size
@given(SIZES, st.integers(0, 2**31))
def test_band_solves_the_dense_system(xp: Backend, sizes: tuple[int, ...], seed: int) -> None:
    n, width, rank, terms, extra = sizes
    width = min(width, n - 1)
    rng = np.random.default_rng(seed)
    matrices, weights = definite(rng, terms, n, width, rank)
    bands = xp.asarray(lower_bands(matrices, width))
    H = whole(matrices, weights)
    factored = factorise_band(bands, xp.asarray(weights), 0.0, group=max(width, 1) + extra)
    check_solutions(xp, H, factored, rng)
    factored = factorise_band(bands, xp.asarray(weights), 0.0, group=max(width, 1) + extra, repeated=True)
    check_solutions(xp, H, factored, rng)
    ridge = RIDGE * xp.eps
    check_solutions(xp, H, factorise_band(bands, xp.asarray(weights), ridge), rng, ridge)


@pytest.mark.parametrize("n", [1, 2, 3, 64, 129])
def test_sizes_about_the_blocks(xp: Backend, n: int) -> None:
    rng = np.random.default_rng(n)
    width = min(3, n - 1)
    matrices, weights = definite(rng, 2, n, width, 3)
    check_solutions(
        xp,
        whole(matrices, weights),
        factorise_band(xp.asarray(lower_bands(matrices, width)), xp.asarray(weights), 0.0),
        rng,
    )


@dev_size
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31))
def test_border_solves_the_dense_system(xp: Backend, width: int, more: int, rank: int, seed: int) -> None:
    n = 3 * width + more
    rng = np.random.default_rng(seed)
    matrices, weights = definite(rng, 2, n, width, rank, wrap=True)
    inner = lower_bands(matrices[:, : n - width, : n - width], width)
    border = np.ascontiguousarray(matrices[:, n - width :, :].transpose(1, 0, 2))
    arrays = (xp.asarray(inner), xp.asarray(border), xp.asarray(weights))
    check_solutions(xp, whole(matrices, weights), factorise_bordered(*arrays, 0.0, group=width + more), rng)


def test_a_ridge_is_relative_to_the_entries_and_their_mean(xp: Backend) -> None:
    rng = np.random.default_rng(0)
    matrices, weights = definite(rng, 2, 7, 2, 2)
    H = whole(matrices, weights)
    factored = factorise_band(xp.asarray(lower_bands(matrices, 2)), xp.asarray(weights), 0.5, group=3)
    check_solutions(xp, H, factored, rng, 0.5)


# ---------------------------------------------------------------------------------------------- not positive definite


def indefinite(xp: Backend, place: int, depth: float) -> tuple[Any, Any]:
    """A tridiagonal system one of whose pivots is negative, `depth` times its diagonal entry."""
    n = 12
    factor = np.eye(n) + 0.5 * np.eye(n, k=-1)
    pivots = np.ones(n)
    pivots[place] = -depth
    matrix = factor * pivots @ factor.T
    return xp.asarray(lower_bands(matrix[None], 1)), xp.asarray(np.ones((1, 1, 1)))


@pytest.mark.parametrize("place", [0, 5, 7, 11])
def test_what_is_not_definite_is_not_sound(xp: Backend, place: int) -> None:
    bands, weights = indefinite(xp, place, 0.2)
    assert not bool(factorise_band(bands, weights, 0.0, group=4).sound)
    assert not bool(factorise_band(bands, weights, 0.0, group=12).sound)


def test_numbers_that_are_not_finite_are_not_sound(xp: Backend) -> None:
    bands, weights = indefinite(xp, 0, -1.0)
    assert bool(factorise_band(bands, weights, 0.0, group=4).sound)
    assert not bool(factorise_band(bands, weights * float("nan"), 0.0, group=4).sound)


@pytest.mark.parametrize("place", [0, 2, 5, 7, 11])
@pytest.mark.parametrize("left", ["pivot", "entry", "zero", "unfinished"])
def test_libraries_that_neither_raise_nor_give_nan(monkeypatch: pytest.MonkeyPatch, place: int, left: str) -> None:
    """cuSOLVER and torch's cholesky_ex promise nothing about the factor of a matrix that is not definite."""

    def unchecked(xp: Any, matrix: np.ndarray) -> np.ndarray:
        factor, info = scipy.linalg.lapack.dpotrf(matrix, lower=1, clean=1)
        if info > 0:
            k = info - 1
            factor[k, k] = {"pivot": -factor[k, k], "entry": matrix[k, k], "zero": 0.0, "unfinished": factor[k, k]}[
                left
            ]
            factor[k, k] = abs(factor[k, k]) if left == "pivot" else factor[k, k]
        return np.tril(factor)

    monkeypatch.setattr(block_band, "lower_factor", unchecked)
    xp = Backend("numpy", np, np.float64)
    for group in (4, 12):
        assert bool(factorise_band(*indefinite(xp, place, -1.0), 0.0, group=group).sound)
        with np.errstate(all="ignore"), monkeypatch.context() as patch:
            # a zero on the diagonal makes the general solver raise, which triangular ones do not
            patch.setattr(
                block_band,
                "triangular",
                lambda xp, lower, right, transposed=False: scipy.linalg.lapack.dtrtrs(
                    lower, right, lower=1, trans=int(transposed)
                )[0],
            )
            # with depth zero the matrix is singular: the rows are what they should be, but a pivot is zero
            for depth in (0.2, 0.0):
                assert not bool(factorise_band(*indefinite(xp, place, depth), 0.0, group=group).sound)


def test_round_off_is_no_reason_to_refuse(xp: Backend) -> None:
    # Hilbert's matrix and a ridge of some round-off: the last pivots are nothing but round-off, the factor is sound
    n = 12
    matrix = 1.0 / (1.0 + np.arange(n)[:, None] + np.arange(n))
    factored = factorise_dense(xp.xp.asarray(xp.asarray(matrix), copy=True), 64 * xp.eps)
    check_solutions(xp, matrix, factored, np.random.default_rng(0), 64 * xp.eps)


# -------------------------------------------------------------------------------------------------------- the pieces


def test_factors_of_a_stack_are_inverted(xp: Backend) -> None:
    rng = np.random.default_rng(4)
    matrices = definite(rng, 5, 6, 5, 1)[0]
    half, sound = inverted_factors(xp.asarray(matrices))
    assert bool(sound)
    for a, m in zip(matrices, host(half), strict=True):
        # n products, times the condition of the factor, which is below ten
        np.testing.assert_allclose(m @ a @ m.T, np.eye(6), rtol=0, atol=1e3 * xp.eps)
        assert np.abs(np.triu(m, 1)).max() <= 1e3 * xp.eps
    matrices[3] -= 3 * np.eye(6)
    assert not bool(inverted_factors(xp.asarray(matrices))[1])


@given(st.integers(1, 500), st.integers(0, 7), st.integers(1, 200), st.booleans())
def test_a_group_reaches_as_far_as_the_band(n: int, width: int, rank: int, on_host: bool) -> None:
    width = min(width, n - 1)
    group = group_size(n, width, rank, host=on_host)
    assert max(width, 1) <= group <= n
    count = -(-n // group)
    assert count == 1 or count > 3
    # the last group is nearly full: at most one function to a block is missing
    assert count * group - n < count


def test_blocks_on_a_device_have_hundreds_of_rows() -> None:
    assert group_size(200, 3, 4, host=False) * 4 >= 256 * 0.75
    assert group_size(200, 3, 64, host=False) == 6
    assert group_size(37, 3, 16, host=False) == 37
    assert group_size(200, 3, 16, host=True) == 6
