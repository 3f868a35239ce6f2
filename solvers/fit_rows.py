"""A fitted function as a function of its coefficients: its columns, and the rows of its Jacobian at points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sepnet.backends.arrays import Array, device_of, namespace, to_host
from sepnet.functions import CP
from sepnet.functions.sna import SNA
from sepnet.solvers.fit_algebra import moved
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_columns import Columns, Factors

__all__ = ["columns_of", "designs_at", "rows_at"]


def columns_of(u: CP | SNA) -> tuple[Columns, Factors]:
    """Return the columns of a fitted function, and their coefficients in float64 on the host.

    Parameters
    ----------
    u : CP or SNA
        As `fit` returns it: an `SNA` is a sum of `CP` parts and a constant.

    Returns
    -------
    columns : Columns
        The axes of the function, and last that of the constant; columns that are zero are left out, except that a
        function without any other has one constant column.
    factors : list of ndarray

    Raises
    ------
    TypeError
        If it is no such function.
    """
    names = u.space.names
    parts = {names: u} if isinstance(u, CP) else u.parts if isinstance(u, SNA) else {}
    if not all(isinstance(part, CP) for part in parts.values()) or not isinstance(u, CP | SNA) or _weighted(u):
        msg = f"the function is {u!r}, expected one as sn.fit returns it, a sum of products: pass the fit itself"
        raise TypeError(msg)
    axes = (*(FitAxis(basis) for basis in u.space.bases), FitAxis(None))
    pieces: list[list[np.ndarray]] = [[np.zeros((axis.size, 0))] for axis in axes]
    subsets, ranks = [], []
    for subset, part in parts.items():
        factors = [np.asarray(to_host(f), dtype=np.float64) for f in part.factors]
        there = np.all([np.abs(f).max(axis=0) > 0.0 for f in factors], axis=0)
        if there.any():
            subsets.append(tuple(names.index(name) for name in subset))
            ranks.append(int(there.sum()))
            for i, f in zip(subsets[-1], factors, strict=True):
                pieces[i].append(f[:, there])
    level = 0.0 if isinstance(u, CP) else float(u.constant)
    if level or not subsets:
        subsets.append((len(names),))
        ranks.append(1)
        pieces[-1].append(np.array([[level]]))
    columns = Columns(axes, tuple(subsets), tuple(ranks))
    # equal norms of the factors of a column: the coefficients are then of one size
    return columns, columns.balanced([np.concatenate(group, axis=1) for group in pieces])


def _weighted(u: CP | SNA) -> bool:
    return isinstance(u, SNA) and (bool(u.weights) or u.activation != "identity")


def designs_at(columns: Columns, points: Array) -> list[Array]:
    """Return for each axis the values (n, size_i) of its basis functions at points (n, d), the constant's last.

    Raises
    ------
    ValueError
        If a point is outside the domain of an axis on which there are columns.
    """
    xp = namespace(points)
    result = []
    for i, axis in enumerate(columns.axes):
        if axis.basis is None:
            result.append(xp.ones((int(points.shape[0]), 1), dtype=points.dtype, device=device_of(points)))
        elif len(columns.active[i]):
            result.append(axis.basis.values(xp.asarray(points[:, i], copy=True)))
        else:
            result.append(xp.zeros((int(points.shape[0]), axis.size), dtype=points.dtype, device=device_of(points)))
    return result


def rows_at(columns: Columns, factors: Factors, designs: Sequence[Array]) -> tuple[Array, Array]:
    """Return values and Jacobian of a function, ``B_im(x_i) prod_{j != i} f_jr(x_j)``.

    Parameters
    ----------
    columns : Columns
    factors : list of arrays
        Where the designs live; those of the host are moved there.
    designs : sequence of arrays of shape (n, size_i)
        Values of the basis functions, or any linear functionals of them such as means: the function is linear in each.

    Returns
    -------
    values : array of shape (n,)
    rows : array of shape (n, P)
        Derivatives by the coefficients, in the order of `Columns.join`.
    """
    xp = namespace(*designs)
    values = [design @ factor for design, factor in zip(designs, moved(factors, designs[0]), strict=True)]
    n = int(designs[0].shape[0])
    rows = [
        xp.reshape(design[:, :, None] * gain[:, None, :], (n, int(design.shape[1]) * int(gain.shape[1])))
        for design, gain in zip(designs, columns.gains(values), strict=True)
    ]
    return columns.total(values), xp.concat(rows, axis=1)
