"""The automaton of a table of terms equals the sum over its terms, and stays small."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, check_automaton

from sepnet.solvers.automaton import build_automaton


@st.composite
def tables(draw):
    """Random tables; weights include zero, negative and repeated ones, terms may repeat and cancel."""
    d = draw(st.integers(1, 5))
    letters = tuple(draw(st.lists(st.integers(1, 3), min_size=d, max_size=d)))
    terms = draw(st.integers(0, 8))
    index = np.array([[draw(st.integers(0, n - 1)) for n in letters] for _ in range(terms)], dtype=np.int64).reshape(
        terms, d
    )
    # powers of two and their negatives: like terms can cancel exactly, which must not leave a state without weight
    weights = np.array([draw(st.sampled_from([0.0, 1.0, -1.0, 2.0, -0.5, 3.0])) for _ in range(terms)])
    return index, weights, letters


def laplacian(d):
    index = np.zeros((d, d), dtype=np.int64)
    index[np.arange(d), np.arange(d)] = 1
    return index, (2,) * d


def squared_laplacian(d):
    """Letters: 0 mass, 1 stiffness with itself on one side (B, B''), 2 the transpose, 3 (B'', B'')."""
    rows = []
    for i, j in itertools.product(range(d), range(d)):
        row = np.zeros(d, dtype=np.int64)
        if i == j:
            row[i] = 3
        else:
            row[i], row[j] = 1, 2
        rows.append(row)
    return np.array(rows), (4,) * d


def states(automaton):
    """Number of states after each axis but the last."""
    return [step.to_target.shape[0] for step in automaton.steps[:-1]]


@given(tables(), st.integers(0, 2**32 - 1))
def test_automaton_equals_the_sum_over_terms(table, seed):
    index, weights, letters = table
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal((n, 2, 3)) for n in letters]
    check_automaton(index, weights, build_automaton(index, weights, letters), values)


@given(tables(), st.randoms(use_true_random=False))
def test_order_of_the_terms_does_not_matter(table, random):
    index, weights, letters = table
    order = list(range(len(weights)))
    random.shuffle(order)
    one = build_automaton(index, weights, letters)
    two = build_automaton(index[order], weights[order], letters)
    assert [s.letter.size for s in one.steps] == [s.letter.size for s in two.steps]


@pytest.mark.parametrize("d", [2, 3, 4, 8, 32])
def test_laplacian_has_two_states_at_every_inner_cut(d):
    index, letters = laplacian(d)
    weights = np.ones(d)
    automaton = build_automaton(index, weights, letters)
    assert states(automaton) == [2] * (d - 1)
    rng = np.random.default_rng(d)
    check_automaton(index, weights, automaton, [rng.standard_normal((2, 2, 2)) for _ in range(d)])


@pytest.mark.parametrize("d", [2, 3, 4, 8, 16])
def test_squared_laplacian_has_at_most_four_states(d):
    index, letters = squared_laplacian(d)
    automaton = build_automaton(index, np.ones(len(index)), letters)
    # (nothing yet), (left derivative done), (right one done), (both): one more than the rank where they coincide
    assert max(states(automaton)) <= 4
    if d >= 4:
        assert len(set(states(automaton)[1:-1])) == 1


def test_anisotropic_laplacian_has_two_states():
    d = 7
    index, letters = laplacian(d)
    weights = np.array([1.0, -2.0, 1e-3, 4.0, 1e3, 0.5, 3.0])
    automaton = build_automaton(index, weights, letters)
    assert max(states(automaton)) <= 2
    rng = np.random.default_rng(0)
    check_automaton(index, weights, automaton, [rng.standard_normal((2, 1, 1)) for _ in range(d)])


def test_weights_of_all_sizes_lose_nothing():
    index = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]])
    weights = np.array([1e-12, 1e12, -1e-12, 1.0])
    automaton = build_automaton(index, weights, (2, 2, 2))
    rng = np.random.default_rng(3)
    values = [rng.standard_normal((2, 1)) for _ in range(3)]
    check_automaton(index, weights, automaton, values)


def test_terms_that_cancel_leave_nothing():
    index = np.array([[0, 1], [0, 1], [1, 0]])
    weights = np.array([1.0, -1.0, 0.0])
    automaton = build_automaton(index, weights, (2, 2))
    left = np.ones((1, 1))
    for step in automaton.steps:
        left = step.left(left, np.ones((2, 1)))
    assert abs(left.sum()) <= EPS
