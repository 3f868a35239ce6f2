"""Hold BLAS to one thread where the matrices are small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import scipy.linalg  # noqa: F401 - SciPy brings a BLAS of its own, which must be loaded to be found
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run BLAS on one thread within the block, or within the function decorated with ``@one_blas_thread()``.

    The matrices of this library are small, and NumPy's and SciPy's BLAS bring a thread pool each. The pools spin
    against each other and against everything else: with two threads on two shared cores a solve took 7 to
    45 times as long as with one.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield
