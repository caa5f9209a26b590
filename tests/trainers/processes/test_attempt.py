"""One attempt holds a trial folder; the others write nothing."""

import json

import pytest
import torch

from trainers import files
from trainers.processes import attempt
from trainers.processes.attempt import Superseded
from trainers.steps import checkpoints, state


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


def test_an_attempt_knows_when_the_one_before_was_last_heard_of(tmp_path):
    with attempt.begun(tmp_path) as first:
        assert first.previous_sign is None
    record = json.loads((tmp_path / attempt.SIGNS).read_text())
    then = record | {"time": "2026-01-01T12:00:00+00:00"}
    (tmp_path / attempt.SIGNS).write_text(json.dumps(then))
    sign = attempt.signed_at(tmp_path)
    with attempt.begun_together([tmp_path]) as second:
        assert second.parts[0].previous_sign == sign < attempt.signed_at(tmp_path)


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


@pytest.fixture
def lanes(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    return folders


def test_sign_of_a_training_of_several_is_one_of_each(lanes):
    with attempt.begun_together(lanes) as this:
        heard = this.heard()
        attempt.sign("step 1")
        assert this.heard() != heard
        holders = [attempt.holder_of(folder)["id"] for folder in lanes]
    signs = [json.loads((folder / attempt.SIGNS).read_text())["attempt"] for folder in lanes]
    assert signs == holders and len(set(holders)) == 3


def test_request_to_stop_one_of_several_stops_their_training(lanes):
    with attempt.begun_together(lanes):
        assert attempt.asked_to_stop() == ""
        attempt.ask_to_stop(lanes[2], "enough")
        assert attempt.asked_to_stop() == "enough"


def test_superseded_lane_leaves_and_the_others_go_on(lanes, monkeypatch):
    monkeypatch.setattr(attempt, "SIGN_SECONDS", 0.0)
    with attempt.begun_together(lanes):
        take(lanes[0])
        with pytest.raises(Superseded, match="process 7"), attempt.of(lanes[0]):
            save(lanes[0], 1)
        with pytest.raises(Superseded), attempt.of(lanes[0]):
            save(lanes[0], 1)
        with attempt.of(lanes[1]):
            save(lanes[1], 1)
        before = [(folder / attempt.SIGNS).read_bytes() for folder in lanes]
        attempt.sign("on")
        attempt.check()
        after = [(folder / attempt.SIGNS).read_bytes() for folder in lanes]
        assert [now != then for now, then in zip(after, before, strict=True)] == [False, True, True]
        take(lanes[1])
        take(lanes[2])
        with pytest.raises(Superseded, match="all beside it"):
            attempt.check()
    assert [(folder / "checkpoints").exists() for folder in lanes] == [False, True, False]


def test_in_an_attempt_at_one_trial_its_folder_needs_no_lane(tmp_path):
    with attempt.begun(tmp_path) as this, attempt.of(tmp_path):
        assert attempt.current() is this
    with attempt.of(tmp_path):
        assert attempt.current() is None


def test_outside_an_attempt_nothing_is_written(tmp_path):
    attempt.sign("anything")
    attempt.check()
    attempt.ask_to_stop(tmp_path, "nobody")
    assert list(tmp_path.iterdir()) == []
