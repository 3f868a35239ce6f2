"""The direct solution on the full tensor space, for small problems."""

from __future__ import annotations

import time
from math import sqrt

import numpy as np

from sepnet.backends.arrays import to_host
from sepnet.functions import CP, TensorTrain
from sepnet.problems import LeastSquares
from sepnet.solvers.full_tensor import Factorisation, tensor_to_cp
from sepnet.solvers.options import DEFAULT_RANK
from sepnet.solvers.prepare import Prepared, put, unknown_rank
from sepnet.solvers.record import Status
from sepnet.solvers.refinement import best_axis
from sepnet.solvers.report import with_data
from sepnet.solvers.result import Solution
from sepnet.solvers.system import residual_norm

__all__ = ["solve_directly"]


def solve_directly(prepared: Prepared, direct: Factorisation) -> Solution:
    """Solve with a factorised matrix, and write the solution in the format asked for."""
    began = time.perf_counter()
    lift, options, system = prepared.lift, prepared.options, prepared.system
    v = tensor_to_cp(lift.space, direct.solve(prepared.load))
    rank = unknown_rank(prepared)
    cut = options.rank is not None and v.rank > rank
    there = put(v.compress(rank=rank) if cut else v, options)
    # What is measured is what is returned: after rounding to the rank and to the dtype.
    v = CP(v.space, [to_host(f).astype(np.float64) for f in there.factors])
    relative = _residual(prepared, direct, v)
    u = system.scale * there
    u = u if lift.function is None else put(lift.function, options) + u
    status, refine, message = Status.CONVERGED, None, ""
    if relative > options.goal:
        # The direct solution is the best there is on this mesh: only a finer mesh helps, or the rank that was cut off.
        status, message = Status.STAGNATED, "the mesh is too coarse for the tolerance: refine an axis"
        if cut:
            status, message = Status.RANK_LIMITED, ""
        elif isinstance(prepared.problem, LeastSquares) and v.rank <= DEFAULT_RANK:
            refine = best_axis(prepared.problem, lift, v.factors, relative)
            status, message = (Status.MESH_LIMITED, "") if refine else (status, message)
    solution = Solution(
        u=TensorTrain.from_cp(u).compress(1e-12) if options.format == "tt" else u,
        residual=relative,
        residual_norm=relative * system.scale,
        status=status,
        data_error=lift.data_error,
        seconds=time.perf_counter() - began,
        refine=refine,
        message=message,
        problem=prepared.problem,
        lift=lift,
    )
    return with_data(solution, lift, options.goal)


def _residual(prepared: Prepared, direct: Factorisation, v: CP) -> float:
    """Return the relative residual of v: of the linear system, or for least squares of the functional."""
    system = prepared.system
    coefficients, b = np.asarray(v.full()), prepared.load.dense()
    if not system.blocks:
        return direct.residual(coefficients, b)
    exact = residual_norm(system, prepared.lift.function, (system.scale * v).factors)
    if exact is not None:
        return exact / system.scale
    value, noise = direct.functional(coefficients, b)
    return sqrt(max(1.0 + value, 0.0) + noise)
