"""What runs the kernels: a driver loads programs and launches kernels on the device where the arrays are.

The host code beside this file speaks to a `Driver` alone, never to CuPy: tests give it one that runs the same sources
on the CPU. Arrays are passed by their address, so a torch tensor takes the same way as a CuPy array and nothing is
copied.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar, final

import numpy as np

from sepnet.backends.arrays import Array, is_cupy, is_torch, namespace
from sepnet.backends.availability import require_cupy
from sepnet.backends.cuda.source import Program

__all__ = ["CupyDriver", "Driver", "driver_of", "launch", "on_its_device"]

P = ParamSpec("P")
R = TypeVar("R")

# A warp; threads of a block are a multiple of it.
WARP = 32
# Bytes of dynamic shared memory that a block gets unasked: 48 KiB on every device, less what a kernel has by itself.
UNASKED = 32 * 1024


class Driver(Protocol):
    """Loads programs and launches their kernels on one device."""

    def address(self, array: Array) -> int:
        """Return where a contiguous array is in the memory of the device."""
        ...

    def resident(self, program: Program, kernel: str, threads: int, shared: int) -> int:
        """Return how many blocks of `threads` threads and `shared` bytes the whole device holds at a time."""
        ...

    def shared_limit(self) -> int:
        """Return how many bytes of dynamic shared memory a block may have."""
        ...

    def launch(
        self, program: Program, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[np.ndarray]
    ) -> None:
        """Launch on the current stream of the arrays' library; arguments are passed by value, each of size one."""
        ...


def launch(
    driver: Driver,
    program: Program,
    kernel: str,
    items: int,
    *arguments: Any,
    threads: int = 256,
    shared: int = 0,
) -> None:
    """Launch a grid-stride kernel over `items` threads' worth of work.

    The grid is what the device holds at a time, so that set-up in a block is paid once, or less for little work.

    Parameters
    ----------
    driver : Driver
    program : Program
    kernel : str
    items : int
        Threads that would give every work item its own; nothing is launched for 0.
    *arguments : array, int or NumPy number or record
        Arrays on the device are passed by address; Python's int as 64-bit; NumPy's as they are.
    threads, shared : int
        Threads and bytes of dynamic shared memory of a block.
    """
    if items == 0:
        return
    most = driver.resident(program, kernel, threads, shared)
    blocks = max(1, min(-(-items // threads), most))
    values = [_by_value(driver, a) for a in arguments]
    driver.launch(program, kernel, blocks, threads, shared, values)


def _by_value(driver: Driver, argument: Any) -> np.ndarray:
    if isinstance(argument, int):
        return np.asarray(argument, dtype=np.int64)
    if isinstance(argument, np.generic) or (isinstance(argument, np.ndarray) and argument.dtype.fields is not None):
        return np.asarray(argument)
    return np.asarray(driver.address(argument), dtype=np.uint64)


def on_its_device(function: Callable[P, R], /) -> Callable[P, R]:
    """Let `function` run with the device of its first array as CuPy's current one, if the array is CuPy's.

    CuPy makes new arrays and copies on the current device: its array-API namespace takes a `device` and ignores it. A
    kernel that runs elsewhere would be given addresses of another device. torch's functions go by their arguments.
    """

    @functools.wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        first: Any = args[0]
        if isinstance(first, tuple):
            first = first[0] if first else None
        if first is None or not is_cupy(namespace(first)):
            return function(*args, **options)
        with first.device:
            return function(*args, **options)

    return run


def driver_of(array: Array, /) -> Driver:
    """Return the driver of the device where `array` is.

    Raises
    ------
    BackendUnavailable
        If CuPy, the CUDA driver or NVRTC is missing.
    """
    if is_torch(namespace(array)):
        return _cupy_driver(int(array.device.index), True)
    return _cupy_driver(int(array.device.id), False)


@functools.cache
def _cupy_driver(device: int, torch: bool) -> CupyDriver:
    return CupyDriver(device, torch=torch)


@final
@dataclass(frozen=True)
class _Stream:
    """What CuPy asks of a stream that it did not make: its address (`ExternalStream` warns from CuPy 14 on)."""

    ptr: int


@final
class CupyDriver:
    """Compiles with NVRTC through CuPy, and launches on the current stream of CuPy or torch.

    A program is compiled once for a device and process; CuPy keeps the result on disk for the next process. Nothing
    is allocated here, and nothing waits.

    Parameters
    ----------
    device : int
        Number of the CUDA device; it is the current one during a launch, and the caller's again after it.
    torch : bool
        Whether the arrays, and so the stream, are torch's.

    Raises
    ------
    BackendUnavailable
        If CuPy, the CUDA driver, a device or NVRTC is missing.
    """

    def __init__(self, device: int, *, torch: bool = False) -> None:
        self._cupy = require_cupy()
        self._device = device
        self._torch = torch
        self._modules: dict[Program, Any] = {}
        self._functions: dict[tuple[Program, str], Any] = {}
        self._granted: dict[tuple[Program, str], int] = {}
        self._granting = threading.Lock()
        self._resident: dict[tuple[Program, str, int, int], int] = {}

    def address(self, array: Array) -> int:
        """See `Driver.address`."""
        return int(array.data_ptr()) if self._torch else int(array.data.ptr)

    def resident(self, program: Program, kernel: str, threads: int, shared: int) -> int:
        """See `Driver.resident`."""
        key = (program, kernel, threads, shared)
        if key not in self._resident:
            with self._cupy.cuda.Device(self._device) as here:
                function = self._function(program, kernel, shared)
                each = self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
                    function.kernel.ptr, threads, shared
                )
                self._resident[key] = max(int(each), 1) * int(here.attributes["MultiProcessorCount"])
        return self._resident[key]

    def shared_limit(self) -> int:
        """See `Driver.shared_limit`."""
        return int(self._cupy.cuda.Device(self._device).attributes["MaxSharedMemoryPerBlockOptin"])

    def launch(
        self, program: Program, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[np.ndarray]
    ) -> None:
        """See `Driver.launch`."""
        with self._cupy.cuda.Device(self._device):
            self._function(program, kernel, shared)(
                (blocks,), (threads,), tuple(arguments), shared_mem=shared, stream=self._stream()
            )

    def _function(self, program: Program, kernel: str, shared: int) -> Any:
        """Return the kernel, for `shared` bytes of dynamic memory; its device must be the current one."""
        key = (program, kernel)
        if key not in self._functions:
            if program not in self._modules:
                self._modules[program] = self._cupy.RawModule(code=program.text, options=program.options)
            self._functions[key] = self._modules[program].get_function(kernel)
        function = self._functions[key]
        if shared > UNASKED:
            # what one thread was granted and is about to use, another must not lower
            with self._granting:
                if shared > self._granted.get(key, 0):
                    function.max_dynamic_shared_size_bytes = self._granted[key] = shared
        return function

    def _stream(self) -> _Stream | None:
        """Return torch's current stream; None stands for CuPy's."""
        if not self._torch:
            return None
        import torch

        return _Stream(int(torch.cuda.current_stream(self._device).cuda_stream))
