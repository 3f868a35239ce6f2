r"""The functional majorant: a bound of the energy distance of any function to the exact solution.

Let u solve ``a(u, w) = f(w)`` with the form of `sepnet.solvers.elliptic`, let v take the Dirichlet values of u, and
let s be any flux with square-integrable ``d_i s_i`` and ``s . n = g - gamma v`` on natural faces. Integration by parts:

    a(u - v, w) = (r, w) - sum_i (A_i d_i v - s_i, d_i w),        r = f - c v + sum_i d_i s_i,

and with ``q**2 = sum_i || A_i**(-1/2) (s_i - A_i d_i v) ||**2``, ``|w|_A**2 = sum_i (A_i d_i w, d_i w) >= lambda
||w||**2`` (Friedrichs) and ``c >= c_0`` the right-hand side is at most ``q |w|_A + ||r|| ||w||``, to be compared with
``||w||_a**2 >= |w|_A**2 + c_0 ||w||**2``. The largest quotient is

    ||u - v||_a <=  (q**2 + ||r||**2 / c_0)**(1/2)                              if  q c_0 >= ||r|| lambda**(1/2),
                    (lambda**(1/2) q + ||r||) / (lambda + c_0)**(1/2)           otherwise

(Prager and Synge, Quart. Appl. Math. 5, 1947; Repin, A Posteriori Estimates for Partial Differential Equations, 2008,
chapter 4). It holds for every v, converged or not, and every s; the flux decides only how sharp it is.

The flux comes from one scalar function l in CP format, by the mixed method: on axis i ``l -> s`` is the weak gradient,
``(s / a, q) = -(l, q')`` for all splines q that vanish at the natural ends of the axis, and ``s_i = prod_{k /= i}
a_ik(x_k)  (weak gradient of l along i)``. l need not vanish anywhere, so that s can be in equilibrium where second
derivatives of v could not: at the edges of the box v has ``Laplace v = 0`` whatever f is. (Fluxes ``A grad w`` of a
smooth w were rejected for that reason: on the corners of the unit cube with f = 1 their residual falls by one order
of h less.) l minimises ``(1 + beta) q**2 + (1 + 1/beta) ||r||**2 / lambda`` with beta = 0.1, by alternating least
squares.

If all ``A_i`` share factors ``o_k`` of parameters, with the product o, ``||w||`` is taken with the weight o: then r is
divided by its root, and ``lambda`` and ``c_0`` are lower bounds relative to o.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from typing import final

import numpy as np

from sepnet.functions import CP
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.axis_systems import NotPositiveDefiniteError
from sepnet.solvers.elliptic import Elliptic, NoBoundError
from sepnet.solvers.flux import FluxSpace, Linear, functional
from sepnet.solvers.sampled import Function
from sepnet.solvers.separable import SeparableMatrix, SeparableVector

__all__ = ["Majorant", "combine", "majorant"]

# Young's parameter: the residual weighs eleven times what the misfit does.
BETA = 0.1
# Columns added at a time, sweeps after each addition, and the largest number of columns.
COLUMNS, SWEEPS, MOST_COLUMNS = 4, 3, 48
# Columns of u that the search begins with where u has more than it may have: room to grow is worth more.
START = 16
# A step factorises a dense matrix: the operations of a sweep allowed, about a second, and the finest axis.
WORK, FINEST = 6e9, 4000
# The flux is good enough when the residual is this share of the misfit; two additions that gain less than USEFUL end
# the search.
SHARE, USEFUL = 0.2, 0.05
# How often the cells may be halved for the flux, where the residual is more than half of the bound.
LEVELS = 2
# How close a sum of products must come to a train to stand for it while the flux is computed.
PROXY = 1e-5


@final
@dataclass(frozen=True)
class Majorant:
    """The parts of a majorant: ``value`` bounds the energy distance.

    Parameters
    ----------
    value : float
        The bound.
    misfit, residual : float
        ``q`` and ``||r||`` of the module's text.
    constant : float
        ``(lambda + c_0)**(-1/2)``: ``||w|| <= constant ||w||_a``.
    rank : int
        Columns of the flux's potential.
    """

    value: float
    misfit: float
    residual: float
    constant: float
    rank: int


def combine(misfit: float, residual: float, eigenvalue: float, reaction: float) -> float:
    """Return the largest ``q x + r y`` over ``x**2 + c y**2 <= 1``, ``x**2 >= eigenvalue y**2``."""
    if reaction > 0.0 and misfit * reaction >= residual * sqrt(eigenvalue):
        return hypot(misfit, residual / sqrt(reaction))
    return (sqrt(eigenvalue) * misfit + residual) / sqrt(eigenvalue + reaction)


def majorant(problem: Elliptic, u: Function) -> Majorant:
    """Return a bound of the energy distance of `u` to the exact solution.

    Parameters
    ----------
    problem : Elliptic
        The problem, from `read_elliptic`.
    u : CP or TensorTrain
        Any function that takes the Dirichlet values of the solution, float64 on the host.

    Returns
    -------
    Majorant

    Raises
    ------
    NoBoundError
        If an axis is too fine for the dense matrices that the flux needs.
    """
    # A train stands in the load of the flux as a sum of products close to it; what is measured is the train.
    proxy = u if isinstance(u, CP) else u.to_cp(PROXY, rank=MOST_COLUMNS).function
    best = _search(problem, u, proxy, 0)
    for level in range(1, LEVELS + 1):
        # Data that the mesh of u does not resolve: a finer flux resolves them.
        if best.constant * best.residual <= best.misfit or _columns(u.space.shape, 2**level) < COLUMNS:
            break
        found = _search(problem, u, proxy, level)
        best = found if found.value < best.value else best
    return best


def _search(problem: Elliptic, u: Function, proxy: CP, level: int) -> Majorant:
    """Return the best majorant over potentials of growing rank, on cells halved `level` times."""
    space = FluxSpace(problem, u, level)
    largest = max(space.shape)
    if largest > FINEST:
        msg = f"an axis has {largest} coefficients, more than the {FINEST} that the flux of the bound can take"
        raise NoBoundError(msg)
    misfits, residual = space.blocks()
    best = _measure(problem, misfits, residual, None)
    if best.value == 0.0 or not problem.diffusion:
        return best
    if proxy is u:
        system = _system(problem, space, misfits, residual)
    else:
        beside = FluxSpace(problem, proxy, level)
        system = _system(problem, beside, *beside.blocks())
    iteration = AlternatingLeastSquares(*system)
    most = 1 if space.dim == 1 else _columns(space.shape)
    start = _start(space, proxy, most)
    if start is None:
        iteration.grow(min(COLUMNS, most))
    else:
        iteration.start(start)
    useless = 0
    while True:
        try:
            for _ in range(SWEEPS):
                iteration.sweep()
        except NotPositiveDefiniteError:
            break
        found = _measure(problem, misfits, residual, iteration.balanced())
        useless = useless + 1 if not found.value < (1 - USEFUL) * best.value else 0
        best = found if found.value < best.value else best
        enough = best.constant * best.residual <= SHARE * best.misfit
        if enough or useless == 2 or iteration.rank >= most:
            break
        iteration.grow(min(COLUMNS, most - iteration.rank))
    return best


def _columns(shape: Sequence[int], finer: int = 1) -> int:
    """Return the largest number of columns with which a sweep is cheap enough, at least one."""
    cubes = sum(float(finer * n) ** 3 for n in shape)
    return max(1, min(MOST_COLUMNS, int((3 * WORK / cubes) ** (1 / 3))))


def _start(space: FluxSpace, proxy: CP, most: int) -> list[np.ndarray] | None:
    """Return u itself as the first potential, if it is not zero: from random columns the residual falls slowly."""
    if proxy.norm() == 0.0:
        return None
    start = proxy if proxy.rank <= most else proxy.compress(rank=min(most, START))
    return list(start.project(space.space).function.factors)


def _system(
    problem: Elliptic, space: FluxSpace, misfits: list[Linear], residual: Linear
) -> tuple[SeparableMatrix, SeparableVector]:
    """Return matrix and load of the flux's potential."""
    weight = (1 + 1 / BETA) / (problem.eigenvalue + problem.reaction_low)
    if problem.reaction_low > 0.0:
        # q**2 + ||r||**2 / c_0 needs no Young.
        weight = min(weight, (1 + BETA) / problem.reaction_low)
    return functional(space, [*((1 + BETA, b) for b in misfits), (weight, residual)])


def _measure(problem: Elliptic, misfits: list[Linear], residual: Linear, factors: list[np.ndarray] | None) -> Majorant:
    q = hypot(*(block.norm(factors) for block in misfits))
    r = residual.norm(factors)
    value = combine(q, r, problem.eigenvalue, problem.reaction_low)
    constant = 1 / sqrt(problem.eigenvalue + problem.reaction_low)
    return Majorant(value, q, r, constant, 0 if factors is None else int(factors[0].shape[1]))
