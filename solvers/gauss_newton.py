"""Gauss-Newton with damping (Levenberg-Marquardt): all factors of a CP function at once.

Alternating least squares crawls where the columns of several factors have to change together ("swamps"); here one step
changes all of them. With u(C) the CP function of the factors C, the functional ``J = u' A u - 2 b' u`` has

    half the gradient   g = T' (A u - b),        half the Hessian   T' A T + S,        T = du/dC,

where S holds the second derivatives of u against the residual A u - b. Gauss-Newton leaves S out: what remains is
positive semidefinite. (Kept, with the same O(d) products, S made every second model indefinite on the 6-D
advection-diffusion problem, and the damping that this asks for made the steps shorter than those of Gauss-Newton.)
A step P minimises the damped model

    g' P + P' B P / 2,        B = T' A T + s D,        D = diag(H_1, ..., H_d),

with H_i the matrix of the ALS step of axis i, the i-th diagonal block of T' A T. T' A T itself is singular, since the
terms can be scaled against each other between the axes; D is not, but for parallel columns, where T' A T has the same
kernel and g has no part in it. Damping by the blocks instead of the mean diagonal does not depend on the basis of an
axis, it needs no new factorisation when s changes, and it fell fastest: 6 s from the end of rank continuation the 6-D
problem at rank 32 had a residual of 6.3e-3, with the mean diagonal 6.6e-3, with the blocks of each term alone 6.4e-3.

**Inner iteration.** Conjugate gradients, preconditioned by a symmetric block Gauss-Seidel sweep: with L the blocks of
T' A T below the diagonal and ``D_s = (1 + s) D`` it is ``M = (D_s + L) D_s^-1 (D_s + L')``, positive definite and never
smaller than B. In the unknown y with ``(1 + D_s^-1 L') P = y`` the system becomes ``K y = (D_s + L)^-1 (-g)``,

    K y = t + (1 + D_s^-1 L)^-1 (y - t),        t = (1 + D_s^-1 L')^-1 y,

so that a step costs one sweep up and one down through the axes (`Tangent`), as a product with B alone does
(S. C. Eisenstat, SIAM J. Sci. Stat. Comput. 2, 1981). K is self-adjoint in the inner product of D_s, with eigenvalues
in (0, 1]. Block Jacobi, the ALS blocks alone, takes 2.5 to 3 times the inner steps there and 1.5 to 3 times the time.

**Damping.** ``s`` follows the ratio of the fall of J and that of its model (H. B. Nielsen, report IMM-REP-1999-05). A
step is taken only if J falls by more than its round-off; otherwise s grows. Before each step the norm of every term is
spread evenly over the axes.

**On a device.** In a step no array leaves the device or comes to it. What is read are numbers: at a new point the sizes
of all blocks at once, and for each whether it could be factorised; for each inner iteration one pair; for each trial
the fall that the model promises, and ``a(u, u)``, ``f(u)`` and their round-off together.

The tangent products and the damping are our derivation; Levenberg-Marquardt for CP decompositions of data tensors is in
Tomasi and Bro (Comput. Statist. Data Anal. 50, 2006) and Sorber, Van Barel and De Lathauwer (SIAM J. Optim. 23, 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import NamedTuple, final

from sepnet.backends.arrays import Array, eps, namespace
from sepnet.solvers.axis_systems import factorise_axis
from sepnet.solvers.on_device import beside, read
from sepnet.solvers.record import State
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.tangent import Tangent

__all__ = ["GaussNewton"]

# Damping at the start, its least factor after a good step (Nielsen's), and trials before a step is given up: by the
# last the damping has grown by 2**66: a step along the gradient, as short as it takes.
START, SHRINK, TRIALS = 1e-2, 1.0 / 3.0, 12
# Inner iterations end when the residual has fallen to this share, or after so many. Looser, the steps turn back to
# those of ALS; tighter, down to 0.01, a step costs more than it gains.
FORCING, ITERATIONS = 0.05, 40

_Vector = list[Array]


@final
class GaussNewton:
    """The state of a damped Gauss-Newton iteration for ``A u = b``, A symmetric positive semidefinite.

    Parameters
    ----------
    matrix : SeparableMatrix
        A, in the namespace the factors shall live in.
    load : SeparableVector
        b, likewise.

    Attributes
    ----------
    stalled : bool
        Whether the last sweep found no step that lowers J by more than its round-off; the factors are then as before.
    damping : float
        Present damping s, relative to the blocks of ALS.
    """

    def __init__(self, matrix: SeparableMatrix, load: SeparableVector) -> None:
        self.matrix = matrix
        self.load = load
        self.stalled = False
        self.damping = START
        self._point: Tangent | None = None
        self._model: _Model | None = None
        self._slope = 0.0
        # so little that it can grow again within the trials of one step
        like = matrix.axes[0].values
        self._least = eps(like.dtype, namespace(like)) ** 0.5

    @property
    def rank(self) -> int:
        """Present number of columns."""
        return int(self._point.factors[0].shape[1]) if self._point else 0

    @property
    def factors(self) -> list[Array]:
        """The factors (N_i, R), the norm of each term spread evenly over the axes; empty before the start."""
        return list(self._point.factors) if self._point else []

    def start(self, factors: Sequence[Array]) -> None:
        """Begin from given factors, with the damping of a fresh iteration.

        Raises
        ------
        ValueError
            If there is not one array of shape (N_i, R), R >= 1, per axis, or a value is not finite.
        """
        sizes = [axis.size for axis in self.matrix.axes]
        shapes = [tuple(int(n) for n in f.shape) for f in factors]
        rank = shapes[0][-1] if shapes and shapes[0] else 0
        if rank < 1 or shapes != [(n, rank) for n in sizes]:
            expected = ", ".join(f"({n}, R)" for n in sizes)
            msg = f"`factors` have the shapes {shapes}, expected {expected} with one R >= 1: one array per axis"
            raise ValueError(msg)
        xp = namespace(*factors)
        if not all(bool(xp.all(xp.isfinite(f))) for f in factors):
            msg = "`factors` hold values that are not finite, expected numbers: start from others"
            raise ValueError(msg)
        self.stalled, self.damping, self._slope = False, START, 0.0
        self._move(Tangent(self.matrix, self.load, _balance(factors)))

    def _move(self, point: Tangent) -> None:
        self._point, self._model = point, None

    def sweep(self) -> tuple[float, float]:
        """Take one step in all factors, with as much damping as it needs, or give up and set `stalled`.

        Returns
        -------
        energy, work : float
            ``a(u, u)`` and ``f(u)`` after the step.

        Raises
        ------
        ValueError
            If there are no factors yet.
        NotPositiveDefiniteError
            If a diagonal block cannot be factorised: A is not positive semidefinite.
        """
        if self._point is None:
            msg = "there are no factors to improve, expected some: call start(factors) first"
            raise ValueError(msg)
        point = self._point
        if self._model is None:
            self._model = _Model(point)
        growth = 2.0
        for _ in range(TRIALS):
            # In one axis J is quadratic: its minimiser needs no damping.
            damping = self.damping if len(point.factors) > 1 else 0.0
            step = self._model.solve(damping, self._slope)
            if not step.fall > point.noise:
                break
            trial = Tangent(self.matrix, self.load, _balance(_add(point.factors, 1.0, step.change)))
            fall = point.functional - trial.functional
            if fall > point.noise:
                factor = max(SHRINK, 1.0 - (2.0 * fall / step.fall - 1.0) ** 3)
                self.damping = max(self.damping * factor, self._least)
                self.stalled, self._slope = False, step.slope
                self._move(trial)
                return trial.energy, trial.work
            self.damping, growth = self.damping * growth, growth * 2.0
        self.stalled, self.damping = True, START
        return point.energy, point.work

    def present(self) -> tuple[float, float]:
        """Return ``a(u, u)`` and ``f(u)`` of the present iterate."""
        return (self._point.energy, self._point.work) if self._point else (0.0, 0.0)

    def state(self) -> State:
        """Return all that the next sweep depends on."""
        numbers = {"damping": self.damping, "stalled": self.stalled, "slope": self._slope}
        return State({"factors": self.factors}, numbers)

    def restore(self, state: State) -> None:
        """Go back to a state; what follows is the same to the last bit."""
        like = self.matrix.axes[0].values
        self._move(Tangent(self.matrix, self.load, [beside(f, like) for f in state.arrays["factors"]]))
        self.damping, self.stalled = state.numbers["damping"], state.numbers["stalled"]
        self._slope = state.numbers["slope"]

    def balanced(self) -> list[Array]:
        """Return the factors with the norm of each term spread evenly over the axes."""
        return self.factors


class _Step(NamedTuple):
    """A step of all factors, the fall of J it promises, and the squared norm of the gradient it started from."""

    change: _Vector
    fall: float
    slope: float


@final
class _Model:
    """The damped quadratic model of J at one point; the factorised blocks serve any damping."""

    def __init__(self, point: Tangent) -> None:
        self.point = point
        xp = namespace(*point.factors)
        sizes = read(*(xp.max(xp.abs(w)) for w in point.weights))
        # A ridge of some round-off, as ALS has it, is all that parallel columns need here: B stays what it is.
        self.blocks = [
            # where all terms are zero whatever this factor is, there is nothing to solve
            factorise_axis(a, w) if size != 0.0 else lambda load: 0.0 * load
            for a, w, size in zip(point.matrix.axes, point.weights, sizes, strict=True)
        ]

    def times(self, vector: _Vector, scale: float = 1.0) -> _Vector:
        """Return a multiple of ``D v``."""
        axes, weights = self.point.matrix.axes, self.point.weights
        return [scale * a.times(w, v) for a, w, v in zip(axes, weights, vector, strict=True)]

    def corrected(self, vector: _Vector, damping: float) -> Callable[[int, Array | None], Array]:
        """Return the visit that solves a block triangular system with unit diagonal for `vector`."""

        def visit(i: int, coupling: Array | None) -> Array:
            return vector[i] if coupling is None else vector[i] - self.blocks[i](coupling) / (1.0 + damping)

        return visit

    def operator(self, vector: _Vector, damping: float) -> _Vector:
        """Return ``K y``: the damped system, preconditioned from both sides."""
        t = self.point.backward(self.corrected(vector, damping))
        return _add(t, 1.0, self.point.forward(self.corrected(_add(vector, -1.0, t), damping)))

    def right_side(self, damping: float) -> _Vector:
        """Return ``(D_s + L)^-1 (-g)``."""
        gradient = self.point.gradient
        return self.point.forward(
            lambda i, c: self.blocks[i](gradient[i] if c is None else gradient[i] + c) / (-1.0 - damping)
        )

    def solve(self, damping: float, slope: float) -> _Step:
        """Minimise the damped model by conjugate gradients in the inner product of ``D_s``.

        Parameters
        ----------
        damping : float
            s.
        slope : float
            Squared norm of the gradient at the point before, zero if unknown: where it falls fast, the system is solved
            more exactly, so that the steps converge faster than linearly.
        """
        scale = 1.0 + damping
        right = self.right_side(damping)
        y = [v * 0.0 for v in right]
        r, dr = right, self.times(right, scale)
        p = r
        square = _dot(r, dr)
        xp = namespace(square)
        (first,) = read(square)
        size, goal = first, min(FORCING, first / slope) if slope > 0.0 else FORCING
        for _ in range(ITERATIONS):
            if not size > goal**2 * first:
                break
            q = self.operator(p, damping)
            dq = self.times(q, scale)
            bend = _dot(p, dq)
            length = square / xp.where(bend > 0.0, bend, xp.ones_like(bend))
            # Carried out before it is known whether it is sound: an iteration waits once for the device, not twice.
            further, left_over, following = _add(y, length, p), _add(r, -length, q), _add(dr, -length, dq)
            remaining = _dot(left_over, following)
            curvature, size = read(bend, remaining)
            if not curvature > 0.0:  # round-off
                break
            y, r, dr = further, left_over, following
            p, square = _add(r, remaining / square, p), remaining
        change = self.point.backward(self.corrected(y, damping))
        # J(u) - J(u + T P) = -2 g'P - P'T'AT P. In y the damped model falls by 2 y'D(right) - y'D(K y).
        fall = float(_dot(y, self.times(_add(right, 1.0, r), scale)) + damping * _dot(change, self.times(change)))
        return _Step(change, fall if isfinite(fall) else 0.0, first)


def _add(x: Sequence[Array], factor: float | Array, y: Sequence[Array]) -> _Vector:
    return [a + factor * b for a, b in zip(x, y, strict=True)]


def _dot(x: Sequence[Array], y: Sequence[Array]) -> Array:
    """Return the inner product, a number where the arrays are."""
    xp = namespace(*x)
    return sum(xp.sum(a * b) for a, b in zip(x, y, strict=True))


def _balance(factors: Sequence[Array]) -> _Vector:
    """Spread the norm of each term evenly over the axes.

    A term with an empty column is zero, and would lose its other columns too: those get the size of the other terms,
    so that it can come back.
    """
    xp = namespace(*factors)
    norms = [xp.linalg.vector_norm(f, axis=0) for f in factors]
    ones = xp.ones_like(norms[0])
    alive = xp.astype(xp.all(xp.stack(norms) > 0.0, axis=0), ones.dtype)
    safe = [xp.where(n > 0.0, n, ones) for n in norms]
    # logarithms: the product of the norms over many axes can overflow
    share = alive * sum(xp.log(n) for n in safe) / len(factors)
    usual = xp.sum(share) / xp.maximum(xp.sum(alive), ones[0])
    size = xp.exp(share + (1.0 - alive) * usual)
    return [f * (size / n) for f, n in zip(factors, safe, strict=True)]
