"""Band matrices that are summed up from integrals over the cells of a tensor grid, by sum factorisation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import final

import numpy as np
import scipy.linalg
import scipy.sparse

from sepnet.nonlinear import Jet
from sepnet.solvers.nonlinear_grid import AxisRule, Grid
from sepnet.spaces import TensorSpace

__all__ = ["Band", "SingularError", "memory"]

# A pivot below this multiple of round-off, relative to its diagonal entry, counts as zero.
RIDGE = 16 * float(np.finfo(np.float64).eps)


@final
class SingularError(Exception):
    """The linearised system has no unique solution."""


def _slow_axis(space: TensorSpace) -> int:
    """Return the axis that has to be the slowest for the narrowest band."""
    return min(range(space.dim), key=lambda k: _half_band(space, k))


def _half_band(space: TensorSpace, slow: int) -> int:
    basis = space.bases[slow]
    rest = prod(space.shape) // basis.size
    width = basis.bandwidth if basis.kind == "banded" else basis.size - 1
    return width * rest + rest - 1


def memory(space: TensorSpace, *, symmetric: bool) -> float:
    """Return the bytes of the band matrix."""
    rows = _half_band(space, _slow_axis(space)) + 1
    return 8.0 * prod(space.shape) * (rows if symmetric else 3 * rows)


@final
class Band:
    """A band matrix that is summed up from integrals over the cells of a tensor grid.

    Parameters
    ----------
    space : TensorSpace
        Trial and test space.
    symmetric : bool
        Whether only the lower half is needed.
    """

    def __init__(self, space: TensorSpace, *, symmetric: bool) -> None:
        self.space, self.symmetric = space, symmetric
        slow = _slow_axis(space)
        self.order = [slow, *(k for k in range(space.dim) if k != slow)]
        self.sizes = [space.shape[k] for k in self.order]
        self.lower = min(_half_band(space, slow), prod(self.sizes) - 1)
        rows = self.lower + 1 if symmetric else 2 * self.lower + 1
        # Columns first: what is added at once lies together.
        self.entries = np.zeros((prod(self.sizes), rows))
        self._swap: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, grid: Grid, pairs: dict[tuple[Jet, Jet], np.ndarray]) -> None:
        """Add ``sum over the pairs of int values * (D^test B_i) (D^trial B_k)``; weights are the caller's."""
        axes = [grid.axes[k] for k in self.order]
        names = [self.space.names[k] for k in self.order]
        parts: dict[tuple[tuple[int, int], ...], np.ndarray] = {}
        for (test, trial), values in pairs.items():
            left, right = dict(test), dict(trial)
            key = tuple((left.get(n, 0), right.get(n, 0)) for n in names)
            part = np.broadcast_to(values, grid.shape).transpose(self.order)
            parts[key] = parts[key] + part if key in parts else part
        first, rest = axes[0], axes[1:]
        rows, columns, gather = _pattern(rest, self.sizes[1:])
        count = first.points.shape[1]
        for cell in range(first.points.shape[0]):
            slab = {key: part[cell * count : (cell + 1) * count] for key, part in parts.items()}
            for axis in reversed(rest):
                slab = _contract(slab, axis)
            keys = sorted(slab)
            pairs_of_first = np.concatenate([first.products(*key[0])[cell] for key in keys], axis=1)
            integrals = np.concatenate([slab[key].reshape(count, -1) for key in keys], axis=0)
            self._scatter(first.index[cell], rows, columns, gather @ (pairs_of_first @ integrals).T)

    def _scatter(self, index: np.ndarray, rows: np.ndarray, columns: np.ndarray, sums: np.ndarray) -> None:
        """Add sums (pairs of the fast axes, pairs of `index`) at their places."""
        inner, width = prod(self.sizes[1:]), self.entries.shape[1]
        flat = self.entries.reshape(-1)
        shift = 0 if self.symmetric else self.lower
        for a, i in enumerate(index):
            for b, k in enumerate(index):
                values = sums[:, a * index.size + b]
                if self.symmetric:
                    if i < k:
                        continue
                    # Either order of test and trial function may hold the pair: the symmetric part of both.
                    values = values + self._mirrored(sums, rows, columns, b * index.size + a)
                    values = values / 2
                    if i == k:
                        below = rows >= columns
                        offset = (rows - columns)[below]
                        flat[(k * inner + columns[below]) * width + offset] += values[below]
                        continue
                offset = (i - k) * inner + rows - columns
                flat[(k * inner + columns) * width + offset + shift] += values

    def _mirrored(self, sums: np.ndarray, rows: np.ndarray, columns: np.ndarray, pair: int) -> np.ndarray:
        if self._swap is None or self._swap[0] is not rows:
            inner = prod(self.sizes[1:])
            # Row-major numbers of the pairs rise, so that the mirrored pair is found by bisection.
            self._swap = (rows, np.searchsorted(rows * inner + columns, columns * inner + rows))
        return np.asarray(sums[self._swap[1], pair])

    def solve(self, load: np.ndarray) -> np.ndarray:
        """Return the solution for a load of shape ``space.shape``; the entries are overwritten.

        Raises
        ------
        SingularError
            If the matrix is singular, or symmetric and not positive definite.
        """
        b = load.transpose(self.order).reshape(-1)
        if self.symmetric:
            x = self._cholesky(b)
        else:
            try:
                x = scipy.linalg.solve_banded(
                    (self.lower, self.lower), self.entries.T, b, overwrite_ab=True, check_finite=False
                )
            except (np.linalg.LinAlgError, ValueError) as error:
                raise SingularError from error
        if not np.isfinite(x).all():
            raise SingularError
        inverse = np.argsort(self.order)
        return np.ascontiguousarray(x.reshape(self.sizes).transpose(inverse))

    def _cholesky(self, b: np.ndarray) -> np.ndarray:
        diagonal = self.entries[:, 0].copy()
        if not np.isfinite(diagonal).all() or not (diagonal > 0).all():
            raise SingularError
        scale = 1 / np.sqrt(diagonal)
        padded = np.concatenate([scale, np.zeros(self.lower)])
        self.entries *= scale[:, None] * np.lib.stride_tricks.sliding_window_view(padded, self.lower + 1)
        self.entries[:, 0] = 1.0 + RIDGE
        try:
            factor = scipy.linalg.cholesky_banded(self.entries.T, overwrite_ab=True, lower=True, check_finite=False)
        except np.linalg.LinAlgError as error:
            raise SingularError from error
        return np.asarray(scale * scipy.linalg.cho_solve_banded((factor, True), scale * b, check_finite=False))


