"""The CUDA kernels of a tensor train's vector-Jacobian product, run on the CPU against an oracle."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
import pytest
from cuda_support import MODES, ShimDriver, needs_compiler, on_host
from hypothesis import given
from hypothesis import strategies as st
from support import Backend
from test_cuda_train import Small, Train, jets, make_train, modes, product, tolerance, trains

from sepnet.backends import cuda, generic
from sepnet.backends.arrays import to_host

# the package has the function under the module's name
module = importlib.import_module("sepnet.backends.cuda.train_vjp")
ROWS, SUMS = "train_vjp", "train_vjp_sums"


def cotangents(train: Train) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(len(train[0])).astype(train[0].dtype)


def oracle(train: Train, cotangent: np.ndarray, sizes: bool = False) -> list[np.ndarray]:
    """[points' cotangent, tables' cotangents ...] by definition, or the magnitudes of what is summed."""
    (n, d), (cells, places, every) = train[0].shape, jets(train, sizes)
    y = cotangent.astype(np.longdouble)
    y = (np.abs(y) if sizes else y)[:, None, None]
    slopes, sums = np.zeros((n, d), dtype=np.longdouble), []
    for i, table in enumerate(train[2]):
        row, column = y * product([j[0] for j in every[:i]], n), product([j[0].swapaxes(1, 2) for j in every[:i:-1]], n)
        slopes[:, i] = np.einsum("nxa,nab,nyb->n", row, every[i][1], column)
        total = np.zeros(table.shape, dtype=np.longdouble)
        for m in range(table.shape[1]):
            np.add.at(total[:, m], cells[i], row.swapaxes(1, 2) * column * (places[i] ** m)[:, None, None])
        sums.append(total)
    return [slopes, *sums]


def near(results: Sequence[object], train: Train, cotangent: np.ndarray) -> None:
    exact, sizes = oracle(train, cotangent), oracle(train, cotangent, sizes=True)
    for got, want, size in zip(results, exact, sizes, strict=True):
        host = to_host(got)
        assert host.shape == want.shape
        assert host.dtype == train[0].dtype
        assert np.all(np.abs(host - want) <= tolerance(train) * size)


KINDS = [(1, 4), (3, 0), (3, 4), (6, 4)]


@needs_compiler
@given(train=trains(KINDS), mode=modes, deterministic=st.booleans())
def test_both_cotangents_are_the_oracle(train: Train, mode: str, deterministic: bool) -> None:
    y = cotangents(train)
    with on_host(ShimDriver(mode)) as shim:
        slopes, sums = cuda.train_vjp(*train, y, deterministic=deterministic)
    near((slopes, *sums), train, y)
    if len(y):
        assert shim.launches == [ROWS, *([SUMS] * len(sums) if deterministic else [])]


@needs_compiler
@pytest.mark.parametrize("powers", [1, 8])
@pytest.mark.parametrize("deterministic", [False, True])
def test_lowest_and_highest_unrolled_degree(powers: int, deterministic: bool) -> None:
    train = make_train(1, 45, [powers, powers], [9], True)
    with on_host():
        slopes, sums = cuda.train_vjp(*train, cotangents(train), deterministic=deterministic)
    near((slopes, *sums), train, cotangents(train))


@needs_compiler
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("ranks", [[0, 3], [17, 1], [40, 33], [200, 2]])
def test_ranks_around_the_lanes(ranks: list[int], deterministic: bool) -> None:
    for train in (make_train(3, 4, [4, 4, 4], ranks, True), make_train(4, 3, [4, 16, 1], ranks, True, np.float32)):
        with on_host(ShimDriver("shuffled")):
            slopes, sums = cuda.train_vjp(*train, cotangents(train), deterministic=deterministic)
        near((slopes, *sums), train, cotangents(train))


@needs_compiler
@given(train=trains([(3, 4)], n=[0, 1, 45]), deterministic=st.booleans())
def test_only_what_is_wanted_is_made(train: Train, deterministic: bool) -> None:
    y = cotangents(train)
    with on_host():
        slopes, sums = cuda.train_vjp(*train, y, deterministic=True)
        alone, none = cuda.train_vjp(*train, y, wanted="points", deterministic=deterministic)
        assert none is None
        assert np.array_equal(alone, slopes)
        none, tables = cuda.train_vjp(*train, y, wanted="tables", deterministic=True)
        assert none is None
        for one, other in zip(tables, sums, strict=True):
            assert np.array_equal(one, other)
        none, tables = cuda.train_vjp(*train, y, wanted="tables")
    assert none is None
    near((slopes, *tables), train, y)


@needs_compiler
@given(train=trains([(3, 4)], n=[150]), mode=modes, resident=st.integers(1, 50))
def test_deterministic_sums_have_the_same_bits(train: Train, mode: str, resident: int) -> None:
    y = cotangents(train)
    with on_host():
        plain = cuda.train_vjp(*train, y, deterministic=True)
    with on_host(ShimDriver(mode, resident=resident)):
        other = cuda.train_vjp(*train, y, deterministic=True)
    assert np.array_equal(plain[0], other[0])
    for one, two in zip(plain[1], other[1], strict=True):
        assert np.array_equal(one, two)


@needs_compiler
def test_atomic_sums_come_in_the_threads_order() -> None:
    train = make_train(2, 300, [4, 4, 4], [5, 3], False, np.float32)
    sums = []
    for mode in MODES:
        with on_host(ShimDriver(mode)):
            sums.append(cuda.train_vjp(*train, cotangents(train))[1])
    # why `deterministic` is there: the last bits differ
    assert any(not np.array_equal(one, other) for one, other in zip(*sums[:2], strict=True))


@needs_compiler
def test_chunks_and_parts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    train = make_train(2, 3000, [4, 4, 4], [5, 3], False)
    monkeypatch.setattr(module, "CHUNK", 1)  # 1024 points at a time
    with on_host() as shim:
        slopes, sums = cuda.train_vjp(*train, cotangents(train), deterministic=True)
    assert shim.launches == [ROWS, *[SUMS] * 3] * 3
    near((slopes, *sums), train, cotangents(train))


@needs_compiler
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_first_bad_point_is_named(deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    train = make_train(5, 1100, [4, 4, 4], [3, 2], False)
    train[0][1070, 1], train[0][1080, 0] = np.nan, 9
    with on_host(ShimDriver("descending")), pytest.raises(ValueError, match=r"has nan on axis 1 \('b'\)"):
        cuda.train_vjp(*train, cotangents(train), deterministic=deterministic, names=("a", "b", "c"))


@needs_compiler
@pytest.mark.parametrize("deterministic", [False, True])
def test_every_library_that_has_addresses(xp: Backend, deterministic: bool) -> None:
    if xp.name == "array-api-strict":
        pytest.skip("its arrays tell no address")
    train = make_train(6, 45, [4, 4, 4], [5, 9], True, xp.host_dtype)
    y = cotangents(train)
    # every second number of a longer array
    wide = xp.asarray(np.repeat(y, 2))[::2]
    mine = xp.asarray(train[0]), tuple(map(xp.asarray, train[1])), tuple(map(xp.asarray, train[2]))
    if xp.name in ("cupy", "torch-cuda"):
        slopes, sums = cuda.train_vjp(*mine, wide, deterministic=deterministic)
    else:
        with on_host():
            slopes, sums = cuda.train_vjp(*mine, wide, deterministic=deterministic)
    for array in (slopes, *sums):
        assert type(array) is type(mine[0])
        assert array.dtype == xp.dtype
    near((slopes, *sums), train, y)


def test_what_does_not_fit_goes_to_the_generic_kernel() -> None:
    train = make_train(1, 5, [4, 4], [70], False)
    with on_host(Small()) as shim:
        slopes, sums = cuda.train_vjp(*train, cotangents(train))
    expected = generic.train_vjp(*train, cotangents(train))
    assert shim.launches == []
    for one, two in zip((slopes, *sums), (expected[0], *expected[1]), strict=True):
        assert np.array_equal(one, two)


def test_arguments_are_checked() -> None:
    train = make_train(1, 5, [4, 4], [7], False)
    with on_host():
        with pytest.raises(ValueError, match=r"`cotangent` has shape \(4,\), expected \(5,\)"):
            cuda.train_vjp(*train, cotangents(train)[:4])
        with pytest.raises(ValueError, match="`wanted` is 'all'"):
            cuda.train_vjp(*train, cotangents(train), wanted="all")
        with pytest.raises(ValueError, match="`tables` have ranks"):
            cuda.train_vjp(train[0], train[1], train[2][::-1], cotangents(train))
