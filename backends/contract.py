"""What every kernel promises, in one place.

A spline reaches the kernels as a *piecewise polynomial*: on cell ``c`` of an axis, between the breaks ``l`` and ``r``,
it is a polynomial in the local coordinate ``s = (2 x - l - r) / (r - l)`` of [-1, 1]. Monomials on [-1, 1] stay well
conditioned up to degree 15, and one code serves uniform and graded breaks, any continuity, periodic axes and axes
whose end functions were dropped: all of that is in the tables, and the tables are made once, at set-up.

A point on an interior break belongs to the cell on its right, the right end of the domain to the last cell. A point
that lies outside by no more than `checks.slack`, round-off of the ends, belongs to the end cell.

Implementations are modules: `sepnet.backends.generic` (any array-API namespace), `sepnet.backends.cpu` (NumPy, by
numba) and `sepnet.backends.cuda` (CuPy arrays, and torch tensors on a CUDA device). `sepnet.backends.dispatch`
chooses between them and checks what they take for granted (one namespace, device and dtype); shapes and boxes are
checked by each with `sepnet.backends.checks`.
"""

from __future__ import annotations

from typing import Protocol

from sepnet.backends.arrays import Array, namespace
from sepnet.backends.contract_functions import FunctionKernels, Names, Wanted
from sepnet.backends.contract_systems import SystemKernels

__all__ = ["KERNELS", "Kernels", "Names", "Wanted", "differentiate"]


class Kernels(FunctionKernels, SystemKernels, Protocol):
    """The kernels, arrays in and arrays out; results have the namespace, device and dtype of the points."""


KERNELS = tuple(name for part in (FunctionKernels, SystemKernels) for name in vars(part) if not name.startswith("_"))
"""Their names."""


def differentiate(table: Array, breaks: Array, order: int = 1) -> Array:
    """Return the table of the `order`-th derivative with respect to x, in the shape of `table`.

    Parameters
    ----------
    table : array of shape (cells, p + 1, q)
        Coefficients of ``s**m``, see `Kernels.local_values`.
    breaks : array of shape (cells + 1,)
        Ends of the cells; the chain rule gives a factor ``2 / (r - l)`` per order.
    order : int, default 1
        Not negative; 0 returns `table` itself.

    Returns
    -------
    array of shape (cells, p + 1, q)
        The powers above ``p - order`` have zero coefficients, so that shapes do not change.

    Raises
    ------
    ValueError
        If `order` is negative.
    """
    if order < 0:
        msg = f"`order` is {order}, expected a number of derivatives >= 0: use 0 for the function itself"
        raise ValueError(msg)
    xp = namespace(table, breaks)
    scale = (2 / (breaks[1:] - breaks[:-1]))[:, None, None]
    powers = xp.arange(1, table.shape[1], dtype=table.dtype, device=table.device)[None, :, None]
    for _ in range(order):
        last = xp.zeros_like(table[:, :1, :])
        table = xp.concat([table[:, 1:, :] * powers * scale, last], axis=1)
    return table
