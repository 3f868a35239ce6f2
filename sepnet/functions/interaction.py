"""Which axes of a separable neural architecture act together: sparse interaction tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, TypeAlias, final

from sepnet.bases.checks import whole_number

__all__ = ["Interaction", "Subset", "as_subsets", "ordered"]

Subset: TypeAlias = tuple[str, ...]


@final
@dataclass(frozen=True)
class Interaction:
    """The architecture of a separable neural function: which subsets of axes act together, and in which format.

    A separable neural architecture of order k is ``u(x) = sigma(sum over |S| <= k of u_S(x_S))`` (arXiv 2603.12244,
    Methods). Order 1 is the generalised additive model, order 2 adds pairs, and the one subset of all axes is the CP,
    tensor-train or Tucker class itself.

    Parameters
    ----------
    order : int
        Largest number of axes that act together.
    rank : int or mapping of subset to int, optional
        Rank of the subset functions, one for all or one for each subset of two or more axes. A function of one axis
        has rank one.
    subsets : sequence of subsets, optional
        The subsets, each a tuple of axis names (one name alone is a subset of one); by default all of at most `order`
        axes.
    format : {"cp", "tt", "tucker"}, optional
        Format of the functions of two or more axes.

    Raises
    ------
    TypeError
        If `order` or a rank is no integer, or a subset holds something else than names.
    ValueError
        If `order` or a rank is below one, a subset is empty, too large or there twice, names an axis twice, or there
        is no such format.

    Examples
    --------
    >>> from sepnet.functions import Interaction
    >>> pairs = Interaction(order=2, rank=4)
    >>> pairs.subsets_of(("x", "y", "z"))
    (('x',), ('y',), ('z',), ('x', 'y'), ('x', 'z'), ('y', 'z'))
    >>> Interaction(order=2, subsets=["x", ("z", "y")]).subsets_of(("x", "y", "z"))
    (('x',), ('y', 'z'))
    """

    order: int
    rank: int | Mapping[Subset, int] = field(default=1, hash=False)
    subsets: Sequence[str | Sequence[str]] | None = None
    format: Literal["cp", "tt", "tucker"] = "cp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", whole_number("order", self.order, at_least=1))
        if self.subsets is not None:
            named = as_subsets(self.subsets, "subsets")
            large = [subset for subset in named if len(subset) > self.order]
            if large:
                msg = (
                    f"`subsets` has {large[0]!r} of {len(large[0])} axes, expected at most order={self.order}: raise it"
                )
                raise ValueError(msg)
            object.__setattr__(self, "subsets", named)
        if isinstance(self.rank, Mapping):
            subsets = as_subsets(self.rank, "rank")
            ranks = zip(subsets, self.rank.values(), strict=True)
            object.__setattr__(self, "rank", {s: whole_number(f"rank[{s!r}]", r, at_least=1) for s, r in ranks})
        else:
            object.__setattr__(self, "rank", whole_number("rank", self.rank, at_least=1))
        if self.format not in ("cp", "tt", "tucker"):
            msg = f"`format` is {self.format!r}, expected 'cp' (sums of products), 'tt' (tensor trains) or 'tucker'"
            raise ValueError(msg)

    def subsets_of(self, names: Sequence[str]) -> tuple[Subset, ...]:
        """Return the subsets among given axes: small ones first, each and all in the order of the axes.

        Parameters
        ----------
        names : sequence of str
            Axis names, e.g. ``V.names``.

        Returns
        -------
        tuple of tuples of str

        Raises
        ------
        ValueError
            If a subset names an axis that is not there, or `order` is larger than the number of axes.
        """
        names = tuple(names)
        if self.order > len(names):
            msg = f"`order` is {self.order}, expected at most {len(names)}: the axes are {', '.join(names)}"
            raise ValueError(msg)
        if self.subsets is None:
            return tuple(subset for k in range(1, self.order + 1) for subset in combinations(names, k))
        found = [ordered(subset, names) for subset in as_subsets(self.subsets, "subsets")]
        return tuple(sorted(found, key=lambda subset: (len(subset), *map(names.index, subset))))

    def rank_of(self, subset: Sequence[str]) -> int:
        """Return the rank of the function of a subset.

        Parameters
        ----------
        subset : sequence of str
            Axis names, in any order.

        Returns
        -------
        int
            1 for a single axis.

        Raises
        ------
        ValueError
            If `rank` is a mapping without it.
        """
        if len(subset) == 1:
            return 1
        if isinstance(self.rank, int):
            return self.rank
        for known, rank in self.rank.items():
            if set(known) == set(subset):
                return rank
        msg = f"`rank` has no entry for {tuple(subset)!r}, expected one for each subset of two or more axes: add it"
        raise ValueError(msg)


def as_subsets(subsets: Iterable[Any], what: str) -> tuple[Subset, ...]:
    """Return subsets as tuples of names; a name alone is a subset of one.

    Raises
    ------
    TypeError
        If something is no name.
    ValueError
        If a subset is empty, names an axis twice, or is there twice; `what` is the argument for the message.
    """
    if isinstance(subsets, str) or not isinstance(subsets, Iterable):
        msg = f"`{what}` is {subsets!r}, expected a list of tuples of axis names, e.g. [('x',), ('x', 'y')]"
        raise TypeError(msg)
    result: list[Subset] = []
    for entry in subsets:
        subset = (entry,) if isinstance(entry, str) else entry
        if not isinstance(subset, Sequence) or not all(isinstance(name, str) for name in subset):
            msg = f"`{what}` holds {entry!r}, expected tuples of axis names, e.g. ('x', 'y')"
            raise TypeError(msg)
        subset = tuple(subset)
        if not subset or len(set(subset)) < len(subset):
            msg = f"`{what}` holds {entry!r}, expected at least one axis name, each once: correct the tuple"
            raise ValueError(msg)
        if any(set(subset) == set(other) for other in result):
            msg = f"`{what}` has the subset {subset!r} twice, expected each subset once: leave one out"
            raise ValueError(msg)
        result.append(subset)
    return tuple(result)


def ordered(subset: Subset, names: Sequence[str]) -> Subset:
    """Return a subset in the order of the axes; raise ValueError for a name that is none of them."""
    unknown = [name for name in subset if name not in names]
    if unknown:
        msg = f"the subset {subset!r} names the axis {unknown[0]!r}, expected axes among {', '.join(names)}"
        raise ValueError(msg)
    return tuple(name for name in names if name in subset)
