"""What the kernels of functions promise: values and derivatives at points; see `sepnet.backends.contract`."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from sepnet.backends.arrays import Array
from sepnet.backends.newton import Samples

Names: TypeAlias = tuple[str, ...] | None
Wanted: TypeAlias = Literal["both", "points", "tables"]

__all__ = ["FunctionKernels", "Names", "Wanted"]


class FunctionKernels(Protocol):
    """Bases, sums of products and tensor trains at points."""

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

    def cp_vjp(
        self,
        points: Array,
        breaks: tuple[Array, ...],
        tables: tuple[Array, ...],
        cotangent: Array,
        /,
        *,
        wanted: Wanted = "both",
        deterministic: bool = False,
        names: Names = None,
    ) -> tuple[Array | None, tuple[Array, ...] | None]:
        """Carry a cotangent of the values of `cp_value` back to the points and the tables.

        This is the vector-Jacobian product of reverse differentiation. Products over the other axes come from prefix
        and suffix products, so that a factor that vanishes does no harm. The sum over the points of a cell takes the
        points in an order that depends on shapes and dtype only, not on the number of threads: the same inputs give
        the same bits, but on CUDA devices, whose atomic additions come in any order, only if `deterministic`.

        Parameters
        ----------
        points : array of shape (n, d)
        breaks, tables : tuples of d arrays
            As in `cp_value`.
        cotangent : array of shape (n,)
            What the value at each point is multiplied with; of the dtype of the points.
        wanted : {"both", "points", "tables"}
            What to compute.
        deterministic : bool, default False
            Promise the same bits in every run on the same device, where that costs time.
        names : tuple of d str, optional
            Names of the axes, for messages.

        Returns
        -------
        points_cotangent : array of shape (n, d), or None
            ``cotangent[k] du/dx_i (x_k)`` at ``[k, i]``; on a break the derivative on the cell of the point.
        tables_cotangents : tuple of d arrays shaped like the tables, or None
            ``sum_k cotangent[k] s_k**m prod_{j != i} f_{j,r}(x_k)`` over the points k of cell c, at ``[c, m, r]`` of
            entry i; zero for a cell without points.

        Raises
        ------
        ValueError
            If a point is NaN or outside the domain, the shapes do not fit, or `wanted` is none of the three.
        """
        ...

    def cp_columns(
        self, points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
    ) -> Array:
        """Evaluate the products ``prod_i f_{i,r}(x_i)`` themselves, of shape (n, R); see `cp_value`, their sum.

        Several functions of the same factors are linear combinations of these columns.
        """
        ...

    def cp_columns_vjp(
        self,
        points: Array,
        breaks: tuple[Array, ...],
        tables: tuple[Array, ...],
        cotangent: Array,
        /,
        *,
        wanted: Wanted = "both",
        deterministic: bool = False,
        names: Names = None,
    ) -> tuple[Array | None, tuple[Array, ...] | None]:
        """Carry a cotangent of the columns of `cp_columns`, of shape (n, R), back; otherwise as `cp_vjp`.

        ``cotangent[k, r]`` stands inside the sums over r and k where `cp_vjp` has ``cotangent[k]``.
        """
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

    def train_vjp(
        self,
        points: Array,
        breaks: tuple[Array, ...],
        tables: tuple[Array, ...],
        cotangent: Array,
        /,
        *,
        wanted: Wanted = "both",
        deterministic: bool = False,
        names: Names = None,
    ) -> tuple[Array | None, tuple[Array, ...] | None]:
        """Carry a cotangent of the values of `train_value` back to the points and the tables; see `cp_vjp`.

        The entry of a table at ``[c, m, a, b]`` gets ``sum_k cotangent[k] s_k**m v_a z_b`` over the points k of cell c,
        with v the row ``G_1 ... G_{i-1}`` and z the column ``G_{i+1} ... G_d`` at the point.
        """
        ...
