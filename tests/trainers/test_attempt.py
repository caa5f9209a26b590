"""One attempt holds a trial folder; the others write nothing."""

import json

import pytest
import torch

from trainers import attempt, files
from trainers.attempt import Superseded
from trainers.training import checkpoints, state


def take(folder) -> None:
    """As another process does."""
    files.write_json(folder / attempt.HOLDER, {"id": "other", "pid": 7, "host": "elsewhere"})


def save(folder, step: int) -> None:
    checkpoints.save(folder / "checkpoints", step, {"weight": torch.zeros(3)}, {"step": step})


def test_holder_passes_its_fence_and_a_superseded_one_is_told_by_whom(tmp_path):
    with attempt.begun(tmp_path):
        attempt.check()
        take(tmp_path)
        with pytest.raises(Superseded, match="process 7 on elsewhere has it now"):
            attempt.check()
    attempt.check()


def test_attempt_whose_folder_was_moved_away_is_told(tmp_path):
    folder = tmp_path / "trial"
    with attempt.begun(folder):
        folder.rename(tmp_path / "moved")
        with pytest.raises(Superseded, match="moved away"):
            attempt.check()


def test_superseded_attempt_saves_no_checkpoint_and_cuts_no_metrics(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n{"step": 2}\n')
    with attempt.begun(tmp_path):
        save(tmp_path, 1)
        take(tmp_path)
        with pytest.raises(Superseded):
            save(tmp_path, 2)
        with pytest.raises(Superseded):
            state.cut(metrics, 1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert metrics.read_text().count("\n") == 2


def test_part_files_of_another_attempt_are_left_until_they_are_stale(tmp_path, monkeypatch):
    part = tmp_path / "checkpoints" / ".1.other.new.part"
    part.mkdir(parents=True)
    with attempt.begun(tmp_path):
        save(tmp_path, 1)
        assert part.exists()
        monkeypatch.setattr(checkpoints, "STALE_SECONDS", -1.0)
        save(tmp_path, 2)
        assert not part.exists()


def test_lines_of_an_attempt_that_was_cut_off_go_nowhere(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.touch()
    with open(metrics, "a") as old, attempt.begun(tmp_path):
        old.write('{"step": 1}\n')
        old.flush()
        state.cut(metrics, 1)
        old.write('{"step": 2}\n')
        old.flush()
        assert metrics.read_text() == '{"step": 1}\n'


def test_sign_says_what_was_done_and_is_not_written_too_often(tmp_path):
    with attempt.begun(tmp_path) as this:
        for step in range(100):
            attempt.sign(f"step {step}")
    record = json.loads((tmp_path / attempt.SIGNS).read_text())
    assert (record["attempt"], record["what"]) == (this.id, "started")


def test_request_to_stop_reaches_the_attempt_that_it_was_meant_for_alone(tmp_path):
    with attempt.begun(tmp_path):
        assert attempt.asked_to_stop() == ""
        attempt.ask_to_stop(tmp_path, "enough")
        assert attempt.asked_to_stop() == "enough"
    with attempt.begun(tmp_path):
        assert attempt.asked_to_stop() == ""


def test_outside_an_attempt_nothing_is_written(tmp_path):
    attempt.sign("anything")
    attempt.check()
    attempt.ask_to_stop(tmp_path, "nobody")
    assert list(tmp_path.iterdir()) == []
