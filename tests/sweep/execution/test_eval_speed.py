"""Seconds of a benchmark, from few items and few tokens."""

import pytest

from sweep.execution import eval_speed
from trainers.evaluate import harness
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks


def test_an_answer_is_as_long_as_its_chance_of_ending_says():
    assert eval_speed._length(240, 0, 256) == 256
    assert eval_speed._length(100, 50, 256) == pytest.approx(2)
    assert 1 <= eval_speed._length(10, 10, 256) <= 1.01


@pytest.mark.parametrize("name", ["world_arithmetic", "world_choice"])
def test_benchmark_is_timed_and_the_model_left_as_it_was(tiny, name):
    spec = EvaluateSpec(benchmarks=[name], limit=8)
    lm = harness.open_model(tiny, spec)
    speed = eval_speed.measure(lm, benchmarks.find(name), spec, seconds=1.0)
    assert speed["seconds_per_item"] > 0 and speed["seconds"] >= 0
    assert speed["items"] == 8
    assert lm.most_new_tokens is None
