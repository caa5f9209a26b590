"""A reward model that another stage is rewarded by is needed whatever `keep` says."""

import pytest

from tests.sweep.schedule.test_retention import World
from trainers.files import write_json

JUDGES = """\
name: judged
model: tiny
stages:
  judge:
    kind: reward
    keep: best
    data: {name: world:preferences, examples: 24}
    steps: 2
    grid: {learning_rate: [1e-4, 2e-4, 4e-4], batch_size: [4]}
"""
RLVR = """\
  rlvr:
    kind: rlvr
    data: {name: world:prompts, examples: 24}
    steps: 2
    learning_rate: 1e-6
    batch_size: 8
    reward_model: MODEL
"""


@pytest.fixture
def world(load, tmp_path):
    return lambda text: World(load(text), tmp_path / "run")


def test_reward_model_that_a_stage_names_stays(world):
    """Another one may be added, and be better."""
    run = world(JUDGES + "evaluate: {benchmarks: []}")
    for number in (1, 2):
        run.train(number)
        write_json(run.at(number).model / "config.json", {})
        run.score(number, pair_accuracy=0.1 * number)
    named = run.at(1).model
    rlvr = RLVR.replace("MODEL", str(named))
    run = world(JUDGES + rlvr + "evaluate: {benchmarks: []}")
    run.end(3, pair_accuracy=0.9)
    run.retention.look_at_all()
    assert run.kept == [1, 3] and (named / "config.json").exists()
