"""Maximum a posteriori inversion: Gaussian prior, Gaussian noise, many starts and many targets at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, final

import numpy as np
import scipy.linalg
from scipy.special import erfcx, logsumexp

from sepnet.backends.arrays import Array, device_of, eps, from_host, namespace, to_host
from sepnet.backends.newton import REACHED
from sepnet.bases.checks import real_number, whole_number
from sepnet.solvers.inversion_model import (
    Bounds,
    Invertible,
    Model,
    as_model,
    as_targets,
    first_not_finite,
    host_numbers,
    tiled,
)
from sepnet.solvers.inversion_sample import cholesky, gaussian, prior_starts, thin
from sepnet.solvers.levenberg import Least, Misfit, least_squares

__all__ = ["MapInversion", "MapStatus", "map_inversion"]

STARTS = 16
# Round-off of a value whose terms cancel, in units of that of the value.
CANCELLATION = 4


@final
class MapStatus(Enum):
    """How the inversion of a target ended. The value is the sentence for the user, with the next step."""

    CONVERGED = "Every start ended at a local maximum of the posterior; the best one comes first."
    PARTLY = "Some starts did not come to rest and are left out: raise max_steps= to see where they end."
    STEP_LIMITED = "No start came to rest before the last step; the best point is returned: raise max_steps=."


@final
@dataclass(frozen=True, eq=False, repr=False)
class MapInversion:
    """The local maxima of the posterior, the best one of each target first.

    Attributes
    ----------
    points : array of shape (N, d)
        The modes of all targets one after the other, in the namespace, device and dtype of the function.
    target : int64 array of shape (N,)
        Number of the target of each mode; within a target they are ordered by `value`.
    value : array of shape (N,)
        ``|L_n^-1 (u(x) - y)|^2 / 2 + |L_p^-1 (x - mean)|^2 / 2``: the negative logarithm of the posterior density up to
        a constant.
    weight : array of shape (N,)
        Share of the posterior near each mode, by Laplace's method, one in the sum over the modes of a target that were
        found. At a bound the part outside is cut off.
    covariance : array of shape (N, d, d)
        Laplace's approximation of the posterior covariance, ``(J' N^-1 J + P^-1)^-1`` with J the Jacobian and the
        covariances N of the noise and P of the prior. NaN where the box is active: there the
        posterior is no Gaussian around the mode. Zero in the rows and columns of inputs fixed by equal bounds.
    box_active : bool array of shape (N, d)
        Where a coordinate lies on a bound. Inputs that are fixed do not count.
    statuses : tuple of MapStatus
        How each target ended.
    """

    points: Array
    target: Array
    value: Array
    weight: Array
    covariance: Array
    box_active: Array
    statuses: tuple[MapStatus, ...]

    @property
    def status(self) -> MapStatus:
        """The worst status of a target."""
        return max(self.statuses, key=list(MapStatus).index)

    @property
    def best(self) -> Array:
        """The best mode of each target, of shape (T, d)."""
        xp = namespace(self.points)
        every = xp.arange(len(self.statuses), dtype=self.target.dtype, device=device_of(self.target))
        return xp.take(self.points, xp.searchsorted(self.target, every), axis=0)

    def of(self, target: int) -> MapInversion:
        """Return the inversion of one target, counted from 0.

        Parameters
        ----------
        target : int
            Its number.

        Returns
        -------
        MapInversion

        Raises
        ------
        ValueError
            If there is no such target.
        """
        target = whole_number("target", target, at_least=0, at_most=len(self.statuses) - 1)
        xp = namespace(self.points)
        rows = xp.nonzero(self.target == target)[0]
        names = ("points", "target", "value", "weight", "covariance", "box_active")
        parts = {name: xp.take(getattr(self, name), rows, axis=0) for name in names}
        return MapInversion(**{**parts, "target": parts["target"] * 0}, statuses=(self.statuses[target],))

    def __repr__(self) -> str:
        """Modes, targets and the status in words."""
        n, d = (int(k) for k in self.points.shape)
        targets = len(self.statuses)
        return f"MapInversion({n} modes in {d} inputs for {targets} target{'s' * (targets > 1)}: {self.status.value})"


def map_inversion(
    u: Invertible,
    y: Any,
    *,
    prior: Sequence[Any],
    noise: Any,
    n_starts: int = STARTS,
    bounds: Bounds | None = None,
    max_steps: int = 200,
    seed: int = 0,
    spacing: float = 1e-3,
) -> MapInversion:
    """Find the inputs that are most probable given noisy outputs, ``y = u(x) + noise``.

    Parameters
    ----------
    u : function, sequence of m functions on one box, or callable
        Any function of the library, such as CP or TensorTrain. A callable takes points (n, d) and returns
        values (n, m) and Jacobians (n, m, d); the namespace, device and dtype of `y` are those of its points (NumPy
        float64 if y is a number or a list).
    y : number or array
        What was observed. For one output a number, or (T,) for T inversions at once; for m outputs (m,) or (T, m).
    prior : (mean, covariance)
        Tuple or list: mean (d,) and covariance (d, d) of the inputs.
    noise : number, array of shape (m,) or (m, m)
        A number or a vector: standard deviations, in units of u. A matrix: the covariance.
    n_starts : int, optional
        Starts: draws from the prior by a Sobol sequence, the first moved close to the mean.
    bounds : mapping of axis to (low, high) or number, or array (d, 2), optional
        The box, within the domain, which it is by default; a callable has none unless it is given. A number, or equal
        ends, fixes an input: the prior is then that of the others given this one.
    max_steps : int, optional
        Evaluations for each start at most.
    seed : int, optional
        Seed of the draws.
    spacing : float, optional
        Modes closer than this, in standard deviations of the prior, are one.

    Returns
    -------
    MapInversion

    Raises
    ------
    TypeError
        If an argument is of a wrong kind, or lives in another place.
    ValueError
        If a shape is wrong, a number not finite, a covariance not positive definite, a standard deviation not
        positive, the noise below the round-off of the function, `bounds` are not rising numbers in the domain, or the
        function is not finite at a start.

    Notes
    -----
    The iteration is that of Levenberg and Marquardt (`sepnet.solvers.levenberg`) with hand-derived Jacobians. The
    covariance takes the Gauss-Newton matrix, not the full Hessian of the objective: it is positive definite
    everywhere, needs no second derivatives of u, and is the Hessian's expectation over the noise. The two differ by
    the second derivatives of u times the misfit in units of the noise: little where the data are met, and nothing
    for linear u. Where they differ much, the iteration converges slowly, by the ratio of the two a step.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> from sepnet.solvers.map_inversion import map_inversion
    >>> V = sn.TensorSpace(x=sn.BSpline((-9, 9), cells=1, degree=1), y=sn.BSpline((-9, 9), cells=1, degree=1))
    >>> x, y = V.coordinates
    >>> u = sn.project(x + y, V, rank=2)
    >>> found = map_inversion(u, 2.0, prior=([0, 0], np.eye(2)), noise=1.0)
    >>> found.best.round(6).tolist(), found.covariance[0].round(6).tolist()
    ([[0.666667, 0.666667]], [[0.666667, -0.333333], [-0.333333, 0.666667]])
    """
    n_starts = whole_number("n_starts", n_starts, at_least=1)
    max_steps = whole_number("max_steps", max_steps, at_least=1)
    gap = real_number("`spacing`", spacing)
    if not 0 <= gap < np.inf:
        msg = f"`spacing` is {gap!r}, expected a number >= 0, in standard deviations of the prior"
        raise ValueError(msg)
    dim = np.size(prior[0]) if isinstance(prior, tuple | list) and len(prior) == 2 else None
    model = as_model(u, y, bounds, dim=dim)
    mean, covariance, root = gaussian(prior, model.dim)
    starts = model.here(
        prior_starts(
            (mean, covariance), n_starts, model.low, model.high, whole_number("seed", seed, at_least=0), default=STARTS
        )
    )
    values = model.evaluate(starts)[0]
    row = first_not_finite(values)
    if row is not None:
        msg = (
            f"`u` is not finite at the start {to_host(starts[row, :]).astype(np.float64)}, expected finite numbers: "
            "set bounds= around it"
        )
        raise ValueError(msg)
    outputs = int(values.shape[1])
    targets = as_targets(y, model, outputs)
    scale = np.sqrt(np.diag(covariance))
    whiten = _precision_root(noise, outputs)
    error = _round_off(whiten, values, model)
    misfit = _misfit(model, targets, whiten, mean, _inverse(root), n_starts)
    count = int(targets.shape[0])
    points = tiled(starts, count)
    least = least_squares(misfit, points, *model.box(), model.here(scale), max_steps=max_steps, round_off=error)
    return _modes(model, misfit, least, count, scale, gap)


def _precision_root(noise: Any, outputs: int) -> np.ndarray:
    """Return ``L_n^-1`` (m, m)."""
    host = host_numbers("`noise`", noise)
    if host.ndim == 2 and host.shape == (outputs, outputs):
        return _inverse(cholesky(host, "`noise`", "add the variance of each output's own noise to its diagonal"))
    if host.shape not in ((), (outputs,)):
        msg = (
            f"`noise` has shape {host.shape}, expected a standard deviation, ({outputs},) of them, or a covariance "
            f"({outputs}, {outputs}): one per output"
        )
        raise ValueError(msg)
    if not (np.isfinite(host) & (host > 0)).all():
        msg = f"`noise` is {noise!r}, expected positive standard deviations: for exact data use invert"
        raise ValueError(msg)
    return np.diag(1 / np.broadcast_to(host, outputs))


def _inverse(root: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.linalg.solve_triangular(root, np.eye(len(root)), lower=True))


def _misfit(model: Model, asked: Array, noise: np.ndarray, mean: np.ndarray, prior: np.ndarray, n: int) -> Misfit:
    """Return the whitened misfit to data and prior, of which the objective is half the square.

    Samples come in n for each target.
    """
    xp = model.xp
    whiten, centre, root = (model.here(a) for a in (noise, mean, prior))

    def misfit(x: Array, index: Array) -> tuple[Array, Array]:
        value, jacobian = model.evaluate(x)
        data = (value - xp.take(asked, index // n, axis=0)) @ xp.matrix_transpose(whiten)
        far = (x - centre) @ xp.matrix_transpose(root)
        spread = xp.broadcast_to(root[None, :, :], (int(x.shape[0]), *root.shape))
        return xp.concat([data, far], axis=1), xp.concat([xp.matmul(whiten, jacobian), spread], axis=1)

    return misfit


def _round_off(whiten: np.ndarray, values: Array, model: Model) -> float:
    """Return the round-off of the values in units of the noise; ValueError if it hides the noise."""
    unit = eps(model.like.dtype, model.xp)
    size = to_host(model.xp.max(model.xp.abs(values), axis=0)).astype(np.float64)
    with np.errstate(over="ignore"):
        error = float((np.abs(whiten) @ (unit * np.maximum(size, np.finfo(np.float32).tiny))).max())
    if not error <= 1.0:
        msg = (
            f"`noise` is {error:.2g} times smaller than the round-off of `u`, which is {unit:.2g} of values of "
            f"{size.max():.2g}, expected more noise than that: for exact data use invert"
        )
        raise ValueError(msg)
    return min(CANCELLATION * error, 1.0)


def _modes(model: Model, misfit: Misfit, least: Least, count: int, scale: np.ndarray, spacing: float) -> MapInversion:
    """Sort and thin out where the starts ended, and look at the posterior around what is left.

    They are sorted where they live; those at rest are copied to the host once, to be thinned out, and so are the
    misfits of what is left, whose weights and covariances are made there.
    """
    xp, n = model.xp, int(least.ends.shape[0]) // count
    whole = {"dtype": xp.int64, "device": device_of(least.points)}
    objective = xp.sum(least.residual * least.residual, axis=1)
    objective = xp.where(xp.isnan(objective), xp.full_like(objective, float("inf")), objective)
    rest = xp.reshape(least.ends == REACHED, (count, n))
    hits = xp.sum(xp.astype(rest, xp.int64), axis=1)
    nearest = xp.argmin(xp.reshape(objective, (count, n)), axis=1)[:, None] == xp.arange(n, **whole)[None, :]
    keep = xp.nonzero(xp.reshape(rest | (nearest & (hits == 0)[:, None]), (-1,)))[0]
    # by target, and of one target by the objective
    keep = xp.take(keep, xp.argsort(xp.take(objective, keep, axis=0), stable=True), axis=0)
    keep = xp.take(keep, xp.argsort(keep // n, stable=True), axis=0)
    if spacing > 0:
        near = to_host(xp.take(least.points, keep, axis=0)).astype(np.float64) / scale
        keep = xp.take(keep, from_host(thin(near, to_host(keep) // n, spacing), xp, **whole), axis=0)
    points, index = xp.take(least.points, keep, axis=0), keep
    f, jacobian = misfit(points, index)
    low, high = model.box()
    active = ((points <= low) | (points >= high)) & (low < high)
    value, group = xp.sum(f * f, axis=1) / 2, to_host(keep // n)
    host = [to_host(a).astype(np.float64) for a in (value, f, jacobian)]
    around = _Around(host[0], host[1], host[2], to_host(active))
    weight, covariance = _laplace(around, model.low < model.high, scale, group)
    counts = to_host(hits).tolist()
    statuses = tuple(
        MapStatus.CONVERGED if k == n else MapStatus.PARTLY if k else MapStatus.STEP_LIMITED for k in counts
    )
    return MapInversion(points, index // n, value, model.here(weight), model.here(covariance), active, statuses)


class _Around(NamedTuple):
    """The objective at the modes, on the host: values, misfits, Jacobians of these, and which bounds hold."""

    value: np.ndarray
    misfit: np.ndarray
    jacobian: np.ndarray
    active: np.ndarray


def _laplace(modes: _Around, free: np.ndarray, scale: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (N,) and covariances (N, d, d) of the modes; a handful, on the host."""
    dim, s = len(free), scale[free]
    mass, covariances = np.empty(len(modes.value)), np.zeros((len(modes.value), dim, dim))
    for k, (value, misfit, jacobian, active) in enumerate(zip(*modes, strict=True)):
        scaled, at_bound = jacobian[:, free] * s, active[free]
        inverse, _ = _inverse_square(scaled)
        covariances[k][np.ix_(free, free)] = np.nan if at_bound.any() else inverse * s[:, None] * s
        # An input at a bound: the tail of a Gaussian as wide as the free inputs leave it, along its slope.
        width = np.sqrt(np.diag(inverse)[at_bound])
        steepness = np.abs(misfit @ scaled[:, at_bound]) * width
        tail = np.log(width * erfcx(steepness / np.sqrt(2)) / 2)
        mass[k] = -value - _inverse_square(scaled[:, ~at_bound])[1] + tail.sum()
    # Both kinds of factors lack a root of 2 pi for each free input, the same for all modes.
    for target in np.unique(group):
        mine = group == target
        mass[mine] = np.exp(mass[mine] - logsumexp(mass[mine]))
    return mass, covariances


def _inverse_square(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Return ``(M'M)^-1`` and half the logarithm of the determinant of ``M'M``.

    Small noise makes some rows far larger than the others. M'M would not see these any more: at noise of 1e-7 it had
    lost the prior, and three digits of the covariance. Householder's method keeps the digits of every row where large
    rows come first and columns are pivoted (Cox and Higham, 1998).
    """
    rows = np.argsort(-np.abs(matrix).max(axis=1, initial=0.0), kind="stable")
    r, order = scipy.linalg.qr(matrix[rows], mode="r", pivoting=True)
    size = matrix.shape[1]
    root = np.empty((size, size))
    root[order] = scipy.linalg.solve_triangular(r[:size], np.eye(size)) if size else 0.0
    return root @ root.T, float(np.log(np.abs(np.diag(r))).sum())
