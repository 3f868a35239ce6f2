"""Sums of products over subsets of axes as a fit sees them: coefficients by axis, values and derivatives at samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import numpy as np

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, device_of, from_host, is_numpy, library_name, namespace
from sepnet.solvers.fit_algebra import flat
from sepnet.solvers.fit_axes import AxisArrays, FitAxis, Window

__all__ = ["Columns", "Factors", "Places"]

Factors = list[Array]  # coefficients (size_i, R_i) an axis: on the host, but for the steps on samples that are not


class Places(NamedTuple):
    """Numbers of columns and arrays of axes, where the coefficients live.

    `active` and `passive` are those of `Columns`, `order` brings the columns of each axis, first the active and then
    the passive ones, into their order. `absent`, shape (R, 1), is true where an axis takes no part in a column, `free`
    where a column is constant.
    """

    active: list[Array]
    passive: list[Array]
    order: list[Array]
    absent: list[Array]
    free: Array
    axes: list[AxisArrays]


@final
@dataclass(frozen=True)
class Columns:
    """Which columns a function has: for each subset of axes a number of products of one factor an axis.

    Parameters
    ----------
    axes : tuple of FitAxis
    subsets : tuple of tuples of int
        Numbers of the axes that act together, in order.
    ranks : tuple of int
        Number of columns of each subset.
    """

    axes: tuple[FitAxis, ...]
    subsets: tuple[tuple[int, ...], ...]
    ranks: tuple[int, ...]

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Number of the first column of each subset, and of all columns."""
        return tuple(int(k) for k in np.concatenate([[0], np.cumsum(self.ranks)]))

    @cached_property
    def active(self) -> tuple[np.ndarray, ...]:
        """Numbers of the columns in which each axis takes part."""
        groups = list(zip(self.subsets, self.starts, self.ranks, strict=False))
        none = np.zeros(0, dtype=np.int64)
        return tuple(
            np.concatenate([none, *(np.arange(start, start + rank) for s, start, rank in groups if i in s)])
            for i in range(len(self.axes))
        )

    @cached_property
    def passive(self) -> tuple[np.ndarray, ...]:
        """Numbers of the columns in which each axis takes no part."""
        every = np.arange(self.starts[-1])
        return tuple(np.setdiff1d(every, active) for active in self.active)

    @cached_property
    def constant_columns(self) -> np.ndarray:
        """Numbers of the columns that are constant, for each output."""
        groups = zip(self.subsets, self.starts, self.ranks, strict=False)
        plain = [all(self.axes[i].basis is None or self.axes[i].labels for i in s) for s in self.subsets]
        chosen = [np.arange(start, start + rank) for (_, start, rank), p in zip(groups, plain, strict=True) if p]
        return np.concatenate([np.zeros(0, dtype=np.int64), *chosen])

    @cached_property
    def offsets(self) -> np.ndarray:
        """Place of the first coefficient of each axis in a vector of all of them, and their number."""
        sizes = [axis.size * len(active) for axis, active in zip(self.axes, self.active, strict=True)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return int(self.offsets[-1])

    def split(self, vector: Array) -> Factors:
        """Return the coefficients by axis."""
        xp = namespace(vector)
        pieces = zip(self.axes, self.active, self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True)
        return [xp.reshape(vector[a:b], (axis.size, len(active))) for axis, active, a, b in pieces]

    def join(self, factors: Factors) -> Array:
        """Return all coefficients in one vector, basis index slow, column fast, axis after axis."""
        return namespace(*factors).concat([flat(f) for f in factors], axis=0)

    @cached_property
    def _copies(self) -> dict[tuple[str, str, str], Places]:
        return {}

    def places(self, like: Array) -> Places:
        """Return what the algebra of coefficients needs, where those live; it is moved there once."""
        xp, device = namespace(like), device_of(like)
        key = library_name(xp), str(device), str(like.dtype)
        if key not in self._copies:

            def here(index: np.ndarray) -> Array:
                return from_host(index, xp, device=device, dtype="int64")

            every = np.arange(self.starts[-1])
            self._copies[key] = Places(
                [here(a) for a in self.active],
                [here(p) for p in self.passive],
                [here(np.argsort(np.concatenate(pair))) for pair in zip(self.active, self.passive, strict=True)],
                [here(np.isin(every, p)[:, None]) != 0 for p in self.passive],
                here(np.isin(every, self.constant_columns)[:, None]) != 0,
                [axis.arrays(like) for axis in self.axes],
            )
        return self._copies[key]

    @cached_property
    def _places(self) -> dict[tuple[int, int], slice]:
        ends, places = [0] * len(self.axes), {}
        for k, (subset, rank) in enumerate(zip(self.subsets, self.ranks, strict=True)):
            for i in subset:
                places[i, k] = slice(ends[i], ends[i] + rank)
                ends[i] += rank
        return places

    def place(self, i: int, subset: int) -> slice:
        """Return where the columns of a subset are among those of axis `i`, which takes part in it."""
        return self._places[i, subset]

    def padded(self, factors: Factors) -> list[Array]:
        """Return factors (size_i, R) of all columns: the constant one where an axis takes no part."""
        xp, places, full = namespace(*factors), self.places(factors[0]), []
        for own, passive, order, factor in zip(places.axes, self.passive, places.order, factors, strict=True):
            rest = xp.broadcast_to(own.constant[:, None], (int(own.constant.shape[0]), len(passive)))
            full.append(xp.take(xp.concat([factor, rest], axis=1), order, axis=1))
        return full

    def balanced(self, factors: Factors) -> Factors:
        """Return the same function with equal norms of the factors of a column."""
        xp, axes = namespace(*factors), self.places(factors[0]).axes
        result = [xp.asarray(f, copy=True) for f in factors]
        for k, subset in enumerate(self.subsets):
            norms = []
            for i in subset:
                part = factors[i][:, self.place(i, k)]
                square = xp.sum(part * (axes[i].gram @ part), axis=0)
                norms.append(xp.sqrt(xp.maximum(square, xp.zeros_like(square))))
            sizes = xp.stack(norms)
            logs = xp.log(xp.where(xp.min(sizes, axis=0) > 0.0, sizes, xp.ones_like(sizes)))
            scales = xp.exp(xp.mean(logs, axis=0) - logs)
            for j, i in enumerate(subset):
                result[i][:, self.place(i, k)] = result[i][:, self.place(i, k)] * scales[j, :]
        return result

    def values(self, windows: Sequence[Window], factors: Factors) -> list[Array]:
        """Return the values (n, R_i) of the factors at samples, which live where the factors do."""
        result = []
        for axis, (first, values), factor in zip(self.axes, windows, factors, strict=True):
            spread = axis.arrays(values).spread
            table = factor if spread is None else spread @ factor
            # the compiled kernel is compiled again for another layout
            table = np.ascontiguousarray(table) if is_numpy(namespace(table)) else table
            result.append(dispatch.window_values(first, values, table))
        return result

    def total(self, values: Sequence[Array]) -> Array:
        """Return the function (n,) from the values of its factors."""
        xp = namespace(*values)
        result = xp.sum(0.0 * values[0], axis=1)  # zero, also where there are no columns
        for k, subset in enumerate(self.subsets):
            product = None
            for i in subset:
                part = values[i][:, self.place(i, k)]
                product = part if product is None else product * part
            result = result + xp.sum(product, axis=1)
        return result

    def gains(self, values: Sequence[Array]) -> list[Array]:
        """Return for each axis the products (n, R_i) of the other factors of its columns, free of divisions."""
        xp = namespace(*values)
        pieces: list[list[Array]] = [[] for _ in self.axes]
        for k, subset in enumerate(self.subsets):
            parts = [values[i][:, self.place(i, k)] for i in subset]
            before = [xp.ones_like(parts[0])]
            for part in parts[:-1]:
                before.append(before[-1] * part)
            after = xp.ones_like(parts[0])
            for j in range(len(subset) - 1, -1, -1):
                pieces[subset[j]].append(before[j] * after)
                after = after * parts[j]
        # an axis without columns has values of shape (n, 0), and such are its gains
        groups = zip(pieces, values, strict=True)
        return [xp.concat(group, axis=1) if len(group) > 1 else group[0] if group else none for group, none in groups]
