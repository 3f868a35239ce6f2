"""Sums of separable terms as weighted automata: prefix and suffix products shared among all terms.

A sum ``sum_m w_m  prod_i  g_i[index[m, i]]`` has M terms, and for a Laplacian in d axes M grows with d, for its square
with d**2; evaluating term by term would cost d**2 and d**3 a sweep. Terms with the same remaining factors can share
their prefix. The smallest machine that does so is the minimal weighted automaton of the table (states at a cut are the
classes of equal continuations up to a factor, Myhill-Nerode); for a Laplacian it has two states, for its square three
or four, whatever d is. This is the exact tensor-train form of the operator's table, with sparse cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import final

import numpy as np

from sepnet.backends.arrays import Array, Namespace, from_host, namespace
from sepnet.solvers.on_device import rows

__all__ = ["Automaton", "Transitions", "build_automaton"]


@final
@dataclass(frozen=True)
class Transitions:
    """The moves of the automaton on one axis: from state `source` by matrix `letter` to state `target`.

    The selectors are dense host or device matrices that sum over moves with their weights.
    """

    source: Array
    letter: Array
    target: Array
    to_source: Array
    to_letter: Array
    to_target: Array

    def left(self, env: Array, values: Array) -> Array:
        """Carry left environments (S, ...) over the axis with `values` (J, ...): returns (S', ...)."""
        return _sum(self.to_target, rows(env, self.source) * rows(values, self.letter))

    def right(self, env: Array, values: Array) -> Array:
        """Carry right environments (S', ...) back over the axis: returns (S, ...)."""
        return _sum(self.to_source, rows(env, self.target) * rows(values, self.letter))

    @property
    def states(self) -> tuple[int, int]:
        """Number of states before and after the axis."""
        return int(self.to_source.shape[0]), int(self.to_target.shape[0])

    def reversed(self) -> Transitions:
        """Return the moves of the automaton that reads the axes from the last to the first."""
        return Transitions(self.target, self.letter, self.source, self.to_target, self.to_letter, self.to_source)

    def around(self, left: Array, right: Array) -> Array:
        """Return for every letter the sum over all other axes, shape (J, ...)."""
        return _sum(self.to_letter, rows(left, self.source) * rows(right, self.target))


def _sum(selector: Array, moves: Array) -> Array:
    xp = namespace(moves)
    flat = xp.reshape(moves, (int(moves.shape[0]), prod(moves.shape[1:])))
    return xp.reshape(selector @ flat, (int(selector.shape[0]), *moves.shape[1:]))


@final
@dataclass(frozen=True)
class Automaton:
    """Transitions per axis; one state before the first axis, one after the last."""

    steps: tuple[Transitions, ...]
    dtype: object

    def to(self, xp: Namespace, device: object, dtype: object) -> Automaton:
        """Move the tables to another namespace."""
        moved = []
        for step in self.steps:
            index = [from_host(a, xp, device=device, dtype="int64") for a in (step.source, step.letter, step.target)]
            sums = [
                from_host(a, xp, device=device, dtype=dtype) for a in (step.to_source, step.to_letter, step.to_target)
            ]
            moved.append(Transitions(*index, *sums))
        return Automaton(tuple(moved), dtype)


def build_automaton(index: np.ndarray, weights: np.ndarray, letters: tuple[int, ...]) -> Automaton:
    """Return the minimal weighted automaton of a table of terms.

    Parameters
    ----------
    index : ndarray of shape (M, d), integer
        Letter (number of the 1-D matrix) of each term on each axis.
    weights : ndarray of shape (M,)
        Weights of the terms.
    letters : tuple of int
        Number of letters per axis.

    Returns
    -------
    Automaton
    """
    d = index.shape[1]
    suffix, tails = _suffixes(index)
    start: dict[int, float] = {}
    for s, w in zip(suffix[0], weights, strict=True):
        start[int(s)] = start.get(int(s), 0.0) + float(w)
    states: list[dict[int, float]] = [{s: w for s, w in start.items() if w != 0.0}]
    steps = []
    for axis in range(d):
        moves: list[tuple[int, int, int, float]] = []
        found: dict[tuple[tuple[int, float], ...], int] = {}
        following: list[dict[int, float]] = []
        for number, state in enumerate(states):
            branches: dict[int, list[tuple[int, float]]] = {}
            for s, w in sorted(state.items()):
                letter, tail = tails[axis][s]
                branches.setdefault(letter, []).append((tail, w))
            for letter, branch in branches.items():
                branch.sort()  # by tail, or equal continuations would not be recognised
                lead = branch[0][1]
                key = tuple((tail, w / lead) for tail, w in branch)
                if key not in found:
                    found[key] = len(following)
                    following.append(dict(key))
                moves.append((number, letter, found[key], lead))
        steps.append(_transitions(moves, len(states), letters[axis], max(len(following), 1)))
        states = following or [{}]
    return Automaton(tuple(steps), np.float64)


def _suffixes(index: np.ndarray) -> tuple[list[np.ndarray], list[list[tuple[int, int]]]]:
    """Number the distinct remainders of the terms at every cut; each is (letter, number of its own remainder)."""
    terms, d = index.shape
    suffix = [np.zeros(terms, dtype=np.int64) for _ in range(d + 1)]
    tails: list[list[tuple[int, int]]] = [[] for _ in range(d)]
    for axis in range(d - 1, -1, -1):
        known: dict[tuple[int, int], int] = {}
        for m in range(terms):
            key = (int(index[m, axis]), int(suffix[axis + 1][m]))
            suffix[axis][m] = known.setdefault(key, len(known))
        tails[axis] = list(known)
    return suffix, tails


def _transitions(moves: list[tuple[int, int, int, float]], before: int, letters: int, after: int) -> Transitions:
    count = len(moves)
    source, letter, target = (np.array([m[k] for m in moves], dtype=np.int64) for k in range(3))
    weight = np.array([m[3] for m in moves], dtype=np.float64)
    each = np.arange(count)

    def selector(places: np.ndarray, size: int) -> np.ndarray:
        matrix = np.zeros((size, count))
        matrix[places, each] = weight
        return matrix

    return Transitions(
        source, letter, target, selector(source, before), selector(letter, letters), selector(target, after)
    )
