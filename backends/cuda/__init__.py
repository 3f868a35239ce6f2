"""The kernels for arrays on CUDA devices: CuPy's, and torch's; see `sepnet.backends.contract`."""

from sepnet.backends.cuda.cp import cp_columns, cp_gradient, cp_hessian, cp_value
from sepnet.backends.cuda.cp_vjp import cp_columns_vjp, cp_vjp
from sepnet.backends.cuda.fill import fill_band, fill_blocks, fill_dense, fill_dense_from_bands
from sepnet.backends.cuda.local import local_values
from sepnet.backends.cuda.newton import cp_newton
from sepnet.backends.cuda.normal import normal_blocks, window_values
from sepnet.backends.cuda.train import train_gradient, train_hessian, train_value
from sepnet.backends.cuda.train_vjp import train_vjp

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
