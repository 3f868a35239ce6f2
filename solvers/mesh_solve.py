"""Problems with a mesh axis: solved on few functions of the mesh, which are added until the residual is small.

A round solves the reduced problem as a train, to a tolerance of the size of what the mesh functions leave out, and
adds functions. When they leave out little enough, the problem is solved once more as the user wants it: as a sum of
products, by a method of choice, with a rank.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from math import hypot, inf
from typing import final

import numpy as np

from sepnet.backends.arrays import from_host, is_numpy, to_host
from sepnet.bases.matrix_axis import Assembled
from sepnet.functions import CP, TensorTrain
from sepnet.functions.base import SeparableFunction
from sepnet.functions.trains import cp_to_train, orthogonalise_left, orthogonalise_right
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.solvers.direct import solve_directly
from sepnet.solvers.full_tensor import Factorisation
from sepnet.solvers.iterate import solve_iteratively
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.lifting import Lift
from sepnet.solvers.mesh_norm import MeshNorm, check_kernel, mesh_axis
from sepnet.solvers.mesh_reduction import MeshReduction
from sepnet.solvers.mesh_residual import Modes
from sepnet.solvers.options import DEFAULT_TOL, Options
from sepnet.solvers.prepare import Prepared, highest_rank, unknown_rank
from sepnet.solvers.record import Record, Status
from sepnet.solvers.report import report
from sepnet.solvers.result import Solution
from sepnet.solvers.run import Outcome
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.spaces import TensorSpace

__all__ = ["check_mesh", "solve_on_mesh", "takes_mesh"]

logger = logging.getLogger(__name__)

# What the mesh functions leave out is brought below this share of the tolerance, and what the solve on them leaves,
# below this one: together they are within it.
OUTSIDE, INSIDE = 0.5, 0.8
# In a round, the reduced problem is solved to this share of what the mesh functions left out before.
CLOSER, LOOSEST = 0.3, 0.1
# Rounds end where in so many of them what is left out has not fallen below this share.
PATIENCE, PROGRESS = 5, 0.9
# Functions on the mesh at most: the reduced problems are dense along that axis.
MOST = 400


def check_mesh(problem: Problem, axis: int, options: Options) -> None:
    """Refuse what does not go together with a mesh, which is the axis of that number.

    Raises
    ------
    TypeError, ValueError
        With the next step.
    """
    if isinstance(problem, LeastSquares):
        msg = "an axis is a mesh, which has the weak form only: use sn.Galerkin with its matrices, not sn.LeastSquares"
        raise TypeError(msg)
    if problem.is_nonlinear:
        msg = "an axis is a mesh, on which products of functions are not known, and the problem is nonlinear"
        raise TypeError(msg)
    if not is_numpy(options.xp):
        msg = "`xp` is given, but a mesh axis takes sparse matrices on the host: leave it out, and move u with u.to(xp)"
        raise ValueError(msg)
    if options.start is not None and options.start.space.bases[axis] != problem.space.bases[axis]:
        msg = f"`start` lives on another mesh along {problem.space.names[axis]!r}, expected the same one: leave it out"
        raise ValueError(msg)
    if options.checkpoint is not None:
        msg = "`checkpoint` is given, but a solve with a mesh axis consists of several runs: leave it out"
        raise ValueError(msg)


def takes_mesh(prepared: Prepared) -> bool:
    """Tell whether the method is one that works on the mesh itself, by scalar solves of its size."""
    options = prepared.options
    return options.method in ("als", "pgd", "pgd-update") and options.format == "cp" and prepared.symmetric


def solve_on_mesh(prepared: Prepared) -> Solution:
    """Solve a problem with a mesh axis.

    Parameters
    ----------
    prepared : Prepared
        The problem, assembled on the mesh.

    Returns
    -------
    Solution
        Its residual is that of the problem on the mesh: the dual norm of the reduced problem, and of what its functions
        do not see, together.
    """
    return _Rounds(prepared).solve()


@final
@dataclass(frozen=True)
class _State:
    """A solution of a reduced problem, and the norm of what its test functions do not see."""

    solution: Solution
    outside: float
    reference: float

    @property
    def residual(self) -> float:
        """Relative residual on the mesh."""
        return hypot(self.solution.residual_norm, self.outside) / self.reference

    @property
    def is_over(self) -> bool:
        """Whether the solve was interrupted or failed."""
        return self.solution.status in (Status.INTERRUPTED, Status.FAILED)


@final
class _Rounds:
    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        axis = mesh_axis(prepared.space)
        assert axis is not None
        assert isinstance(prepared.problem, Galerkin)
        self.axis, self.name = axis, prepared.space.names[axis]
        self.form = prepared.problem.bilinear.on(prepared.space)
        self.named = sorted({str(b.factor(self.name).matrix) for _, b in self.form.pairs} - {"None"})
        norm, basis = MeshNorm.from_form(self.form, axis), prepared.space.bases[axis]
        assert isinstance(basis, Assembled)
        check_kernel(norm, prepared.system.matrices.matrices[axis], basis.mass, self.name)
        self.reduction = MeshReduction(prepared.system, axis, norm)
        self.history: list[Record] = []
        self.load = 0.0  # dual norm of the load
        self.exhausted = False  # more functions on the mesh are not to be had, or do not help
        self.began = time.perf_counter()

    def solve(self) -> Solution:
        """Add functions and solve until the residual is what was asked for."""
        options = self.prepared.options
        by_rank = options.tol is None and options.rank is not None
        goal = DEFAULT_TOL if by_rank else options.goal
        rank = None if options.rank is None else unknown_rank(self.prepared)
        final = replace(options, start=None, rank=rank, tol=None if by_rank else INSIDE * goal)
        plain = options.format == "tt" and rank is None and options.dtype == np.float64
        self._begin(goal)
        state, target = self._rounds(None, OUTSIDE * goal), OUTSIDE * goal
        while True:
            found = state if plain else self._as_asked(final, state)
            inside, outside = found.solution.residual_norm, found.outside
            done = outside <= OUTSIDE * inside if by_rank else found.residual <= goal or inside > outside
            if done or self.exhausted or found.is_over:
                return self._report(found)
            target = min(target, OUTSIDE * inside / found.reference if by_rank else target) / 2
            state = self._rounds(state, target)

    def _begin(self, goal: float) -> None:
        """Take the first functions: what the load asks for, and what a start is made of."""
        start, order = self.prepared.options.start, range(self.prepared.space.dim)
        modes = self.reduction.residual(None, order)
        self.load = modes.norm * self._unit
        if start is not None:
            self.reduction.grow(_mesh_functions(start, self.name, self.reduction.norm, goal))
            modes = self.reduction.residual(None, order)
        self.reduction.follow(modes)

    def _rounds(self, state: _State | None, target: float) -> _State:
        """Add functions until those that are there leave out a residual of `target` at most."""
        best, waiting = inf, 0
        while True:
            outside = LOOSEST if state is None else state.outside / state.reference
            tol = max(min(LOOSEST, CLOSER * outside), OUTSIDE * target)
            options = self.prepared.options
            options = replace(options, start=None, tol=tol, rank=None, method="als", format="tt", dtype=np.float64)
            state = self._once(options, state)
            enough = state.outside <= target * state.reference
            inside = state.solution.residual_norm <= target * state.reference
            if state.is_over or (enough and (inside or tol <= 2 * OUTSIDE * target)):
                return state
            if not state.solution.converged and state.solution.residual_norm > state.outside:
                return state  # more functions would not help
            if enough:
                continue
            waiting = 0 if state.outside < PROGRESS * best else waiting + 1
            best = min(best, state.outside)
            full = waiting > PATIENCE or self.reduction.size >= MOST
            if full or self.reduction.follow(self._modes(state)) == 0:
                self.exhausted = True
                return state

    def _as_asked(self, options: Options, state: _State) -> _State:
        """Solve the reduced problem as the user wants it, from the train of the last round."""
        if not state.is_over:
            return self._once(options, state)
        # What there is has to take the format that was asked for: one sweep, and the reason of the end stays.
        ended = state.solution
        stopped = self._once(replace(options, callback=lambda record: True), state)
        return replace(stopped, solution=replace(stopped.solution, status=ended.status, message=ended.message))

    def _once(self, options: Options, state: _State | None) -> _State:
        """Solve the reduced problem, from the solution of the one before."""
        prepared = self._reduced(options, state)
        if prepared.space.dim == 1:
            solution = solve_directly(prepared, Factorisation(prepared.matrix, symmetric=prepared.symmetric))
        else:
            solution = solve_iteratively(prepared)
        # The dual norm of the reduced load, by which the solver has divided; where nothing is left, that of the load.
        inner = solution.residual_norm / solution.residual if solution.residual > 0.0 else self.load
        without = self.reduction.residual(None, range(prepared.space.dim)).norm * self._unit
        state = _State(solution, 0.0, hypot(inner, without))
        state = replace(state, outside=self._modes(state).norm * self._unit)
        offset = time.perf_counter() - self.began - solution.seconds
        for record in solution.history:
            whole = hypot(record.residual * inner, state.outside) / state.reference
            rank = record.rank + self.prepared.lifted
            self.history.append(Record(len(self.history) + 1, rank, whole, offset + record.seconds))
        logger.debug(
            "%d functions on the mesh: %.2e inside, %.2e outside",
            self.reduction.size,
            solution.residual,
            state.outside / state.reference,
        )
        return state

    @property
    def _unit(self) -> float:
        return self.prepared.system.scale

    def _modes(self, state: _State) -> Modes:
        u = state.solution.u
        host = u.to(np, dtype="float64") * (1.0 / self._unit)
        if isinstance(host, CP):
            return self.reduction.residual(cp_to_train(host.factors), range(host.space.dim))
        return self.reduction.residual(host.cores, [host.space.names.index(n) for n in host.order])

    def _reduced(self, options: Options, state: _State | None) -> Prepared:
        space = self.prepared.space.replace(**{self.name: self.reduction.reduced_axis(self.named)})
        system = self.reduction.reduced_system(space)
        if state is not None:
            start = _padded(state.solution.u, space, self.name)
            options = replace(options, start=start)
            if options.order is None and isinstance(start, TensorTrain):
                options = replace(options, order=start.order)
        form, lift = self.form.on(space), self.reduction.norm.lift
        riesz = KroneckerSum.from_form(form)
        if lift:
            riesz = replace(riesz, low=riesz.low + lift, exact=False)
        return Prepared(
            Galerkin(form),
            Lift(space, None, 0.0),
            system,
            SeparableMatrix.from_table(system.matrices),
            SeparableVector.from_table(system.loads),
            options,
            norm=riesz,
        )

    def _report(self, state: _State) -> Solution:
        """Write the solution on the mesh."""
        prepared, inner = self.prepared, state.solution
        u = inner.u
        if isinstance(u, TensorTrain) and prepared.options.order is None:
            u = _mesh_at_an_end(u, self.name, self.reduction.basis.shape[0], prepared.options.rank)
        u = _expanded(u, prepared.space, self.name, self.reduction.basis)
        message = inner.message
        if inner.converged and state.residual > prepared.options.goal:
            message = f"{self.reduction.size} functions on the mesh leave out a residual of {state.outside:.2g}"
        outcome = Outcome([], state.residual, inner.status, tuple(self.history), message)
        return report(
            prepared,
            u,
            outcome,
            residual=state.residual,
            unit=state.reference,
            seconds=time.perf_counter() - self.began,
            exhausted=u.rank >= highest_rank(prepared.space.shape),
            refine=lambda: None,
        )


def _mesh_functions(u: SeparableFunction, name: str, norm: MeshNorm, tol: float) -> np.ndarray:
    """Return what a function is made of along the mesh, up to a share `tol` in the energy, as columns."""
    host = u.to(np, dtype="float64")
    train = TensorTrain.from_cp(host) if isinstance(host, CP) else host
    assert isinstance(train, TensorTrain)
    place = train.order.index(name)
    left = orthogonalise_left(train.cores[: place + 1])
    core = orthogonalise_right([left[-1], *train.cores[place + 1 :]])[0]
    columns = core.transpose(1, 0, 2).reshape(core.shape[1], -1)
    frame, sizes, _ = np.linalg.svd(norm.root.root @ columns, full_matrices=False)
    return norm.root.unroot(frame[:, sizes > tol * sizes.max(initial=0.0)])


def _padded(u: CP | TensorTrain, space: TensorSpace, name: str) -> CP | TensorTrain:
    """Return a function of fewer mesh functions on the reduced space of more."""
    size = space.axes[name].size
    parts = [to_host(a).astype(np.float64) for a in u.arrays]
    if isinstance(u, CP):
        k = u.space.names.index(name)
        parts[k] = np.pad(parts[k], ((0, size - parts[k].shape[0]), (0, 0)))
        return CP(space, parts)
    k = u.order.index(name)
    parts[k] = np.pad(parts[k], ((0, 0), (0, size - parts[k].shape[1]), (0, 0)))
    return TensorTrain(space, parts, u.order)


def _mesh_at_an_end(u: TensorTrain, name: str, size: int, rank: int | None) -> TensorTrain:
    """Return a train of the reduced space in the order that takes the fewest numbers with `size` dofs on the mesh.

    Between two other axes the mesh has a core of two ranks, at an end of one. On the few functions of the reduced space
    moving it costs nothing, and nothing but round-off is lost. Ranks above `rank` are not taken.
    """

    def numbers(train: TensorTrain) -> int:
        place = train.order.index(name)
        core = train.cores[place]
        return train.size + int(core.shape[0]) * int(core.shape[2]) * (size - int(core.shape[1]))

    rest = [axis for axis in u.order if axis != name]
    moved = [u.reorder(name, *rest), u.reorder(*rest, name)]
    return min([u, *(train for train in moved if rank is None or train.rank <= rank)], key=numbers)


def _expanded(u: CP | TensorTrain, space: TensorSpace, name: str, basis: np.ndarray) -> CP | TensorTrain:
    """Return a function of the reduced space on the mesh."""
    matrix = from_host(basis, u.xp, device=u.device, dtype=u.dtype)
    parts = list(u.arrays)
    if isinstance(u, CP):
        k = space.names.index(name)
        parts[k] = matrix @ parts[k]
        return CP(space, parts)
    k = u.order.index(name)
    parts[k] = np.einsum("nm,amc->anc", matrix, parts[k])
    return TensorTrain(space, parts, u.order)
