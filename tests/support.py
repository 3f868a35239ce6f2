"""The array libraries as the tests see them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from sepnet.backends.availability import BackendUnavailable, require_cupy

EXAMPLES = {"dev": 10, "ci": 25, "large": 400}


@dataclass(frozen=True)
class Backend:
    """An array library as the tests see it."""

    name: str
    xp: Any
    dtype: Any
    device: Any = None
    readonly: bool = False

    @property
    def eps(self) -> float:
        """Unit of round-off of the dtype."""
        return float(self.xp.finfo(self.dtype).eps)

    @property
    def library(self) -> str:
        """The library's name in `sepnet.backends.capabilities`."""
        if self.name.startswith("torch-float"):
            return "torch-cpu"
        return self.name.removesuffix("-readonly")

    @property
    def host_dtype(self) -> type:
        """The NumPy dtype of the same precision."""
        return np.float32 if "float32" in str(self.dtype) else np.float64

    def asarray(self, array: Any) -> Any:
        """Move a host array here, in the backend's dtype; the read-only variant gives unwriteable arrays."""
        host = np.array(array, dtype=self.host_dtype)
        if self.readonly:
            host.setflags(write=False)
            return host
        return self.xp.asarray(host, dtype=self.dtype, device=self.device)


def backends() -> Iterator[Any]:
    yield pytest.param(lambda: Backend("numpy", np, np.float64), id="numpy")
    yield pytest.param(lambda: Backend("numpy-readonly", np, np.float64, readonly=True), id="numpy-readonly")
    yield pytest.param(_strict, id="array-api-strict")
    yield pytest.param(lambda: _torch("float32"), id="torch-float32")
    yield pytest.param(lambda: _torch("float64"), id="torch-float64")
    yield pytest.param(_cupy, id="cupy")
    yield pytest.param(_torch_cuda, id="torch-cuda")


def _strict() -> Backend:
    xp = pytest.importorskip("array_api_strict")
    # a device that is not the default one shows what was made on the wrong device
    return Backend("array-api-strict", xp, xp.float64, device=xp.Device("device1"))


def _torch(dtype: str) -> Backend:
    torch = pytest.importorskip("torch")
    # its threads wait for each other: on two cores that others use too, a QR of a 6 x 4 matrix took 2 to 20 ms with two
    # threads and 10 microseconds with one
    torch.set_num_threads(1)
    return Backend(f"torch-{dtype}", torch, getattr(torch, dtype), device="cpu")


def _cupy() -> Backend:
    _skip_without_device()
    # CuPy's own asarray has no `device`
    xp = pytest.importorskip("array_api_compat.cupy")
    return Backend("cupy", xp, xp.float64)


def _torch_cuda() -> Backend:
    torch = pytest.importorskip("torch")
    _skip_without_device()
    if not torch.cuda.is_available():
        pytest.skip("this torch is not for CUDA")
    return Backend("torch-cuda", torch, torch.float64, device="cuda")


@functools.cache
def missing_device() -> str:
    """Why nothing can run on a CUDA device here; empty where it can."""
    try:
        require_cupy()
    except BackendUnavailable as error:
        return str(error)
    return ""


def _skip_without_device() -> None:
    if missing_device():
        pytest.skip(missing_device())


def dev_size(test: Any) -> Any:
    """Run a hypothesis test with the dev profile's number of examples at most: for namespaces other than NumPy."""
    return settings(max_examples=min(EXAMPLES["dev"], settings().max_examples))(test)
