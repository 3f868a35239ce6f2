"""The order of the axes along a train: measured ranks, and the cheapest order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import EXAMPLES
from train_support import random_cores, vector

from sepnet.solvers.axis_order import best_order, sampled_ranks

SOLVER = settings(max_examples=min(EXAMPLES["dev"], settings().max_examples))


def matricised(tensor, subset):
    """The matrix of a tensor with the axes of a bit mask as rows."""
    d = tensor.ndim
    rows = [k for k in range(d) if subset >> k & 1]
    others = [k for k in range(d) if not subset >> k & 1]
    return tensor.transpose(rows + others).reshape(int(np.prod([tensor.shape[k] for k in rows])), -1)


@SOLVER
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 2**31))
def test_sampled_ranks_are_those_of_the_matricisations(sizes, seed):
    rng = np.random.default_rng(seed)
    cores = random_cores(rng, sizes, [int(r) for r in rng.integers(1, 4, len(sizes) - 1)])
    tensor = vector(cores).reshape(sizes)
    ranks = sampled_ranks(cores, 1e-10, seed=seed)
    assert ranks.shape == (2 ** len(sizes),)
    for subset in range(2 ** len(sizes)):
        assert ranks[subset] == np.linalg.matrix_rank(matricised(tensor, subset), tol=1e-10 * np.linalg.norm(tensor))


def test_accuracy_separates_large_from_small():
    # two products of which the second is 1e-4 of the first; random functionals change that by some factor
    rng = np.random.default_rng(0)
    parts = [np.linalg.qr(rng.standard_normal((60, 2)))[0] for _ in range(3)]
    cores = [parts[0][None] * [1.0, 1e-4], np.eye(2)[:, None, :] * parts[1][None], parts[2].T[:, :, None]]
    assert set(sampled_ranks(cores, 1e-2)) == {1}
    for unit in (1e-9, 1.0, 1e9):  # relative
        assert list(sampled_ranks([unit * cores[0], *cores[1:]], 1e-6)) == [1, 2, 2, 2, 2, 2, 2, 1]


def test_the_zero_function_has_ranks_one():
    assert set(sampled_ranks([np.zeros((1, 3, 1))] * 3, 1e-3)) == {1}


def cost(order, ranks, sizes):
    total, subset = 0, 0
    for k in order:
        grown = subset | 1 << k
        total += int(ranks[subset]) * sizes[k] * int(ranks[grown])
        subset = grown
    return total


@settings(max_examples=min(EXAMPLES["dev"], settings().max_examples) * 3)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2**31))
def test_best_order_is_that_of_brute_force(sizes, seed):
    d = len(sizes)
    half = np.random.default_rng(seed).integers(1, 20, 2**d)
    # a matricisation has the rank of its transpose; nothing and everything have rank one
    ranks = np.maximum(half, half[::-1])
    ranks[0] = ranks[-1] = 1
    order = best_order(ranks, sizes)
    assert sorted(order) == list(range(d))
    assert cost(order, ranks, sizes) == min(cost(p, ranks, sizes) for p in itertools.permutations(range(d)))


@pytest.mark.parametrize("names", list(itertools.permutations(range(4))))
def test_pairs_that_depend_on_each_other_become_neighbours(names):
    # u = f(a, b) g(c, d): in the right order the ranks are R-1-R
    rng = np.random.default_rng(1)
    pair = [rng.standard_normal((6, 6)) for _ in range(2)]
    tensor = np.einsum("ab,cd->abcd", *pair).transpose(names)
    cores, rest = [], tensor.reshape(1, -1)
    for _ in range(3):
        u, s, vt = np.linalg.svd(rest.reshape(rest.shape[0] * 6, -1), full_matrices=False)
        kept = int(np.sum(s > 1e-12 * s[0]))
        cores.append(u[:, :kept].reshape(-1, 6, kept))
        rest = s[:kept, None] * vt[:kept]
    cores.append(rest.reshape(-1, 6, 1))
    order = [names[k] for k in best_order(sampled_ranks(cores, 1e-10), [6] * 4)]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 1}), frozenset({2, 3})}
