"""The matrices of one axis, stored by kind: banded, cyclic (banded with wrap-around), dense or sparse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, final

import numpy as np
import scipy.sparse

from sepnet.backends.arrays import Array, Namespace, device_of, from_host, is_numpy, namespace
from sepnet.bases.basis import Basis
from sepnet.solvers.on_device import rows

__all__ = ["AxisMatrices", "stack_matrices"]

Kind = Literal["banded", "cyclic", "dense", "sparse"]

# Up to this size dense products are faster than banded ones: BLAS against gathered rows.
SMALL = 256


@final
@dataclass(frozen=True)
class AxisMatrices:
    """A stack of J matrices of size N of one axis.

    Parameters
    ----------
    kind : {"banded", "cyclic", "dense", "sparse"}
        Storage. A band stores only the entries with ``|i - j| <= width``.
    values : array
        Banded and cyclic: (N, J, 2 * width + 1), ``values[i, j, o] = A_j[i, i + o - width]`` (cyclic: modulo N).
        Dense: (N, J, N), ``values[i, j, k] = A_j[i, k]``. Sparse: (N, J, 0), which only says where the axis lives.
    columns : array of int64 or None
        Banded and cyclic: (N, 2 * width + 1), the column numbers (clipped where the entry is zero).
    width : int
        Half-bandwidth.
    lower : array or None
        Banded and cyclic: the lower bands (J, N, width + 1) with ``lower[j, i, o] = A_j[i + o, i]``, without the
        entries that wrap around: what the systems of the axis are filled from.
    entries : tuple of csr_array
        Sparse: the matrices themselves, on the host.
    """

    kind: Kind
    values: Array
    columns: Array | None
    width: int
    lower: Array | None = None
    entries: tuple[scipy.sparse.csr_array, ...] = ()

    @property
    def count(self) -> int:
        """Number J of matrices."""
        return int(self.values.shape[1])

    @property
    def size(self) -> int:
        """Size N of each matrix."""
        return int(self.values.shape[0])

    def apply(self, factor: Array) -> Array:
        """Return all products ``A_j C`` for C of shape (N, R), as (N, J, R)."""
        xp = namespace(self.values, factor)
        if self.kind == "sparse":
            return np.stack([a @ factor for a in self.entries], axis=1)
        if self.columns is not None:
            return xp.matmul(self.values, _gathered(factor, self.columns))
        n, j = self.size, self.count
        return xp.reshape(xp.reshape(self.values, (n * j, n)) @ factor, (n, j, int(factor.shape[1])))

    def chosen(self, letters: Array) -> Callable[[Array], Array]:
        """Return the map from X of shape (M, N, K) to the products ``A_j X_m`` with ``j = letters[m]``."""
        xp = namespace(self.values)
        if self.size <= SMALL or self.columns is None:
            stack = xp.take(self.dense(), letters, axis=0)
            return lambda x: xp.matmul(stack, x)
        values, columns = xp.take(self.values, letters, axis=1), self.columns

        def banded(x: Array) -> Array:
            # One product at a time: gathered rows of all of them would take 2 width + 1 times the memory.
            parts = [
                xp.matmul(values[:, m, None, :], _gathered(x[m, :, :], columns))[:, 0, :]
                for m in range(int(x.shape[0]))
            ]
            return xp.stack(parts, axis=0)

        return banded

    def gram(self, test: Array, applied: Array) -> Array:
        """Return ``T' A_j C`` for all j, shape (J, R_T, R_C), from ``applied = apply(C)``."""
        xp = namespace(test, applied)
        n, j, rank = applied.shape
        flat = test.T @ xp.reshape(applied, (int(n), int(j) * int(rank)))
        return xp.permute_dims(xp.reshape(flat, (int(test.shape[1]), int(j), int(rank))), (1, 0, 2))

    def times(self, weights: Array, factor: Array) -> Array:
        """Return ``sum_j A_j C W_j'`` for weights (J, R, R) and C of shape (N, R)."""
        xp = namespace(weights, factor)
        applied = self.apply(factor)
        n, j, rank = (int(k) for k in applied.shape)
        turned = xp.reshape(xp.permute_dims(weights, (0, 2, 1)), (j * rank, rank))
        return xp.reshape(applied, (n, j * rank)) @ turned

    def last_rows(self) -> Array:
        """Return the last `width` rows of the matrices as (width, J, N); not of a dense or a sparse axis."""
        assert self.columns is not None
        first = self.size - self.width
        places = _places(self.columns[first:, :], self.size, self.values)
        return namespace(places).matmul(self.values[first:, :, :], places)

    @cached_property
    def inner(self) -> Array:
        """Cyclic: the lower bands (J, N - width, width + 1) without the last `width` rows and columns."""
        assert self.lower is not None
        n, w, xp = self.size - self.width, self.width, namespace(self.lower)
        inner = xp.asarray(self.lower[:, :n, :], copy=True)
        for o in range(1, w + 1):
            inner[:, max(n - o, 0) :, o] = 0.0
        return inner

    @cached_property
    def traces(self) -> Array:
        """The traces of the matrices, (J,); not of a sparse axis."""
        xp = namespace(self.values)
        if self.columns is not None:
            return xp.sum(self.values[:, :, self.width], axis=0)
        identity = xp.eye(self.size, dtype=self.values.dtype, device=device_of(self.values))
        return xp.sum(xp.sum(self.values * identity[:, None, :], axis=2), axis=0)

    def dense(self) -> Array:
        """Return the stack as dense matrices (J, N, N); not of a sparse axis, for which it would not fit."""
        if self.kind == "sparse":
            msg = f"a dense matrix of {self.size} degrees of freedom was asked for"
            raise MemoryError(msg)
        xp = namespace(self.values)
        if self.columns is None:
            return xp.permute_dims(self.values, (1, 0, 2))
        return xp.permute_dims(xp.matmul(self.values, _places(self.columns, self.size, self.values)), (1, 0, 2))

    def sparse(self, j: int) -> scipy.sparse.csr_array:
        """Return matrix `j` as a SciPy sparse matrix (host)."""
        if self.kind == "sparse":
            return self.entries[j]
        n = self.size
        values = np.asarray(self.values[:, j, :])
        columns = np.broadcast_to(np.arange(n), (n, n)) if self.columns is None else np.asarray(self.columns)
        lines = np.broadcast_to(np.arange(n)[:, None], columns.shape)
        keep = values != 0.0
        entries = (values[keep], (lines[keep], columns[keep]))
        return scipy.sparse.csr_array(scipy.sparse.coo_array(entries, shape=(n, n)))

    def absolute(self) -> AxisMatrices:
        """Return the matrices with all entries in absolute value (host)."""
        return replace(self, values=np.abs(self.values), entries=tuple(abs(a) for a in self.entries))

    def to(self, xp: Namespace, device: object, dtype: object) -> AxisMatrices:
        """Move to another namespace.

        Raises
        ------
        TypeError
            If the axis is sparse and the namespace is not NumPy's.
        """
        if self.kind == "sparse":
            if not is_numpy(xp):
                msg = "an axis with sparse matrices lives in NumPy only"
                raise TypeError(msg)
            entries = tuple(a.astype(dtype) for a in self.entries)
            return AxisMatrices(self.kind, self.values.astype(dtype), None, self.width, None, entries)
        columns = None if self.columns is None else from_host(self.columns, xp, device=device, dtype="int64")
        values = from_host(self.values, xp, device=device, dtype=dtype)
        lower = None if self.lower is None else from_host(self.lower, xp, device=device, dtype=dtype)
        return AxisMatrices(self.kind, values, columns, self.width, lower)


