"""Proper generalised decomposition (PGD): modes added one at a time, each the best by alternating directions.

The greedy enrichment of Ammar, Mokdad, Chinesta and Keunings (J. Non-Newton. Fluid Mech. 139, 2006): with the modes so
far fixed, the new one minimises ``J(u + w) = a(u + w, u + w) - 2 f(u + w)`` over the functions w of rank one, by a
fixed-point iteration over the axes. Without updates the modes are never touched again, and the error falls slowly with
their number. With updates, all modes are improved together after each enrichment: Galerkin's method for all functions
of one axis, axis by axis (Nouy, Comput. Methods Appl. Mech. Engrg. 199, 2010), which is one sweep of ALS.

In a sweep no array leaves the device or comes to it. What is read are numbers: for each axis one to judge its solution
(`solve_axis`), and for each pass what it gained, with the other terms of the functional.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from sepnet.backends.arrays import Array, Namespace, device_of, from_host, namespace
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.axis_systems import solve_axis
from sepnet.solvers.on_device import beside, read
from sepnet.solvers.record import State
from sepnet.solvers.separable import SeparableMatrix, SeparableVector

__all__ = ["GreedyEnrichment"]


@final
class GreedyEnrichment:
    """The state of a PGD for ``A u = b``, symmetric positive definite.

    An enrichment costs ``passes`` times what is linear in the number R of modes: the new mode meets each earlier one
    once an axis, in products over the axes that the automata of A and b carry along, and the products of A with the
    earlier modes are kept. No R x R matrix occurs. The update costs what a sweep of ALS costs, up to ``R**3``.

    Parameters
    ----------
    matrix : SeparableMatrix
        A, in the namespace the factors shall live in.
    load : SeparableVector
        b, likewise.
    seed : int
        Seed of the modes' starting columns.
    update : bool
        Whether all modes are improved together after each enrichment.
    passes : int
        Passes over the axes for one mode, at most.
    change : float
        A mode is taken as converged when a pass lowers the functional by less than this share of what the mode gains.

    Attributes
    ----------
    factors : list of arrays (N_i, R)
        The modes, the norm of each spread evenly over the axes.

    Raises
    ------
    ValueError
        If `passes` is below one or `change` negative.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> form = sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y)
    >>> from sepnet.solvers.lifting import make_lift
    >>> from sepnet.solvers.system import make_system
    >>> problem = sn.Galerkin(form, source=1)
    >>> system = make_system(problem, make_lift(problem, 1e-3))
    >>> A, b = SeparableMatrix.from_table(system.matrices), SeparableVector.from_table(system.loads)
    >>> pgd = GreedyEnrichment(A, b)
    >>> for _ in range(4):
    ...     pgd.grow(1)
    ...     energy, work = pgd.sweep()
    >>> u = system.scale * sn.CP(V, pgd.balanced())
    >>> u.rank, round(float(u([[0.5, 0.5]])[0]), 4)
    (4, 0.0737)
    """

    def __init__(
        self,
        matrix: SeparableMatrix,
        load: SeparableVector,
        *,
        seed: int = 0,
        update: bool = False,
        passes: int = 10,
        change: float = 1e-2,
    ) -> None:
        if passes < 1 or not change >= 0.0:
            msg = f"`passes` is {passes} and `change` {change}, expected an integer >= 1 and a number >= 0"
            raise ValueError(msg)
        self.matrix, self.load = matrix, load
        self.update, self.passes, self.change = update, passes, change
        self.factors: list[Array] = []
        self._rng = np.random.default_rng(seed)
        # Modes to begin from, one for each that was asked for, all axes in one column.
        self._drawn: list[Array] = []
        # A times the modes per axis, (N, J, R); a(u, u) and f(u), and both without the last mode.
        self._applied: list[Array] = []
        self._state = self._before = (0.0, 0.0)

    @property
    def rank(self) -> int:
        """Number of modes, those that the next sweep will compute included."""
        return len(self._drawn) + (int(self.factors[0].shape[1]) if self.factors else 0)

    def start(self, factors: Sequence[Array]) -> None:
        """Begin from given modes."""
        self._drawn = []
        self._take(factors, (self.matrix.energy(factors), self.load.inner(factors)))
        earlier = [f[:, :-1] for f in factors]
        self._before = (self.matrix.energy(earlier), self.load.inner(earlier))

    def _take(self, factors: Sequence[Array], state: tuple[float, float]) -> None:
        self.factors = list(factors)
        self._applied = [axis.apply(f) for axis, f in zip(self.matrix.axes, factors, strict=True)]
        self._state = state

    def grow(self, columns: int) -> None:
        """Ask for more modes; the next sweep computes them, one after the other."""
        like = self.matrix.axes[0].values
        xp: Namespace = namespace(like)
        rows = sum(axis.size for axis in self.matrix.axes)
        # From the host's generator, so that every library starts from the same modes; not in a sweep.
        for _ in range(columns):
            drawn = self._rng.standard_normal((rows, 1))
            self._drawn.append(from_host(drawn, xp, device=device_of(like), dtype=like.dtype))

    def present(self) -> tuple[float, float]:
        """Return ``a(u, u)`` and ``f(u)`` of the modes so far."""
        return self._state

    def state(self) -> State:
        """Return all that the next sweep depends on."""
        numbers: dict[str, Any] = {"random": self._rng.bit_generator.state}
        numbers |= {"state": list(self._state), "before": list(self._before)}
        # Computed anew, all modes at once, the products would differ in the last bit.
        arrays = {"factors": list(self.factors), "applied": list(self._applied), "drawn": list(self._drawn)}
        return State(arrays, numbers)

    def restore(self, state: State) -> None:
        """Go back to a state; what follows is the same to the last bit."""
        like = self.matrix.axes[0].values
        self.factors, self._applied, self._drawn = (
            [beside(a, like) for a in state.arrays.get(name, [])] for name in ("factors", "applied", "drawn")
        )
        energy, work = state.numbers["state"]
        self._state = (energy, work)
        energy, work = state.numbers["before"]
        self._before = (energy, work)
        self._rng.bit_generator.state = state.numbers["random"]

    def balanced(self) -> list[Array]:
        """Return the modes computed so far."""
        return list(self.factors)

    def sweep(self) -> tuple[float, float]:
        """Compute the modes asked for; if there are none, improve what there is.

        The functional ``a(u, u) - 2 f(u)`` does not rise. With nothing to compute, `update` decides: one more update of
        all modes, or further passes over the last one.

        Returns
        -------
        energy, work : float
            ``a(u, u)`` and ``f(u)``.
        """
        if self._drawn:
            while self._drawn:
                self._enrich(self._split(self._drawn.pop(0)))
                if self.update and int(self.factors[0].shape[1]) > 1:
                    self._update()
        elif self.update:
            self._update()
        elif self.factors:
            mode = [f[:, -1:] for f in self.factors]
            self.factors = [f[:, :-1] for f in self.factors]
            self._applied = [a[:, :, :-1] for a in self._applied]
            self._state = self._before
            self._enrich(mode)
        return self._state

    def _split(self, drawn: Array) -> list[Array]:
        """Return the columns of the axes from all in one."""
        ends = np.cumsum([0, *(axis.size for axis in self.matrix.axes)]).tolist()
        return [drawn[a:b, :] for a, b in itertools.pairwise(ends)]

    def _update(self) -> None:
        if not self._state[0] > 0.0:  # every mode is zero: ALS has no direction to start from
            return
        together = AlternatingLeastSquares(self.matrix, self.load)
        together.start(self.factors)
        state = together.sweep()
        self._take(together.balanced(), state)

    def _enrich(self, mode: list[Array]) -> None:
        """Append the mode that alternating directions lead to from the given one."""
        enrichment = _Enrichment(self, mode)
        gain = 0.0
        for _ in range(self.passes):
            last, gain = gain, enrichment.sweep()
            if gain - last <= self.change * gain:
                break
        mode = enrichment.balanced()
        self._before = self._state
        energy, work = self._state
        self._state = (energy + 2 * enrichment.mixed + enrichment.energy, work + enrichment.work)
        applied = [axis.apply(c) for axis, c in zip(self.matrix.axes, mode, strict=True)]
        if not self.factors:
            self.factors, self._applied = mode, applied
            return
        xp = namespace(mode[0])
        self.factors = [xp.concat([f, c], axis=1) for f, c in zip(self.factors, mode, strict=True)]
        self._applied = [xp.concat([a, c], axis=2) for a, c in zip(self._applied, applied, strict=True)]


@final
class _Enrichment:
    """One new mode w beside fixed modes u: ``a(w, w) - 2 (f(w) - a(u, w))`` minimised axis by axis.

    The columns of w have norm one, its size stands apart. What the axes to the left and right of an axis contribute,
    for w with each mode of u and last with itself, has shape (S, 1, R + 1).
    """

    def __init__(self, pgd: GreedyEnrichment, mode: list[Array]) -> None:
        self.matrix, self.load = pgd.matrix, pgd.load
        self.old = pgd._applied
        xp = namespace(mode[0])
        self.mode = []
        for column in mode:
            norm = xp.linalg.vector_norm(column)
            # a mode that vanished starts again
            self.mode.append(_direction(xp, column, norm, xp.ones_like(column)))
        self.scale: Array = None
        self.energy = self.mixed = self.work = 0.0
        self._terms: tuple[Array, ...] = ()
        self.grams = [self._gram(i) for i in range(len(mode))]
        self.values = [load @ column for load, column in zip(self.load.vectors, self.mode, strict=True)]

    def _gram(self, i: int) -> Array:
        """Return ``w_i' A_j u_i`` and last ``w_i' A_j w_i``, (J, 1, R + 1)."""
        axis, column = self.matrix.axes[i], self.mode[i]
        own = axis.gram(column, axis.apply(column))
        if not self.old:
            return own
        return namespace(own).concat([axis.gram(column, self.old[i]), own], axis=2)

    def sweep(self) -> float:
        """Solve for the mode on every axis once; return ``a(w, w)``, by which the functional is lower with w."""
        xp = namespace(self.mode[0])
        steps, loads = self.matrix.automaton.steps, self.load.automaton.steps
        right, load_right = [xp.ones_like(self.grams[0][:1, :, :])], [xp.ones_like(self.values[0][:1, :])]
        for i in range(len(self.mode) - 1, 0, -1):
            right.append(steps[i].right(right[-1], self.grams[i]))
            load_right.append(loads[i].right(load_right[-1], self.values[i]))
        left, load_left = xp.ones_like(right[0]), xp.ones_like(load_right[0])
        for i in range(len(self.mode)):
            around = steps[i].around(left, right.pop())
            self._solve(i, around, loads[i].around(load_left, load_right.pop()))
            left = steps[i].left(left, self.grams[i])
            load_left = loads[i].left(load_left, self.values[i])
        self.energy, self.mixed, self.work = read(*self._terms)
        return self.energy

    def _solve(self, i: int, around: Array, load_around: Array) -> None:
        xp = namespace(around)
        axis = self.matrix.axes[i]
        rank = int(around.shape[2]) - 1
        load = self.load.vectors[i].T @ load_around
        fixed = xp.zeros_like(load)
        if rank:
            n, j = axis.size, axis.count
            fixed = xp.reshape(self.old[i], (n, j * rank)) @ xp.reshape(around[:, 0, :rank], (j * rank, 1))
        weights = around[:, :, rank:]
        column = solve_axis(axis, weights, load - fixed)
        self.scale = xp.linalg.vector_norm(column)
        # where nothing is left to gain the direction stays, or the systems of the other axes would be singular
        self.mode[i] = _direction(xp, column, self.scale, self.mode[i])
        self.grams[i] = self._gram(i)
        self.values[i] = self.load.vectors[i] @ self.mode[i]
        energy = self.scale**2 * xp.sum(self.grams[i][:, :, rank:] * weights)
        self._terms = (energy, xp.sum(fixed * column), xp.sum(load * column))

    def balanced(self) -> list[Array]:
        """Return the mode with its size spread evenly over the axes."""
        share = self.scale ** (1.0 / len(self.mode))
        return [column * share for column in self.mode]


def _direction(xp: Namespace, column: Array, norm: Array, other: Array) -> Array:
    """Return the column divided by its norm, or another one where that is zero."""
    return xp.where(norm > 0.0, column / xp.where(norm > 0.0, norm, xp.ones_like(norm)), other)
