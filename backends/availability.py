"""Tell what is missing for arrays on CUDA devices, and the command that mends it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, final

__all__ = ["BackendUnavailable", "require_cupy"]

_ALL_OF_IT = "pip install 'sepnet[cuda13]' (or 'sepnet[cuda12]', as the driver allows)"


@final
class BackendUnavailable(RuntimeError):  # noqa: N818 - the name a user reads, as in "backend unavailable"
    """An array library or device was asked for whose package, driver or compiler is not there.

    The message is one sentence that says what is missing and the command that mends it.

    Examples
    --------
    >>> from sepnet.backends.availability import BackendUnavailable, require_cupy
    >>> try:
    ...     cupy = require_cupy()
    ... except BackendUnavailable as error:
    ...     cupy = None  # str(error) tells the next step
    """


@functools.cache
def require_cupy() -> Any:
    """Return the module ``cupy``, with a device, a compiler and linear algebra behind it.

    CuPy's wheels contain none of NVIDIA's libraries, and each is loaded where it is first used: what is missing would
    show late, and as the name of a file. NVRTC and cuBLAS are asked for here, as no evaluation goes without them;
    cuSOLVER, which solving needs, comes with the same extra and takes a noticeable time to load.

    Raises
    ------
    BackendUnavailable
        If CuPy, a CUDA driver that fits it, a device, NVRTC or cuBLAS is missing.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise BackendUnavailable(_broken(error)) from error
        msg = f"CuPy is not installed, which arrays on CUDA devices need: {_ALL_OF_IT}"
        raise BackendUnavailable(msg) from error
    except ImportError as error:
        raise BackendUnavailable(_broken(error)) from error
    if not cupy.is_available():
        raise BackendUnavailable(_no_device(cupy))
    major = int(cupy.cuda.runtime.runtimeGetVersion()) // 1000
    # CuPy loads these on first use: by the function for NVRTC, by the attribute for cuBLAS
    libraries: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("NVRTC, NVIDIA's run-time compiler,", "nvidia-cuda-nvrtc", lambda: cupy.cuda.nvrtc.getVersion()),
        ("cuBLAS, NVIDIA's matrix products,", "nvidia-cublas", lambda: cupy.cuda.cublas),
    )
    for label, wheel, load in libraries:
        try:
            load()
        except (ImportError, RuntimeError) as error:
            name = f"{wheel}-cu{major}" if major < 13 else wheel
            msg = f"CuPy is installed but {label} is not found: pip install {name}"
            raise BackendUnavailable(msg) from error
    return cupy


def _broken(error: ImportError) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    return f"CuPy is installed but cannot be imported ({reason}): uninstall it, then {_ALL_OF_IT}"


def _no_device(cupy: Any) -> str:
    """Return why CuPy finds no device: no driver, one that is too old, or none that it may use."""
    driver, needed = (int(f()) for f in (cupy.cuda.runtime.driverGetVersion, cupy.cuda.runtime.runtimeGetVersion))
    if driver == 0:
        return "CuPy is installed but there is no CUDA driver: install NVIDIA's driver, until nvidia-smi lists a device"
    old, new = driver // 1000, needed // 1000
    if old < new:
        other = f", or pip uninstall cupy-cuda{new}x and pip install 'sepnet[cuda{old}]'" if old >= 12 else ""
        return f"CuPy is installed for CUDA {new} but the driver is for CUDA {old}: update the driver{other}"
    return (
        "CuPy and a CUDA driver are installed but no device is visible: see that nvidia-smi lists one and that "
        "CUDA_VISIBLE_DEVICES does not hide it"
    )
