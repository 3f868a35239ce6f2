"""Matrices, vectors and places that users give for an axis: checked, copied, read-only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse

from sepnet.bases.basis import frozen

__all__ = [
    "EPS",
    "SYMMETRIC",
    "Matrix",
    "given_matrix",
    "given_places",
    "given_vector",
    "is_symmetric",
    "named_arrays",
    "round_off",
]

Matrix: TypeAlias = "scipy.sparse.csr_array | np.ndarray"

# A matrix counts as symmetric up to this multiple of round-off times its largest entry: assembly adds up a few terms an
# entry, in the precision in which it was given.
SYMMETRIC = 5e3
EPS = float(np.finfo(np.float64).eps)


def is_symmetric(matrix: Matrix, eps: float = EPS) -> bool:
    """Tell whether a matrix is symmetric, up to the round-off of assembly."""
    largest = float(abs(matrix).max()) if min(matrix.shape) else 0.0
    return float(abs(matrix - matrix.T).max()) <= SYMMETRIC * eps * largest


def round_off(given: Any) -> float:
    """Return the round-off of the dtype in which a matrix was given."""
    return float(np.finfo(given.dtype).eps) if given.dtype.kind == "f" else EPS


def named_arrays(what: str, given: object) -> list[tuple[str, object]]:
    """Return the items of a mapping of names, or raise TypeError with the name of the argument."""
    if not isinstance(given, Mapping):
        msg = f"`{what}` is {type(given).__name__}, expected a mapping of names to arrays, e.g. {{'stiffness': K}}"
        raise TypeError(msg)
    wrong = [name for name in given if not isinstance(name, str)]
    if wrong:
        msg = f"`{what}` has the key {wrong[0]!r}, expected a name: a str that forms can call it by"
        raise TypeError(msg)
    return list(given.items())


def given_matrix(what: str, given: Any, size: int, *, dense: bool) -> Matrix:
    """Return a matrix (n, n) in float64, sparse in rows or dense; raise TypeError or ValueError if it is none."""
    if type(given).__module__.partition(".")[0] in ("cupy", "cupyx"):
        msg = (
            f"`{what}` is a matrix of CuPy, expected one of SciPy: meshes live on the host, bring it there with .get()"
        )
        raise TypeError(msg)
    sparse = scipy.sparse.issparse(given)
    if not sparse and not isinstance(given, np.ndarray):
        msg = f"`{what}` is {type(given).__name__}, expected a SciPy sparse matrix or a NumPy array of shape (n, n)"
        raise TypeError(msg)
    if given.shape != (size, size):
        msg = f"`{what}` has shape {given.shape}, expected ({size}, {size}): condense Dirichlet dofs out of all alike"
        raise ValueError(msg)
    if given.dtype.kind not in "fiu":
        msg = f"`{what}` has dtype {given.dtype}, expected real numbers"
        raise TypeError(msg)
    if dense:
        held = np.array(given.toarray() if sparse else given, dtype=np.float64)
        entries = held
    else:
        held = scipy.sparse.csr_array(given, dtype=np.float64, copy=True)
        held.sum_duplicates()
        entries = held.data
    if not np.isfinite(entries).all():
        msg = f"`{what}` has entries that are not finite: check its assembly"
        raise ValueError(msg)
    entries.setflags(write=False)
    return held


def given_vector(what: str, given: Any, size: int) -> np.ndarray:
    """Return a vector (n,) in float64, or raise ValueError."""
    values = np.asarray(given)
    if values.shape != (size,) or values.dtype.kind not in "fiu":
        msg = f"`{what}` is an array of shape {values.shape} and dtype {values.dtype}, expected ({size},) real numbers"
        raise ValueError(msg)
    values = np.array(values, dtype=np.float64)
    if not np.isfinite(values).all():
        msg = f"`{what}` has entries that are not finite: check its assembly"
        raise ValueError(msg)
    return frozen(values)


def given_places(given: Any, size: int) -> np.ndarray:
    """Return places (n, k) in float64, or raise TypeError or ValueError."""
    if isinstance(given, str) or np.asarray(given).dtype.kind not in "fiu":
        msg = f"`points` is {type(given).__name__}, expected an array of real numbers of shape ({size}, k)"
        raise TypeError(msg)
    values = np.array(given, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != size:
        msg = f"`points` has shape {values.shape}, expected ({size}, k): one row a degree of freedom"
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = "`points` has entries that are not finite: leave points= out if the places are not known"
        raise ValueError(msg)
    return frozen(values)
