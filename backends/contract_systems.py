"""What the kernels of linear systems promise: they form matrices and their products; see `sepnet.backends.contract`."""

from __future__ import annotations

from typing import Protocol

from sepnet.backends.arrays import Array

__all__ = ["SystemKernels"]


class SystemKernels(Protocol):
    """The normal equations of samples, and the systems of one axis."""

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

    def fill_blocks(self, bands: Array, weights: Array, /, *, group: int) -> tuple[Array, Array]:
        """Form ``H = sum_j A_j (x) W_j`` as a block-tridiagonal matrix: `group` neighbouring functions make a block.

        Parameters
        ----------
        bands : array of shape (J, N, w + 1)
            ``bands[j, i, o] = A_j[i + o, i]``, and zero where ``i + o >= N``.
        weights : array of shape (J, R, R)
            Only the sum H has to be symmetric, not its terms.
        group : int
            Functions a block, at least w and at least one.

        Returns
        -------
        diagonal : array of shape (B, group R, group R), B = ceil(N / group)
            The blocks on the diagonal of H, basis index slow, rank index fast. Only their lower triangles count. Where
            the last one reaches beyond H it is the identity.
        below : array of shape (B - 1, group R, group R)
            The blocks below these: ``below[b]`` has the rows of block b + 1 and the columns of block b.

        Raises
        ------
        ValueError
            If the shapes do not fit, or `group` is too small.
        """
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
