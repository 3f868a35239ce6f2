"""The host shim is to be trusted: it computes what a device would, and shows what would go wrong there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_compilers import FILES
from cuda_examples import HOST, examples, splines
from cuda_support import COMPILER, MODES, ShimDriver, needs_compiler, on_host

from sepnet.backends import cuda, generic
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.source import Program, assemble, kernel_names

pytestmark = needs_compiler

HERE = Path(__file__).parent
# Kernels that do what the shim has to model, and some that leave out a barrier.
KERNELS = """
extern "C" __global__ void reverse(const double *x, double *y, int wait) {
    __shared__ double kept[64];
    DYN_SHARED(memory);
    double *more = reinterpret_cast<double *>(memory);
    const int i = threadIdx.x;
    kept[i] = more[i] = x[i];
    if (wait) __syncthreads();
    y[2 * i] = kept[63 - i];
    y[2 * i + 1] = more[63 - i];
}
extern "C" __global__ void neighbour(const double *x, double *y, int wait) {
    DYN_SHARED(memory);
    double *kept = reinterpret_cast<double *>(memory);
    const int i = threadIdx.x;
    kept[i] = x[i];
    if (wait) __syncwarp();
    y[i] = kept[i ^ 1];
}
extern "C" __global__ void unwritten(double *y) {
    __shared__ double kept[64];
    DYN_SHARED(memory);
    double *more = reinterpret_cast<double *>(memory);
    const int i = threadIdx.x;
    y[(blockIdx.x * 64 + i) * 2] = kept[i];
    y[(blockIdx.x * 64 + i) * 2 + 1] = more[i];
    kept[i] = more[i] = 1;
}
extern "C" __global__ void lanes(const double *x, double *y, Bad *least) {
    const int i = threadIdx.x;
    y[i] = __shfl_sync(FULL, x[i], 5);
    y[64 + i] = __shfl_xor_sync(FULL, x[i], 3);
    y[128 + i] = __shfl_down_sync(FULL, x[i], 2);
    y[192 + i] = group_sum(x[i], 8);
    y[256 + i] = __any_sync(FULL, i == 40);
    atomicAdd(y + 320, x[i]);
    atomicMin(least, Bad(100 - i));
}
extern "C" __global__ void arrival(long long *y, long long *count) { y[threadIdx.x] = atomicAdd(count, Index(1)); }
"""
# What a device does not allow: barriers that some threads do not reach, or reach elsewhere, and lanes that are missing.
DIVERGENT = [
    "if (i < 7) __syncthreads();",
    "if (i % 2) __syncthreads();\n __syncthreads();",
    "if (i < 32) { __syncthreads(); } else {\n __syncthreads(); }",
    "if (i % 2) __syncwarp(); else __syncthreads();",
    "if (i > 50) return; __syncthreads();",
    "if (i % 32 != 3) y[i] = __shfl_xor_sync(FULL, 1.0, 1);",
    "if (i % 32 < 16) y[i] = __shfl_sync(FULL, 1.0, 1);\n else y[i] = __shfl_sync(FULL, 2.0, 1);",
]
MEETINGS = "".join(
    f'extern "C" __global__ void meeting{k}(double *y) {{ const int i = threadIdx.x; {barriers}\n y[i] = i; }}\n'
    for k, barriers in enumerate(["__syncthreads(); if (i < 32) __syncwarp();", *DIVERGENT])
)


def launch(kernel: str, *arguments: Any, mode: str = "ascending", blocks: int = 1) -> None:
    """Launch one of the kernels above with 64 threads a block."""
    shim = ShimDriver(mode, edit=lambda common: common + KERNELS + MEETINGS, resident=blocks)
    program = Program("common.cuh", "float64")
    drivers.launch(shim, program, kernel, blocks * 64, *arguments, threads=64, shared=64 * 8)


X = np.random.default_rng(0).standard_normal(64)


@pytest.mark.parametrize("mode", MODES)
def test_shuffles_and_atomics(mode: str) -> None:
    y, least = np.zeros(321), np.full(1, 1000, dtype=np.int64)
    launch("lanes", X, y, least, mode=mode)
    i, rows = np.arange(64), X.reshape(2, 32)
    assert (y[:64] == X[i & ~31 | 5]).all()
    assert (y[64:128] == X[i ^ 3]).all()
    assert (y[128:192] == np.where(i % 32 < 30, X[np.minimum(i + 2, 63)], X)).all()
    assert np.allclose(y[192:256], np.repeat(X.reshape(8, 8).sum(axis=1), 8), rtol=0, atol=1e-14)
    assert (y[256:320] == np.repeat([0, 1], 32)).all()
    assert np.isclose(y[320], rows.sum(), rtol=0, atol=1e-13)
    assert least[0] == 37


def test_orders_are_what_they_say() -> None:
    seen = {}
    for mode in MODES:
        y, count = np.zeros(64, dtype=np.int64), np.zeros(1, dtype=np.int64)
        launch("arrival", y, count, mode=mode)
        assert sorted(y) == list(range(64))
        seen[mode] = y
    assert (seen["ascending"] == np.arange(64)).all()
    assert (seen["descending"] == np.arange(64)[::-1]).all()
    # neighbours are no neighbours any more
    assert (abs(np.diff(seen["shuffled"])) > 1).mean() > 0.8


def test_a_missing_barrier_shows() -> None:
    for mode in MODES:
        y = np.zeros((64, 2))
        launch("reverse", X, y, np.int32(True), mode=mode)
        assert (y == X[::-1, None]).all()
        launch("reverse", X, y, np.int32(False), mode=mode)
        assert np.isnan(y).any(axis=0).all()  # what is read too early is not there, in memory of either kind


def test_a_missing_barrier_of_a_warp_shows() -> None:
    for mode in MODES:
        y = np.zeros(64)
        launch("neighbour", X, y, np.int32(True), mode=mode)
        assert (y == X[np.arange(64) ^ 1]).all()
        launch("neighbour", X, y, np.int32(False), mode=mode)
        assert np.isnan(y).any()


def test_unwritten_shared_memory_is_not_a_number_in_every_block() -> None:
    for _ in range(2):
        y = np.zeros((3, 64, 2))
        launch("unwritten", y, blocks=3)
        assert np.isnan(y).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_barrier_that_not_all_reach_is_reported(mode: str) -> None:
    y = np.zeros(64)
    launch("meeting0", y, mode=mode)
    assert (y == np.arange(64)).all()
    for k in range(1, len(DIVERGENT) + 1):
        with pytest.raises(RuntimeError, match=f"meeting{k}: a barrier that not all threads reach"):
            launch(f"meeting{k}", y, mode=mode)
        launch("meeting0", y, mode=mode)  # the next one runs


def test_what_no_device_launches_is_refused() -> None:
    shim, program = ShimDriver(edit=lambda common: common + KERNELS + MEETINGS), Program("common.cuh", "float64")
    with pytest.raises(RuntimeError, match="no kernel absent"):
        shim.launch(program, "absent", 1, 64, 0, [])
    with pytest.raises(RuntimeError, match="too many threads"):
        shim.launch(program, "unwritten", 1, 1056, 0, [np.zeros(1, dtype=np.uint64)])


def sabotage(old: str, new: str = "", *, of: int = 1) -> Any:
    """An edit that replaces the first `of` places of `old`, which must be there."""

    def edit(text: str) -> str:
        assert text.count(old) >= of, f"{old!r} is not in the source any more: choose another place"
        return text.replace(old, new, of)

    return edit


def differs(call: Any, edit: Any, mode: str) -> bool:
    """Whether a call of the sabotaged sources fails, or gives other numbers than the generic implementation."""
    wanted = call(generic)
    try:
        with on_host(ShimDriver(mode, edit=edit)):
            got = call(cuda)
    except (ValueError, RuntimeError):
        return True
    pairs = zip(got, wanted, strict=True) if isinstance(got, tuple) else [(got, wanted)]
    return not all(np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in pairs)


def test_sabotaged_barriers_of_the_kernels_are_noticed() -> None:
    """All other tests of the CUDA backend run in these orders and compare with the same implementation."""
    spans = sabotage("spans[i] = span_of(axes.axis[i]);\n    __syncthreads();", "spans[i] = span_of(axes.axis[i]);")
    sums = sabotage("    __syncthreads();\n", of=assemble("cp_vjp.cu").count("    __syncthreads();\n"))
    warp = sabotage("    __syncwarp();\n", of=assemble("train.cu").count("    __syncwarp();\n"))
    calls = examples(np.float64)
    for call, edit in (
        (calls["cp_value"][0], spans),
        (lambda k: k.cp_vjp(*splines(np.float64, (4,), (4,)), np.ones(37), deterministic=True)[1], sums),
        (calls["train_value"][0], warp),
    ):
        assert not differs(call, None, "descending")
        assert differs(call, edit, "descending")
        assert differs(call, edit, "shuffled")


def test_a_missing_check_of_the_points_is_noticed() -> None:
    x, breaks, tables = splines(np.float64, (4,), (4,))
    x[3, 1] = breaks[1][-1] + 1
    with on_host(), pytest.raises(ValueError, match="axis 1"):
        cuda.cp_value(x, breaks, tables)
    silent = sabotage("atomicMin(bad, Bad(k * AXES + mine));")
    with on_host(ShimDriver(edit=silent)):
        assert np.isfinite(cuda.cp_value(x, breaks, tables)).all()


def test_there_is_an_example_of_every_function() -> None:
    assert set(examples(np.float64)) == set(cuda.__all__) - HOST


def sanitized(*arguments: str, program: str = "cuda_examples.py") -> subprocess.CompletedProcess[str]:
    """Run a program of this folder with the library of the address sanitizer loaded first."""
    found = subprocess.run([str(COMPILER), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = Path(found.stdout.strip())
    if not library.is_absolute():
        pytest.skip("the compiler has no address sanitizer: install GCC's libasan")
    paths = [str(HERE), *filter(None, sys.path)]
    # a leak at the end of the process would be Python's; the sanitizer needs no other place for its report than stderr
    changed = {"LD_PRELOAD": str(library), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *((str(HERE / program),) if program.endswith(".py") else ("-c", program)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | changed, timeout=550)


def check_clean(*arguments: str) -> None:
    result = sanitized(*arguments)
    assert result.returncode == 0, result.stderr[-6000:]
    assert result.stdout.split() == sorted(name for file in FILES for name in kernel_names(assemble(file)))


def test_all_kernels_are_clean_under_the_sanitizers() -> None:
    check_clean("float64", "4", "ascending", "descending")


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["3", "4"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_kernels_are_clean_in_either_precision_and_any_order(dtype: str, rank: str) -> None:
    check_clean(dtype, rank, *MODES)


# What a sanitizer says of a function whose source is edited, and the edit.
WRONG = {
    "heap-buffer-overflow": ("cp_value", "if (active && lane == 0) value[k] = sum;", "value[k + active * n] = sum;"),
    "misaligned address": (
        "fill_dense_from_bands",
        "REAL sum = REAL(0);",
        "REAL sum = *reinterpret_cast<const REAL *>(reinterpret_cast<const char *>(w) + 1);",
    ),
    "out of bounds for type": ("fill_dense", "sums[t] = REAL(0);", "sums[t + (rank > 4)] = REAL(0);"),
    "outside the range": (
        "local_values",
        "if (!(x >= span.low",
        "if (int(x * REAL(1e12)) == 7) return 0; if (!(x >= span.low",
    ),
}
RUN = """
import sys, numpy as np
from cuda_examples import SANITIZERS, examples
from cuda_support import ShimDriver, on_host
from sepnet.backends import cuda
name, old, new = sys.argv[1:]
def edit(text):
    assert old in text, "choose another place"
    return text.replace(old, '\\n#line 7 "here.txt"\\n' + new + '\\n#line 1000 "elsewhere.txt"\\n', 1)
with on_host(ShimDriver(edit=edit, extra=SANITIZERS)):
    examples(np.float64)[name][0](cuda)
"""


@pytest.mark.parametrize(
    "report", [name if k == 0 else pytest.param(name, marks=pytest.mark.slow) for k, name in enumerate(WRONG)]
)
def test_a_wrong_address_is_caught_at_its_line(report: str) -> None:
    result = sanitized(*WRONG[report], program=RUN)
    assert result.returncode != 0
    assert report in result.stderr
    assert "here.txt:7" in result.stderr
