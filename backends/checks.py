"""What all implementations of the kernels check alike: shapes, and points that lie outside the box."""

from __future__ import annotations

from sepnet.backends.arrays import Array, namespace
from sepnet.backends.contract import Names

__all__ = [
    "bad_point",
    "check_bands",
    "check_blocks",
    "check_cp",
    "check_levels",
    "check_local",
    "check_normal",
    "check_train",
    "check_vjp",
    "check_windows",
    "slack",
]


def slack(left: float, right: float, eps: float) -> float:
    """Return by how much a point may lie outside [`left`, `right`]: 4 units of round-off of the larger end."""
    return 4 * eps * max(abs(left), abs(right))


def bad_point(axis: int, value: float, left: float, right: float, names: Names = None) -> ValueError:
    """Return the error for a point whose coordinate `value` on axis number `axis` is not in [`left`, `right`]."""
    label = f"axis {axis}" if names is None else f"axis {axis} ({names[axis]!r})"
    return ValueError(
        f"`points` has {value!r} on {label}, expected a number in the domain [{left!r}, {right!r}]: "
        "remove the point, or take an axis that covers it"
    )


def check_local(points: Array, breaks: Array, table: Array) -> None:
    """Raise ValueError unless the shapes are those of `Kernels.local_values`."""
    if points.ndim != 1:
        msg = f"`points` has shape {tuple(points.shape)}, expected (n,): pass the coordinates of one axis"
        raise ValueError(msg)
    _check_axis(0, breaks, table)


def check_cp(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...]) -> None:
    """Raise ValueError unless the shapes are those of `Kernels.cp_value`."""
    _check_axes(points, breaks, tables, 1)
    if len({table.shape[2] for table in tables}) > 1:
        msg = (
            f"`tables` have ranks {[t.shape[2] for t in tables]}, expected one rank for all axes: "
            "pass tables of shape (cells, degree + 1, R)"
        )
        raise ValueError(msg)


def check_levels(
    starts: Array,
    targets: Array,
    low: Array,
    high: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    tol: Array,
    names: Names = None,
) -> None:
    """Raise ValueError unless shapes and box are those of `Kernels.cp_newton`."""
    check_cp(starts, breaks, tables)
    n, d = starts.shape
    for name, array, size in (("targets", targets, n), ("tol", tol, n), ("low", low, d), ("high", high, d)):
        if tuple(array.shape) != (size,):
            msg = f"`{name}` has shape {tuple(array.shape)}, expected ({size},): one number a start, one end an axis"
            raise ValueError(msg)
    xp = namespace(starts)
    for axis in range(d):
        left, right, ends = float(low[axis]), float(high[axis]), (float(breaks[axis][0]), float(breaks[axis][-1]))
        if not ends[0] <= left <= right <= ends[1]:
            msg = (
                f"the box has [{left!r}, {right!r}] on axis {axis}, expected rising ends in the domain "
                f"[{ends[0]!r}, {ends[1]!r}]: cut it to the domain"
            )
            raise ValueError(msg)
    inside = xp.all((starts >= low[None, :]) & (starts <= high[None, :]), axis=0)
    for axis in range(d):
        if not bool(inside[axis]):
            column = starts[:, axis]
            wrong = column[~((column >= low[axis]) & (column <= high[axis]))]
            raise bad_point(axis, float(wrong[0]), float(low[axis]), float(high[axis]), names)


def check_train(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...]) -> None:
    """Raise ValueError unless the shapes are those of `Kernels.train_value`."""
    _check_axes(points, breaks, tables, 2)
    left, right = [1, *(t.shape[3] for t in tables)], [*(t.shape[2] for t in tables), 1]
    if left != right:
        msg = (
            f"`tables` have ranks {[tuple(t.shape[2:]) for t in tables]}, expected a chain (1, r_1), (r_1, r_2), ..., "
            "(r, 1): pass tables of shape (cells, degree + 1, left rank, right rank)"
        )
        raise ValueError(msg)


def check_vjp(points: Array, cotangent: Array, wanted: str, columns: tuple[int, ...] = ()) -> None:
    """Raise ValueError unless `wanted` is that of `Kernels.cp_vjp` and `cotangent` has shape (n, *columns)."""
    if wanted not in ("both", "points", "tables"):
        msg = f'`wanted` is {wanted!r}, expected "both", "points" or "tables": name what to compute'
        raise ValueError(msg)
    shape = (int(points.shape[0]), *columns)
    if tuple(cotangent.shape) != shape:
        msg = (
            f"`cotangent` has shape {tuple(cotangent.shape)}, expected {shape}, that of the values: "
            "pass one number for each of them"
        )
        raise ValueError(msg)


