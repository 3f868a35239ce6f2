"""Time windows: a solution restricted to its last time is the next window's initial value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, nan, sqrt
from typing import Any, final

import numpy as np

from sepnet.bases.basis import Basis
from sepnet.bases.bspline import BSpline
from sepnet.bases.checks import real_number, whole_number
from sepnet.coefficients import Coefficient, Source
from sepnet.forms import LinearForm
from sepnet.functions import CP, TensorTrain
from sepnet.functions.base import SeparableFunction
from sepnet.problems import Galerkin, LeastSquares, Problem, faces
from sepnet.solvers.certificates import ErrorBound, error_bound, unknown_space
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.options import DEFAULT_TOL
from sepnet.solvers.record import Status
from sepnet.solvers.result import Solution
from sepnet.solvers.solve import solve
from sepnet.spaces import TensorSpace

__all__ = ["March", "march"]

# Share of the tolerance to which the value that is handed over is compressed, as other data are resolved. A hundredth
# keeps the errors of earlier windows as if they were the solution: on the plume the ranks then grow from window to
# window (13 to 26 in eight windows, error 1.5e-2), and with a tenth they do not (13 to 18, error 1.7e-2).
HANDOVER = 1e-1
# Windows meet where their ends differ by less than this share of the larger one.
_ROUND_OFF = 8 * float(np.finfo(np.float64).eps)


@final
@dataclass(frozen=True, eq=False, repr=False)
class March:
    """What `march` returns: a solution for each window.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        The problem over all windows.
    axis : str
        The axis that is cut into windows.
    solutions : tuple of Solution
        One for each window, in order; fewer if one of them failed or was interrupted.
    starts : tuple of data
        What each window should have started from: the initial value, then the uncompressed last value before it.
    """

    problem: Problem
    axis: str
    solutions: tuple[Solution, ...]
    starts: tuple[Source, ...]

    @property
    def converged(self) -> bool:
        """True when all windows were solved, each to its tolerance."""
        low, high = self.problem.space.axes[self.axis].domain
        reached = self.solutions[-1].u.space.axes[self.axis].domain[1]
        return _same(reached, high, low, high) and all(s.converged for s in self.solutions)

    def restrict(self, **fixed: float) -> SeparableFunction:
        """Return the solution at one place of the axis of the windows, as a function of the others.

        Parameters
        ----------
        **fixed : float
            A value of the axis of the windows, and any others to be fixed with it.

        Returns
        -------
        CP or TensorTrain
            From the window in which the value lies; where two meet, from the earlier one.

        Raises
        ------
        ValueError
            If that axis is missing, or the value lies in no window that was solved.
        """
        if self.axis not in fixed:
            msg = f"restrict: {self.axis!r} is missing, expected a value of it: a function of one window has no others"
            raise ValueError(msg)
        place = real_number(f"restrict: {self.axis}", fixed[self.axis])
        for solution in self.solutions:
            low, high = solution.u.space.axes[self.axis].domain
            if low <= place <= high:
                return solution.u.restrict(**fixed)
        first, last = (s.u.space.axes[self.axis].domain for s in (self.solutions[0], self.solutions[-1]))
        msg = (
            f"restrict: {self.axis} is {fixed[self.axis]}, expected a value in the windows solved, {first[0], last[1]}"
        )
        raise ValueError(msg)

    @cached_property
    def error_bounds(self) -> tuple[ErrorBound, ...]:
        """For each window a bound of the error from the beginning to its end, in L2, as in `error_bound`."""
        if not isinstance(self.problem, LeastSquares):
            reason = "errors of Galerkin's method are not followed from window to window: use sn.LeastSquares"
            return tuple(ErrorBound(inf, "energy", "exact", nan, reason) for _ in self.solutions)
        bounds: list[ErrorBound] = []
        squares = missed = 0.0
        for number, (solution, start) in enumerate(zip(self.solutions, self.starts, strict=True), 1):
            # The problem that this window should have solved: started from the value before it was compressed.
            member = dataclasses.replace(_on_window(self.problem, self.axis, solution.problem.space, start))
            every = error_bound(member, solution.u)
            inside = error_bound(dataclasses.replace(member, initial={}), solution.u)
            if not every.finite or not inside.finite:
                none = every if not every.finite else inside
                return (*bounds, *[none] * (len(self.solutions) - len(bounds)))
            squares += inside.value**2
            missed += every.value - inside.value
            text = (
                f"stability over {number} windows: {sqrt(squares):.3g} from the residuals (C = {every.constant:.4g}), "
                f"and {missed:.3g} from the jumps at their beginnings (C_0)"
            )
            bounds.append(ErrorBound(sqrt(squares) + missed, "L2", "exact", every.constant, text))
        return tuple(bounds)

    @property
    def error_bound(self) -> ErrorBound:
        """A bound of the error over all windows, with ``stability=(C, C_0)`` of the problem.

        The function that is put together from the windows solves the equation up to the residuals r_k, and jumps by
        j_k at the beginning of window k: what its solver missed, and what the compression of the value handed over
        cost. By linearity the error is that of one problem with all residuals, and of one for each jump, started
        there::

            || e ||  <=  C ( sum_k || r_k ||**2 )**(1/2)  +  C_0 sum_k || j_k ||

        if C_0 holds for every interval that ends where the last window ends, as those of dissipative equations do.
        """
        return self.error_bounds[-1]

    def __repr__(self) -> str:
        """One line for each window."""
        lines = [f"March of {len(self.solutions)} windows along {self.axis!r}"]
        for solution in self.solutions:
            low, high = solution.u.space.axes[self.axis].domain
            lines.append(
                f"  {low:.12g} to {high:.12g}  {solution.status.name}, residual {solution.residual:.3e}, "
                f"rank {solution.u.rank}, {solution.seconds:.3g} s"
            )
        return "\n".join(lines)


def march(problem: Problem, windows: int | Sequence[Basis], *, handover: float | None = None, **options: Any) -> March:
    """Solve an initial value problem window after window along the axis of its initial value.

    Over a long time the rank of a solution grows, and with it the work; the rank over a short one does not. The
    solution at the end of a window, compressed, is the initial value of the next.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        The problem over the whole time, with ``initial={"t": u0}``; its other data may depend on t.
    windows : int or sequence of Basis
        The number of windows, between which the cells of the problem's axis are shared out equally; or the bases of
        the windows, one after the other over the whole time.
    handover : float, optional
        Relative L2 error allowed when a value is compressed before it is handed over; by default a tenth of
        ``tol``. Zero: it is handed over as it is, and the ranks add up.
    **options
        As in `solve`, for every window.

    Returns
    -------
    March
        ``solutions``, ``restrict(t=...)``, and ``error_bound`` over all windows.

    Raises
    ------
    TypeError, ValueError
        If the problem has no initial value, or one on two axes; if the windows do not follow one another, or do not
        cover the axis; if an option is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=24, zero="both"), t=sn.BSpline((0, 1), cells=16))
    >>> x, t = V.coordinates
    >>> start = sn.apply(np.sin, np.pi * x)
    >>> heat = sn.LeastSquares(V.d.t - 0.1 * V.d.x**2, initial={"t": start}, stability=(2 / np.pi, 1))
    >>> run = march(heat, windows=4, tol=1e-3)
    >>> len(run.solutions), run.converged, run.error_bound.value < 1e-3
    (4, True, True)
    >>> bool(abs(run.restrict(t=1.0)([[0.5]])[0] - np.exp(-0.1 * np.pi**2)) < 1e-4)
    True
    """
    axis = _axis(problem)
    bases = _bases(problem.space.axes[axis], windows, axis)
    if options.get("checkpoint") is not None:
        msg = "`checkpoint` is given, but a file holds one run: solve the windows one at a time"
        raise ValueError(msg)
    if handover is None:
        tol = options.get("tol")
        handover = HANDOVER * (DEFAULT_TOL if tol is None else tol)
    elif not 0.0 <= handover < inf:
        msg = f"`handover` is {handover}, expected a relative error, at least 0: for example 1e-4"
        raise ValueError(msg)
    starts: list[Source] = [problem.initial[axis]]
    handed: Source = problem.initial[axis]
    solutions: list[Solution] = []
    for basis in bases:
        member = _on_window(problem, axis, problem.space.replace(**{axis: basis}), handed)
        solutions.append(solve(member, **options))
        if basis is bases[-1] or solutions[-1].status in (Status.FAILED, Status.INTERRUPTED):
            break
        last = _last(solutions[-1].u, axis)
        starts.append(last)
        handed = last if isinstance(last, float) else _compressed(last, member, axis, handover)
    return March(problem, axis, tuple(solutions), tuple(starts))


def _axis(problem: Problem) -> str:
    if not isinstance(problem, LeastSquares | Galerkin):
        msg = f"`problem` is {type(problem).__name__}, expected sn.LeastSquares or sn.Galerkin"
        raise TypeError(msg)
    if len(problem.initial) != 1:
        found = ", ".join(problem.initial) or "no axis"
        msg = f"`problem` has initial values on {found}, expected one axis, that of the windows: initial={{'t': u0}}"
        raise ValueError(msg)
    axis = next(iter(problem.initial))
    if faces({}, problem.boundary).get(axis, (None, None)) != (None, None):
        msg = f"`problem` has data at the end of {axis!r}, where the last window alone has it: leave them out"
        raise ValueError(msg)
    operators = [op for op, _ in problem.conditions] if isinstance(problem, LeastSquares) else []
    if any(axis in operator.face for operator in operators):
        msg = f"`conditions` has one on a face of {axis!r}, which one window alone has: use `initial`, or solve as one"
        raise ValueError(msg)
    return axis


def _bases(whole: Basis, windows: int | Sequence[Basis], axis: str) -> list[Basis]:
    low, high = whole.domain
    if not isinstance(windows, Sequence):
        return _parts(whole, whole_number("windows", windows, at_least=1))
    for number, basis in enumerate(windows):
        if not isinstance(basis, Basis):
            msg = f"`windows[{number}]` is {type(basis).__name__}, expected a basis such as sn.BSpline((0, 1), cells=8)"
            raise TypeError(msg)
    ends = [low, *(basis.domain[1] for basis in windows)]
    for number, basis in enumerate(windows):
        if not _same(basis.domain[0], ends[number], low, high):
            msg = (
                f"`windows[{number}]` begins at {basis.domain[0]:.12g}, expected {ends[number]:.12g}, where it should "
                "follow"
            )
            raise ValueError(msg)
    if not windows or not _same(ends[-1], high, low, high):
        msg = (
            f"`windows` end at {ends[-1]:.12g} and axis {axis!r} of the problem at {high:.12g}, expected the same: "
            "pose the problem over all windows, problem.operator.on(V.replace(...))"
        )
        raise ValueError(msg)
    return list(windows)


def _same(a: float, b: float, low: float, high: float) -> bool:
    return abs(a - b) <= _ROUND_OFF * max(abs(low), abs(high))


def _parts(whole: Basis, count: int) -> list[Basis]:
    if count == 1:
        return [whole]
    if not isinstance(whole, BSpline):
        msg = f"`windows` is {count}, but {whole!r} has no cells to share out: give the bases of the windows"
        raise ValueError(msg)
    cells = len(whole.breaks) - 1
    if cells % count:
        msg = f"`windows` is {count}, which does not divide the {cells} cells of the axis: change one of them"
        raise ValueError(msg)
    step = cells // count
    smooth = whole.continuity
    parts: list[Basis] = []
    for begin in range(0, cells, step):
        inner = list(smooth[begin : begin + step - 1])
        parts.append(
            BSpline(breaks=whole.breaks[begin : begin + step + 1], degree=whole.degree, continuity=inner or None)
        )
    return parts


def _on_window(problem: Problem, axis: str, space: TensorSpace, start: Source) -> Problem:
    if isinstance(problem, LeastSquares):
        conditions = [(operator.on(space), data) for operator, data in problem.conditions]
        operator = problem.operator.on(space)
        return dataclasses.replace(problem, operator=operator, initial={axis: start}, conditions=conditions)
    source = problem.source.on(space) if isinstance(problem.source, LinearForm) else problem.source
    return dataclasses.replace(problem, form=problem.form.on(space), source=source, initial={axis: start})


def _last(u: CP | TensorTrain, axis: str) -> CP | TensorTrain | float:
    """Return the value of a function at the end of an axis, on the host in float64."""
    end = u.space.axes[axis].domain[1]
    v = u.to(np, dtype="float64")
    return float(v([[end]])[0]) if u.space.dim == 1 else v.restrict(**{axis: end})


def _compressed(last: CP | TensorTrain, problem: Problem, axis: str, tol: float) -> CP | TensorTrain:
    """Return the value to be handed over, in a lower rank; boundary values stay as they are.

    What is compressed is the difference to the lifted boundary values, in the space that vanishes there: else the
    value handed over would disagree with them where the faces meet.
    """
    if tol == 0.0:
        return last
    given = faces({}, problem.boundary)
    if not any(datum is not None and datum.terms for pair in given.values() for datum in pair):
        return _lower(last, tol)
    walls = make_lift(dataclasses.replace(problem, initial={}), tol).function
    assert walls is not None  # there are data
    fixed = walls.restrict(**{axis: problem.space.axes[axis].domain[1]})
    held = unknown_space(problem).drop(axis)
    rest = last - fixed
    assert not isinstance(rest, Coefficient)  # a difference of functions
    space = TensorSpace(**{n: b.with_zero(held.axes[n].zero) for n, b in rest.space.items})
    return fixed + _lower(rest.project(space).function, tol)


def _lower(function: CP | TensorTrain, tol: float) -> CP:
    return function.to_cp(tol).function if isinstance(function, TensorTrain) else function.compress(tol)
