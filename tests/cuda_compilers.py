"""The compilers for CUDA devices that work without a device: NVRTC from its wheel, in this process, and nvcc.

What one said of a source is kept on disk by the hash of all it depends on, beside the libraries of the host shim.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, final

from cuda_support import cache_folder

from sepnet.backends import cuda
from sepnet.backends.cuda.layout import MAX_AXES
from sepnet.backends.cuda.source import Program, assemble

ARCHITECTURES = ("sm_80", "sm_90")
DTYPES = ("float32", "float64")
# Six axes of cubics are usual; one axis and the most there may be are the ends. 0 stands for mixed or high degrees.
AXES, POWERS = (1, 6, MAX_AXES), (0, 4)
INSTALL = "no compiler for CUDA: pip install nvidia-cuda-nvrtc, or put nvcc on PATH"
FILES = tuple(sorted(path.name for path in Path(str(cuda.__file__)).parent.glob("*.cu")))


@final
@dataclass(frozen=True)
class Kernel:
    """What the assembler needs for a kernel, a thread."""

    name: str
    registers: int
    stack: int
    spilled: int


@final
@dataclass(frozen=True)
class Compiler:
    """Compiles a text to machine code of a device; returns whether it did, and its log."""

    name: str
    run: Callable[[str, tuple[str, ...]], tuple[bool, str]]

    def log(self, program: Program, architecture: str) -> str:
        """What the compiler says of a program; AssertionError with the log if it refuses it."""
        options = (*program.options, f"-arch={architecture}", "-Xptxas", "-v")
        key = hashlib.sha256("\0".join((self.name, program.text, *options)).encode()).hexdigest()[:24]
        kept = cache_folder() / f"{program.file}-{key}.log"
        if kept.exists():
            return kept.read_text()
        done, log = self.run(program.text, options)
        assert done, f"{self.name} refuses {program} for {architecture}:\n{log[:4000]}"
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_text(log)
        partial.replace(kept)
        return log

    def kernels(self, program: Program, architecture: str) -> list[Kernel]:
        """Registers, stack and spills of each kernel."""
        parts = re.split(r"Compiling entry function '(\w+)'", self.log(program, architecture))[1:]
        return [_kernel(name, part) for name, part in zip(parts[::2], parts[1::2], strict=True)]


def _kernel(name: str, log: str) -> Kernel:
    stack, stores = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", log).groups()  # type: ignore[union-attr]
    registers = re.search(r"Used (\d+) registers", log).group(1)  # type: ignore[union-attr]
    return Kernel(name, int(registers), int(stack), int(stores))


def compilers() -> list[Compiler]:
    """Those that are here; the first is the one that compiles on a user's machine."""
    return [c for c in (_nvrtc(), _nvcc()) if c is not None]


def variants(file: str, axes: Iterable[int] = AXES, powers: Iterable[int] = POWERS) -> Iterator[Program]:
    """The programs that are made of a source; macros that it does not use are left out."""
    own = assemble(file)
    spline = assemble("places.cuh") in own
    vector = spline and re.search(r"\b(VECTOR|Pack)\b", own.replace(assemble("places.cuh"), "")) is not None
    for dtype in DTYPES:
        widest = 128 // int(dtype.removeprefix("float"))  # numbers in 16 bytes
        for a, p, v in product(*((axes, powers) if spline else ((1,), (0,))), (1, widest) if vector else (1,)):
            shape = (("AXES", a), ("POWERS", p)) if spline else ()
            yield Program(file, dtype, (*shape, ("VECTOR", v)) if v > 1 else shape)


def usual(file: str) -> Iterator[Program]:
    """Six axes of cubics in both precisions, as wide as a lane can read."""
    found = {program.dtype: program for program in variants(file, (6,), (4,))}
    yield from found.values()


def _nvrtc() -> Compiler | None:
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    found = sorted(path for folder in folders for path in folder.glob("*/lib/libnvrtc.so.*"))
    if not found:
        return None
    library = ctypes.CDLL(str(found[-1]))
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))

    def run(text: str, options: tuple[str, ...]) -> tuple[bool, str]:
        handle = ctypes.c_void_p()
        library.nvrtcCreateProgram(ctypes.byref(handle), text.encode(), b"kernels.cu", 0, None, None)
        words = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        code = library.nvrtcCompileProgram(handle, len(options), words)
        size = ctypes.c_size_t()
        library.nvrtcGetProgramLogSize(handle, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(handle, log)
        library.nvrtcDestroyProgram(ctypes.byref(handle))
        return code == 0, log.value.decode()

    return Compiler(f"NVRTC {major.value}.{minor.value}", run)


def _nvcc() -> Compiler | None:
    path = shutil.which("nvcc")
    if path is None:
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    release: Any = re.search(r"release (\S+),", version)

    def run(text: str, options: tuple[str, ...]) -> tuple[bool, str]:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "kernels.cu"
            source.write_text(text)
            command = [path, *options, "-cubin", str(source), "-o", str(source.with_suffix(".cubin"))]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.returncode == 0, result.stdout + result.stderr

    return Compiler(f"nvcc {release.group(1)}", run)
