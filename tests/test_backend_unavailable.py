"""What is missing for CUDA is said in one sentence with its remedy, at every door where CuPy comes in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import missing_device

import sepnet as sn
from sepnet.backends import arrays, availability
from sepnet.backends.arrays import as_namespace
from sepnet.backends.availability import BackendUnavailable, require_cupy


class FakeCupy(ModuleType):
    """CuPy as it behaves without a driver, a device, or one of NVIDIA's libraries."""

    def __init__(
        self, driver: int = 13000, runtime: int = 13020, devices: int = 1, nvrtc: bool = True, cublas: bool = True
    ) -> None:
        super().__init__("cupy")
        self.made = 0
        self.is_available = lambda: devices > 0
        self.asarray = self.empty = self._make

        class Cuda(SimpleNamespace):
            def __getattr__(self, name: str) -> Any:  # CuPy loads cuBLAS as the attribute is asked for
                if name == "cublas" and not cublas:
                    raise ImportError('Failure finding "libcublas.so.13"\n  listdir(...)')
                return SimpleNamespace()

        def version() -> tuple[int, int]:
            if not nvrtc:
                raise RuntimeError('Failure finding "libnvrtc.so"\n  listdir(...)')
            return (13, 0)

        self.cuda = Cuda(
            runtime=SimpleNamespace(driverGetVersion=lambda: driver, runtimeGetVersion=lambda: runtime),
            nvrtc=SimpleNamespace(getVersion=version),
        )

    def _make(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("an array was asked for before the device was")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Any]]:
    require_cupy.cache_clear()

    def put(module: Any) -> Any:
        monkeypatch.setitem(sys.modules, "cupy", module)
        return module

    yield put
    require_cupy.cache_clear()


def message() -> str:
    with pytest.raises(BackendUnavailable) as caught:
        require_cupy()
    text = str(caught.value)
    assert "\n" not in text
    assert ". " not in text  # one sentence
    return text


CASES = [
    (None, "CuPy is not installed, ", "pip install 'sepnet[cuda13]' (or 'sepnet[cuda12]'"),
    ({"driver": 0, "devices": 0}, "there is no CUDA driver", "install NVIDIA's driver"),
    (
        {"driver": 12040, "devices": 0},
        "installed for CUDA 13 but the driver is for CUDA 12",
        "update the driver, or pip uninstall cupy-cuda13x and pip install 'sepnet[cuda12]'",
    ),
    ({"driver": 11080, "runtime": 12090, "devices": 0}, "the driver is for CUDA 11", "update the driver"),
    ({"devices": 0}, "no device is visible", "nvidia-smi"),
    ({"nvrtc": False}, "NVRTC, NVIDIA's run-time compiler, is not found", ": pip install nvidia-cuda-nvrtc"),
    ({"nvrtc": False, "runtime": 12090}, "NVRTC", ": pip install nvidia-cuda-nvrtc-cu12"),
    ({"cublas": False}, "cuBLAS, NVIDIA's matrix products, is not found", ": pip install nvidia-cublas"),
    ({"cublas": False, "runtime": 12090}, "cuBLAS", ": pip install nvidia-cublas-cu12"),
]


@pytest.mark.parametrize(("what", "missing", "remedy"), CASES)
def test_the_missing_part_and_its_remedy_are_named(
    install: Callable[[Any], Any], what: dict[str, Any] | None, missing: str, remedy: str
) -> None:
    install(None if what is None else FakeCupy(**what))
    text = message()
    assert missing in text
    assert text.endswith(remedy) or remedy in text.partition(missing)[2]


