"""What each input does to a separable function: Sobol indices and mean effects, in closed form from the factors.

The inputs are independent, each with a density of its own (uniform if none is given). Nothing is sampled: a function
in a separable format is split into mean and rest on every axis, and every index is a ratio of sums of squares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, final

from sepnet.backends.arrays import Array
from sepnet.functions.base import SeparableFunction
from sepnet.functions.cp import CP
from sepnet.functions.dense import number
from sepnet.functions.evaluation import column_values
from sepnet.measures import Density, ProductMeasure, pickled, product_measure
from sepnet.moments import Chain, Part, Roots, above, as_separable, chain_of, energy, halves
from sepnet.spaces import TensorSpace

__all__ = ["Effect", "Effects", "Sobol", "effects", "sobol"]

Subset = tuple[str, ...]
# Lines of a repr.
SHOWN = 12


@final
@dataclass(frozen=True, repr=False)
class Sobol:
    """Sobol indices of a function of independent inputs: shares of its variance.

    An index below the round-off of the function's coefficients is exactly zero. A function without variance has
    indices of zero: no input does anything.

    Attributes
    ----------
    mean, variance : float
        Of the function.
    first : mapping of str to float
        Share of what each input does alone, ``Var(E[u | x_i]) / Var(u)``.
    total : mapping of str to float
        Share of all that an input takes part in, ``E[Var(u | all but x_i)] / Var(u)``. Zero: the input does nothing.
    closed : mapping of tuple of str to float
        For each subset S asked for the share of what its inputs do together, ``Var(E[u | x_S]) / Var(u)``.
    interaction : mapping of tuple of str to float
        The part of that which no smaller subset has.
    group_total : mapping of tuple of str to float
        Share of all that any input of S takes part in; one minus the closed index of the other inputs.
    """

    mean: float
    variance: float
    first: Mapping[str, float]
    total: Mapping[str, float]
    closed: Mapping[Subset, float]
    interaction: Mapping[Subset, float]
    group_total: Mapping[Subset, float]

    def __reduce__(self) -> tuple[Any, ...]:
        """See `sepnet.measures.pickled`."""
        return pickled(self)

    def __repr__(self) -> str:
        """Mean and variance, and a line for each of the inputs and subsets, largest first."""
        rows = [
            f"  {name}: first {self.first[name]:.4g}, total {self.total[name]:.4g}"
            for name in sorted(self.total, key=lambda name: -self.total[name])
        ]
        rows += [
            f"  {', '.join(subset)}: closed {self.closed[subset]:.4g}, interaction {self.interaction[subset]:.4g}, "
            f"total {self.group_total[subset]:.4g}"
            for subset in self.closed
        ]
        if len(rows) > SHOWN:
            rows[SHOWN - 1 :] = [f"  ... {len(rows) - SHOWN + 1} more"]
        return "\n".join([f"Sobol(mean={self.mean:.6g}, variance={self.variance:.6g}", *rows]) + ")"


def sobol(u: Any, *, density: Density | None = None, subsets: Iterable[Sequence[str]] = ()) -> Sobol:
    """Return the Sobol indices of a function, in closed form.

    Every axis is split into mean and rest, which are orthogonal, and each index is a sum of squares over another: none
    is a difference, so that a share of 1e-12 has its digits as a share of 0.5 has. The cost is that of a few norms: two
    sweeps for all first and total indices, three more for each subset. Sums of more than 64 products are treated by
    their Gram matrices where these see shares down to 1e-10, and always beyond 128 products.

    Source: I. M. Sobol', Math. Comput. Simul. 55 (2001), sections 3 to 5; for tensor trains Ballester-Ripoll, Paredes,
    Pajarola, SIAM/ASA J. Uncertain. Quantif. 7 (2019).

    Parameters
    ----------
    u : CP, TensorTrain or Tucker
        The function, anywhere and in any precision; or one whose ``u.to_cp()`` is exact.
    density : mapping of str to callable, optional
        Axis name to the probability density of that input on its domain, host points (n,) to values (n,); the other
        inputs are uniform. Its integral must be one to 1e-6.
    subsets : iterable of tuples of str, optional
        Groups of inputs for which closed index, interaction and total index are wanted.

    Returns
    -------
    Sobol

    Raises
    ------
    TypeError
        If `u` is no such function, or `density` or `subsets` are not of these types.
    ValueError
        If there is no such axis, a subset is empty or names an axis twice, a density is negative or not normalised, or
        the function is not finite.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
    >>> x, y, z = V.coordinates
    >>> u = sn.project((x - 0.5) + (y - 0.5) * (z - 0.5), V)
    >>> sn.sobol(u, subsets=[("y", "z")])
    Sobol(mean=..., variance=0.0902778
      x: first 0.9231, total 0.9231
      y: first 0, total 0.07692
      z: first 0, total 0.07692
      y, z: closed 0.07692, interaction 0.07692, total 0.07692)
    """
    function = as_separable(u, "sn.sobol")
    groups = [_subset(function.space, subset) for subset in _listed(subsets)]
    chain = chain_of(function, product_measure(function.space, density))
    if chain is None:
        return _nothing(function.space, groups, 0.0)
    left, right = halves(chain)
    form, end = chain.form, chain.form.begin(chain.start())
    last = form.step(left[-1], chain.means[-1], chain.rests[-1])
    variance = above(chain, form.close(last.rest, end.mean))
    mean = _mean(chain)
    if variance == 0.0:
        return _nothing(function.space, groups, mean)
    first, total = {}, {}
    for name, before, after, rest in zip(chain.order, left, right, chain.rests, strict=True):
        alone = form.close(form.push(before.mean, rest), after.mean)
        within = form.close(form.push(form.whole(before), rest), form.whole(after))
        first[name], total[name] = above(chain, alone) / variance, above(chain, within) / variance

    def share(group: Subset, inside: Part, outside: Part) -> float:
        return energy(chain, [inside if name in group else outside for name in chain.order]) / variance

    names = function.space.names
    return Sobol(
        mean,
        chain.scale * (chain.scale * variance),
        MappingProxyType({name: first[name] for name in names}),
        MappingProxyType({name: total[name] for name in names}),
        MappingProxyType({group: share(group, "split", "mean") for group in groups}),
        MappingProxyType({group: share(group, "rest", "mean") for group in groups}),
        MappingProxyType({group: share(group, "split", "full") for group in groups}),
    )


def _mean(chain: Chain) -> float:
    row = chain.start()
    for mean in chain.means:
        row = row * mean if mean.ndim == 2 else row @ mean[:, 0, :]
    return chain.scale * number((row @ chain.start().T)[0, 0])


def _nothing(space: TensorSpace, groups: Sequence[Subset], mean: float) -> Sobol:
    """Return the indices of a constant."""
    axes = MappingProxyType(dict.fromkeys(space.names, 0.0))
    sets = MappingProxyType(dict.fromkeys(groups, 0.0))
    return Sobol(mean, 0.0, axes, axes, sets, sets, sets)


def _listed(subsets: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    if isinstance(subsets, str) or not isinstance(subsets, Iterable):
        msg = f"`subsets` is {subsets!r}, expected a list of groups of axes, e.g. [('x', 'y')]"
        raise TypeError(msg)
    return list(subsets)


def _subset(space: TensorSpace, subset: Sequence[str]) -> Subset:
    """Return a group of axes as a tuple, in the order given."""
    if isinstance(subset, str) or not isinstance(subset, Iterable):
        msg = f"`subsets` holds {subset!r}, expected tuples of axes: ('x',) for a single one"
        raise TypeError(msg)
    group = tuple(subset)
    space.check_axes(group, "`subsets`")
    if not group or len(set(group)) != len(group):
        msg = f"`subsets` holds {group!r}, expected at least one of {', '.join(space.names)}, each once"
        raise ValueError(msg)
    return group


# ---------------------------------------------------------------------------------------------------------- effects


@final
@dataclass(frozen=True, eq=False)
class Effect:
    """What one input does.

    Attributes
    ----------
    axis : str
        The input.
    curve : CP
        The mean of the function at each of its values, ``E[u | x_i]``: a function of this axis alone.
    """

    axis: str
    curve: CP
    _spread: Array = field(repr=False)

    def deviation(self, points: Array) -> Array:
        """Return the standard deviation of the function at values of this input, when the others vary.

        Parameters
        ----------
        points : array of shape (n,)
            Where the function lives; lists are host data.

        Returns
        -------
        array of shape (n,)
            ``sqrt(Var[u | x_i])``, a sum of squares: it is zero where the other inputs do nothing.

        Raises
        ------
        TypeError, ValueError
            As for `CP.on_grid`.
        """
        grid = self.curve.grid(**{self.axis: points})
        values = column_values(self.curve.space, [self._spread], grid)[0]
        return self.curve.xp.linalg.vector_norm(values, axis=1)


@final
@dataclass(frozen=True, eq=False)
class Effects:
    """The mean effects of the inputs of a function.

    Attributes
    ----------
    function : CP, TensorTrain or Tucker
        The function.
    measure : ProductMeasure
        What the inputs are averaged over.
    mean : float
        The mean of the function.
    main : mapping of str to Effect
        What each input does alone.
    """

    function: SeparableFunction
    measure: ProductMeasure = field(repr=False)
    mean: float
    main: Mapping[str, Effect]

    def __reduce__(self) -> tuple[Any, ...]:
        """See `sepnet.measures.pickled`."""
        return pickled(self)

    def given(self, *axes: str) -> SeparableFunction:
        """Return the mean of the function when some inputs are known, a function of these.

        Parameters
        ----------
        *axes : str
            The inputs that are known, at least one.

        Returns
        -------
        CP, TensorTrain or Tucker
            ``E[u | x_S]``, in the format of the function.

        Raises
        ------
        TypeError, ValueError
            If there is no such axis, or none is named.
        """
        return _conditional(self.function, self.measure, axes)


def effects(u: Any, *, density: Density | None = None) -> Effects:
    """Return the mean effect of every input, and how much the others make of it.

    Parameters
    ----------
    u, density
        As in `sobol`.

    Returns
    -------
    Effects
        In the namespace, dtype and device of the function.

    Raises
    ------
    TypeError, ValueError
        As in `sobol`.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=4) for name in "xyz"})
    >>> x, y, z = V.coordinates
    >>> found = sn.effects(sn.project(x**2 + 12**0.5 * x * y, V))
    >>> found.main["x"].curve([[1.0]]).round(12)  # x**2 + sqrt(3) x
    array([2.73205081])
    >>> found.main["x"].deviation([0.0, 0.5, 1.0]).round(12) + 0  # that of sqrt(12) x y
    array([0. , 0.5, 1. ])
    >>> found.given("x", "y")([[1.0, 0.0]]).round(12)
    array([1.])
    """
    function = as_separable(u, "sn.effects")
    measure = product_measure(function.space, density)
    chain = chain_of(function, measure)
    spreads = {} if chain is None else _spreads(chain)
    main = {}
    for name, basis in function.space.items:
        coefficients = _conditional(function, measure, (name,))._dense()[:, None]
        curve = CP(TensorSpace(**{name: basis}), [coefficients])
        spread = 0.0 * coefficients
        if name in spreads:
            spread = function.xp.astype(spreads[name], function.dtype)
        main[name] = Effect(name, curve, spread)
    return Effects(function, measure, 0.0 if chain is None else _mean(chain), MappingProxyType(main))


def _spreads(chain: Chain) -> dict[str, Array]:
    """Return for each axis a matrix (n_i, k): the squared values of its columns add up to ``Var[u | x_i]``."""
    form, result = chain.form, {}
    for name, before, after, columns in zip(chain.order, *halves(chain), chain.columns, strict=True):
        # At least one of the two sides must vary.
        right = form.fan(before.mean, columns, after.rest)
        both = form.fan(before.rest, columns, form.whole(after))
        result[name] = chain.scale * Roots().add(right.T, both.T).T
    return result


def _conditional(function: SeparableFunction, measure: ProductMeasure, axes: Sequence[str]) -> SeparableFunction:
    """Return the mean over all axes but some."""
    function.space.check_axes(axes, "given")
    if not axes:
        msg = f"no axis is given, expected at least one of {', '.join(function.space.names)}; `mean` is the mean of all"
        raise ValueError(msg)
    rows = {name: function._here(measure.mean_row(name)[None, :]) for name in function.space.names if name not in axes}
    averaged: SeparableFunction = function._contract(rows) if rows else function
    return averaged
