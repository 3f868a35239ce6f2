"""The loop around ALS, with a scripted iteration: what it stops on, and what it keeps."""

import math

import numpy as np
import pytest

from sepnet.solvers.axis_systems import NotPositiveDefiniteError
from sepnet.solvers.continuation import RankContinuation
from sepnet.solvers.progress import Progress
from sepnet.solvers.record import Status
from sepnet.solvers.run import Run


class Script:
    """An iteration whose residuals are written down; its factors tell the number of the sweep."""

    def __init__(self, residuals):
        self.residuals = residuals
        self.sweeps = 0
        self.rank = 0

    def grow(self, columns):
        self.rank += columns

    def sweep(self):
        self.sweeps += 1
        value = self.residuals(self.sweeps, self.rank)
        if isinstance(value, Exception):
            raise value
        return value, 0.0

    def balanced(self):
        return [np.full((2, self.rank), float(self.sweeps))]


class Meter(Progress):
    def __init__(self):
        self.records = []
        self.closed = 0

    def step(self, record):
        self.records.append(record)

    def close(self):
        self.closed += 1


def run(residuals, *, rank=12, tol=1e-3, to_stagnation=False, callback=None):
    iteration, meter = Script(residuals), Meter()
    going = Run(lambda energy, work: energy, lifted=0, progress=meter, callback=callback)
    goal = 0.0 if to_stagnation else tol
    outcome = going.outcome(RankContinuation(going, iteration, rank=rank, goal=goal), tol)
    assert meter.closed == 1
    assert tuple(meter.records) == outcome.history
    return outcome, iteration


def test_stops_at_the_first_residual_below_the_tolerance():
    outcome, iteration = run(lambda n, rank: 0.5**n, tol=0.1)
    assert outcome.status is Status.CONVERGED
    assert iteration.sweeps == 4
    assert outcome.residual == 0.5**4


def test_without_a_tolerance_it_goes_on_to_the_full_rank():
    outcome, iteration = run(lambda n, rank: 10.0 ** -(rank / 4), tol=0.05, to_stagnation=True)
    assert iteration.rank == 12
    assert outcome.status is Status.CONVERGED  # below tol, though it did not stop there
    assert outcome.residual == pytest.approx(1e-3)


def test_rank_that_is_not_divisible_by_the_columns():
    _, iteration = run(lambda n, rank: 1.0 / rank, rank=7)
    assert iteration.rank == 7


def test_residual_that_falls_with_the_rank_to_the_end_is_rank_limited():
    outcome, _ = run(lambda n, rank: 1.0 / rank)
    assert outcome.status is Status.RANK_LIMITED


def test_residual_that_does_not_fall_with_the_rank_stagnates_before_the_end():
    outcome, iteration = run(lambda n, rank: 0.5, rank=128)
    assert outcome.status is Status.STAGNATED
    assert iteration.rank < 128


def test_best_sweep_is_kept_and_not_the_last():
    values = {1: 0.5, 2: 0.2, 3: 0.4}
    outcome, _ = run(lambda n, rank: values.get(n, 0.6), rank=4)
    assert outcome.residual == 0.2
    assert outcome.factors[0][0, 0] == 2.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_residual_that_is_not_finite_fails_and_keeps_the_last_sound_function(bad):
    outcome, _ = run(lambda n, rank: 0.5 if n < 3 else bad)
    assert outcome.status is Status.FAILED
    assert outcome.residual == 0.5
    assert "not finite" in outcome.message
    assert all(math.isfinite(r.residual) for r in outcome.history)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_first_residual_that_is_not_finite_is_an_error_of_the_problem(bad):
    # nothing sound to return; and nobody pressed Ctrl-C
    with pytest.raises((ValueError, ArithmeticError)):
        run(lambda n, rank: bad)


def test_a_lost_definiteness_later_on_fails_and_keeps_the_best():
    outcome, _ = run(lambda n, rank: 0.5 if n < 3 else NotPositiveDefiniteError("lost"))
    assert outcome.status is Status.FAILED
    assert outcome.residual == 0.5
    assert "lost" in outcome.message


def test_a_lost_definiteness_at_once_is_raised():
    with pytest.raises(NotPositiveDefiniteError):
        run(lambda n, rank: NotPositiveDefiniteError("at once"))


def test_interruption_before_anything_is_known_stays_an_interruption():
    class Pressed(Script):
        def sweep(self):
            raise KeyboardInterrupt

    meter = Meter()
    going = Run(lambda energy, work: energy, lifted=0, progress=meter)
    with pytest.raises(KeyboardInterrupt):
        going.outcome(RankContinuation(going, Pressed(None), rank=2, goal=0.1), 0.1)
    assert meter.closed == 1


def test_only_true_interrupts():
    for answer in (None, 1, "yes", False):
        outcome, _ = run(lambda n, rank: 0.5**n, tol=0.1, callback=lambda record, a=answer: a)
        assert outcome.status is Status.CONVERGED
    outcome, _ = run(lambda n, rank: 0.5**n, tol=0.1, callback=lambda record: True)
    assert outcome.status is Status.INTERRUPTED
