"""Trials in TensorBoard while their records are replaced, damaged, or end too early."""

import pytest

from sweep.tracking.follow import Follower
from sweep.tracking.trackers import Ended
from tests.sweep.tracking.test_follow import Run
from trainers import files


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "followed", "tracking={tensorboard: true}")
    run.start(run.good)
    run.steps(run.good, [5.0, 4.0, 3.0, 2.0])
    return run


@pytest.mark.parametrize("kept", [0, 2], ids=["from the start", "from a checkpoint"])
def test_attempt_that_replaces_the_records_replaces_the_curve(run, kept):
    follower = Follower(run.path)
    assert follower.update(last=False)
    run.start(run.good)
    assert follower.update(last=False), "the model is being loaded"
    losses = [5.0, 4.0][:kept]
    run.steps(run.good, losses, mode="w")
    for step in range(kept, 7):
        losses.append(10.25 + step)
        run.steps(run.good, losses[-1:])
        if step != 4:  # the file is as long as before, and longer, at one look
            assert follower.update(last=False)
    run.end(run.good)
    assert follower.update(last=True)
    assert run.events(run.good)["train/loss"] == dict(enumerate(losses, 1))


@pytest.mark.parametrize("name", ["trial.json", "train.json"])
def test_damaged_record_of_a_trial_keeps_no_other_from_the_trackers(run, name, capsys):
    files.write_json(run.folder.trial(run.bad).path / name, {"status": "gone"})
    run.start(run.bad)
    run.end(run.good)
    follower = Follower(run.path)
    assert not follower.update(last=False)
    assert run.events(run.good)["scores/world_choice/acc"] == {4: 0.75}
    assert not follower.update(last=True)
    told = capsys.readouterr().err
    assert told.count(name) == 1 and told.startswith("tracking: ")
    (run.folder.trial(run.bad).path / name).unlink()
    assert follower.update(last=True)


def test_line_that_is_no_record_is_passed_over(run):
    path = run.folder.trial(run.good).path / "metrics.jsonl"
    path.write_text(path.read_text() + "{nonsense}\n")
    run.steps(run.good, [1.0])
    run.end(run.good)
    assert Follower(run.path).update(last=True)
    assert run.events(run.good)["train/loss"][4] == 2.0


@pytest.mark.parametrize("event", ["stopped", "trained", "started"])
def test_trial_without_its_scores_is_interrupted(run, event):
    run.end(run.good)
    folder = run.folder.trial(run.good)
    assert (Ended(folder, []).status, Ended(folder, []).reason) == ("ok", "")
    folder.log_attempt(event, reason="the limit of limits.max_hours is reached")
    ended = Ended(folder, [])
    assert ended.status == "interrupted" and "max_hours" in ended.reason
