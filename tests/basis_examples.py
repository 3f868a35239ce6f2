"""Bases of every kind, strategies for splines, and what the tests of bases share."""

import numpy as np
import pytest
from hypothesis import strategies as st

from sepnet.bases import BSpline, Chebyshev, Fourier, Legendre

EPS = np.finfo(float).eps

# one of each kind, and the corner cases of each
BASES = [
    BSpline((0, 1), cells=1, degree=0),
    BSpline((0, 1), cells=5, degree=0, zero="left"),
    BSpline((-1, 3), cells=4, degree=1, zero="both"),
    BSpline((-1.25, 1.25), cells=7),
    BSpline((1e-4, 2e-3), cells=2, zero="right"),
    BSpline(breaks=(0, 1e-6, 1e-3, 0.3, 1), degree=4, zero="left"),
    BSpline(breaks=(0, 0.1, 0.5, 0.7, 1), degree=3, continuity=(2, -1, 0)),
    BSpline((0, 1), cells=3, degree=15),
    BSpline((0, 1), cells=1, degree=7, zero="both"),
    BSpline((0, 2), cells=9, periodic=True),
    BSpline((0, 2), cells=6, degree=2, periodic=True),
    BSpline((0, 2), cells=1, degree=3, periodic=True),
    BSpline((0, 2), cells=2, degree=4, periodic=True),
    BSpline(breaks=(-1, 0, 0.5, 2), degree=3, continuity=(0, 2, 1), periodic=True),
    BSpline(breaks=(-1, 0, 0.5, 2), degree=2, continuity=-1, periodic=True),
    BSpline((0, 1), cells=4, degree=10, periodic=True),
    Fourier((-1, 2), 0),
    Fourier((-1, 2), 4),
    Legendre((-1, 2), 0),
    *[family((-1, 2), 6, zero) for family in (Legendre, Chebyshev) for zero in (None, "left", "right", "both")],
]
every_basis = pytest.mark.parametrize("basis", BASES, ids=repr)
SPLINES = [b for b in BASES if isinstance(b, BSpline)]
every_spline = pytest.mark.parametrize("basis", SPLINES, ids=repr)


def points_inside(basis, count, seed=0):
    """Random points, the breaks, and points beside the breaks."""
    rng = np.random.default_rng(seed)
    breaks = basis.breaks
    beside = np.concatenate([np.nextafter(breaks[1:], breaks[0]), np.nextafter(breaks[:-1], breaks[-1])])
    return np.concatenate([rng.uniform(*basis.domain, count), breaks, beside])


def smallest_cell(basis):
    return np.diff(basis.breaks).min()


def rate(basis, order):
    """How large a derivative of a function of size one can get: Markov's inequality on the smallest cell, or a wave."""
    if isinstance(basis, Fourier):
        return (2 * np.pi * basis.degree / np.diff(basis.domain)[0]) ** order
    return (2 * max(basis.degree, 1) ** 2 / smallest_cell(basis)) ** order


@st.composite
def breaks_of(draw, domain=(0.0, 1.0), most=6):
    logs = draw(st.lists(st.floats(-3, 0), min_size=1, max_size=most))
    inner = np.cumsum(10.0 ** np.array(logs))
    return (domain[0], *(domain[0] + (domain[1] - domain[0]) * inner[:-1] / inner[-1]), domain[1])


@st.composite
def splines(draw, most_degree=7, periodic=None, domain=(0.0, 1.0), zero=None):
    degree = draw(st.integers(0, most_degree))
    breaks = draw(breaks_of(domain))
    periodic = draw(st.booleans()) if periodic is None else periodic
    count = len(breaks) - 2 + periodic
    continuity = draw(
        st.none() | st.lists(st.integers(-1, degree - 1), min_size=count, max_size=count) | st.integers(-1, degree - 1)
    )
    if zero is None and not periodic and degree > 1:
        zero = draw(st.sampled_from([None, "left", "right", "both"]))
    return BSpline(breaks=breaks, degree=degree, continuity=continuity, periodic=periodic, zero=zero)


seeds = st.integers(0, 2**32 - 1)
