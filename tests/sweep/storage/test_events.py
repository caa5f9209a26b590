"""events.jsonl and the log of a trial: what can be told of a run afterwards."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sweep.execution.job import Outcome
from sweep.storage import events, trial_log
from trainers import files


@pytest.fixture
def trials(planned, chain):
    return planned(chain)


def named(path: Path, *names: str) -> list[dict]:
    return [event for event in events.read(path) if event["event"] in names]


def test_a_run_leaves_one_line_per_event(chain_run):
    found = events.read(chain_run.path / "events.jsonl")
    names = [event["event"] for event in found]
    assert (names[0], names[-1]) == ("begun", "ended")
    assert Counter(names) == {"begun": 1, "planned": 4, "started": 4, "done": 4, "ended": 1}
    assert found[-1]["states"] == {"ok": 3, "diverged": 1}
    assert Counter(e["status"] for e in found if e["event"] == "done") == {"ok": 3, "diverged": 1}
    seconds = [event["seconds"] for event in found]
    assert seconds == sorted(seconds)
    for event in (event for event in found if event["event"] == "done"):
        work = event["train_seconds"] + event["eval_seconds"]
        assert work <= event["duration"] <= found[-1]["duration"]


def test_trial_is_planned_once_in_all_starts(trials, tmp_path):
    path = tmp_path / "events.jsonl"
    events.Events(path).begun(trials[:2], 0, 2)
    events.Events(path).begun(trials, 2, 2)
    assert [e["key"] for e in named(path, "planned")] == [trial.key for trial in trials]
    assert [e["to_go"] for e in named(path, "begun")] == [2, 2]


def test_trial_is_named_with_its_further_axes(planned, small, tmp_path):
    path = tmp_path / "events.jsonl"
    axes = "stages.sft.grid={learning_rate: [0.001], batch_size: [4], weight_decay: [0, 0.1]}"
    events.Events(path).begun(planned(small, axes), 0, 3)
    names = [event["trial"] for event in named(path, "planned")]
    assert names[1:] == [f"sft lr 0.001 bs 4 seed 0 weight_decay={decay}" for decay in (0.0, 0.1)]


def test_waves_are_one_command_and_a_trial_is_planned_when_it_has_its_key(trials, tmp_path):
    path = tmp_path / "events.jsonl"
    log = events.Events(path)
    waiting = trials[-1].model_copy(update={"key": "not yet", "waits": "the best of first"})
    log.begun([*trials[:-1], waiting], 0, 3)
    log.begun(trials, 3, 1)
    log.finished({"ok": 4})
    assert [e["key"] for e in named(path, "planned")] == [trial.key for trial in trials]
    assert len(named(path, "begun", "ended")) == 2


def test_further_attempt_is_a_retry_with_the_reason_of_the_one_before(trials, tmp_path):
    path, trial = tmp_path / "events.jsonl", trials[1]
    log = events.Events(path)
    log.started(trial)
    log.retried(trial, "killed")
    log.started(trial)
    log.ended(trial, *Outcome(trial.key, "failed", "killed again", 1.0, 2.0)[1:])
    assert [event["event"] for event in events.read(path)] == ["started", "retried", "failed"]
    assert [event["reason"] for event in named(path, "retried", "failed")] == [
        "killed", "killed again",
    ]  # fmt: skip


def test_clock_that_is_set_back_changes_no_duration(trials, tmp_path, monkeypatch):
    path, trial = tmp_path / "events.jsonl", trials[1]
    log = events.Events(path)
    log.started(trial)
    monkeypatch.setattr(files, "now", lambda: "2001-01-01T00:00:00+00:00")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    log.ended(trial, *Outcome(trial.key, "ok", "", 0.0, 0.0)[1:])
    started, done = events.read(path)
    assert done["time"] < started["time"]
    assert 0 <= done["duration"] < 5


def test_file_cut_at_any_byte_keeps_the_lines_before_and_takes_further_ones(trials, tmp_path):
    path = tmp_path / "events.jsonl"
    log = events.Events(path)
    log.started(trials[0])
    log.started(trials[1])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        before = events.read(path)
        assert len(before) == (kept >= first - 1) + (kept >= len(whole) - 1), kept
        events.Events(path).started(trials[2])
        after = events.read(path)
        assert after[:-1] == before
        assert after[-1]["key"] == trials[2].key


def test_log_of_a_trial_tells_of_its_training_and_each_evaluation(chain_run):
    (folder,) = (chain_run.path / "trials").glob("second-lr1.00e-03*")
    said = (folder / "log.txt").read_text()
    assert "attempt 1, host" in said
    assert "training: ok" in said
    assert "world_choice: " in said
    assert "heldout_loss: " in said
    assert "done in" in said


PRINTS = """
import logging, os, sys, warnings
from pathlib import Path
from sweep.storage import trial_log as triallog
path = Path(sys.argv[1])
with triallog.output(path), triallog.records(path):
    print("printed", flush=True)
    os.system("echo by a child")
    warnings.warn("warned")
    logging.getLogger("library").warning("logged")
print("after")
"""


def test_log_holds_what_a_worker_prints_logs_and_warns_of(tmp_path):
    path = tmp_path / "trial" / "log.txt"
    ended = subprocess.run(
        [sys.executable, "-c", PRINTS, str(path)],
        cwd=Path(trial_log.__file__).parents[2],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "after\n"
    assert ended.stderr == ""
    said = path.read_text()
    assert all(word in said for word in ("printed", "by a child", "warned", "logged"))
    assert "after" not in said
