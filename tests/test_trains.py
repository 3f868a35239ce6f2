"""The arithmetic of tensor trains as lists of cores, against dense arrays."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepnet.backends.arrays import as_namespace, device_of, namespace, to_host
from sepnet.functions.trains import (
    add_trains,
    cp_to_train,
    dense_to_train,
    orthogonalise_left,
    orthogonalise_right,
    permute_train,
    round_train,
    scale,
    train_inner,
    train_norm,
    train_size,
    train_to_dense,
)

EPS = np.finfo(float).eps
# Sums of a few dozen products, and half a dozen orthogonal transformations of at most 5 x 5 x 5 numbers.
FACTOR = 200

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=5)
seeds = st.integers(0, 2**31)


def train(shape, seed, top=4):
    rng = np.random.default_rng(seed)
    ranks = [1, *rng.integers(1, top + 1, len(shape) - 1), 1]
    return [rng.uniform(-1, 1, (ranks[k], n, ranks[k + 1])) for k, n in enumerate(shape)]


def dense(cores):
    """The oracle: the product of matrices, one entry at a time."""
    cores = [to_host(core).astype(np.float64) for core in cores]
    shape = tuple(core.shape[1] for core in cores)
    result = np.empty(shape)
    for index in np.ndindex(*shape):
        row = np.ones((1, 1))
        for core, j in zip(cores, index, strict=True):
            row = row @ core[:, j, :]
        result[index] = row[0, 0]
    return result


def magnitude(cores):
    """What round-off is relative to: the norms of the cores multiplied."""
    return math.prod(float(np.linalg.norm(to_host(core).astype(np.float64))) for core in cores)


def ranks(cores):
    return [core.shape[2] for core in cores[:-1]]


def check_chain(cores, shape):
    assert [core.shape[1] for core in cores] == list(shape)
    assert cores[0].shape[0] == cores[-1].shape[2] == 1
    assert all(a.shape[2] == b.shape[0] >= 1 for a, b in itertools.pairwise(cores))


# ------------------------------------------------------------------------------------------------------------- algebra


@given(shapes, seeds, st.floats(-3, 3))
def test_sum_multiple_inner_product_and_dense(shape, seed, weight):
    a, b = train(shape, seed), train(shape, seed + 1)
    bound = FACTOR * EPS * (magnitude(a) + magnitude(b))
    assert abs(train_to_dense(a) - dense(a)).max() <= bound
    both = add_trains(a, b)
    check_chain(both, shape)
    assert ranks(both) == [x + y for x, y in zip(ranks(a), ranks(b), strict=True)]
    assert abs(train_to_dense(both) - dense(a) - dense(b)).max() <= bound
    assert abs(train_to_dense(scale(a, weight)) - weight * dense(a)).max() <= 3 * bound
    assert abs(train_inner(a, b) - float((dense(a) * dense(b)).sum())) <= FACTOR * EPS * magnitude(a) * magnitude(b)


@given(shapes, seeds, st.integers(0, 4))
def test_sums_of_products_are_trains(shape, seed, rank):
    rng = np.random.default_rng(seed)
    factors = [rng.uniform(-1, 1, (n, rank)) for n in shape]
    total = np.zeros(shape)
    for r in range(rank):
        term = np.ones(())
        for factor in factors:
            term = np.multiply.outer(term, factor[:, r])
        total += term
    cores = cp_to_train(factors)
    check_chain(cores, shape)
    assert ranks(cores) == [max(rank, 1)] * (len(shape) - 1)
    assert abs(dense(cores) - total).max() <= 10 * EPS * max(rank, 1)


# -------------------------------------------------------------------------------------------------- orthogonal sweeps


@given(shapes, seeds)
def test_orthogonal_forms(shape, seed):
    cores = train(shape, seed, top=7)
    for sweep, free in ((orthogonalise_left, len(shape) - 1), (orthogonalise_right, 0)):
        swept = sweep(cores)
        check_chain(swept, shape)
        assert abs(dense(swept) - dense(cores)).max() <= FACTOR * EPS * magnitude(cores)
        for k, core in enumerate(swept):
            if k != free:
                rows = core if free == 0 else core.transpose(2, 0, 1)
                rows = rows.reshape(rows.shape[0], -1)
                assert abs(rows @ rows.T - np.eye(len(rows))).max() <= 50 * EPS
        assert np.linalg.norm(swept[free]) == pytest.approx(
            np.linalg.norm(dense(cores)), abs=FACTOR * EPS * magnitude(cores)
        )


@given(shapes, seeds)
def test_norm_and_size(shape, seed):
    cores = train(shape, seed)
    norm = float(np.linalg.norm(dense(cores)))
    assert abs(train_norm(cores) - norm) <= FACTOR * EPS * magnitude(cores)
    assert train_size(orthogonalise_left(cores)) == pytest.approx(norm, rel=1e-10, abs=FACTOR * EPS * magnitude(cores))
    # over all paths through the train
    total = 0.0
    for path in itertools.product(*map(range, ranks(cores))):
        ends = [0, *path, 0]
        norms = [np.linalg.norm(core[ends[k], :, ends[k + 1]]) for k, core in enumerate(cores)]
        total += math.prod(norms) ** 2
    assert train_size(cores) == pytest.approx(math.sqrt(total), rel=1e-12)


@given(seeds, st.floats(-16, 0))
def test_norm_sees_small_differences(seed, exponent):
    """The root of the inner product would see nothing below 1e-8."""
    a, b = train((4, 5, 3, 4), seed), train((4, 5, 3, 4), seed + 1)
    b = scale(b, 10**exponent / train_norm(b))
    difference = add_trains(add_trains(a, b), scale(a, -1.0))
    assert abs(train_norm(difference) - 10**exponent) <= FACTOR * EPS * magnitude(a)


def test_norms_of_very_large_and_small_cores():
    a = train((3, 4, 3, 4), 0)
    # powers of two: exact, if nothing leaves the range on the way
    for powers in ((900, -900, 900, -900), (-1000, -60, 1000, 70), (500, 500, 10, 0), (-1022, 0, 0, 0)):
        wide = [np.ldexp(core, k) for core, k in zip(a, powers, strict=True)]
        assert train_norm(wide) == pytest.approx(math.ldexp(train_norm(a), sum(powers)), rel=1e-13)
        assert train_size(wide) == pytest.approx(math.ldexp(train_size(a), sum(powers)), rel=1e-13)
        tol = math.ldexp(0.3 * train_norm(a), sum(powers))
        rounded, error = round_train(wide, tol=tol)
        plain, expected = round_train(a, tol=0.3 * train_norm(a))
        assert ranks(rounded) == ranks(plain)
        assert error == pytest.approx(math.ldexp(expected, sum(powers)), rel=1e-10)
    assert train_norm([np.ldexp(core, 600) for core in a]) == math.inf
    assert train_norm([np.zeros((1, 3, 2)), np.ones((2, 3, 1))]) == 0.0
    assert math.isnan(train_norm([np.full((1, 3, 2), np.nan), np.ones((2, 3, 1))]))


# ------------------------------------------------------------------------------------------------------------ rounding


def tails(array, kept):
    """Per cut the distance to the nearest array of that rank: the best that any train can do there."""
    result = []
    for k, rank in enumerate(kept):
        sigma = np.linalg.svd(array.reshape(math.prod(array.shape[: k + 1]), -1), compute_uv=False)
        result.append(float(np.linalg.norm(sigma[rank:])))
    return result


@given(shapes, seeds, st.floats(0, 1.2), st.one_of(st.none(), st.integers(1, 3)), st.booleans())
def test_rounding_is_certified_and_quasi_optimal(shape, seed, tol, rank, from_dense):
    cores = train(shape, seed, top=5)
    array, noise = dense(cores), FACTOR * EPS * magnitude(cores)
    norm = float(np.linalg.norm(array))
    if from_dense:
        rounded, error = dense_to_train(array, tol * norm, rank)
    else:
        rounded, error = round_train(cores, tol=tol * norm, rank=rank)
    check_chain(rounded, shape)
    assert all(r <= s for r, s in zip(ranks(rounded), ranks(cores), strict=True)) or from_dense
    assert rank is None or max(ranks(rounded), default=1) <= rank
    assert rank is not None or error <= tol * norm + (10 * EPS * norm * len(shape) if from_dense else 0.0)
    assert abs(float(np.linalg.norm(dense(rounded) - array)) - error) <= noise
    best = tails(array, ranks(rounded))
    # Oseledets 2011, theorem 2.2 and its corollary
    assert max(best, default=0.0) - noise <= error <= math.sqrt(sum(t**2 for t in best)) + noise


@pytest.mark.parametrize("axes", [2, 4])
def test_rounding_uses_its_tolerance_and_no_more(axes):
    """On the diagonal tensor of ones all singular values are one: k dropped ones are an error of the root of k."""
    cores = cp_to_train([np.eye(6)] * axes)
    for tol, kept in ((0.99, 6), (1.01, 5), (1.5, 4), (2.1, 2), (2.3, 1)):
        for rounded, error in (round_train(cores, tol=tol), dense_to_train(train_to_dense(cores), tol)):
            # with more axes a later cut may drop what the earlier ones left of the tolerance
            assert ranks(rounded)[-1] == kept
            assert error == pytest.approx(math.sqrt(6 - kept), rel=1e-12)
            assert error <= tol
    for rounded, error in (round_train(cores, tol=0.0, rank=2), dense_to_train(train_to_dense(cores), 0.0, 2)):
        assert ranks(rounded) == [2] * (axes - 1)
        assert error == pytest.approx(2.0, rel=1e-12)


@given(shapes, seeds)
def test_rounding_finds_the_exact_ranks(shape, seed):
    cores = train(shape, seed)
    twice = add_trains(cores, scale(cores, -0.5))
    rounded, error = round_train(twice, tol=1e-12 * magnitude(cores))
    assert all(r <= s for r, s in zip(ranks(rounded), ranks(cores), strict=True))
    assert error <= 1e-12 * magnitude(cores)
    assert abs(dense(rounded) - 0.5 * dense(cores)).max() <= 2e-12 * magnitude(cores)


def test_rounding_to_nothing():
    for cores in (train((3, 4, 5), 0), [np.zeros((1, 3, 2)), np.zeros((2, 4, 1))]):
        for tol in (math.inf, 1e3):
            rounded, error = round_train(cores, tol=tol)
            assert ranks(rounded) == [1] * (len(cores) - 1)
            assert error == pytest.approx(np.linalg.norm(dense(rounded) - dense(cores)), rel=1e-12)
    rounded, error = dense_to_train(np.zeros((2, 3, 4)), 0.0)
    assert ranks(rounded) == [1, 1]
    assert error == 0.0
    assert not train_to_dense(rounded).any()


# --------------------------------------------------------------------------------------------------------- permutation


@given(shapes, seeds, st.data())
def test_permutation(shape, seed, data):
    order = data.draw(st.permutations(range(len(shape))))
    cores = train(shape, seed, top=3)
    array = dense(cores)
    noise = 10 * EPS * float(np.linalg.norm(array))
    moved, error = permute_train(cores, order, tol=noise)
    check_chain(moved, [shape[k] for k in order])
    assert error <= 10 * noise  # one swap for every two axes that change their order
    assert abs(dense(moved) - array.transpose(order)).max() <= 10 * noise + FACTOR * EPS * magnitude(cores)
    back, _ = permute_train(moved, np.argsort(order).tolist(), tol=noise)
    assert abs(dense(back) - array).max() <= 20 * noise + FACTOR * EPS * magnitude(cores)


def test_permutation_error_bounds_what_swaps_drop():
    cores = train((4, 4, 4, 4), 3)
    tol = 0.1 * train_norm(cores)
    moved, error = permute_train(cores, (3, 1, 0, 2), tol=tol)
    lost = float(np.linalg.norm(dense(moved) - dense(cores).transpose(3, 1, 0, 2)))
    assert 0.0 < lost <= error <= 4 * tol


# ------------------------------------------------------------------------------------------------------ every namespace


@pytest.mark.parametrize("seed", range(3))
def test_every_namespace(xp, seed):
    hosts, others = train((3, 5, 4, 2), seed), train((3, 5, 4, 2), seed + 1)
    a, b = [xp.asarray(core) for core in hosts], [xp.asarray(core) for core in others]
    array, other = dense(a), dense(b)
    size = magnitude(a) + magnitude(b)
    norm = float(np.linalg.norm(array))

    def close(cores, expected):
        check_chain(cores, expected.shape)
        for core in cores:
            assert namespace(core) is as_namespace(xp.xp)
            assert core.dtype == xp.dtype
            assert xp.device is None or str(device_of(core)) == str(xp.device)
        assert abs(dense(cores) - expected).max() <= FACTOR * xp.eps * size
        assert abs(to_host(train_to_dense(cores)) - expected).max() <= FACTOR * xp.eps * size

    close(a, array)
    close(add_trains(a, b), array + other)
    close(scale(a, -0.5), -0.5 * array)
    close(orthogonalise_left(a), array)
    close(orthogonalise_right(a), array)
    close(round_train(a, tol=0.0)[0], array)
    close(dense_to_train(xp.asarray(array), 0.0)[0], array)
    close(permute_train(a, (2, 0, 3, 1), tol=10 * xp.eps * norm)[0], array.transpose(2, 0, 3, 1))
    close(cp_to_train([xp.asarray(np.ones((n, 3))) for n in array.shape]), np.full(array.shape, 3.0))
    rounded, error = round_train(a, tol=0.5 * norm)
    assert error <= 0.5 * norm * (1 + 10 * xp.eps)
    assert abs(float(np.linalg.norm(dense(rounded) - array)) - error) <= FACTOR * xp.eps * size
    assert train_norm(a) == pytest.approx(norm, abs=FACTOR * xp.eps * size)
    assert train_inner(a, b) == pytest.approx(float((array * other).sum()), abs=FACTOR * xp.eps * size**2)
    assert train_size(a) > 0.0


def test_gradients_are_let_go_of():
    torch = pytest.importorskip("torch")
    cores = [torch.asarray(core).requires_grad_() for core in train((3, 4, 2), 0)]
    assert isinstance(train_norm(cores), float)
    assert isinstance(train_inner(cores, cores), float)
    (rounded, error), dense_array = round_train(cores, tol=1.0), train_to_dense(cores)
    assert isinstance(error, float)
    assert len(rounded) == 3
    dense_array.sum().backward()
    assert all(core.grad is not None for core in cores)
