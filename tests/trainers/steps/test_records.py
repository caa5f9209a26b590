"""When a training leaves a checkpoint, and when its loss is far above its start."""

from contextlib import nullcontext

import pytest

from trainers.specs.training import SftSpec
from trainers.steps import checkpoints, records
from trainers.steps import state as resume
from trainers.steps.records import MOST_OF_TIME, Records
from trainers.steps.step import Diverged, Step


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which pass by hand."""
    now = [0.0]
    monkeypatch.setattr(records.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(resume, "tensors", lambda *_: {})
    return now


@pytest.mark.parametrize(("seconds", "pause"), [(1, 600), (177, 177 / MOST_OF_TIME)])
def test_a_checkpoint_that_takes_long_is_written_less_often(
    seconds, pause, clock, tmp_path, monkeypatch
):
    def written(*_):
        clock[0] += seconds

    monkeypatch.setattr(checkpoints, "save", written)
    plain = {"kind": "sft", "data": "world:sft", "learning_rate": 1e-3, "batch_size": 4}
    kept = Records(SftSpec.model_validate(plain), tmp_path)
    assert not kept.is_time_to_save(599) and kept.is_time_to_save(600)
    clock[0] = 600.0
    kept.save(None, None, 100)
    assert not kept.is_time_to_save(clock[0] + pause - 1)
    assert kept.is_time_to_save(clock[0] + pause)


@pytest.mark.parametrize(
    ("losses", "diverges"),
    [([6.9, 60, 60, 60], True), ([6.9, 60, 60, 7], False), ([6.9, 6, 6, 5], False)],
)
def test_a_training_too_short_for_a_row_of_steps_diverges_by_its_last(losses, diverges, tmp_path):
    plain = {"kind": "sft", "data": "world:sft", "learning_rate": 1.0, "batch_size": 4}
    kept = Records(SftSpec.model_validate(plain), tmp_path)
    steps = [Step(loss, 1.0, 4, 10, 10, None, {}) for loss in losses]
    with kept.open():
        for step in steps[:-1]:
            kept.add(step, 1.0, 0.1, last=False)
        expected = pytest.raises(Diverged, match="the last, more than 3 times")
        with expected if diverges else nullcontext():
            kept.add(steps[-1], 1.0, 0.1, last=True)
    assert kept.progress.steps == 4
