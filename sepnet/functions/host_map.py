"""Linear maps that are applied on the host and never written as dense matrices: those of mesh axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np

from sepnet.backends.arrays import Array, device_of, from_host, is_numpy, namespace

__all__ = ["HostMap", "along", "moved"]


@final
class HostMap:
    """A linear map of coefficients (n, k), used like a matrix: ``map @ columns``.

    Parameters
    ----------
    function : callable
        Takes and returns float64 columns.
    """

    __array_ufunc__ = None

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.function = function

    def __matmul__(self, columns: Array) -> Array:
        """Apply to columns of any dtype of NumPy.

        Raises
        ------
        TypeError
            If they are no NumPy arrays.
        """
        if not is_numpy(namespace(columns)):
            msg = (
                "a function with a mesh axis lives on the host in NumPy only, since its norms and inner products take "
                "sparse matrices: bring it there with u.to(np), or restrict the mesh axis first"
            )
            raise TypeError(msg)
        return np.asarray(self.function(np.asarray(columns, dtype=np.float64)), dtype=columns.dtype)


def moved(matrix: Any, like: Array) -> Any:
    """Move a host matrix to where an array lives; a `HostMap` stays what it is."""
    if isinstance(matrix, HostMap):
        return matrix
    return from_host(matrix, namespace(like), device=device_of(like), dtype=like.dtype)


def along(matrix: Any, core: Array) -> Array:
    """Apply a map, moved already, along the middle of an array (a, n, c)."""
    xp = namespace(core)
    a, n, c = (int(k) for k in core.shape)
    flat = matrix @ xp.reshape(xp.permute_dims(core, (1, 0, 2)), (n, a * c))
    return xp.permute_dims(xp.reshape(flat, (int(flat.shape[0]), a, c)), (1, 0, 2))
