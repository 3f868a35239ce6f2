"""Separable neural architectures for numerical analysts: solve and fit functions of many variables."""

from sepnet.bases import BSpline, Chebyshev, Fourier, Legendre
from sepnet.coefficients import apply, product
from sepnet.forms import inner, load_on
from sepnet.functions import CP, ErrorEstimate, Projection, TensorTrain, Tucker, interpolate, load, project
from sepnet.problems import Galerkin, LeastSquares
from sepnet.solvers.assembly import assemble
from sepnet.solvers.certificates import ErrorBound
from sepnet.solvers.goal import Goal
from sepnet.solvers.record import Record, Status
from sepnet.solvers.result import Solution
from sepnet.solvers.solve import resume, solve, solve_many
from sepnet.spaces import TensorSpace
from sepnet.version import __version__

__all__ = [
    "CP",
    "BSpline",
    "Chebyshev",
    "ErrorBound",
    "ErrorEstimate",
    "Fourier",
    "Galerkin",
    "Goal",
    "LeastSquares",
    "Legendre",
    "Projection",
    "Record",
    "Solution",
    "Status",
    "TensorSpace",
    "TensorTrain",
    "Tucker",
    "__version__",
    "apply",
    "assemble",
    "inner",
    "interpolate",
    "load",
    "load_on",
    "product",
    "project",
    "resume",
    "solve",
    "solve_many",
]
