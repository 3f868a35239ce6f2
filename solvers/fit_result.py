"""What a fit returns: the function, what it cost in degrees of freedom, and what was found out on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, final

from sepnet.functions import CP
from sepnet.functions.sna import SNA
from sepnet.solvers.evidence import FitPrior

__all__ = ["Fit", "FitRecord", "FitStatus"]


@final
class FitStatus(Enum):
    """How a fit ended. The value is the sentence for the user, with the next step."""

    FITTED = "The objective no longer falls."
    STEP_LIMITED = "The objective still falls: raise max_steps=."
    CONSTANT = "The targets, or the inputs, are the same in all samples: u is the mean of the targets."
    UNDERDETERMINED = (
        "There are fewer samples than coefficients: the penalty alone decides the rest; lower rank= or cells=."
    )
    INTERRUPTED = "The fit was interrupted; u is the best function so far."


class FitRecord(NamedTuple):
    """One stage of a fit: coefficients, root mean square error relative to the targets' spread, and the same on check.

    With a logistic loss the errors are mean losses. `check` is NaN where no samples are held back.
    """

    size: int
    error: float
    check: float
    seconds: float


@final
@dataclass(frozen=True)
class Fit:
    """The result of `fit`.

    Parameters
    ----------
    u : CP or SNA
        The fitted function, in the units of the data. With several outputs it has one more axis, ``output``;
        ``u.restrict(output=j)`` is the j-th.
    status : FitStatus
    error : float
        Root mean square error on all samples, relative to the targets' standard deviation; with a logistic loss the
        mean loss.
    noise : float
        Estimate of the standard deviation of the noise, in units of the target (of the first one, if several), of a
        sample of average weight: ``sqrt(RSS / (n - freedom))``. For data without noise it is the error of the
        approximation; NaN with a logistic loss, which has none.
    freedom : float
        Degrees of freedom used, the trace of the influence matrix of all factors together, linearised at the fit.
    gcv : float
        Score of generalised cross-validation, relative to the targets' variance.
    penalty : dict of str to float
        Weight of the roughness on each axis, as `fit` takes it.
    ridge : float
        Weight of ``||u - c||^2``, as `fit` takes it.
    inert : tuple of str
        Inputs that do nothing.
    count : int
        Number of samples.
    prior : FitPrior or None
        With ``penalty="evidence"``: lengths, variance and noise of the largest evidence. `ridge` is then the weight of
        its norm.
    history : tuple of FitRecord
    seconds : float
    """

    u: CP | SNA
    status: FitStatus
    error: float
    noise: float
    freedom: float
    gcv: float
    penalty: dict[str, float]
    ridge: float
    inert: tuple[str, ...]
    count: int
    prior: FitPrior | None = None
    history: tuple[FitRecord, ...] = field(repr=False, default=())
    seconds: float = 0.0
