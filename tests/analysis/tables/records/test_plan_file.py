"""What a plan says of trials that have not ended."""

import shutil
from pathlib import Path

import pandas as pd

from analysis.compare import source
from analysis.tables.records.plan_file import to_come

PLAN = pd.DataFrame(
    [("a", "", "sft"), ("b", "", "sft"), ("c", "a", "dpo"), ("d", "b", "dpo"), ("e", "d", "rlvr")],
    columns=["key", "parent", "stage"],
)


def test_trials_to_come_are_those_that_have_not_ended_and_may_begin():
    ended = pd.DataFrame({"key": ["a"], "status": ["ok"]})
    assert [to_come(PLAN, ended, stage) for stage in ("sft", "dpo", "rlvr")] == [1, 2, 1]
    lost = pd.DataFrame({"key": ["a", "b", "c"], "status": ["ok", "diverged", "failed"]})
    assert [to_come(PLAN, lost, stage) for stage in ("sft", "dpo", "rlvr")] == [0, 0, 0]


def test_plan_without_parents_is_of_trials_that_start_from_none():
    ended = pd.DataFrame({"key": ["a"], "status": ["diverged"]})
    assert to_come(PLAN[["key", "stage"]], ended, "dpo") == 2


def test_models_of_an_earlier_grid_file_without_todays_scores_are_told(planted_run, tmp_path):
    run = Path(shutil.copytree(planted_run, tmp_path / "run"))
    assert source.load(run).notes == ()
    scores = run / "trials" / "sft-000000000000" / "scores"
    scores.joinpath("0000.json").rename(scores / "ffff.json")
    plan = pd.read_csv(run / "plan.csv", dtype="str")
    plan[plan.key != "000000000000"].to_csv(run / "plan.csv", index=False)
    counted, left_out = source.load(run).notes
    assert "1 trial here is not in the plan" in counted
    assert left_out == (
        "1 trial of an earlier grid file (000000000000) has no score of world_choice as the grid "
        "file asks for it now: left out there. Put `evaluate` and the held-out data back, or these "
        "cells into the grid file, which scores them anew"
    )
    for path in scores.iterdir():
        path.unlink()
    (left_out,) = source.load(run).notes
    assert left_out.startswith("1 trial of an earlier grid file (000000000000) has no score of ")
