"""Separable functions: one class per format."""

from sepnet.functions.base import Projection, SeparableFunction
from sepnet.functions.cp import CP
from sepnet.functions.errors import ErrorEstimate
from sepnet.functions.files import load
from sepnet.functions.interaction import Interaction
from sepnet.functions.sna import SNA
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.tucker import Tucker
from sepnet.functions.ways_in import interpolate, project

__all__ = [
    "CP",
    "SNA",
    "ErrorEstimate",
    "Interaction",
    "Projection",
    "SeparableFunction",
    "TensorTrain",
    "Tucker",
    "interpolate",
    "load",
    "project",
]