def test_a_cupy_that_does_not_import_is_named_with_the_reason(
    install: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(None)
    monkeypatch.delitem(sys.modules, "cupy")

    class Broken:
        def __init__(self, error: ImportError) -> None:
            self.error = error

        def find_spec(self, name: str, *args: Any) -> None:
            if name == "cupy":
                raise self.error

    for error in (
        ImportError("libcuda.so.1: not found\nDetails."),
        ModuleNotFoundError("No fastrlock", name="fastrlock"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
            text = message()
        assert f"cannot be imported ({str(error).splitlines()[0]}): uninstall it, then pip install" in text


def test_a_whole_cupy_is_returned_and_asked_once(install: Callable[[Any], Any]) -> None:
    fake = install(FakeCupy())
    assert require_cupy() is fake
    install(None)
    assert require_cupy() is fake


def test_a_failure_is_not_remembered(install: Callable[[Any], Any]) -> None:
    install(FakeCupy(nvrtc=False))
    message()
    fake = install(FakeCupy())
    assert require_cupy() is fake


def test_it_is_a_runtime_error_that_can_be_imported_without_cuda() -> None:
    assert issubclass(BackendUnavailable, RuntimeError)
    assert sn.BackendUnavailable is BackendUnavailable
    assert availability.__all__ == ["BackendUnavailable", "require_cupy"]


# --- the doors -------------------------------------------------------------------------------------------------------

V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=3, zero="both"), y=sn.BSpline((0, 1), cells=3, zero="both"))
U = sn.CP(V, [np.ones((n, 2)) for n in V.shape])
POISSON = sn.Galerkin(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y), source=1)


def saved(folder: Any) -> Any:
    path = folder / "u.h5"
    U.save(path)
    return path


MODULE_DOORS: dict[str, Callable[[Any, Any], object]] = {
    "as_namespace": lambda xp, folder: as_namespace(xp),
    "to": lambda xp, folder: U.to(xp=xp),
    "to a device": lambda xp, folder: U.to(xp=xp, device=0, dtype="float32"),
    "solve": lambda xp, folder: sn.solve(POISSON, rank=1, xp=xp),
    "load": lambda xp, folder: sn.load(saved(folder), xp=xp),
}


@pytest.mark.parametrize("door", MODULE_DOORS)
def test_doors_for_the_library(install: Callable[[Any], Any], door: str, tmp_path: Any) -> None:
    fake = install(FakeCupy(driver=0, devices=0))
    with pytest.raises(BackendUnavailable, match="there is no CUDA driver"):
        MODULE_DOORS[door](fake, tmp_path)


@pytest.mark.skipif(not missing_device(), reason="a CUDA device is here")
@pytest.mark.parametrize("door", MODULE_DOORS)
def test_doors_for_cupy_itself_without_a_device(door: str, tmp_path: Any) -> None:
    cupy = pytest.importorskip("cupy")
    with pytest.raises(BackendUnavailable) as caught:
        MODULE_DOORS[door](cupy, tmp_path)
    assert str(caught.value) == missing_device()


class FakeArray:
    """An array of CuPy, as far as its type is asked."""

    ndim, shape, dtype, __array_priority__ = 2, (4, 2), np.dtype("float64"), 100


ARRAY_DOORS: dict[str, Callable[[Any], object]] = {
    "call": lambda a: U(a),
    "gradient": lambda a: U.gradient(a),
    "values of a basis": lambda a: V.axes["x"].values(a),
    "factors": lambda a: sn.CP(V, [a, a]),
    "fit": lambda a: sn.fit(a, a, V, rank=1),
}


@pytest.mark.parametrize("door", ARRAY_DOORS)
def test_doors_for_arrays_whose_compiler_is_missing(
    install: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    fake, real = install(FakeCupy(nvrtc=False)), arrays.compat.array_namespace
    monkeypatch.setattr(
        arrays.compat, "array_namespace", lambda *a: fake if any(isinstance(x, FakeArray) for x in a) else real(*a)
    )
    with pytest.raises(BackendUnavailable, match="pip install nvidia-cuda-nvrtc"):
        ARRAY_DOORS[door](FakeArray())
    assert FakeArray not in arrays._NAMESPACES


def test_a_device_that_is_not_current_is_refused_by_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's array-API namespace takes a `device` and makes the array on the current one."""
    place = SimpleNamespace(id=0)
    xp = SimpleNamespace(empty=lambda shape, device=None: SimpleNamespace(device=place))
    for name, stands in (("is_cupy", lambda namespace: True), ("is_numpy", lambda namespace: False)):
        monkeypatch.setattr(arrays, name, stands)
    monkeypatch.setattr(arrays, "device_of", lambda array: array.device)
    assert arrays.as_device(None, xp) is arrays.as_device(0, xp) is place
    with pytest.raises(ValueError, match=r"current one is 0: work within `with cupy.cuda.Device\(1\):`"):
        arrays.as_device(1, xp)
    with pytest.raises(ValueError, match="does not offer here"):
        arrays.as_device("cuda", xp)
