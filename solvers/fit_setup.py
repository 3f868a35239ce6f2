"""From the arguments of a fit to axes, columns and scales, and from the fitted columns to a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, final

import numpy as np

from sepnet.backends.arrays import Namespace, from_host
from sepnet.bases.bspline import BSpline
from sepnet.bases.checks import whole_number
from sepnet.functions import CP
from sepnet.functions.interaction import Interaction
from sepnet.functions.sna import SNA
from sepnet.solvers.evidence import FitPrior
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_growth import START
from sepnet.solvers.fit_model import Model
from sepnet.solvers.fit_penalty import Penalty
from sepnet.solvers.fit_source import Summary, Units
from sepnet.spaces import TensorSpace

__all__ = ["Setup", "function_of", "set_up", "size_limit"]

APART = 1e-10  # weight of the squared norms of single columns, relative to the targets' variance
FAR = 100.0  # a mean so many times the spread is taken out, lest the small differences drown in its penalty


@final
@dataclass(frozen=True)
class Setup:
    """What is to be fitted.

    Parameters
    ----------
    names : tuple of str
        Axes; the last one is ``output`` if there are several outputs.
    inputs : int
    axes : tuple of FitAxis
        One for each name, and last that of the constant.
    flat : tuple of int
        Axes on which all samples have one value.
    interaction : tuple of (subset, rank), or None
        The sparse form asked for.
    rank : int or None
    refine : bool
        Knots may be added.
    penalty : Penalty
    gcv, evidence : bool
        The samples choose the penalty, in either way.
    prior : FitPrior or None
        That of the largest evidence, once it is known.
    squared : bool
        The loss is the squared error, so targets are scaled.
    count, effective : int
        Rows, and samples: targets that are there.
    means : ndarray of shape (outputs,)
        The best constant.
    units : Units
        What is subtracted from the targets, and what they are divided by.
    spread : float
        Standard deviation of the first output, 1 if it does not vary.
    varied : bool
        The targets do.
    dtype : str
        Of the function.
    """

    names: tuple[str, ...]
    inputs: int
    axes: tuple[FitAxis, ...]
    flat: tuple[int, ...]
    interaction: tuple[tuple[tuple[int, ...], int], ...] | None
    rank: int | None
    refine: bool
    penalty: Penalty
    gcv: bool
    evidence: bool
    squared: bool
    count: int
    effective: int
    means: np.ndarray
    units: Units
    spread: float
    varied: bool
    xp: Namespace
    device: Any
    dtype: str
    prior: FitPrior | None = None

    @property
    def scales(self) -> np.ndarray:
        """What the targets are divided by, shape (outputs,)."""
        return self.units.scales

    @property
    def shifted(self) -> bool:
        """Whether something is subtracted from the targets."""
        return bool(self.units.shifts.any())

    @property
    def outputs(self) -> tuple[int, ...]:
        """Number of the output axis, if there is one."""
        return tuple(range(self.inputs, len(self.names)))

    @property
    def level(self) -> tuple[int, ...]:
        """Axes of the column of the constant: one number, or one for each output."""
        return self.outputs or (len(self.names),)

    @property
    def live(self) -> tuple[int, ...]:
        """Input axes on which the samples vary."""
        return tuple(i for i in range(self.inputs) if i not in self.flat)

    @property
    def constant(self) -> bool:
        """Whether there is nothing to fit but the mean."""
        return not self.live or not self.varied or self.effective < 2


def set_up(
    summary: Summary, space: TensorSpace | None, *, interaction: Interaction | None, rank: int | None,
    cells: int | None, degree: int, penalty: Any, ridge: float, names: Sequence[str] | None,
    squared: bool,
) -> Setup:  # fmt: skip
    """Check the arguments of `fit` against the data.

    Raises
    ------
    TypeError, ValueError
        See `fit`.
    """
    d = len(summary.low)
    if rank is not None and interaction is not None:
        msg = "`rank` and `interaction` are both given: the ranks are the interaction's own, sn.Interaction(2, rank=3)"
        raise ValueError(msg)
    rank = None if rank is None else whole_number("rank", rank, at_least=1)
    shaped = rank is not None or interaction is not None
    flat = tuple(int(i) for i in np.flatnonzero(summary.high - summary.low <= _round_off(summary.low, summary.high)))
    if space is None:
        bases = _bases(summary, names, 6 if shaped else 3, cells, degree)
    else:
        bases = _given(summary, space, names, cells)
    if "output" in bases:
        msg = "an axis is named 'output', the name of the axis of several outputs: choose another"
        raise ValueError(msg)
    if summary.outputs > 1:
        m = summary.outputs
        bases["output"] = BSpline((-0.5, m - 0.5), cells=m, degree=0)
    axes = (*(FitAxis(basis, labels=name == "output") for name, basis in bases.items()), FitAxis(None))
    subsets = None if interaction is None else _subsets(interaction, tuple(bases)[:d], summary.outputs, flat)
    if not squared and (summary.least.min() < 0.0 or summary.most.max() > 1.0):
        msg = (
            f"`y` runs from {summary.least.min()} to {summary.most.max()}, expected 0 and 1 with loss='logistic': "
            "number the two classes so"
        )
        raise ValueError(msg)
    live = np.where(summary.scales > 0.0, summary.scales, 1.0)
    scales = live if squared else np.ones(summary.outputs)
    evidence = isinstance(penalty, str) and penalty == "evidence"
    far = evidence | (np.abs(summary.means) > FAR * summary.scales)
    shifts = np.where(far & squared, summary.means, 0.0)
    means = summary.means if squared else _log_odds(summary.means, summary.present)
    weights, gcv = ((0.0,) * len(bases), False) if evidence else _weights(penalty, tuple(bases))
    return Setup(
        names=tuple(bases), inputs=d, axes=axes, flat=flat, interaction=subsets, rank=rank,
        refine=space is None and not (shaped and cells is not None) and not evidence,
        penalty=Penalty((*weights, 0.0), _weight("ridge", ridge), APART), gcv=gcv, evidence=evidence, squared=squared,
        count=summary.count, effective=int(summary.present.sum()), means=means, units=Units(shifts, scales),
        spread=float(scales[0]), varied=bool((summary.scales > 0.0).any()), xp=summary.xp, device=summary.device,
        dtype=summary.dtype,
    )  # fmt: skip


def size_limit(setup: Setup) -> int:
    """Return how many coefficients a fit that finds its own shape may have."""
    return max(min(setup.effective // (8 if setup.effective >= 1000 else 3), 3000), 4)


def function_of(setup: Setup, model: Model | None) -> CP | SNA:
    """Return the fitted function in the units of the data, where the points live; None is the best constant."""
    axes, last = setup.axes if model is None else model.columns.axes, len(setup.names)
    bases = {name: axis.basis for name, axis in zip(setup.names, axes, strict=False)}
    levels = setup.means if model is None else setup.units.shifts
    parts: dict[tuple[int, ...], list[np.ndarray]] = {}
    constant = 0.0 if setup.outputs else float(levels[0])
    if setup.outputs and levels.any():
        parts[setup.outputs] = [levels[:, None]]
    for subset, own in [] if model is None else model.groups():
        factors, rank = [own[i] for i in subset], own[subset[0]].shape[1]
        if setup.outputs:
            # what does not see the output is the same for all of them in the units of the fit alone
            if subset == (last,):
                subset, factors = setup.outputs, [np.repeat(factors[0], len(setup.scales), axis=0)]
            elif last - 1 not in subset:
                subset, factors = subset + setup.outputs, [*factors, np.ones((len(setup.scales), rank))]
            factors[-1] = factors[-1] * setup.scales[:, None]
        elif subset == (last,):
            constant += float(factors[0].sum() * setup.scales[0])
            continue
        else:
            factors[0] = factors[0] * setup.scales[0]
        have = parts.get(subset, [f[:, :0] for f in factors])
        parts[subset] = [np.concatenate(pair, axis=1) for pair in zip(have, factors, strict=True)]
    if set(parts) == {tuple(range(last))} and not constant:
        return _cp(setup, bases, parts[tuple(range(last))])
    if not parts:  # an SNA lives where its parts live
        parts[0,] = [0.0 * axes[0].constant[:, None]]
    functions = {}
    for subset, factors in parts.items():
        names = tuple(setup.names[i] for i in subset)
        functions[names] = _cp(setup, {name: bases[name] for name in names}, factors)
    return SNA(TensorSpace(**bases), functions, constant=constant)  # type: ignore[arg-type]


def _cp(setup: Setup, bases: dict[str, Any], factors: list[np.ndarray]) -> CP:
    arrays = [from_host(np.array(f, order="C"), setup.xp, device=setup.device, dtype=setup.dtype) for f in factors]
    return CP(TensorSpace(**bases), arrays)


def _log_odds(means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the log-odds of shares; where all are of one class, half a sample of the other is added (Haldane)."""
    sure = (means <= 0.0) | (means >= 1.0)
    share = np.where(sure, (means * counts + 0.5) / (counts + 1.0), means)
    return np.asarray(np.log(share / (1.0 - share)))


