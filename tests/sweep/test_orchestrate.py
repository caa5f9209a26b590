"""What one start of the command runs: limits, single trials, and how it ends."""

import json
import math

import pandas as pd
import pytest

from sweep.schedule.allowance import Allowance
from sweep.storage import events


def started(run) -> list[str]:
    """Stages and rates of the trials that were started, in the order of their start."""
    found = []
    for file in run.glob("trials/*/attempts.jsonl"):
        record = json.loads((file.parent / "trial.json").read_text())
        first = json.loads(file.read_text().splitlines()[0])
        rate = record["spec"] and record["spec"]["learning_rate"]
        name = f"{record['stage']} {rate:g}" if rate else record["stage"]
        found.append((first["time"], file.stat().st_mtime_ns, name))
    return [name for *_, name in sorted(found)]


@pytest.fixture
def quick(small) -> str:
    """Nothing to generate, a step of training."""
    return small.replace("steps: 3", "steps: 1").replace("limit: 8", "limit: 1")


def test_limit_of_trials_stops_and_the_same_command_goes_on(quick, drive, tmp_path):
    run = tmp_path / "run"
    limited = drive(quick + "limits: {max_trials: 2}\n", run)
    assert limited.code == 5
    told = (
        "this start has begun as many trials as limits.max_trials lets it; the same command goes on"
    )
    assert told in " ".join(limited.output.split())
    assert told in events.read(run / "events.jsonl")[-1]["reason"]
    assert started(run) == ["base", "sft 0.001"]
    assert (run / "report" / "index.html").exists(), "a report of what there is"
    assert len(pd.read_csv(run / "plan.csv")) == 3
    again = drive(quick + "limits: {max_trials: 2}\n", run)
    assert again.code == 0 and "no further trial begins" not in again.output
    assert started(run) == ["base", "sft 0.001", "sft 0.002"]


def test_limit_of_time_starts_no_further_trial(quick, drive, tmp_path):
    ended = drive(quick + "limits: {max_hours: 1.0e-9}\n", tmp_path / "run", "--extend")
    assert ended.code == 5
    assert started(tmp_path / "run") == []
    assert "extend: no round follows, as the grid is not done: 3 planned" in ended.output


def test_running_trial_stops_with_a_checkpoint_when_the_time_is_over(
    quick, drive, tmp_path, monkeypatch
):
    """It is over when the trial has trained a step, however long its start takes."""
    slow = quick.replace("steps: 1", "steps: 100000").replace("[0.001, 0.002]", "[0.001]")
    run = tmp_path / "run"

    def deadline(_) -> float:
        return 0.0 if any(run.glob("trials/sft*/metrics.jsonl")) else math.inf

    monkeypatch.setattr(Allowance, "deadline", property(deadline))
    ended = drive(slow + "limits: {max_hours: 1}\n", run)
    assert ended.code == 5
    assert "limits.max_hours" in ended.output
    (folder,) = run.glob("trials/sft*")
    events = [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["started", "stopped"]
    assert len(list((folder / "checkpoints").glob("step-*"))) == 1


def test_trial_over_its_time_fails_and_says_so(quick, drive, tmp_path):
    slow = quick.replace("steps: 1", "steps: 100000").replace("[0.001, 0.002]", "[0.001]")
    ended = drive(slow + "limits: {max_trial_hours: 5.0e-4}\n", tmp_path / "run")
    assert ended.code == 3
    assert "over the time limit at step" in ended.output
    table = pd.read_csv(tmp_path / "run" / "results.csv")
    failed = table[table.stage == "sft"]
    assert set(failed.status) == {"failed"}
    assert failed.reason.str.contains("over the time limit").all()


def test_single_trial_runs_with_what_it_starts_from(chain, planned, drive, tmp_path):
    key = planned(chain)[2].key
    run = tmp_path / "chain"
    assert drive(chain, run, "--only", key[:8]).code == 0
    assert len(started(run)) == 3
    assert len(pd.read_csv(run / "plan.csv")) == 4


def test_single_trial_that_a_limit_stops_is_not_done(quick, planned, drive, tmp_path):
    key = planned(quick)[1].key
    ended = drive(quick + "limits: {max_trials: 1}\n", tmp_path / "run", "--only", key)
    assert ended.code == 5
    assert "1 planned" in ended.output
    ended = drive(quick + "limits: {max_trials: 1}\n", tmp_path / "run", "--only", key)
    assert ended.code == 0
    assert "2 ok  1 not asked for" in ended.output


@pytest.mark.parametrize(("key", "said"), [("zzz", "no trial has"), ("", "4 trials have")])
def test_key_of_no_single_trial_is_refused(key, said, chain, drive, tmp_path):
    ended = drive(chain, tmp_path / "run", "--only", key)
    assert ended.code == 2
    assert said in ended.output
    assert not (tmp_path / "run").exists()


def test_wall_time_is_shown_against_the_work(chain_run):
    assert "Took " in chain_run.output
    assert "on 1 slot " in chain_run.output


def test_each_trial_has_a_line_with_its_end(chain_run):
    lines = [line for line in chain_run.output.splitlines() if line.startswith("[")]
    assert [line[:5] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert sum(" diverged " in line for line in lines) == 1
