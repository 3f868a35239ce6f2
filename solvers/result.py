"""What a solve returns: the function, its residual, and why the iteration ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from sepnet.coefficients import Source
from sepnet.forms import LinearForm
from sepnet.functions import CP, TensorTrain
from sepnet.problems import Problem
from sepnet.solvers.certificates import ErrorBound, error_bound
from sepnet.solvers.lifting import Lift
from sepnet.solvers.record import Record, Status

if TYPE_CHECKING:
    from sepnet.solvers.goal import Goal

__all__ = ["Solution"]


@final
@dataclass(frozen=True)
class Solution:
    """The result of `solve`.

    Parameters
    ----------
    u : CP or TensorTrain
        The solution, initial and boundary data included.
    residual : float
        Relative residual. Least squares: ``||L u - f|| / ||f - L lift||``, conditions included. Symmetric Galerkin: the
        dual norm of ``A u - f`` over that of ``f``, with the Kronecker-sum part of the form as Riesz map; for a form
        that is its own Kronecker sum, such as Poisson's, this is the relative energy distance to the discrete
        solution. ``method="full"`` with Galerkin: the Euclidean norm of the linear system's residual over that of its
        load.
    residual_norm : float
        The same, absolute.
    status : Status
        Why the iteration ended.
    problem : LeastSquares or Galerkin
        What was solved.
    lift : Lift
        Its lifted initial and boundary data.
    history : tuple of Record
        One record a sweep.
    data_error : float
        Relative L2 error of the projected initial and boundary data; not part of the residual.
    seconds : float
        Time of the iteration, without assembly.
    refine : str or None
        With MESH_LIMITED: the axis whose refinement lowers the residual most, measured.
    message : str
        Details of a failure, or empty.
    """

    u: CP | TensorTrain
    residual: float
    residual_norm: float
    status: Status
    problem: Problem = field(repr=False)
    lift: Lift = field(repr=False)
    history: tuple[Record, ...] = ()
    data_error: float = 0.0
    seconds: float = 0.0
    refine: str | None = None
    message: str = ""

    @property
    def converged(self) -> bool:
        """True when the status is CONVERGED."""
        return self.status is Status.CONVERGED

    @cached_property
    def error_bound(self) -> ErrorBound:
        """A guaranteed bound of the error of `u`, converged or not, computed when first asked for.

        Symmetric coercive Galerkin forms: in the energy norm against the exact solution, by a functional majorant.
        Least squares with ``stability=``: in L2. Infinite, with the reason as its `derivation`, where none is known.
        """
        return error_bound(self.problem, self.u, self.lift)

    def goal(self, functional: Source | LinearForm, **options: Any) -> Goal:
        """Return a quantity of interest with a bound of its error.

        Parameters
        ----------
        functional : data or LinearForm
            Data g stand for ``int g u`` over the box; other functionals come from ``sn.load_on``.
        **options
            Options of `solve` for the adjoint problem (Galerkin).

        Returns
        -------
        Goal
            ``value`` and ``bound``.

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=16, zero="both"), y=sn.BSpline((0, 1), cells=16, zero="both"))
        >>> solution = sn.solve(sn.Galerkin(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y), source=1), tol=1e-4)
        >>> mean = solution.goal(1)
        >>> abs(mean.value - 0.0351442537) <= mean.bound.value < 1e-4
        True
        """
        # The adjoint problem is solved by `solve`, which makes solutions: known to this module only when asked for.
        from sepnet.solvers.goal import goal

        return goal(self.problem, self.u, functional, lift=self.lift, **options)

    def __repr__(self) -> str:
        """One screen: function, status with the next step, residual, data error, time."""
        hint = f" (axis {self.refine!r})" if self.refine else ""
        lines = [
            f"Solution of {self.u!r}",
            f"  status      {self.status.name}: {self.status.value}{hint}",
            f"  residual    {self.residual:.3e} relative, {self.residual_norm:.3e} absolute",
            f"  data error  {self.data_error:.3e}",
            f"  work        {len(self.history)} sweeps, {self.seconds:.3g} s",
        ]
        if self.message:
            lines.append(f"  message     {self.message}")
        return "\n".join(lines)