def _round_off(low: Any, high: Any) -> Any:
    """Return a width below which points are one point: some units in the last place."""
    return 1e3 * np.finfo(float).eps * np.maximum(np.maximum(np.abs(low), np.abs(high)), np.finfo(float).tiny)


def _bases(summary: Summary, names: Sequence[str] | None, usual: int, cells: int | None, degree: int) -> dict[str, Any]:
    d = len(summary.low)
    cells = usual if cells is None else whole_number("cells", cells, at_least=1)
    degree = whole_number("degree", degree, at_least=1)
    labels = tuple(f"x{i}" for i in range(d)) if names is None else tuple(names)
    if not all(isinstance(label, str) for label in labels):
        msg = f"`names` is {labels!r}, expected texts, such as {tuple(f'x{i}' for i in range(d))}"
        raise TypeError(msg)
    if len(labels) != d:
        msg = f"`names` has {len(labels)} names, expected {d}, one for each column of the points"
        raise ValueError(msg)
    bases = {}
    for name, low, high in zip(labels, summary.low, summary.high, strict=True):
        left, right = float(low), float(high)
        # a box of no width, or of a few units in the last place, holds no cells
        if right - left <= _round_off(left, right) * cells:
            middle, half = (left + right) / 2, max(0.5, abs(left + right) * 1e-6)
            left, right = middle - half, middle + half
        bases[name] = BSpline((left, right), cells=cells, degree=degree)
    if len(bases) != d:
        msg = f"`names` is {list(labels)!r}, expected {d} different names"
        raise ValueError(msg)
    return bases


