"""The CUDA sources run on the CPU: each variant compiled with g++ against ``cuda_shim/shim.h``, behind a `Driver`.

The compiled libraries are kept in a folder by the hash of all they depend on: the folder of ``SEPNET_SHIM_DIR``, or one
in the user's cache.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sepnet.backends.arrays import is_torch, namespace
from sepnet.backends.cuda import driver
from sepnet.backends.cuda.source import Program, kernel_names

SHIM = Path(__file__).parent / "cuda_shim" / "shim.h"
COMPILER = shutil.which("g++") or shutil.which("clang++")
# Contraction off: what round-off remains is that of the kernels' own order of operations.
OPTIONS = ("-O1", "-shared", "-fPIC", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w")
MODES = {"ascending": 0, "descending": 1, "shuffled": 2}

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler for the host shim")


def cache_folder() -> Path:
    base = os.environ.get("SEPNET_SHIM_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(base) / "shim" if base else Path.home() / ".cache" / "sepnet-shim"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def host_text(text: str) -> str:
    """Return the C++ file that makes a library of an assembled source."""
    cases = "\n".join(
        f'    if (!strcmp(name, "{k}")) return shim::call({k}, blocks, threads, bytes, arguments);'
        for k in kernel_names(text)
    )
    return f"""{SHIM.read_text()}
{text}
extern "C" int shim_launch(const char *name, unsigned blocks, unsigned threads, size_t bytes, void **arguments) {{
{cases}
    return 3;
}}
extern "C" void shim_mode(int mode) {{ shim::mode = mode; }}
"""


def build(text: str, program: Program, extra: tuple[str, ...] = ()) -> Path:
    """Compile an assembled source to a shared library, once."""
    source, options = host_text(text), (*OPTIONS, *extra, *program.options)
    key = hashlib.sha256("\0".join((source, *options)).encode()).hexdigest()[:24]
    library = cache_folder() / f"{program.file.removesuffix('.cu')}-{key}.so"
    if not library.exists():
        partial = library.with_name(f"{library.stem}-{os.getpid()}")
        cpp = partial.with_suffix(".cpp")
        cpp.write_text(source)
        result = subprocess.run(
            [str(COMPILER), *options, str(cpp), "-o", str(partial)], capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"the shim of {program} does not compile:\n{result.stderr[:4000]}")
        os.replace(partial, library)
        if not extra:  # a sanitizer's report leads to the source
            cpp.unlink()
    return library


class ShimDriver:
    """A `sepnet.backends.cuda.driver.Driver` for arrays on the host.

    `edit` changes the source before it is compiled (sabotage); `extra` are options for the compiler.
    """

    def __init__(
        self, mode: str = "ascending", edit: Any = None, extra: tuple[str, ...] = (), resident: int = 3
    ) -> None:
        self.mode, self.edit, self.extra, self._resident = MODES[mode], edit, extra, resident
        self.launches: list[str] = []
        self._libraries: dict[Program, Any] = {}

    def address(self, array: Any) -> int:
        return int(array.data_ptr()) if is_torch(namespace(array)) else int(array.ctypes.data)

    def resident(self, program: Program, kernel: str, threads: int, shared: int) -> int:
        # few blocks, so that the loops over the grid go round more than once
        return self._resident

    def shared_limit(self) -> int:
        return 227 * 1024

    def launch(
        self, program: Program, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[np.ndarray]
    ) -> None:
        self.launches.append(kernel)
        if program not in self._libraries:
            text = program.text if self.edit is None else self.edit(program.text)
            self._libraries[program] = ctypes.CDLL(str(build(text, program, self.extra)))
        library = self._libraries[program]
        pointers = (ctypes.c_void_p * len(arguments))(*(a.ctypes.data for a in arguments))
        library.shim_mode(self.mode)
        code = library.shim_launch(kernel.encode(), blocks, threads, ctypes.c_size_t(shared), pointers)
        if code:
            reasons = {1: "too many threads", 2: "a barrier that not all threads reach", 3: f"no kernel {kernel}"}
            raise RuntimeError(f"{kernel}: {reasons.get(code, code)}")


@contextlib.contextmanager
def on_host(shim: ShimDriver | None = None) -> Iterator[ShimDriver]:
    """Let the functions of `sepnet.backends.cuda` run on the host within the block."""
    shim = shim or ShimDriver()
    before = driver.driver_of
    driver.driver_of = lambda array: shim  # type: ignore[assignment]
    try:
        yield shim
    finally:
        driver.driver_of = before
