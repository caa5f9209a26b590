"""When a training leaves a checkpoint."""

import pytest

from trainers.specs.training import SftSpec
from trainers.steps import checkpoints, records
from trainers.steps import state as resume
from trainers.steps.records import MOST_OF_TIME, Records


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