def _given(summary: Summary, space: TensorSpace, names: Sequence[str] | None, cells: int | None) -> dict[str, Any]:
    if not isinstance(space, TensorSpace):
        msg = (
            f"`space` is {type(space).__name__}, expected a sn.TensorSpace with one axis for each column of the points"
        )
        raise TypeError(msg)
    if names is not None or cells is not None:
        msg = "`names` and `cells` are given beside `space`, which has its own: leave them out"
        raise ValueError(msg)
    if space.dim != len(summary.low):
        msg = f"`space` has {space.dim} axes, the points have {len(summary.low)} columns: make them agree"
        raise ValueError(msg)
    for (name, basis), low, high in zip(space.items, summary.low, summary.high, strict=True):
        if low < basis.domain[0] or high > basis.domain[1]:
            msg = f"axis {name!r}: the points run from {low} to {high}, the domain is {basis.domain}: widen the axis"
            raise ValueError(msg)
    return dict(space.items)


def _subsets(
    interaction: Interaction, names: tuple[str, ...], outputs: int, flat: tuple[int, ...]
) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return subsets and ranks, less the axes on which nothing varies: what stays the same counts once."""
    if not isinstance(interaction, Interaction):
        msg = f"`interaction` is {type(interaction).__name__}, expected e.g. sn.Interaction(2, rank=3)"
        raise TypeError(msg)
    if interaction.format != "cp":
        msg = f"`interaction` has format {interaction.format!r}, fits take 'cp': convert what they return, u.to_train()"
        raise ValueError(msg)
    found: dict[tuple[int, ...], int] = {}
    for names_of in interaction.subsets_of(names):
        subset = tuple(i for i in map(names.index, names_of) if i not in flat)
        if subset:
            found[subset] = max(found.get(subset, 0), interaction.rank_of(names_of))
    subsets = list(found.items())
    if outputs == 1:
        return tuple(subsets)
    # every output has a level and functions of one axis of its own; products it shares with the others
    last = len(names)
    return ((last,), 1), *(((*s, last), outputs if len(s) == 1 else rank) for s, rank in subsets)


def _weights(penalty: Any, names: tuple[str, ...]) -> tuple[tuple[float, ...], bool]:
    """Return the weight of each axis, and whether GCV chooses them."""
    if isinstance(penalty, str):
        if penalty != "gcv":
            msg = f"`penalty` is {penalty!r}, expected 'gcv', 'evidence', a number, or a mapping of axis to number"
            raise ValueError(msg)
        return (START,) * len(names), True
    given = penalty if isinstance(penalty, Mapping) else dict.fromkeys(names, penalty)
    unknown = [name for name in given if name not in names]
    if unknown:
        msg = f"`penalty` names the axis {unknown[0]!r}, expected some of {', '.join(names)}"
        raise ValueError(msg)
    for name, weight in given.items():
        _weight(f"penalty[{name!r}]", weight)
    return tuple(float(given.get(name, 0.0)) for name in names), False


def _weight(name: str, weight: Any) -> float:
    if isinstance(weight, bool) or not isinstance(weight, Real) or not 0.0 <= float(weight) < np.inf:
        msg = f"`{name}` is {weight!r}, expected a number >= 0: 0 is no penalty"
        raise ValueError(msg)
    return float(weight)
