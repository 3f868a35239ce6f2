"""Separable neural architectures for numerical analysts: solve and fit functions of many variables."""

import importlib
from typing import Any

from sepnet.backends.availability import BackendUnavailable
from sepnet.bases import BSpline, Chebyshev, Fourier, Legendre
from sepnet.bases.matrix_axis import MatrixAxis
from sepnet.bases.mesh import Mesh
from sepnet.coefficients import apply, product
from sepnet.coordinate_map import CoordinateMap
from sepnet.forms import inner, load_on
from sepnet.frames import affine, polar, rotating
from sepnet.functions import (
    CP,
    SNA,
    ErrorEstimate,
    Interaction,
    Projection,
    TensorTrain,
    Tucker,
    interpolate,
    load,
    project,
)
from sepnet.functions.mapped import Mapped
from sepnet.io import write_vtk
from sepnet.piecewise import piecewise
from sepnet.problems import Galerkin, LeastSquares
from sepnet.sensitivity import Effect, Effects, Sobol, effects, sobol
from sepnet.separation.separate import Separation, SeparationStatus, separate
from sepnet.solvers.assembly import assemble
from sepnet.solvers.bands import Bands, confidence
from sepnet.solvers.certificates import ErrorBound
from sepnet.solvers.extremes import Maximum, MaximumStatus, Peaks, maximum, peaks
from sepnet.solvers.fit import fit
from sepnet.solvers.fit_result import Fit, FitRecord, FitStatus
from sepnet.solvers.goal import Goal
from sepnet.solvers.map_inversion import MapInversion, MapStatus, map_inversion
from sepnet.solvers.march import March, march
from sepnet.solvers.newton import Inversion, InversionStatus, invert
from sepnet.solvers.nonlinear_continuation import continuation
from sepnet.solvers.record import Record, Status
from sepnet.solvers.result import Solution
from sepnet.solvers.solve import resume, solve, solve_many
from sepnet.spaces import TensorSpace
from sepnet.version import __version__

# isort: split
from sepnet import plotting as plot

__all__ = [
    "CP",
    "SNA",
    "BSpline",
    "BackendUnavailable",
    "Bands",
    "Chebyshev",
    "CoordinateMap",
    "Effect",
    "Effects",
    "ErrorBound",
    "ErrorEstimate",
    "Fit",
    "FitRecord",
    "FitStatus",
    "Fourier",
    "Galerkin",
    "Goal",
    "Interaction",
    "Inversion",
    "InversionStatus",
    "LeastSquares",
    "Legendre",
    "MapInversion",
    "MapStatus",
    "Mapped",
    "March",
    "MatrixAxis",
    "Maximum",
    "MaximumStatus",
    "Mesh",
    "Peaks",
    "Projection",
    "Record",
    "Separation",
    "SeparationStatus",
    "Sobol",
    "Solution",
    "Status",
    "TensorSpace",
    "TensorTrain",
    "Tucker",
    "__version__",
    "affine",
    "apply",
    "assemble",
    "confidence",
    "continuation",
    "effects",
    "fit",
    "inner",
    "interpolate",
    "invert",
    "load",
    "load_on",
    "map_inversion",
    "march",
    "maximum",
    "peaks",
    "piecewise",
    "plot",
    "polar",
    "product",
    "project",
    "resume",
    "rotating",
    "separate",
    "sobol",
    "solve",
    "solve_many",
    "write_vtk",
]

# They need scikit-learn, which `import sepnet` does not load.
_ESTIMATORS = {
    "AdditiveRegressor": "sepnet.models.khronos_sparse",
    "KhronosClassifier": "sepnet.models.khronos",
    "KhronosRegressor": "sepnet.models.khronos",
    "PairwiseRegressor": "sepnet.models.khronos_sparse",
    "WaveletFeatures": "sepnet.models.wavelets",
}


def __getattr__(name: str) -> Any:
    if name not in _ESTIMATORS:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_ESTIMATORS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ESTIMATORS])
