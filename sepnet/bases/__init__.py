"""One-dimensional bases, one family a file: what the axes of a space are made of."""

from sepnet.bases.basis import SMOOTH, Basis, Pieces, Quadrature
from sepnet.bases.bspline import BSpline
from sepnet.bases.fourier import Fourier
from sepnet.bases.matrix_axis import MatrixAxis
from sepnet.bases.mesh import Mesh
from sepnet.bases.polynomial import Chebyshev, Legendre

__all__ = [
    "SMOOTH",
    "BSpline",
    "Basis",
    "Chebyshev",
    "Fourier",
    "Legendre",
    "MatrixAxis",
    "Mesh",
    "Pieces",
    "Quadrature",
]
