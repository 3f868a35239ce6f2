"""Maps between physical coordinates and those in which a solution separates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.coefficients import Coefficient, as_coefficient, constant
from sepnet.forms import BilinearForm, inner
from sepnet.functions.checks import a_space
from sepnet.functions.mapped import Mapped
from sepnet.functions.values import Values
from sepnet.operators import Operator
from sepnet.separation.separate import separate
from sepnet.spaces import TensorSpace

__all__ = ["CoordinateMap", "PhysicalDerivatives"]

PointMap: TypeAlias = Callable[[Array], Array]
PointFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]

# Points, and values an axis, at which is looked whether an entry of the Jacobian depends on the axis.
PROBES, STEPS = 16, 9
ROUND_OFF = 256 * float(np.finfo(np.float64).eps)


@final
@dataclass(frozen=True, eq=False, repr=False)
class CoordinateMap:
    """A smooth map between physical coordinates x and the computational ones q of a space.

    A problem is stated and solved on the box of q, in which its solution separates, and asked in x. The map may depend
    on time and parameters: they are coordinates like all others, and those that both sides share are simply carried
    over by the two callables. `d` has the physical derivatives as operators on the space, by the chain rule
    ``d/dx_j = sum_i (dq_i/dx_j) d/dq_i``; `volume` is the volume element ``|det dx/dq|`` that belongs into integrals;
    ``M(u)`` is a function of q as one of x.

    Ready-made: `sepnet.polar`, `sepnet.affine`, `sepnet.rotating`.

    Parameters
    ----------
    space : TensorSpace
        The space of q.
    names : sequence of str
        Names of x, in the order of its columns; as many as axes.
    to_physical, to_computational : callable
        Points q to x, and x to q: arrays (n, d) to arrays (n, d) of the same namespace.
    jacobian : callable
        Points q to the matrices ``dx_i/dq_j``, (n, d, d).
    known : mapping of (str, str) to number or Coefficient, optional
        What is known in closed form: ``known["x", "r"]`` is ``dr/dx`` as a function of q. Entries that are absent are
        computed from `jacobian` and separated.
    expressions : mapping of str to Coefficient, optional
        The physical coordinates as functions of q, where they are known in closed form.
    element : Coefficient, optional
        The volume element ``|det dx/dq|``, where it is known in closed form.
    tol : float, optional
        Relative accuracy to which unknown entries are separated.

    Raises
    ------
    TypeError, ValueError
        If the names are not as many as axes, or the two maps are not inverse to each other, or `jacobian` is not the
        derivative of `to_physical`: checked at some points of the box.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(
    ...     r=sn.BSpline((1, 2), cells=8, zero="both"), theta=sn.BSpline((0, 2 * np.pi), cells=8, periodic=True)
    ... )
    >>> M = sn.polar(V)
    >>> u = M(sn.solve(sn.Galerkin(M.stiffness(), source=M.volume), tol=1e-4).u)  # -Laplace u = 1 on a ring
    >>> round(float(u([[0.0, -1.5]])[0]), 4)  # (1 - r**2) / 4 + 3 log(r) / (4 log(2))
    0.1262
    """

    space: TensorSpace
    names: tuple[str, ...]
    to_physical: PointMap
    to_computational: PointMap
    jacobian: PointMap
    known: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    expressions: Mapping[str, Coefficient] = field(default_factory=dict)
    element: Coefficient | None = None
    tol: float = 1e-10

    def __post_init__(self) -> None:
        a_space(self.space, "CoordinateMap")
        for what in ("to_physical", "to_computational", "jacobian"):
            if not callable(getattr(self, what)):
                msg = f"`{what}` is {type(getattr(self, what)).__name__}, expected a callable of points (n, d)"
                raise TypeError(msg)
        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        object.__setattr__(self, "names", names)
        d = self.space.dim
        if len(names) != d or len(set(names)) != d or not all(isinstance(n, str) and n.isidentifier() for n in names):
            msg = f"`names` is {names}, expected {d} different identifiers, one for each physical coordinate"
            raise ValueError(msg)
        for what, key in (("known", {n for pair in self.known for n in pair}), ("expressions", set(self.expressions))):
            strangers = sorted(key - {*names, *self.space.names})
            if strangers:
                msg = f"`{what}` names {strangers[0]!r}, expected coordinates among {', '.join(names)}"
                raise ValueError(msg)
        self._check()

    def __repr__(self) -> str:
        """Tell both sets of coordinates."""
        return f"CoordinateMap({', '.join(self.space.names)} -> {', '.join(self.names)})"

    # ------------------------------------------------------------------------------------------------------- in use

    def __call__(self, u: Values) -> Mapped:
        """Return a function of the computational coordinates as one of the physical ones."""
        if not isinstance(u, Values):
            msg = f"`u` is {type(u).__name__}, expected a function such as sn.solve(problem).u"
            raise TypeError(msg)
        if u.space.names != self.space.names:
            mine, theirs = ", ".join(self.space.names), ", ".join(u.space.names)
            msg = f"`u` has the axes {theirs}, expected {mine}: it belongs to another map"
            raise ValueError(msg)
        return Mapped(u, self)

    def pull(self, f: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """Return ``q -> f(x(q))`` for a callable of physical points: what `sepnet.separate` and `project` take.

        Parameters
        ----------
        f : callable
            Host points (n, d), one column for each of `names`, to values (n,).

        Returns
        -------
        callable
            Of points (n, d) with columns in the order of the axes.
        """
        return lambda q: f(self.to_physical(q))

    @property
    def d(self) -> PhysicalDerivatives:
        """The physical derivatives as operators on the space: ``M.d.x``, ``M.d["x"]``; iterable in order."""
        return PhysicalDerivatives(self)

    @property
    def volume(self) -> Coefficient:
        """The volume element ``|det dx/dq|``, a coefficient."""
        if self.element is not None:
            return self.element
        return self._separated(lambda q: np.asarray(np.abs(np.linalg.det(self.jacobian(q)))))

    @property
    def coordinates(self) -> tuple[Coefficient, ...]:
        """The physical coordinates as coefficients on the space, in the order of `names`."""
        return tuple(
            self.expressions[name]
            if name in self.expressions
            else self._separated(lambda q, i=i: self.to_physical(q)[:, i])  # type: ignore[misc]
            for i, name in enumerate(self.names)
        )

    def derivative(self, name: str) -> Operator:
        """Return the derivative along a physical coordinate, with the others held, as an operator on the space.

        Parameters
        ----------
        name : str
            One of `names`.

        Returns
        -------
        Operator

        Raises
        ------
        ValueError
            If there is no such coordinate.
        """
        if name not in self.names:
            msg = f"there is no coordinate {name!r}, expected one of {', '.join(self.names)}"
            raise ValueError(msg)
        j, total = self.names.index(name), Operator(self.space)
        for i, axis in enumerate(self.space.names):
            if (name, axis) in self.known:
                entry = as_coefficient(self.known[name, axis], f"known[{name!r}, {axis!r}]")
            else:
                entry = self._separated(self._inverse(i, j), self._inverse(i, slice(None)))
            if entry.terms:
                total = total + entry * self.space.d[axis]
        return total

    def _inverse(self, i: int, j: int | slice) -> PointFunction:
        """Return ``dq_i/dx_j`` as a function of q; of a slice, the Euclidean norm."""

        def entry(q: np.ndarray) -> np.ndarray:
            found = self._inverses(q)[:, i, j]
            return found if found.ndim == 1 else np.linalg.norm(found, axis=1)

        return entry

    def _inverses(self, q: np.ndarray) -> np.ndarray:
        """Return the matrices ``dq_i/dx_j`` (n, d, d) at host points; raise ValueError where there are none."""
        matrices = self.jacobian(q)
        singular = np.linalg.det(matrices) == 0.0
        if singular.any():
            place = ", ".join(f"{n} = {v:g}" for n, v in zip(self.space.names, q[singular][0], strict=True))
            msg = (
                f"the Jacobian is singular at {place}, where the map cannot be undone: begin the domain beside it, or "
                "take the form from derivatives known in closed form, sn.inner(M.volume * M.d.x, M.d.x) + ..."
            )
            raise ValueError(msg)
        return np.asarray(np.linalg.inv(matrices))

    def stiffness(self, *names: str) -> BilinearForm:
        """Return the form ``int grad u . grad v dx`` of the physical gradient, over the physical image of the box.

        Its coefficients ``|det dx/dq| sum_k (dq_i/dx_k)(dq_j/dx_k)`` are separated whole: the products of separated
        entries would have the square of their terms.

        Parameters
        ----------
        *names : str
            The physical coordinates that the gradient is taken in; all if absent.

        Returns
        -------
        BilinearForm

        Raises
        ------
        ValueError
            If there is no such coordinate, or the Jacobian is singular somewhere in the box, as at the pole of polar
            coordinates.
        """
        strangers = [name for name in names if name not in self.names]
        if strangers:
            msg = f"there is no coordinate {strangers[0]!r}, expected one of {', '.join(self.names)}"
            raise ValueError(msg)
        kept = [self.names.index(name) for name in names or self.names]

        def metric(q: np.ndarray) -> np.ndarray:
            inverse = self._inverses(q)[:, :, kept]
            return np.asarray((inverse @ inverse.mT) * np.abs(np.linalg.det(self.jacobian(q)))[:, None, None])

        def entry(i: int, j: int) -> PointFunction:
            return lambda q: metric(q)[:, i, j]

        def size(i: int, j: int) -> PointFunction:
            return lambda q: np.sqrt(metric(q)[:, i, i] * metric(q)[:, j, j])

        d, total = self.space.d, BilinearForm(self.space)
        for i, one in enumerate(self.space.names):
            for j, other in enumerate(self.space.names[: i + 1]):
                coefficient = self._separated(entry(i, j), size(i, j))
                for trial, test in dict.fromkeys([(one, other), (other, one)]) if coefficient.terms else ():
                    total = total + inner(coefficient * d[trial], d[test])
        return total

    def _separated(self, f: PointFunction, size: PointFunction | None = None) -> Coefficient:
        """Return a function of q as a coefficient on those axes alone on which it depends.

        What is round-off next to `size` is zero: an entry of the metric next to its row and column, for example.
        """
        rng = np.random.default_rng(0)
        low, high = np.array([basis.domain for basis in self.space.bases]).T
        base = low + (high - low) * rng.random((PROBES, self.space.dim))
        moved = np.repeat(base[:, None, :], STEPS, axis=1)
        scale = float(np.abs((size or f)(base)).max())
        idle, largest = [], [0.0]
        for k, name in enumerate(self.space.names):
            lines = moved.copy()
            lines[:, :, k] = low[k] + (high[k] - low[k]) * (np.arange(STEPS) + 0.5) / STEPS
            values = f(lines.reshape(-1, self.space.dim)).reshape(PROBES, STEPS)
            largest.append(float(np.abs(values).max()))
            if float(np.ptp(values, axis=1).max()) <= ROUND_OFF * max(scale, *largest):
                idle.append(name)
        if len(idle) == self.space.dim:
            value = float(f(base[:1])[0])
            return constant(value if abs(value) > ROUND_OFF * scale else 0.0)
        kept = [k for k, name in enumerate(self.space.names) if name not in idle]
        middle = (low + high) / 2

        def on_kept(points: np.ndarray) -> np.ndarray:
            q = np.tile(middle, (points.shape[0], 1))
            q[:, kept] = points
            return f(q)

        space = self.space.drop(*idle) if idle else self.space
        return as_coefficient(separate(on_kept, space, self.tol), "the map")

    def _check(self) -> None:
        """Look at some points of the box whether the three callables belong together."""
        rng = np.random.default_rng(0)
        low, high = np.array([basis.domain for basis in self.space.bases]).T
        length = high - low
        q = low + length * (0.05 + 0.9 * rng.random((PROBES, self.space.dim)))
        x, d = np.asarray(self.to_physical(q)), self.space.dim
        if x.shape != q.shape:
            msg = f"`to_physical` returned shape {x.shape} for points of shape {q.shape}, expected the same shape"
            raise ValueError(msg)
        back, matrices = np.asarray(self.to_computational(x)), np.asarray(self.jacobian(q))
        if back.shape != q.shape or not np.abs(_around(self.space, back - q) / length).max() <= 1e-6:
            msg = (
                "`to_computational` does not undo `to_physical` on the box of the space: check both, or shrink the box"
            )
            raise ValueError(msg)
        if matrices.shape != (PROBES, d, d):
            msg = f"`jacobian` returned shape {matrices.shape} for {PROBES} points, expected ({PROBES}, {d}, {d})"
            raise ValueError(msg)
        for j in range(d):
            step = np.zeros(d)
            step[j] = 1e-4 * length[j]
            slope = (np.asarray(self.to_physical(q + step)) - np.asarray(self.to_physical(q - step))) / (2 * step[j])
            size = np.abs(slope).max() + np.abs(matrices[:, :, j]).max()
            # Central differences of a smooth map: 1e-8 / 6 of its third derivative, and some units of round-off of x
            # and q, which is large far from the origin.
            noise = 8 * np.finfo(np.float64).eps * (np.abs(x).max() + size * np.abs(q[:, j]).max()) / step[j]
            allowed = 1e-5 * size + noise
            if not np.abs(slope - matrices[:, :, j]).max() <= allowed:
                msg = (
                    f"`jacobian` is not the derivative of `to_physical` along {self.space.names[j]!r}: it has to "
                    "return dx_i/dq_j in row i and column j"
                )
                raise ValueError(msg)


@final
@dataclass(frozen=True)
class PhysicalDerivatives:
    """The physical derivatives of a map as operators on its space, ``M.d.x``; also ``M.d["x"]``."""

    _map: CoordinateMap

    def __getattr__(self, name: str) -> Operator:
        """Return the derivative along a physical coordinate."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Operator:
        """Return the derivative along a physical coordinate."""
        try:
            return self._map.derivative(name)
        except ValueError as error:
            raise AttributeError(str(error)) from error

    def __iter__(self) -> Iterator[Operator]:
        """Iterate over the derivatives in the order of the coordinates."""
        return (self[name] for name in self._map.names)


def _around(space: TensorSpace, difference: np.ndarray) -> np.ndarray:
    """Take differences on periodic axes modulo the period."""
    difference = difference.copy()
    for k, basis in enumerate(space.bases):
        if basis.periodic:
            length = basis.domain[1] - basis.domain[0]
            difference[:, k] -= length * np.round(difference[:, k] / length)
    return difference
