"""The parts of `benchmarks/gpu.py` run on the host, NumPy and a plain clock in the place of a device and its events."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_support import needs_compiler, on_host
from support import missing_device

from sepnet.backends.contract import KERNELS

FOLDER = Path(__file__).parents[1] / "benchmarks"
# No measurement: numbers of the order of a device's, for the arithmetic of the report.
RATES = {"copy": 2e12, "float32": 4e13, "float64": 2e13}


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, "1")  # the script sets what is not set
        import gpu

        yield gpu
        for name in ("gpu", "gpu_cases"):
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def rows(gpu: ModuleType) -> list[dict[str, Any]]:
    """Every kernel, few points."""
    peers = {"numpy": (lambda a: a, gpu.host_seconds)}
    return gpu.kernel_rows(lambda a: a, gpu.host_seconds, RATES, peers, fraction=1e-6, repeat=1)  # type: ignore[no-any-return]


def test_every_kernel_is_measured_in_both_precisions(rows: list[dict[str, Any]]) -> None:
    # the band is NumPy's alone
    kernels = set(KERNELS) - {"fill_band"}
    for dtype in ("float64", "float32"):
        assert {r["kernel"] for r in rows if r["dtype"] == dtype} == kernels
    assert [r["error"] for r in rows if "error" in r] == []


def test_a_row_has_time_bounds_and_peers(rows: list[dict[str, Any]]) -> None:
    for r in rows:
        assert r["seconds"] > 0
        assert r["bytes"] > 0
        assert r["operations"] > 0
        assert r["memory_seconds"] == r["bytes"] / RATES["copy"]
        assert r["arithmetic_seconds"] == r["operations"] / RATES[r["dtype"]]
        larger = max(r["memory_seconds"], r["arithmetic_seconds"])
        assert larger == r[f"{r['binds']}_seconds"]
        assert r["share"] == pytest.approx(larger / r["seconds"])
        assert r["cpu_ns_per_item"] > 0
        assert r["plain_numpy_seconds"] > 0


def test_the_cpu_is_within_its_own_round_off(rows: list[dict[str, Any]]) -> None:
    for r in rows:
        if r["kernel"] != "cp_newton":
            assert 0 <= r["median_units"] <= r["largest_units"] <= r["allowed_units"], r
            assert r["allowed_units"] >= 8
    # in double precision NumPy is compared with itself, in single precision it is not
    assert max(r["largest_units"] for r in rows if r["dtype"] == "float32" and "largest_units" in r) > 0


def test_traffic_counts_every_input_and_output_once(gpu: ModuleType) -> None:
    """By hand: six axes of 60 cells, cubic, rank 16."""
    found = {(c.kernel, c.label): c for c in gpu.cases("float32", 1e-6)}
    value = found["cp_value", "rank 16"]
    assert value.items == 64
    assert value.traffic == 4 * (64 * 7 + 6 * 60 * 4 * 16)
    # a column and axis: three multiply-adds and a product; the sum over columns; six operations to find a place
    assert value.flops == 64 * (16 * (6 * 7 + 1) + 36)
    assert value.cached == 64 * 6 * 4 * 16
    assert value.units == 12
    assert found["cp_hessian", "rank 16"].traffic == 4 * (64 * (6 + 43) + 6 * 60 * 4 * 16)


def test_magnitudes_are_those_of_the_terms(gpu: ModuleType) -> None:
    case = next(c for c in gpu.cases("float64", 1e-6) if c.kernel == "cp_value")
    (points, breaks, tables), _ = gpu.magnitudes(case)
    value = gpu.dispatch.cp_value(points, breaks, tables)
    x, _, t = case.arguments
    cell = np.minimum((x * 60).astype(int), 59)
    # every power of the local coordinate counts as one
    rank_one = np.prod([np.sum(np.abs(t[i][cell[:, i], :, 0]), axis=1) for i in range(6)], axis=0)
    assert tables[0].shape[2] == 1
    # the end of a cell is met but for the round-off of x times 60
    assert np.allclose(value, rank_one, rtol=1e-12, atol=0)


def test_parity_sees_an_error(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in gpu.cases("float64", 1e-6) if c.kernel == "cp_gradient")
    assert gpu.parity(case, lambda a: a)["largest_units"] == 0
    right = gpu.dispatch.cp_gradient

    def wrong(*arguments: Any, **options: Any) -> Any:
        value, gradient = right(*arguments, **options)
        gradient[3, 2] *= 1 + 1e-9
        return value, gradient

    monkeypatch.setattr(gpu.dispatch, "cp_gradient", wrong)
    units = gpu.parity(case, lambda a: a)
    assert units["largest_units"] > units["allowed_units"]
    assert units["median_units"] == 0


@needs_compiler
def test_the_cuda_sources_are_within_their_round_off(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same parity with the sources on the host: tensors stand in for those on a device."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(gpu.dispatch, "_on_cuda", lambda device: True)
    monkeypatch.setattr(gpu.dispatch, "_has_cupy", lambda: True)
    gpu.dispatch._implementation.cache_clear()
    try:
        with on_host() as shim:
            for case in gpu.cases("float64", 1e-6):
                if (case.kernel, case.label) in (
                    ("cp_gradient", "rank 16"),
                    ("fill_blocks", "37 functions, rank 2, 30 terms"),
                ):
                    units = gpu.parity(case, torch.asarray)
                    assert 0 < units["largest_units"] <= units["allowed_units"]
                    assert units["median_units"] <= 2
            assert shim.launches == ["cp_gradient", "fill_blocks"]
    finally:
        gpu.dispatch._implementation.cache_clear()


def test_a_kernel_that_fails_keeps_its_row(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("out of | memory\nand more")

    monkeypatch.setattr(gpu.dispatch, "window_values", fails)
    found = gpu.kernel_rows(
        lambda a: a, gpu.host_seconds, RATES, {}, fraction=1e-6, only=["window_values", "local_values"], repeat=1
    )
    assert ["error" in r for r in found] == [False, True] * 2
    report = {"device": "none", "software": "", "cpu": "", "rates": RATES, "rows": found}
    report |= {"large": gpu.attempted(lambda: fails()), "solve": {"NumPy": gpu.attempted(lambda: fails())}}
    text = gpu.table(report)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "out of / memory" in text
    assert "out of | memory" in capsys.readouterr().err


def test_a_plain_expression_that_fails_leaves_the_rest(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(array: np.ndarray) -> None:
        raise MemoryError("too much")

    peers = {"one": (fails, gpu.host_seconds), "two": (lambda a: a, gpu.host_seconds)}
    found = gpu.kernel_rows(lambda a: a, gpu.host_seconds, RATES, peers, fraction=1e-6, only=["local_values"], repeat=1)
    for r in found:
        assert r["plain_one_error"] == "MemoryError: too much"
        assert r["plain_two_seconds"] > 0
        assert "error" not in r
    text = gpu.table({"device": "", "software": "", "cpu": "", "rates": RATES, "rows": found})
    assert "plain two" in text
    assert "plain one" not in text
    assert "too much" in capsys.readouterr().err


def test_many_points_in_chunks(gpu: ModuleType) -> None:
    whole = gpu.many_points(lambda a: a, gpu.host_seconds, 1000, 10**6)
    pieces = gpu.many_points(lambda a: a, gpu.host_seconds, 1000, 300)
    single = gpu.many_points(lambda a: a, gpu.host_seconds, 1000, 300, "float32")
    assert pieces["points"] == 1000
    assert pieces["mean"] == pytest.approx(whole["mean"], rel=1e-12)
    # the mean of random products is a hundredth of one of them
    assert single["mean"] == pytest.approx(whole["mean"], rel=1e-2)


def test_the_solution_and_the_report(gpu: ModuleType, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    cells = dict.fromkeys(("x", "y", "z"), 6) | {"t": 3, "omega": 1, "kappa": 1}
    one = gpu.solve_seconds(np, 2, cells=cells)
    assert one["seconds"] > 0
    assert one["rank"] <= 2
    assert 0 < one["residual"] < 1
    report = {
        "device": "a stand-in", "software": "NumPy", "cpu": "this", "rates": RATES, "rows": rows,
        "solve": {"NumPy": one}, "large": gpu.many_points(lambda a: a, gpu.host_seconds, 100, 64),
    }  # fmt: skip
    gpu.write(report, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "gpu.json").read_text())["rows"][0]["kernel"] == rows[0]["kernel"]
    text = (tmp_path / "new" / "gpu.md").read_text()
    assert text == gpu.table(report)
    assert len([line for line in text.splitlines() if line.startswith("|")]) == len(rows) + 2
    assert "100 points, 64 at a time" in text
    assert f"residual {one['residual']:.3e}" in text


def test_rates_and_event_times(gpu: ModuleType) -> None:
    """The clock's and CuPy's parts, from a stand-in whose events are a second apart."""
    moments, launched = iter(range(1000)), []

    class Event:
        def record(self) -> None:
            self.moment = next(moments)

        def synchronize(self) -> None:
            assert self.moment

    def kernel(grid: Any, block: Any, arguments: Any) -> None:
        launched.append((grid, block, int(arguments[1])))

    cupy = SimpleNamespace(
        cuda=SimpleNamespace(
            Event=Event,
            get_elapsed_time=lambda start, stop: 1000.0 * (stop.moment - start.moment),
            Device=lambda: SimpleNamespace(attributes={"MultiProcessorCount": 100}),
        ),
        RawModule=lambda code, options: SimpleNamespace(get_function=lambda name: kernel),
        empty=np.empty,
    )
    timer = gpu.event_timer(cupy)
    assert timer(lambda: None, 3) == 1.0
    assert gpu.copy_rate(np, timer, 1000) == 16000
    assert gpu.arithmetic_rate(cupy, timer, "float32", 1) == 16 * 4096 * 800 * 256
    assert launched == [((800,), (256,), 4096)] * 2


def test_the_multiply_adds_compile(gpu: ModuleType, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    source = tmp_path / "rate.cu"
    source.write_text(gpu.MULTIPLY_ADDS)
    command = [nvcc, "-arch=sm_80", "-ptx", "-DREAL=float", str(source), "-o", "-"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # fused, eight in a row
    assert text.count("fma.rn.f32") >= 8


@pytest.mark.skipif(not missing_device(), reason="a CUDA device is here")
def test_without_a_device_it_says_so_and_exits_with_1(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(["--out", str(tmp_path / "none")]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"no device to measure: {missing_device()}\n")
    assert not (tmp_path / "none").exists()