def _contract(
    slab: dict[tuple[tuple[int, int], ...], np.ndarray], axis: AxisRule
) -> dict[tuple[tuple[int, int], ...], np.ndarray]:
    """Integrate over the last axis that is left: its points become pairs of its functions, cell by cell."""
    cells, count = axis.points.shape
    result: dict[tuple[tuple[int, int], ...], np.ndarray] = {}
    for key, values in slab.items():
        # (points of the axes before, cells, points of a cell, pairs of the axes behind)
        done = 1 if values.ndim == len(key) else values.shape[-1]
        before = prod(values.shape[: len(key) - 1])
        arranged = values.reshape(before, cells, count, done).transpose(1, 2, 0, 3).reshape(cells, count, before * done)
        image = axis.products(*key[-1]) @ arranged
        pairs = image.shape[1]
        image = image.reshape(cells, pairs, before, done).transpose(2, 0, 1, 3)
        image = image.reshape(*values.shape[: len(key) - 1], cells * pairs * done)
        result[key[:-1]] = result[key[:-1]] + image if key[:-1] in result else image
    return result


def _pattern(axes: Sequence[AxisRule], sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray, scipy.sparse.csr_array]:
    """Return the pairs of functions of the fast axes that share a cell, and the matrix that sums their integrals."""
    rows, columns = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for axis, size in zip(axes, sizes, strict=True):
        width = axis.index.shape[1]
        i = np.repeat(axis.index, width, axis=1).reshape(-1)
        k = np.tile(axis.index, (1, width)).reshape(-1)
        rows = (rows[:, None] * size + i[None, :]).reshape(-1)
        columns = (columns[:, None] * size + k[None, :]).reshape(-1)
    number = rows * prod(sizes) + columns
    distinct, place = np.unique(number, return_inverse=True)
    gather = scipy.sparse.csr_array(
        (np.ones(number.size), (place, np.arange(number.size))), (distinct.size, number.size)
    )
    return distinct // prod(sizes), distinct % prod(sizes), gather
