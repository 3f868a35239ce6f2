"""A fit under the prior of the largest evidence: its axes measure functions by that prior."""

from __future__ import annotations

from dataclasses import replace

from sepnet.backends.arrays import to_host
from sepnet.solvers.evidence import FitPrior, maximise_evidence, norm_of
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_data import Table
from sepnet.solvers.fit_setup import APART, Setup

__all__ = ["with_norm", "with_prior"]

FEW = 1000  # most samples: the evidence takes a second at 300, half a minute at 1000


def with_prior(setup: Setup, table: Table) -> Setup:
    """Return the setup with the prior of the largest evidence.

    Raises
    ------
    ValueError
        If the fit is one of which the evidence is not known.
    """
    _check(setup)
    points, targets, weights = (to_host(a) for a in (table.points, table.targets, table.weights))
    bases = {setup.names[i]: basis for i in setup.live if (basis := setup.axes[i].basis) is not None}
    prior = maximise_evidence(bases, points[:, list(setup.live)], targets, weights)
    axes = tuple(with_norm(axis, prior, name) for axis, name in zip(setup.axes, (*setup.names, ""), strict=True))
    penalty = replace(setup.penalty, ridge=prior.ridge, apart=min(APART, 1e-3 * prior.ridge))
    return replace(setup, axes=axes, penalty=penalty, prior=prior)


def with_norm(axis: FitAxis, prior: FitPrior | None, name: str) -> FitAxis:
    """Return the axis as a prior measures functions on it."""
    if prior is None or axis.basis is None or name not in prior.lengths:
        return axis
    return replace(axis, norm=norm_of(axis.basis, prior.lengths[name], prior.share)[0])


def _check(setup: Setup) -> None:
    wrong = {
        "`interaction`, expected `rank` or neither: the prior holds interactions of all orders": setup.interaction,
        "`ridge`, expected none: the prior takes its place": setup.penalty.ridge,
        "loss='logistic', expected 'squared': the noise of the prior is Gaussian": not setup.squared,
        f"{len(setup.scales)} outputs, expected one: fit each alone, y[:, j]": setup.outputs,
        f"{setup.effective} samples, expected at most {FEW}: use penalty='gcv'": setup.effective > FEW,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            msg = f"`penalty` is 'evidence' with {what}"
            raise ValueError(msg)
