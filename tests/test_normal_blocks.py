"""The kernel of the normal equations: dense oracle = generic = both ways of the compiled one, in every namespace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Backend, dev_size

from sepnet.backends import cpu, dispatch, generic
from sepnet.backends.arrays import device_of, namespace, to_host
from sepnet.backends.cpu import normal

HERE = Backend("numpy", np, np.float64)
SINGLE = Backend("numpy", np, np.float32)


@st.composite
def problems(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int, int]]]:
    """A seed, the number of samples, and of each axis its size, the width of its windows and its columns."""
    # 300 samples are more than a tile of the compiled kernel, 255 to 257 are around one
    n = draw(st.sampled_from([0, 1, 2, 9, 255, 256, 257, 300]))
    axes = []
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.sampled_from([1, 2, 5, 12]))
        axes.append((size, draw(st.integers(1, min(size, 5))), draw(st.sampled_from([1, 2, 3, 8, 9]))))
    return draw(st.integers(0, 2**31)), n, axes


def arrays(seed: int, n: int, axes: list[tuple[int, int, int]], like: Backend = HERE) -> tuple:
    rng = np.random.default_rng(seed)
    first = tuple(rng.integers(0, m - q + 1, n) for m, q, _ in axes)
    values = tuple(rng.standard_normal((n, q)).astype(like.host_dtype) for _, q, _ in axes)
    gains = tuple(rng.standard_normal((n, r)).astype(like.host_dtype) for _, _, r in axes)
    curvature = (rng.random(n) * rng.integers(0, 2, n)).astype(like.host_dtype)  # half of the samples weigh nothing
    return first, values, gains, curvature, rng.standard_normal(n).astype(like.host_dtype)


def jacobian(first: tuple, values: tuple, gains: tuple, sizes: tuple[int, ...]) -> np.ndarray:
    """The rows of the samples, entry by entry, as the contract defines them."""
    offsets = np.concatenate([[0], np.cumsum([m * g.shape[1] for m, g in zip(sizes, gains, strict=True)])])
    J = np.zeros((len(first[0]), offsets[-1]))
    for s in range(len(J)):
        for i, (f, v, g) in enumerate(zip(first, values, gains, strict=True)):
            for m in range(v.shape[1]):
                for r in range(g.shape[1]):
                    J[s, offsets[i] + (f[s] + m) * g.shape[1] + r] = float(v[s, m]) * float(g[s, r])
    return J


def check(result: tuple, data: tuple, sizes: tuple[int, ...], like: Backend) -> None:
    first, values, gains, curvature, slope = data
    J = jacobian(first, values, gains, sizes)
    wanted = J.T @ (curvature[:, None] * J), J.T @ slope
    # a sum of n products of three or five numbers, of which `size` is the magnitude; the root of the curvature is
    # rounded once more
    size = np.abs(J).T @ (curvature[:, None] * np.abs(J)), np.abs(J).T @ np.abs(slope)
    for got, want, bound in zip(result, wanted, size, strict=True):
        assert namespace(got) is namespace(like.asarray(np.zeros(1)))
        assert got.dtype == like.dtype
        assert device_of(got) == device_of(like.asarray(np.zeros(1)))
        host = to_host(got)
        assert host.shape == want.shape
        part = np.tril if want.ndim == 2 else np.asarray
        assert (np.abs(part(host - want)) <= (len(J) + 8) * like.eps * part(bound)).all()


def moved(data: tuple, like: Backend) -> tuple:
    first, values, gains, curvature, slope = data
    numbers = tuple(like.xp.asarray(np.array(f), dtype=like.xp.int64, device=like.device) for f in first)
    if like.readonly:
        for f in numbers:
            f.setflags(write=False)
    groups = (tuple(map(like.asarray, group)) for group in (values, gains))
    return (numbers, *groups, like.asarray(curvature), like.asarray(slope))


@given(problem=problems(), single=st.booleans())
def test_oracle_generic_and_both_compiled_ways_agree(problem: tuple, single: bool) -> None:
    like = SINGLE if single else HERE
    seed, n, axes = problem
    data, sizes = arrays(seed, n, axes, like), tuple(m for m, _, _ in axes)
    check(cpu.normal_blocks(*data, sizes=sizes), data, sizes, like)
    check(generic.normal_blocks(*data, sizes=sizes), data, sizes, like)
    widths = np.array([q * r for _, q, r in axes])
    offsets = np.concatenate([[0], np.cumsum([m * r for m, _, r in axes])])
    for way in (normal._dense, normal._products):
        check(way(*data, offsets, widths), data, sizes, like)


def test_the_cheaper_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outer products where samples touch little, rows and BLAS where they touch half of it; both answers are used."""
    taken = []
    for name in ("_dense", "_products"):
        way = getattr(normal, name)
        monkeypatch.setattr(normal, name, lambda *a, name=name, way=way: (taken.append(name), way(*a))[1])
    for size in (5, 200):
        data = arrays(0, 20, [(size, 4, 2)] * 2)
        check(cpu.normal_blocks(*data, sizes=(size, size)), data, (size, size), HERE)
    assert taken == ["_dense", "_products"]


@dev_size
@given(problem=problems())
def test_every_namespace(problem: tuple, xp: Backend) -> None:
    seed, n, axes = problem
    data, sizes = arrays(seed, n, axes, xp), tuple(m for m, _, _ in axes)
    for module in (dispatch, generic):
        check(module.normal_blocks(*moved(data, xp), sizes=sizes), data, sizes, xp)


def test_strided_arrays() -> None:
    data = arrays(3, 40, [(6, 3, 4), (9, 2, 1)])
    first, values, gains, curvature, slope = data
    odd = (
        tuple(np.repeat(f, 2)[::2] for f in first), tuple(np.asfortranarray(v) for v in values),
        tuple(np.repeat(g, 3, axis=1)[:, ::3] for g in gains), np.repeat(curvature, 2)[::2], slope[::-1][::-1],
    )  # fmt: skip
    check(cpu.normal_blocks(*odd, sizes=(6, 9)), data, (6, 9), HERE)


@pytest.mark.parametrize("module", [dispatch, generic, cpu])
@pytest.mark.parametrize("spoiled", ["rows", "wide", "axes", "weights", "flat", "none"])
def test_bad_shapes(module: object, spoiled: str) -> None:
    first, values, gains, curvature, slope = arrays(0, 7, [(5, 4, 2), (6, 3, 1)])
    sizes = (5, 6)
    if spoiled == "rows":
        gains = (gains[0][:-1], gains[1])
    elif spoiled == "wide":
        sizes = (3, 6)
    elif spoiled == "axes":
        sizes = (5,)
    elif spoiled == "weights":
        curvature = curvature[:-1]
    elif spoiled == "flat":
        values = (values[0][:, 0], values[1])
    else:
        first, values, gains, sizes = (), (), (), ()
    with pytest.raises(ValueError, match="pass one array an axis"):
        module.normal_blocks(first, values, gains, curvature, slope, sizes=sizes)
