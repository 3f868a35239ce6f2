"""A probe for missing data: functions that are constant along an axis and that the operator does not see."""

from __future__ import annotations

import numpy as np

from sepnet.solvers.separable import SeparableMatrix

__all__ = ["check_uniqueness"]

# Energies below this many units of round-off of their terms are zero.
ZERO = 1e3


def check_uniqueness(matrix: SeparableMatrix) -> None:
    """Refuse problems that do not determine their solution because constants along an axis have no energy.

    Pure Neumann problems and forgotten initial values are of this kind. The probe is the energy of functions that are
    constant along one axis, or along all, and random along the others; other kernels are not looked for.

    Raises
    ------
    ValueError
        If such a function has no energy, with the next step.
    """
    rng = np.random.default_rng(0)
    space = matrix.space
    ones = [basis.interpolate(np.ones(basis.size))[:, None] for basis in space.bases]
    constant = [basis.zero is None for basis in space.bases]
    probes: list[tuple[list[np.ndarray], str]] = []
    for k, name in enumerate(space.names):
        if constant[k] and space.dim > 1:
            others = [rng.standard_normal((n, 1)) for n in space.shape]
            probes.append(([*others[:k], ones[k], *others[k + 1 :]], f"functions that are constant along {name!r}"))
    if all(constant):
        probes.append((ones, "constants"))
    eps = float(np.finfo(np.float64).eps)
    for factors, what in probes:
        if matrix.energy(factors) <= ZERO * eps * matrix.magnitude(factors):
            msg = (
                f"the problem does not determine its solution, {what} have no energy: give initial or boundary values, "
                "a condition, or a reaction term"
            )
            raise ValueError(msg)
