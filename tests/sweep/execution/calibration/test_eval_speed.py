"""Seconds of a benchmark, from few items and few tokens."""

import numpy as np
import pytest

from sweep.execution.calibration import eval_speed
from trainers.evaluate.open_model import open_model
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks


def test_an_answer_is_as_long_as_its_chance_of_ending_says():
    assert eval_speed._longest(240, 0, 256) == 256
    assert eval_speed._longest(100, 50, 256) == pytest.approx(2)
    assert 1 <= eval_speed._longest(10, 10, 256) <= 1.01


def test_the_longest_of_many_answers_is_longer_than_their_mean():
    tossed = np.random.default_rng(0).geometric(0.1, (4000, 64)).clip(max=60).max(axis=1).mean()
    assert eval_speed._longest(100, 10, 60, among=64) == pytest.approx(tossed, rel=0.02)
    assert eval_speed._longest(100, 10, 60) < 11


@pytest.mark.parametrize(
    ("items", "waves"), [(1, 1), (64, 1), (256, 1), (512, 2), (541, 541 / 256)]
)
def test_answers_that_share_the_steps_of_a_gpu_take_them_once(items, waves):
    """Answers that never end, of 101 tokens each at 20 ms a step."""
    beside, each = eval_speed._on_gpu(0.02, items, lambda among: 100.0)
    assert beside + items * each == pytest.approx(waves * 100 * 0.02)


def test_a_gpu_waits_for_the_longest_answer_of_the_last_ones():
    beside, each = eval_speed._on_gpu(0.02, 64, lambda among: 10.0 if among == 1 else 70.0)
    assert beside + 64 * each == pytest.approx(70 * 0.02)


@pytest.mark.parametrize("name", ["world_arithmetic", "world_choice"])
def test_benchmark_is_timed_and_the_model_left_as_it_was(tiny, name):
    spec = EvaluateSpec(benchmarks=[name], limit=8)
    lm = open_model(tiny, spec)
    speed = eval_speed.measure(lm, benchmarks.find(name), spec, seconds=1.0)
    assert speed["seconds_per_item"] > 0 and speed["seconds"] >= 0
    assert speed["items"] == 8
    assert lm.most_new_tokens is None
