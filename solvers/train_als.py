"""Alternating least squares for tensor trains, with ranks that follow the accuracy.

One core at a time is the solution of a quadratic problem on a linear space; the cores to its left and right are kept
orthonormal (Holtz, Rohwedder, Schneider, SIAM J. Sci. Comput. 34, 2012). After each step ``a(u, u) = f(u)``, and the
energy never increases but by what truncation is allowed. Between two steps the rank of the bond is chosen anew:

- directions of the core are dropped as long as the energy norm of what is lost stays below the accuracy asked for;
- directions of the residual are added: the residual, seen through the frames to the left of the bond and through those
  of a train of low rank that follows the residual along the sweeps (Dolgov and Savostyanov, SIAM J. Sci. Comput. 36,
  2014, section 6; they truncate in the Euclidean norm of the coefficients).

Sweeps go from the left to the right and back in turn. A sweep from the right is one from the left on the mirror image
of everything, so only that is written down.

In a sweep no array leaves the device or comes to it, but for the random start of the residual's train when its ranks
grow. What is read are numbers: at every core one to judge its solution (`solve_axis`), or one pair for each iteration
of conjugate gradients; one or two for each rank that is tried in rounding, the logarithm of the rank of them; one to
see whether a residual is left to enrich with; ``a(u, u)`` and ``f(u)`` at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, final

import numpy as np

from sepnet.backends.arrays import Array, device_of, from_host, namespace
from sepnet.solvers.automaton import build_automaton
from sepnet.solvers.on_device import beside, read
from sepnet.solvers.record import State
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.train_local import AxisStep, CoreSystem, carry, close, core_load, extend, extend_load

__all__ = ["TrainIteration"]

START_RANK = 2


@final
class TrainIteration:
    """The state of an ALS iteration for ``A u = b``, symmetric positive definite, on tensor trains.

    Parameters
    ----------
    matrix : SeparableMatrix
        A, in the namespace the cores shall live in.
    load : SeparableVector
        b, likewise.
    order : sequence of int, optional
        The order of the axes along the train; by default that of the space.
    seed : int, optional
        Seed of the starting cores.

    Attributes
    ----------
    cores : list of arrays of shape (r, n, r')
        The cores, along the train.
    """

    def __init__(
        self, matrix: SeparableMatrix, load: SeparableVector, *, order: Sequence[int] | None = None, seed: int = 0
    ) -> None:
        d = len(matrix.axes)
        self.matrix, self.load = matrix, load
        self.order = list(range(d)) if order is None else list(order)
        like = matrix.axes[0].values
        self._xp: Any = namespace(like)
        self._home = {"device": device_of(like), "dtype": like.dtype}
        axes = [matrix.axes[k] for k in self.order]
        moves = build_automaton(matrix.index[:, self.order], matrix.weights, tuple(a.count for a in axes))
        self._steps = [
            AxisStep(a, m)
            for a, m in zip(axes, moves.to(self._xp, self._home["device"], like.dtype).steps, strict=True)
        ]
        self._vectors = [load.vectors[k] for k in self.order]
        counts = tuple(int(v.shape[0]) for v in self._vectors)
        own = build_automaton(load.index[:, self.order], load.weights, counts)
        self._loads = list(own.to(self._xp, self._home["device"], like.dtype).steps)
        self._rng = np.random.default_rng(seed)
        self._mirrored = False
        sizes = [a.size for a in axes]
        self._cores = self._random(sizes, [1, *[START_RANK] * (d - 1), 1])
        self._residual: list[Array] = []

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def cores(self) -> list[Array]:
        """The cores, along the train."""
        return _mirror(self._xp, self._cores) if self._mirrored else list(self._cores)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks of the bonds."""
        return tuple(int(c.shape[2]) for c in self.cores[:-1])

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max(self.ranks, default=1)

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return sum(int(np.prod(c.shape)) for c in self._cores)

    def start(self, cores: Sequence[Array]) -> None:
        """Begin from given cores, in the order of the train."""
        self._cores = _mirror(self._xp, cores) if self._mirrored else list(cores)

    def balanced(self) -> list[Array]:
        """Return the cores, along the train; one of them holds the norm."""
        return self.cores

    def _random(self, sizes: Sequence[int], ranks: Sequence[int]) -> list[Array]:
        # From the host's generator, so that every library starts from the same cores: one copy.
        shapes = list(zip(ranks[:-1], sizes, ranks[1:], strict=True))
        ends = np.cumsum([0, *(prod(shape) for shape in shapes)]).tolist()
        drawn = from_host(self._rng.standard_normal(ends[-1]), self._xp, **self._home)
        return [self._xp.reshape(drawn[a:b], s) for a, b, s in zip(ends[:-1], ends[1:], shapes, strict=True)]

    def state(self) -> State:
        """Return all that the next sweep depends on."""
        return State(
            self._trains(), {"random": self._rng.bit_generator.state, "mirrored": self._mirrored, "order": self.order}
        )

    def _trains(self) -> dict[str, list[Array]]:
        return {"cores": list(self._cores), "residual": list(self._residual)}

    def restore(self, state: State) -> None:
        """Go back to a state; what follows is the same to the last bit."""
        if state.numbers["mirrored"] != self._mirrored:
            self._turn()
        like = self.matrix.axes[0].values
        self._cores, self._residual = (
            [beside(c, like) for c in state.arrays.get(name, [])] for name in ("cores", "residual")
        )
        self._rng.bit_generator.state = state.numbers["random"]

    # --- sweeps -------------------------------------------------------------------------------------------------

    def sweep(
        self,
        *,
        allowed: float = 0.0,
        columns: int = 0,
        rank: int | None = None,
        after_step: Callable[[int, float, float], None] | None = None,
    ) -> tuple[float, float]:
        """Solve for every core once, from the end at which the last sweep stopped to the other.

        Parameters
        ----------
        allowed : float, optional
            What rounding may add to the functional in the whole sweep: the square of an energy norm.
        columns : int, optional
            Directions of the residual to add to every bond.
        rank : int, optional
            Largest rank of a bond.
        after_step : callable, optional
            Called after each step, before the bond is rounded, with the number of the axis, ``a(u, u)`` and ``f(u)``;
            `cores` are those of this u (to check the guarantees).

        Returns
        -------
        energy, work : float
            ``a(u, u)`` and ``f(u)`` at the end of the sweep.
        """
        d = len(self._cores)
        share = allowed / max(d - 1, 1)
        self._cores = _right_orthonormal(self._xp, self._cores)
        if columns > 0:
            self._follow(columns)
        frames = _Frames(self._steps, self._vectors, self._loads, self._cores, self._residual if columns > 0 else None)
        for i in range(d):
            system = CoreSystem(self._steps[i], frames.left, frames.right[i])
            load = core_load(self._vectors[i], self._loads[i], frames.load_left, frames.load_right[i])
            core = self._cores[i] = system.solve(load, self._cores[i])
            applied = system.apply(core)
            values = (self._xp.sum(applied * core), self._xp.sum(load * core))
            if after_step is not None:
                after_step(self.order[-1 - i] if self._mirrored else self.order[i], *read(*values))
            if i < d - 1:
                self._split(i, system, load - applied, share, columns, rank, frames)
        self._turn()
        energy, work = read(*values)
        return energy, work

    def present(self) -> tuple[float, float]:
        """Return ``a(u, u)`` and ``f(u)`` of the present iterate."""
        self._cores = _right_orthonormal(self._xp, self._cores)
        frames = _Frames(self._steps, self._vectors, self._loads, self._cores, None)
        system = CoreSystem(self._steps[0], frames.left, frames.right[0])
        load = core_load(self._vectors[0], self._loads[0], frames.load_left, frames.load_right[0])
        return system.energy(self._cores[0]), float(self._xp.sum(load * self._cores[0]))

    def step(self, axis: int) -> tuple[float, float]:
        """Solve for the core of one axis only, all others as they are; returns ``a(u, u)`` and ``f(u)``."""
        place = self.order.index(axis)
        place = len(self._cores) - 1 - place if self._mirrored else place
        # Each side by itself: a sweep over all of them would lose the directions that the core does not yet use.
        self._cores = [*self._cores[:place], *_right_orthonormal(self._xp, self._cores[place:])]
        for i in range(place):
            a, n, c = (int(k) for k in self._cores[i].shape)
            q, rest = self._xp.linalg.qr(self._xp.reshape(self._cores[i], (a * n, c)), mode="reduced")
            self._pass_on(i, q, rest)
        frames = _Frames(self._steps, self._vectors, self._loads, self._cores, None)
        for i in range(place):
            frames.advance(i, self._cores[i], None)
        system = CoreSystem(self._steps[place], frames.left, frames.right[place])
        load = core_load(self._vectors[place], self._loads[place], frames.load_left, frames.load_right[place])
        core = self._cores[place] = system.solve(load, self._cores[place])
        return system.energy(core), float(self._xp.sum(load * core))

    def _split(
        self,
        i: int,
        system: CoreSystem,
        left_over: Array,
        allowed: float,
        columns: int,
        rank: int | None,
        frames: _Frames,
    ) -> None:
        """Choose the rank of the bond behind core i, make the core orthonormal, and pass the rest on."""
        xp, core = self._xp, self._cores[i]
        a, n, c = (int(k) for k in core.shape)
        u, s, vt = xp.linalg.svd(xp.reshape(core, (a * n, c)), full_matrices=False)
        kept = _shortest(system, left_over, (u, s, vt), allowed)
        kept = kept if rank is None else min(kept, rank)
        u, rest = u[:, :kept], s[:kept, None] * vt[:kept, :]
        added = 0
        if columns > 0:
            following = xp.reshape(u @ rest, (a, n, c))
            # No more than the axes behind can make use of; the next sweep would only cut it off again.
            most = min(a * n, prod(int(g.shape[1]) for g in self._cores[i + 1 :]))
            room = min(columns, (most if rank is None else min(most, rank)) - kept)
            new = frames.residual(i, following)
            self._residual[i] = _orthonormal(xp, frames.followed(i, following))
            if room > 0:
                u, added = _enriched(xp, u, xp.reshape(new, (a * n, -1)), room)
        if added:
            rest = xp.concat([rest, xp.zeros((added, c), **self._home)], axis=0)
        self._pass_on(i, u, rest)
        frames.advance(i, self._cores[i], self._residual[i] if columns > 0 else None)

    def _pass_on(self, i: int, frame: Array, rest: Array) -> None:
        """Make `frame` core i, and multiply `rest` into the core behind it."""
        xp, following = self._xp, self._cores[i + 1]
        a, n, c = (int(k) for k in self._cores[i].shape)
        _, m, e = (int(k) for k in following.shape)
        count = int(frame.shape[1])
        self._cores[i] = xp.reshape(frame, (a, n, count))
        self._cores[i + 1] = xp.reshape(rest @ xp.reshape(following, (c, m * e)), (count, m, e))

    def _follow(self, columns: int) -> None:
        """Have a train for the residual whose ranks are `columns`, or the highest there are, right-orthonormal."""
        sizes = [int(c.shape[1]) for c in self._cores]
        ranks = [min(columns, prod(sizes[:k]), prod(sizes[k:])) for k in range(1, len(sizes))]
        if [int(c.shape[2]) for c in self._residual] != [*ranks, 1]:
            self._residual = self._random(sizes, [1, *ranks, 1])
        self._residual = _right_orthonormal(self._xp, self._residual, keep=True)

    def _turn(self) -> None:
        """Replace everything by its mirror image."""
        self._cores = _mirror(self._xp, self._cores)
        self._residual = _mirror(self._xp, self._residual)
        self._steps = [s.reversed() for s in reversed(self._steps)]
        self._loads = [m.reversed() for m in reversed(self._loads)]
        self._vectors = self._vectors[::-1]
        self._mirrored = not self._mirrored


@final
class _Frames:
    """The environments of a sweep from the left: complete on the right, growing on the left."""

    def __init__(
        self,
        steps: Sequence[AxisStep],
        vectors: Sequence[Array],
        loads: Sequence[Any],
        cores: Sequence[Array],
        residual: Sequence[Array] | None,
    ) -> None:
        xp = namespace(cores[0])
        one = xp.ones((1, 1, 1), dtype=cores[0].dtype, device=device_of(cores[0]))
        self.steps, self.vectors, self.loads = steps, vectors, loads
        unit = one[0, :, :]
        self.left, self.load_left = one, unit
        self.right, self.load_right = [one], [unit]
        self.cross, self.load_cross = one, unit
        self.cross_right, self.load_cross_right = [one], [unit]
        flipped = [xp.permute_dims(c, (2, 1, 0)) for c in cores]
        for i in range(len(cores) - 1, 0, -1):
            back, moves = steps[i].reversed(), loads[i].reversed()
            self.right.append(extend(back, self.right[-1], flipped[i], flipped[i]))
            self.load_right.append(extend_load(vectors[i], moves, self.load_right[-1], flipped[i]))
            if residual is not None:
                test = xp.permute_dims(residual[i], (2, 1, 0))
                self.cross_right.append(extend(back, self.cross_right[-1], test, flipped[i]))
                self.load_cross_right.append(extend_load(vectors[i], moves, self.load_cross_right[-1], test))
        for envs in (self.right, self.load_right, self.cross_right, self.load_cross_right):
            envs.reverse()

    def residual(self, i: int, core: Array) -> Array:
        """Return ``b - A u`` through the left frames of u and the right frames of the residual's train."""
        load = core_load(self.vectors[i], self.loads[i], self.load_left, self.load_cross_right[i])
        return load - close(carry(self.steps[i], self.left, core), self.cross_right[i])

    def followed(self, i: int, core: Array) -> Array:
        """Return ``b - A u`` through the frames of the residual's train on both sides."""
        load = core_load(self.vectors[i], self.loads[i], self.load_cross, self.load_cross_right[i])
        return load - close(carry(self.steps[i], self.cross, core), self.cross_right[i])

    def advance(self, i: int, core: Array, test: Array | None) -> None:
        """Carry the left environments over core i."""
        step, vectors, moves = self.steps[i], self.vectors[i], self.loads[i]
        if test is not None:
            self.cross = extend(step, self.cross, test, core)
            self.load_cross = extend_load(vectors, moves, self.load_cross, test)
        self.left = extend(step, self.left, core, core)
        self.load_left = extend_load(vectors, moves, self.load_left, core)


def _mirror(xp: Any, cores: Sequence[Array]) -> list[Array]:
    """Return the mirror image, stored as a fresh array is: round-off must not depend on what came before."""
    turned = [xp.permute_dims(c, (2, 1, 0)) for c in reversed(list(cores))]
    return [xp.reshape(xp.reshape(c, (-1,)), tuple(c.shape)) for c in turned]


def _right_orthonormal(xp: Any, cores: Sequence[Array], *, keep: bool = False) -> list[Array]:
    """Return the train with orthonormal rows in all cores but the first; with `keep` only the frames count."""
    result = list(cores)
    for i in range(len(result) - 1, 0, -1):
        r, n, e = (int(k) for k in result[i].shape)
        q, rest = xp.linalg.qr(xp.reshape(result[i], (r, n * e)).T, mode="reduced")
        count = int(q.shape[1])
        result[i] = xp.reshape(q.T, (count, n, e))
        before, m, _ = (int(k) for k in result[i - 1].shape)
        passed = xp.reshape(result[i - 1], (before * m, r)) @ rest.T
        if keep:
            # Only the spans matter, and the residual leaves the range of small numbers as the iteration converges.
            size = xp.max(xp.abs(passed))
            passed = xp.where(size > 0, passed / xp.where(size > 0, size, xp.ones_like(size)), passed)
        result[i - 1] = xp.reshape(passed, (before, m, count))
    return result


def _orthonormal(xp: Any, core: Array) -> Array:
    a, n, c = (int(k) for k in core.shape)
    q = xp.linalg.qr(xp.reshape(core, (a * n, c)), mode="reduced")[0]
    return xp.reshape(q, (a, n, int(q.shape[1])))


def _shortest(system: CoreSystem, left_over: Array, svd: tuple[Array, Array, Array], allowed: float) -> int:
    """Return the least rank at which what is cut off costs at most `allowed`.

    Cutting l off raises the functional by ``a(l, l) + 2 <F - H X, l>``. The second term is round-off where the system
    was solved directly; conjugate gradients leave a residual, which would let the functional rise by more than allowed.
    """
    u, s, vt = svd
    xp = namespace(u)
    low, high = 1, int(s.shape[0])
    while low < high:
        middle = (low + high) // 2
        lost = xp.reshape((u[:, middle:] * s[middle:]) @ vt[middle:, :], tuple(left_over.shape))
        energy = system.energy(lost)
        if energy <= allowed and energy + 2 * float(xp.sum(left_over * lost)) <= allowed:
            high = middle
        else:
            low = middle + 1
    return low


def _enriched(xp: Any, u: Array, new: Array, count: int) -> tuple[Array, int]:
    """Append up to `count` orthonormal directions of `new` to the orthonormal columns u."""
    new = new - u @ (u.T @ new)
    size = xp.max(xp.abs(new))
    if not float(size) > 0.0:
        return u, 0
    q = xp.linalg.svd(new / size, full_matrices=False)[0][:, :count]
    # Twice is enough: the directions of a small residual may lie in the span of u but for round-off.
    both = xp.linalg.qr(xp.concat([u, q - u @ (u.T @ q)], axis=1), mode="reduced")[0]
    kept = int(u.shape[1])
    return xp.concat([u, both[:, kept:]], axis=1), int(both.shape[1]) - kept
