"""The kernels for NumPy: numba loops over explicit vectors, and BLAS for the band; see `sepnet.backends.contract`."""

from sepnet.backends.cpu.band import fill_band
from sepnet.backends.cpu.bspline import local_values
from sepnet.backends.cpu.cp import cp_gradient, cp_hessian, cp_value
from sepnet.backends.cpu.cp_vjp import cp_columns, cp_columns_vjp, cp_vjp
from sepnet.backends.cpu.newton import cp_newton
from sepnet.backends.cpu.normal import normal_blocks, window_values
from sepnet.backends.cpu.train import train_gradient, train_hessian, train_value
from sepnet.backends.cpu.train_vjp import train_vjp
from sepnet.backends.generic import fill_blocks, fill_dense, fill_dense_from_bands

__all__ = [
    "cp_columns",
    "cp_columns_vjp",
    "cp_gradient",
    "cp_hessian",
    "cp_newton",
    "cp_value",
    "cp_vjp",
    "fill_band",
    "fill_blocks",
    "fill_dense",
    "fill_dense_from_bands",
    "local_values",
    "normal_blocks",
    "train_gradient",
    "train_hessian",
    "train_value",
    "train_vjp",
    "window_values",
]
