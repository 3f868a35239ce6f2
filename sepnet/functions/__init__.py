"""Separable functions: one class per format."""

from sepnet.functions.base import ErrorEstimate, SeparableFunction
from sepnet.functions.cp import CP, Projection
from sepnet.functions.files import load
from sepnet.functions.ways_in import interpolate, project

__all__ = ["CP", "ErrorEstimate", "Projection", "SeparableFunction", "interpolate", "load", "project"]
