"""How numba is used here: one decorator, one way to use several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["PARALLEL_FROM", "inlined", "njit", "run"]

# Below this many points starting threads costs more than they save (about 0.1 ms against 10 ms of work).
PARALLEL_FROM = 200_000


def njit(function: F) -> F:
    """Compile `function` lazily, cache the machine code, release the GIL.

    Lazily, since signatures given in advance are paid for at import. ``error_model="numpy"`` spares the test for
    division by zero in loops. Fastmath is off: NaN and infinity must arrive as what they are, and results must not
    depend on the version of LLVM. The cache needs a writable folder; where there is none numba raises at decoration,
    and the kernel is then compiled in each process.

    Numba looks at a file's own date only: after a change in ``simd.py``, ``cells.py`` or here the cached code of their
    callers is stale. Clear ``NUMBA_CACHE_DIR`` (or ``__pycache__``) then.
    """
    return _compile(function, nogil=True)


def inlined(function: F) -> F:
    """Compile a helper of other kernels like `njit`, and have LLVM put it into its callers: 70 ns a point less."""
    return _compile(function, forceinline=True)


def _compile(function: F, **options: Any) -> F:
    try:
        return cast(F, numba.njit(cache=True, error_model="numpy", **options)(function))
    except RuntimeError:
        return cast(F, numba.njit(error_model="numpy", **options)(function))


def run(kernel: Callable[[int, int], int], n: int) -> int:
    """Call ``kernel(start, stop)`` over slices of ``range(n)`` and return the smallest result that is not -1, else -1.

    Python threads over a serial kernel that releases the GIL, rather than ``prange``: one compilation instead of two
    (1.6 s against 0.9 s measured for a kernel of this kind), nothing that a ``fork()`` afterwards could trip over
    (OpenMP terminates the child), and no thread layer that two callers cannot share. Every point is computed by itself,
    so the bits do not depend on the number of threads. ``numba.set_num_threads(1)`` keeps everything on the
    calling thread.
    """
    threads = min(numba.get_num_threads(), n // (PARALLEL_FROM // 2)) if n >= PARALLEL_FROM else 1
    if threads == 1:
        return kernel(0, n)
    ends = [n * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(kernel, ends[:-1], ends[1:]))
    return min((r for r in results if r >= 0), default=-1)