def check_bands(bands: Array, weights: Array) -> None:
    """Raise ValueError unless the shapes are those of `Kernels.fill_band`."""
    fits = (
        bands.ndim == 3
        and weights.ndim == 3
        and bands.shape[0] == weights.shape[0]
        and bands.shape[2] >= min(bands.shape[1], 1)
    )
    if not fits or weights.shape[1] != weights.shape[2]:
        msg = (
            f"`bands` and `weights` have shapes {tuple(bands.shape)} and {tuple(weights.shape)}, expected "
            "(J, N, w + 1) and (J, R, R): pass one weight matrix per term"
        )
        raise ValueError(msg)


def check_blocks(bands: Array, weights: Array, group: int) -> None:
    """Raise ValueError unless the arguments are those of `Kernels.fill_blocks`."""
    check_bands(bands, weights)
    least = max(int(bands.shape[2]) - 1, 1)
    if group < least:
        msg = (
            f"`group` is {group}, expected at least {least}: a group must reach as far as the band, "
            "or it would meet more than the next one"
        )
        raise ValueError(msg)


def check_normal(
    first: tuple[Array, ...],
    values: tuple[Array, ...],
    gains: tuple[Array, ...],
    curvature: Array,
    slope: Array,
    sizes: tuple[int, ...],
) -> None:
    """Raise ValueError unless the shapes are those of `Kernels.normal_blocks`."""
    n = slope.shape[0]
    fits = len(first) == len(values) == len(gains) == len(sizes) > 0 and tuple(curvature.shape) == (n,)
    for f, v, g, size in zip(first, values, gains, sizes, strict=False):
        fits = fits and tuple(f.shape) == (n,) and v.ndim == g.ndim == 2 and v.shape[0] == g.shape[0] == n
        fits = fits and v.shape[1] <= size
    if not fits:
        shapes = [tuple(tuple(a.shape) for a in group) for group in (first, values, gains)]
        msg = (
            f"`first`, `values`, `gains` have shapes {shapes}, `sizes` is {sizes}, expected (n,), (n, q), (n, R) with "
            f"q <= size an axis and n = {n} as in `slope`: pass one array an axis"
        )
        raise ValueError(msg)


def check_windows(first: Array, values: Array, table: Array) -> None:
    """Raise ValueError unless the shapes are those of `Kernels.window_values`."""
    fits = values.ndim == table.ndim == 2 and tuple(first.shape) == (values.shape[0],)
    if not fits or not 1 <= values.shape[1] <= table.shape[0]:
        msg = (
            f"`first`, `values`, `table` have shapes {tuple(first.shape)}, {tuple(values.shape)}, "
            f"{tuple(table.shape)}, expected (n,), (n, q) and (M, R) with 1 <= q <= M: pass the windows of one axis"
        )
        raise ValueError(msg)


def _check_axes(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], ranks: int) -> None:
    d = len(tables)
    if d == 0 or len(breaks) != d:
        msg = f"`breaks` and `tables` have {len(breaks)} and {d} axes, expected the same number >= 1: pass one per axis"
        raise ValueError(msg)
    if points.ndim != 2 or points.shape[1] != d:
        msg = f"`points` has shape {tuple(points.shape)}, expected (n, {d}): give one column per axis, in order"
        raise ValueError(msg)
    for axis in range(d):
        _check_axis(axis, breaks[axis], tables[axis], ranks)


def _check_axis(axis: int, breaks: Array, table: Array, ranks: int = 1) -> None:
    cells = table.shape[0] if table.ndim == 2 + ranks else 0
    if cells < 1 or table.shape[1] < 1 or tuple(breaks.shape) != (cells + 1,):
        functions = "functions" if ranks == 1 else "left rank, right rank"
        msg = (
            f"`breaks` and `table` of axis {axis} have shapes {tuple(breaks.shape)} and {tuple(table.shape)}, expected "
            f"(cells + 1,) and (cells, degree + 1, {functions}) with at least one cell: rebuild them from the axis"
        )
        raise ValueError(msg)
