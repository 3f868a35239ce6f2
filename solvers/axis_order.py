"""The order of the axes along a tensor train: measured on a train, chosen by dynamic programming.

A bond between the axes S and all others has the rank of that matricisation, whatever the order inside S is. These ranks
are measured for all S on a train of any order by sampling: random rank-one functionals on the axes of S, and others on
the rest, make a matrix whose numerical rank is, almost surely, that of the matricisation. The best order is then a
shortest path through the subsets (Held and Karp, J. SIAM 10, 1962).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["MOST_AXES", "best_order", "ranks_at", "sampled_ranks", "sampled_values", "train_size"]

# Above this many axes there are too many subsets: the order stays as it is.
MOST_AXES = 10
# Functionals on either side: higher ranks are not told apart.
SAMPLES = 48


def sampled_ranks(cores: Sequence[np.ndarray], accuracy: float, *, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Return the numerical rank of every matricisation of a train, by the bit mask of its axes.

    Parameters
    ----------
    cores : sequence of ndarray (r, n, r')
        The train.
    accuracy : float
        Singular values below this part of the largest one do not count.
    samples : int, optional
        Number of random functionals on either side.
    seed : int, optional
        Their seed.

    Returns
    -------
    ndarray of int of shape (2**d,)
    """
    return ranks_at(sampled_values(cores, samples=samples, seed=seed), accuracy)


def sampled_values(cores: Sequence[np.ndarray], *, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Return the singular values that `sampled_ranks` counts, (2**(d - 1), samples): subsets without the last axis."""
    rng = np.random.default_rng(seed)
    rows, columns = (
        [np.tensordot(rng.standard_normal((samples, c.shape[1])), c, axes=(1, 1)) for c in cores] for _ in range(2)
    )
    # All subsets of the first axes, one axis more at a time: bit k tells that axis k takes the functionals of the rows.
    envs = [np.ones((samples, samples, 1))]
    for k in range(len(cores)):
        outside = [np.matmul(env.transpose(1, 0, 2), columns[k]).transpose(1, 0, 2) for env in envs]
        inside = [] if k == len(cores) - 1 else [np.matmul(env, rows[k]) for env in envs]
        envs = outside + inside
    return np.linalg.svd(np.stack(envs)[:, :, :, 0], compute_uv=False)


def ranks_at(values: np.ndarray, accuracy: float) -> np.ndarray:
    """Return the number of singular values above `accuracy`, relative to the largest, for all 2**d subsets."""
    found = np.maximum(np.sum(values > accuracy * values[:, :1], axis=1), 1)
    # A subset and its complement are the same cut; nothing and everything cut nothing.
    found[0] = 1
    return np.concatenate([found, found[::-1]])


def best_order(ranks: np.ndarray, sizes: Sequence[int]) -> list[int]:
    """Return the order of the axes with the fewest coefficients; of an order and its mirror image, one.

    Parameters
    ----------
    ranks : ndarray of shape (2**d,)
        From `sampled_ranks`.
    sizes : sequence of int
        Basis functions of every axis.
    """
    d = len(sizes)
    cost: list[tuple[float, int, int]] = [(0.0, -1, -1)] + [(float("inf"), -1, -1)] * (2**d - 1)
    for subset in range(2**d - 1):
        for k in range(d):
            if not subset >> k & 1:
                grown = subset | 1 << k
                total = cost[subset][0] + _numbers(ranks, sizes, subset, k)
                if total < cost[grown][0]:
                    cost[grown] = (total, subset, k)
    order: list[int] = []
    subset = 2**d - 1
    while subset:
        order.append(cost[subset][2])
        subset = cost[subset][1]
    return order[::-1] if order[0] < order[-1] else order


def _numbers(ranks: np.ndarray, sizes: Sequence[int], subset: int, k: int) -> float:
    return float(ranks[subset]) * sizes[k] * float(ranks[subset | 1 << k])


def train_size(ranks: np.ndarray, sizes: Sequence[int], order: Sequence[int]) -> float:
    """Return the number of coefficients of a train of these ranks along an order of the axes."""
    total, subset = 0.0, 0
    for k in order:
        total += _numbers(ranks, sizes, subset, k)
        subset |= 1 << k
    return total
