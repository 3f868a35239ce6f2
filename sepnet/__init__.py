"""Separable neural architectures for numerical analysts: solve and fit functions of many variables."""

from sepnet.bases import BSpline, Chebyshev, Fourier, Legendre
from sepnet.coefficients import apply, product
from sepnet.forms import inner, load_on
from sepnet.functions import CP, ErrorEstimate, Projection, interpolate, load, project
from sepnet.problems import Galerkin, LeastSquares
from sepnet.solvers.assembly import assemble
from sepnet.solvers.result import Record, Solution, Status
from sepnet.solvers.solve import solve, solve_many
from sepnet.spaces import TensorSpace
from sepnet.version import __version__

__all__ = [
    "CP",
    "BSpline",
    "Chebyshev",
    "ErrorEstimate",
    "Fourier",
    "Galerkin",
    "LeastSquares",
    "Legendre",
    "Projection",
    "Record",
    "Solution",
    "Status",
    "TensorSpace",
    "__version__",
    "apply",
    "assemble",
    "inner",
    "interpolate",
    "load",
    "load_on",
    "product",
    "project",
    "solve",
    "solve_many",
]
