"""Separable neural architectures: an activation of a sum of functions of few variables each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, final

from sepnet.backends.arrays import Array, eps, namespace, to_host
from sepnet.backends.checks import bad_point, slack
from sepnet.functions import storage
from sepnet.functions.activations import Activation, apply_activation
from sepnet.functions.checks import a_space, position, text_notes
from sepnet.functions.cp import CP
from sepnet.functions.interaction import Subset
from sepnet.functions.sna_calculus import SparseCalculus
from sepnet.functions.sna_checks import activation_of, constant_of, parts_of, weights_of
from sepnet.functions.sna_evaluation import Sum
from sepnet.functions.sna_parts import Parts, merged, scaled, subspace
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.tucker import Tucker
from sepnet.spaces import TensorSpace

__all__ = ["SNA"]

Part: TypeAlias = CP | TensorTrain | Tucker


@final
class SNA(SparseCalculus):
    """A separable neural architecture ``u(x) = sigma(constant + sum_S w_S u_S(x_S))``.

    The parts ``u_S`` are functions of few variables each: of one in additive models, of pairs in models of order two,
    of all in the CP, tensor-train and Tucker classes. With the identity as sigma the calculus is that of the other
    functions, closed and exact, and every part remains a function of its own variables. With another one, values,
    gradients and Hessians are exact and a function can be restricted; what would be linear is refused with the next
    step.

    Parameters
    ----------
    space : TensorSpace
        Named axes with their bases.
    parts : mapping of subset to function
        Tuples of axis names, in the order of the space, to a `CP`, `TensorTrain` or `Tucker` function of these axes,
        in the bases that the space has; kept as they are. All live in one place, in one dtype.
    constant : float or array of shape (), optional
        What is added to the parts.
    weights : mapping of subset to float or array, optional
        The modal weights ``w_S``: a number, or for a `CP` part an array (R,), one for each of its terms; by default 1.
    activation : {"identity", "exp", "logistic", "sin", "softplus", "square", "tanh"}, optional
        The outer function sigma.

    Raises
    ------
    TypeError
        If a part is no such function, or parts, constant and weights live in different places.
    ValueError
        If a subset is no subset of the axes, a part has other axes or bases, a weight does not fit its part, or there
        is no such activation.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.Legendre((0, 1), 1), y=sn.Legendre((0, 1), 1))
    >>> line = sn.CP(sn.TensorSpace(x=V.axes["x"]), [np.array([[0.5], [0.5]])])  # x
    >>> plane = sn.CP(V, [np.array([[0.5], [0.5]]), np.array([[0.5], [0.5]])])  # x y
    >>> u = sn.SNA(V, {("x",): line, ("x", "y"): plane}, constant=1.0)
    >>> u
    SNA(parts x, x-y; rank=2, x[2] x y[2], 7 coefficients, float64)
    >>> u([[0.5, 0.5]]), u.anova().constant
    (array([1.75]), array(1.75))
    """

    __slots__ = ("_parts", "_weights", "activation", "constant", "space")

    constant: Array
    activation: Activation

    def __init__(
        self,
        space: TensorSpace,
        parts: Mapping[Subset, Part],
        *,
        constant: float | Array = 0.0,
        weights: Mapping[Subset, float | Array] | None = None,
        activation: Activation = "identity",
    ) -> None:
        self.space = a_space(space, "sn.SNA")
        self._parts: Parts = parts_of(space, parts)
        self.constant = constant_of(constant, self._parts)
        self._weights: dict[Subset, Array] = weights_of(weights, self._parts)
        self.activation = activation_of(activation)

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def parts(self) -> Mapping[Subset, Any]:
        """The functions of few variables by subset."""
        return MappingProxyType(self._parts)

    @property
    def weights(self) -> Mapping[Subset, Array]:
        """The modal weights that are not 1, by subset: arrays of shape () or (R,)."""
        return MappingProxyType(self._weights)

    @property
    def order(self) -> int:
        """The largest number of variables of a part."""
        return max(map(len, self._parts), default=0)

    @property
    def rank(self) -> int:
        """The sum of the parts' ranks; of a train or Tucker function the largest one counts."""
        return sum(part.rank for part in self._parts.values())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        """One line: activation, subsets, rank, axes, size and dtype."""
        shown = ["-".join(subset) for subset in list(self._parts)[:6]]
        more = len(self._parts) - len(shown)
        names = ", ".join(shown) + (f", ... ({more} more)" if more else "") if shown else "none"
        outer = "" if self.activation == "identity" else f"{self.activation} of "
        return f"SNA({outer}parts {names}; rank={self.rank}, {self._axes_and_home()})"

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The constant, the weights, and the arrays of the parts one after the other."""
        return (self.constant, *self._weights.values(), *(a for part in self._parts.values() for a in part.arrays))

    def _like(self, space: TensorSpace, arrays: Sequence[Array]) -> SNA:
        xp, rest = namespace(*arrays), iter(arrays)
        # A move by way of the host makes arrays of shape () such of shape (1,).
        head = xp.reshape(next(rest), ())
        weights = {s: xp.reshape(next(rest), tuple(w.shape)) for s, w in self._weights.items()}
        parts: Any = {s: p._like(p.space, [next(rest) for _ in p.arrays]) for s, p in self._parts.items()}
        return SNA(space, parts, constant=head, weights=weights, activation=self.activation)

    def _sum_of(self, space: TensorSpace, head: Array, parts: Any) -> SNA:
        return SNA(space, parts, constant=head, activation=self.activation)

    def _linear(self, what: str, advice: str) -> None:
        if self.activation != "identity":
            msg = f"{what}: the function is {self.activation} of a sum, expected a sum, which is linear: use {advice}"
            raise ValueError(msg)

    def _terms(self) -> Parts:
        """Return the parts times their weights."""
        terms = dict(self._parts)
        for subset, weight in self._weights.items():
            terms[subset] = scaled(terms[subset], weight)
        return terms

    # --- values -------------------------------------------------------------------------------------------------

    def _evaluate(self, points: Array, order: int) -> tuple[Array, ...]:
        used = {name for subset in self._parts for name in subset}
        _check_axes(points, self.space, [i for i, name in enumerate(self.space.names) if name not in used])
        try:
            jet = Sum(self.space, self._terms(), self.constant).evaluate(points, order)
        except ValueError:
            # A part counts its own axes only: the message shall count those of the points.
            _check_axes(points, self.space, range(self.space.dim))
            raise
        if self.activation == "identity":
            return jet
        outer = apply_activation(self.activation, jet[0], order)
        results = [outer[0]]
        if order > 0:
            results.append(outer[1][:, None] * jet[1])
        if order > 1:
            square = jet[1][:, :, None] * jet[1][:, None, :]
            results.append(outer[2][:, None, None] * square + outer[1][:, None, None] * jet[2])
        return tuple(results)

    def _on_grid(self, grid: Mapping[str, Array]) -> Array:
        xp = self.xp
        shape = {name: int(points.shape[0]) for name, points in grid.items()}
        for name, points in grid.items():
            _check_axes(points[:, None], subspace(self.space, [name]), [0])
        total = xp.zeros(tuple(shape.values()), dtype=self.dtype, device=self.device) + self.constant
        for subset, part in self._terms().items():
            values = part._on_grid({name: grid[name] for name in subset})
            total = total + xp.reshape(values, tuple(m if name in subset else 1 for name, m in shape.items()))
        return apply_activation(self.activation, total)[0]

    # --- calculus -----------------------------------------------------------------------------------------------

    def restrict(self, **values: float) -> SNA | Array:
        """Fix some coordinates, with any activation; parts that become functions of the same variables are added.

        Parameters
        ----------
        **values : float
            Axis name to a position in its domain.

        Returns
        -------
        SNA or array of shape ()
            The function of the remaining coordinates; the value when none remains.

        Raises
        ------
        TypeError
            If a position is no real number.
        ValueError
            If a name is unknown or a position outside its domain.
        """
        self.space.check_axes(values, "restrict")
        for name, value in values.items():
            domain = self.space.axes[name].domain
            position(name, value, domain, slack(*domain, eps(self.dtype, self.xp)))
        head, pieces = self.constant, []
        for subset, part in self._terms().items():
            fixed = {name: values[name] for name in subset if name in values}
            cut: Any = part.restrict(**fixed)
            kept = tuple(name for name in subset if name not in fixed)
            if kept:
                pieces.append((kept, cut))
            else:
                head = head + cut
        if len(values) == self.space.dim:
            return apply_activation(self.activation, head)[0]
        return self._sum_of(self.space.drop(*values) if values else self.space, head, merged(pieces))

    # --- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, notes: Mapping[str, str] | None = None) -> None:
        """Write the function to an HDF5 file, atomically; `sepnet.load` reads it.

        Parameters
        ----------
        path : path
            File to write; replaced only when the new one is complete.
        notes : mapping of str to str, optional
            Free text to keep with it.

        Raises
        ------
        TypeError
            If `path` is no path, or `notes` no mapping of str to str.
        ValueError
            If `path` is empty, or a text of `notes` cannot be stored.
        OSError
            If the folder does not exist or cannot be written, or `path` is a folder.
        """
        parts = []
        for subset, part in self._parts.items():
            arrays, order = part._stored()
            hosts = [to_host(a) for a in arrays]
            weight = [to_host(self._weights[subset])] if subset in self._weights else []
            parts.append(storage.Stored(type(part).__name__, part.space, (*hosts, *weight), {}, order))
        head = (to_host(self.constant),)
        storage.write(
            path, storage.Stored("SNA", self.space, head, text_notes(notes), (), tuple(parts), self.activation)
        )


def _check_axes(points: Array, space: TensorSpace, axes: Iterable[int]) -> None:
    """Raise ValueError for the first point that is NaN or outside the domain of one of some axes."""
    xp = namespace(points)
    unit = eps(points.dtype, xp)
    for axis in axes:
        left, right = space.bases[axis].domain
        room = slack(left, right, unit)
        inside = (points[:, axis] >= left - room) & (points[:, axis] <= right + room)
        if not bool(xp.all(inside)):
            row = int(xp.argmin(xp.astype(inside, xp.int64)))
            raise bad_point(axis, float(points[row, axis]), left, right, space.names)