def _gathered(factor: Array, columns: Array) -> Array:
    """Return ``factor[columns, :]``, (N, offsets, R)."""
    xp = namespace(factor)
    return xp.reshape(rows(factor, xp.reshape(columns, (-1,))), (*columns.shape, int(factor.shape[1])))


def _places(columns: Array, n: int, like: Array) -> Array:
    """Return for each column number the unit row that has its one there, (..., n)."""
    xp = namespace(columns, like)
    numbers = xp.arange(n, dtype=columns.dtype, device=device_of(columns))
    return xp.astype(columns[..., None] == numbers, like.dtype)


def stack_matrices(basis: Basis, matrices: Sequence[scipy.sparse.csr_array]) -> AxisMatrices:
    """Store sparse matrices of one axis by the kind of its basis."""
    n = basis.size
    if basis.kind == "sparse":
        return AxisMatrices("sparse", np.zeros((n, len(matrices), 0)), None, n - 1, None, tuple(matrices))
    if basis.kind == "dense":
        return AxisMatrices("dense", np.stack([m.toarray() for m in matrices], axis=1), None, n - 1)
    wrap = basis.kind == "cyclic"
    w = min(basis.bandwidth, n - 1)
    columns = np.arange(n)[:, None] + np.arange(-w, w + 1)[None, :]
    columns = columns % n if wrap else np.clip(columns, 0, n - 1)
    values = np.zeros((n, len(matrices), 2 * w + 1))
    for j, matrix in enumerate(matrices):
        entries = matrix.tocoo()
        row, offset = entries.coords[0], entries.coords[1] - entries.coords[0]
        offset = (offset + w) % n - w if wrap else offset
        values[row, j, offset + w] = entries.data
    lower = np.zeros((len(matrices), n, w + 1))
    for o in range(w + 1):
        lower[:, : n - o, o] = values[o:, :, w - o].T
    return AxisMatrices("cyclic" if wrap else "banded", values, columns, w, lower)
