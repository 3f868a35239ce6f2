"""What every kernel promises, in one place, and the pure helpers that all implementations share.

A spline reaches the kernels as a *piecewise polynomial*: on cell ``c`` of an axis, between the breaks ``l`` and ``r``,
it is a polynomial in the local coordinate ``s = (2 x - l - r) / (r - l)`` of [-1, 1]. Monomials on [-1, 1] stay well
conditioned up to degree 15, and one code serves uniform and graded breaks, any continuity, periodic axes and axes
whose end functions were dropped: all of that is in the tables, and the tables are made once, at set-up.

A point on an interior break belongs to the cell on its right, the right end of the domain to the last cell. A point
that lies outside by no more than `slack`, round-off of the ends, belongs to the end cell.

Implementations are modules: `sepnet.backends.generic` (any array-API namespace) and `sepnet.backends.cpu` (NumPy, by
numba). `sepnet.backends.dispatch` chooses between them and checks what they take for granted (one namespace, device
and dtype).
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from sepnet.backends.arrays import Array, namespace
from sepnet.backends.newton import Samples

Names: TypeAlias = tuple[str, ...] | None

__all__ = [
    "Kernels",
    "Names",
    "bad_point",
    "check_bands",
    "check_cp",
    "check_levels",
    "check_local",
    "check_normal",
    "check_train",
    "check_windows",
    "differentiate",
    "slack",
]


class Kernels(Protocol):
    """The kernels, arrays in and arrays out; results have the namespace, device and dtype of the points."""

    def local_values(
        self, points: Array, breaks: Array, table: Array, /, *, names: Names = None
    ) -> tuple[Array, Array]:
        """Evaluate the functions that live on the cell of each point.

        Parameters
        ----------
        points : array of shape (n,)
            Points of one axis.
        breaks : array of shape (cells + 1,)
            Increasing ends of the cells.
        table : array of shape (cells, p + 1, q)
            ``table[c, m, j]`` is the coefficient of ``s**m`` of the ``j``-th function on cell ``c``; for splines
            q = p + 1.
        names : tuple of one str, optional
            Name of the axis, for messages.

        Returns
        -------
        cell : array of int64 of shape (n,)
        values : array of shape (n, q)
            A derivative is had by passing the table through `differentiate`.

        Raises
        ------
        ValueError
            If a point is NaN or outside the domain, or the shapes do not fit.
        """
        ...

    def cp_value(
        self, points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
    ) -> Array:
        """Evaluate ``u(x) = sum_r prod_i f_{i,r}(x_i)``.

        Parameters
        ----------
        points : array of shape (n, d)
        breaks : tuple of d arrays of shape (cells_i + 1,)
        tables : tuple of d arrays of shape (cells_i, p_i + 1, R)
            ``tables[i][c, m, r]`` is the coefficient of ``s**m`` of ``f_{i,r}`` on cell ``c``. Degrees may differ.
        names : tuple of d str, optional
            Names of the axes, for messages.

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        ValueError
            If a point is NaN or outside the domain, or the shapes do not fit.
        """
        ...

    def cp_gradient(
        self, points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
    ) -> tuple[Array, Array]:
        """Evaluate u and its gradient, of shapes (n,) and (n, d); see `cp_value`.

        The product over the other axes comes from prefix and suffix products: a factor that vanishes does no harm, as
        it would to a division.
        """
        ...

    def cp_hessian(
        self, points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
    ) -> tuple[Array, Array, Array]:
        """Evaluate u, its gradient and its symmetric Hessian, of shapes (n,), (n, d), (n, d, d); see `cp_value`."""
        ...

    def cp_newton(
        self,
        starts: Array,
        targets: Array,
        low: Array,
        high: Array,
        breaks: tuple[Array, ...],
        tables: tuple[Array, ...],
        /,
        *,
        tol: Array,
        max_steps: int,
        names: Names = None,
    ) -> Samples:
        """Move every start to the level set ``u(x) = y`` of its own target, u as in `cp_value`.

        The rules of a step and of the end are in `sepnet.backends.newton`.

        Parameters
        ----------
        starts : array of shape (n, d)
            Inside the box.
        targets, tol : arrays of shape (n,)
            The asked y, and the largest ``|u - y|`` that counts as reached.
        low, high : arrays of shape (d,)
            The box to stay in, within the domain; equal ends freeze an axis.
        breaks, tables : tuples of d arrays
            As in `cp_value`.
        max_steps : int
            Evaluations a sample at most, at least one.
        names : tuple of d str, optional
            Names of the axes, for messages.

        Returns
        -------
        Samples
            points (n, d), values (n,), and int64 (n,): evaluations, and how each sample ended.

        Raises
        ------
        ValueError
            If a start lies outside the box or is NaN, the box is none or outside the domain, or the shapes do not fit.
        """
        ...

    def train_value(
        self, points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
    ) -> Array:
        """Evaluate the tensor train ``u(x) = G_1(x_1) G_2(x_2) ... G_d(x_d)``, a product of matrices.

        Parameters
        ----------
        points : array of shape (n, d)
        breaks : tuple of d arrays of shape (cells_i + 1,)
        tables : tuple of d arrays of shape (cells_i, p_i + 1, r_{i-1}, r_i)
            ``tables[i][c, m]`` is the coefficient of ``s**m`` of the matrix ``G_i`` on cell ``c``; r_0 = r_d = 1.
            Degrees and ranks may differ.
        names : tuple of d str, optional
            Names of the axes, for messages.

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        ValueError
            If a point is NaN or outside the domain, or the shapes do not fit, the ranks included.
        """
        ...

    def train_gradient(
        self, points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
    ) -> tuple[Array, Array]:
        """Evaluate u and its gradient, of shapes (n,) and (n, d); see `train_value`.

        The matrices before an axis make a row vector, those after it a column vector; all of these vectors together
        cost about two values and a third.
        """
        ...

    def train_hessian(
        self, points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
    ) -> tuple[Array, Array, Array]:
        """Evaluate u, its gradient and its symmetric Hessian, of shapes (n,), (n, d), (n, d, d); see `train_value`."""
        ...

    def window_values(self, first: Array, values: Array, table: Array, /) -> Array:
        """Evaluate sums over windows of neighbouring functions, ``sum_m values[s, m] table[first[s] + m, r]``.

        Parameters
        ----------
        first : int64 array of shape (n,)
            Number of the first function that lives at the sample.
        values : array of shape (n, q)
            Values of the functions from `first` on.
        table : array of shape (M, R)
            Coefficients; every window lies inside.

        Returns
        -------
        array of shape (n, R)

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        ...

    def normal_blocks(
        self,
        first: tuple[Array, ...],
        values: tuple[Array, ...],
        gains: tuple[Array, ...],
        curvature: Array,
        slope: Array,
        /,
        *,
        sizes: tuple[int, ...],
    ) -> tuple[Array, Array]:
        """Form ``J' diag(curvature) J`` and ``J' slope`` of n samples of a sum of products.

        The row of a sample in J holds, for axis i, function m and column r, ``values[i][m] gains[i][r]`` at the place
        ``(first[i] + m) R_i + r`` of the block of that axis, and zeros elsewhere.

        Parameters
        ----------
        first : tuple of d int64 arrays of shape (n,)
            Number of the first function of the axis that lives at the sample.
        values : tuple of d arrays of shape (n, q_i)
            Values of the functions from `first` on.
        gains : tuple of d arrays of shape (n, R_i)
            Derivative of the sum of products by the value of each column of the axis.
        curvature, slope : arrays of shape (n,)
            Weights of the samples, not negative, and what is multiplied by J'.
        sizes : tuple of d int
            Number M_i of functions of each axis.

        Returns
        -------
        matrix : array of shape (P, P), P = sum_i M_i R_i
            Only the lower triangle counts.
        vector : array of shape (P,)

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        ...

    def fill_dense(self, matrices: Array, weights: Array, /) -> Array:
        """Form ``H = sum_j A_j (x) W_j``.

        Parameters
        ----------
        matrices : array of shape (J, N, N)
        weights : array of shape (J, R, R)

        Returns
        -------
        array of shape (N R, N R)
            ``H[i R + r, k R + s] = sum_j matrices[j, i, k] weights[j, r, s]``: basis index slow, rank index fast.
        """
        ...

    def fill_dense_from_bands(self, bands: Array, weights: Array, /) -> Array:
        """Form the whole symmetric ``H = sum_j A_j (x) W_j`` from the lower bands of the A_j; see `fill_band`."""
        ...

    def fill_band(self, bands: Array, weights: Array, /, *, out: Array | None = None) -> Array:
        """Form ``H = sum_j A_j (x) W_j`` as the lower band that LAPACK's ``pbtrf`` takes (NumPy only).

        Parameters
        ----------
        bands : array of shape (J, N, w + 1)
            ``bands[j, i, o] = A_j[i + o, i]``, and zero where ``i + o >= N``.
        weights : array of shape (J, R, R)
            Only the sum H has to be symmetric, not its terms.
        out : Fortran-ordered array of shape ((w + 1) R, N R), optional
            Memory to overwrite and return; without it new memory is taken.

        Returns
        -------
        Fortran-ordered array of shape ((w + 1) R, N R)
            ``ab[row - column, column] = H[row, column]`` for ``row >= column``, basis index slow, rank index fast; zero
            where the band runs out of the matrix.
        """
        ...


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
