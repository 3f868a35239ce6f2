"""Missing data: functions that are constant along an axis and that no term of the operator sees."""

from __future__ import annotations

from sepnet.problems import LeastSquares, Problem
from sepnet.spaces import TensorSpace
from sepnet.terms import Term

__all__ = ["check_uniqueness"]


def check_uniqueness(problem: Problem, space: TensorSpace) -> None:
    """Refuse problems that do not determine their solution because constants along an axis have no energy.

    Pure Neumann problems and forgotten initial values are of this kind. It is read off the terms: a derivative along
    the axis in every one of them. Other kernels are not looked for.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        The problem.
    space : TensorSpace
        The space of the unknown, which vanishes where data are given.

    Raises
    ------
    ValueError
        If there are such functions in the space, with the next step.
    """
    if isinstance(problem, LeastSquares):
        terms = [t for operator, _, _ in problem.linear_blocks for t in operator.terms]
    else:
        terms = [trial for trial, _ in problem.bilinear.pairs]
    free = [name for name, basis in space.items if basis.zero is None]
    unseen = [f"functions that are constant along {name!r}" for name in free if _all_differentiate(terms, [name])]
    if not unseen and len(free) == space.dim and _all_differentiate(terms, free):
        unseen = ["constants"]
    if unseen:
        msg = (
            f"the problem does not determine its solution, {unseen[0]} have no energy: give initial or boundary "
            "values, a condition, or a reaction term"
        )
        raise ValueError(msg)


def _all_differentiate(terms: list[Term], axes: list[str]) -> bool:
    return all(any(term.factor(axis).order > 0 for axis in axes) for term in terms)
