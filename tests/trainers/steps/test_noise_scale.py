"""The noise scale of gradients whose mean and covariance are known."""

import numpy as np
import pytest

from trainers.steps.noise_scale import Measurement, estimates, halve, noise_scale

TRUE = 40.0
"""tr(Sigma) / |G|^2 of the planted gradients."""


def measured(steps: int, examples: int, seed: int, true: float = TRUE, size: int = 50):
    """What an optimizer that sees gradients G + noise would measure."""
    random = np.random.default_rng(seed)
    mean = random.normal(size=size)
    spread = np.linspace(0.5, 2, size)
    spread *= np.sqrt(true * (mean @ mean) / (spread @ spread))
    for step in range(steps):
        gradients = mean + spread * random.normal(size=(examples, size))
        half, _ = halve(examples, seed, step)
        whole, part = gradients.mean(axis=0), gradients[half].mean(axis=0)
        yield Measurement(examples, len(half), whole @ whole, part @ part)


@pytest.mark.parametrize("examples", [8, 9, 64])
def test_planted_noise_scale_is_recovered(examples):
    found = noise_scale(list(measured(4000, examples, seed=0)))
    assert found.value == pytest.approx(TRUE, rel=0.1)
    assert found.measurements == 4000


def test_interval_covers_the_truth_about_as_often_as_it_says():
    found = [noise_scale(list(measured(100, 32, seed))) for seed in range(60)]
    covered = [one.low <= TRUE and (one.high is None or one.high >= TRUE) for one in found]
    assert 0.85 <= np.mean(covered) <= 1


def test_batches_of_several_sizes_are_one_measurement():
    """The last batch of an epoch is smaller."""
    both = [*measured(2000, 32, seed=1), *measured(2000, 7, seed=1)]
    assert noise_scale(both).value == pytest.approx(TRUE, rel=0.2)


def test_gradient_that_does_not_stand_out_has_no_bound():
    found = noise_scale(list(measured(20, 4, seed=2, true=1e6)))
    assert found.high is None


def test_gradient_without_noise_has_the_scale_zero():
    found = noise_scale([Measurement(8, 4, 2.0, 2.0)] * 5)
    assert found == (0.0, 0.0, 0.0, 5)


def test_one_measurement_has_no_interval_and_none_no_value():
    one = Measurement(8, 4, 2.0, 3.0)
    assert estimates(one) == pytest.approx((1.0, 8.0))
    assert noise_scale([one]) == (pytest.approx(8.0), None, None, 1)
    assert noise_scale([]) == (None, None, None, 0)


def test_halves_are_random_and_whole():
    first, second = halve(9, seed=0, step=10)
    assert sorted(first + second) == list(range(9))
    assert (len(first), len(second)) == (4, 5)
    assert halve(9, 0, 10) == (first, second) != halve(9, 0, 20)


def test_a_long_training_measures_no_more_than_is_of_use():
    from trainers.steps.noise_scale import MOST, every

    assert [every(10, steps) for steps in (1, 10 * MOST, 10 * MOST + 1)] == [10, 10, 11]
    assert every(10, 400_000) == 200
    assert every(0, 400_000) == 0
