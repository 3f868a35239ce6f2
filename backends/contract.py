"""What every kernel promises, in one place.

A spline reaches the kernels as a *piecewise polynomial*: on cell ``c`` of an axis, between the breaks ``l`` and ``r``,
it is a polynomial in the local coordinate ``s = (2 x - l - r) / (r - l)`` of [-1, 1]. Monomials on [-1, 1] stay well
conditioned up to degree 15, and one code serves uniform and graded breaks, any continuity, periodic axes and axes
whose end functions were dropped: all of that is in the tables, and the tables are made once, at set-up.

A point on an interior break belongs to the cell on its right, the right end of the domain to the last cell. A point
that lies outside by no more than `checks.slack`, round-off of the ends, belongs to the end cell.

Implementations are modules: `sepnet.backends.generic` (any array-API namespace) and `sepnet.backends.cpu` (NumPy, by
numba). `sepnet.backends.dispatch` chooses between them and checks what they take for granted (one namespace, device
and dtype); shapes and boxes are checked by each with `sepnet.backends.checks`.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from sepnet.backends.arrays import Array, namespace
from sepnet.backends.newton import Samples

Names: TypeAlias = tuple[str, ...] | None

__all__ = ["Kernels", "Names", "differentiate"]


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
