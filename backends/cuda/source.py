"""The CUDA C++ sources as one text each, and the options they are compiled with."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources
from typing import final

__all__ = ["Program", "assemble", "kernel_names"]

_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)
_KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(')


@final
@dataclass(frozen=True)
class Program:
    """A source file with all that its compilation depends on."""

    file: str
    """Name in this package, such as "cp.cu"."""
    dtype: str
    """"float32" or "float64"."""
    defines: tuple[tuple[str, int], ...] = ()
    """Names and values of further macros."""

    @property
    def options(self) -> tuple[str, ...]:
        """Options for NVRTC, nvcc and g++ alike."""
        real = {"float32": "float", "float64": "double"}[self.dtype]
        return ("-std=c++17", f"-DREAL={real}", *(f"-D{name}={value}" for name, value in self.defines))

    @property
    def text(self) -> str:
        """The source with what it includes."""
        return assemble(self.file)


@functools.cache
def assemble(file: str, /) -> str:
    """Return the text of a source file of this package with the files it includes put in, each once.

    CuPy's cache on disk goes by text and options: with headers left as ``#include`` it would not see their changes.
    """
    seen: set[str] = set()

    def text(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        whole = resources.files("sepnet.backends.cuda").joinpath(name).read_text(encoding="utf-8")
        return _INCLUDE.sub(lambda found: text(found.group(1)), whole.replace("#pragma once\n", ""))

    return text(file)


def kernel_names(text: str, /) -> list[str]:
    """Return the names of the kernels in an assembled source."""
    return _KERNEL.findall(text)
