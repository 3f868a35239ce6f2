"""Print what the CUDA kernels need a thread: registers, stack and what is laid aside in memory; no device is needed.

Run ``python benchmarks/gpu_registers.py`` (some half a minute) where NVRTC or nvcc is. The variants are the usual ones:
six axes of cubics, as many columns at once as a lane can read. Blocks of 256 threads: with 128 registers a thread an
A100 or H100 holds 16 warps a multiprocessor, with 64 it holds 32, of 64 at most.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cuda_compilers import ARCHITECTURES, FILES, INSTALL, compilers, usual


def main() -> None:
    found = compilers()
    if not found:
        sys.exit(INSTALL)
    print(f"{found[0].name}; registers, bytes of stack, bytes laid aside\n")
    print(f"{'kernel':24}" + "".join(f"{d + ' ' + a:>18}" for d in ("float", "double") for a in ARCHITECTURES))
    for file in FILES:
        columns = [found[0].kernels(program, a) for program in usual(file) for a in ARCHITECTURES]
        for row in zip(*(sorted(column, key=lambda k: k.name) for column in columns), strict=True):
            cells = (f"{k.registers:>8}{k.stack:>5}{k.spilled:>5}" for k in row)
            print(f"{row[0].name:24}" + "".join(cells))


if __name__ == "__main__":
    main()
