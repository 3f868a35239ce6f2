"""Cost as a counted quantity: it grows linearly with the number of axes. Nothing here is timed."""

import math

import numpy as np
import pytest
from solver_support import matrix_of, system_of

import sepnet as sn

DIMENSIONS = (4, 8, 16, 32)
RANK = 16


def space(d, degree=2, cells=8):
    return sn.TensorSpace(**{f"x{i}": sn.BSpline((0, 1), cells=cells, degree=degree, zero="both") for i in range(d)})


def galerkin(d):
    V = space(d)
    return sn.Galerkin(sum((sn.inner(k, k) for k in list(V.d)[1:]), sn.inner(V.d.x0, V.d.x0)), source=1)


def least_squares(d):
    V = space(d)
    return sn.LeastSquares(sum((k**2 for k in list(V.d)[1:]), V.d.x0**2), source=-1)


def flops_of_a_sweep(matrix, load, rank):
    """What a sweep multiplies: environments over moves, Gram matrices, band filling and band Cholesky."""
    total = 0
    for axis, step, vectors, moves in zip(
        matrix.axes, matrix.automaton.steps, load.vectors, load.automaton.steps, strict=True
    ):
        n, w, letters = axis.size, axis.width, axis.count
        environments = step.to_source.size + step.to_target.size + step.to_letter.size  # selectors are applied densely
        total += 3 * environments * rank**2 + moves.letter.size * rank
        total += letters * n * (2 * w + 1) * rank + letters * n * rank**2 + vectors.shape[0] * n * rank
        band = (w + 1) * rank
        total += letters * n * (w + 1) * rank**2 + n * rank * band**2
    return total


def slope(sizes, costs):
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


@pytest.mark.parametrize("problem", [galerkin, least_squares])
def test_cost_of_a_sweep_is_linear_in_the_dimension(problem):
    costs, transitions, letters = [], [], []
    for d in DIMENSIONS:
        matrix, load, _ = system_of(problem(d))
        costs.append(flops_of_a_sweep(matrix, load, RANK))
        transitions.append(sum(s.letter.size for s in matrix.automaton.steps))
        letters.append(max(a.count for a in matrix.axes))
    # linear is 1; ends of the chain have fewer moves than its inside, which makes small d a little cheap
    assert slope(DIMENSIONS, costs) <= 1.15
    assert slope(DIMENSIONS, transitions) <= 1.15
    # equal 1-D matrices are merged: their number does not grow
    assert len(set(letters)) == 1


def test_naive_sum_over_terms_would_not_be_linear():
    # the same count for the table itself: d**2 terms with d factors each; shows that the slope above can fail
    terms = [len(system_of(least_squares(d))[0].weights) * d for d in DIMENSIONS]
    assert slope(DIMENSIONS, terms) > 2.5


def test_advection_diffusion_is_a_small_machine():
    names = ("x", "y", "z", "t", "omega", "kappa")
    V = sn.TensorSpace(**{n: sn.BSpline((0.1, 1), cells=3) for n in names})
    x, y, _, _, omega, kappa = V.coordinates
    d = V.d
    L = d.t + omega * (x * d.y - y * d.x) - kappa * (d.x**2 + d.y**2 + d.z**2)
    matrix = matrix_of(sn.inner(L, L))
    states = [s.to_target.shape[0] for s in matrix.automaton.steps]
    # six terms: at most 36 pairs; a cut between the axes never needs more states than the pairs' distinct prefixes
    assert len(matrix.weights) == 36
    assert max(states) <= 16
    assert math.prod(matrix.space.shape) > 10**4  # nothing of this size was built
