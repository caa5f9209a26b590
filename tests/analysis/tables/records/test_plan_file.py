"""What a plan says of trials that have not ended."""

import json
import shutil
from pathlib import Path

import pandas as pd

from analysis.compare import source
from analysis.report import summary_tables
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


def test_what_a_later_stage_asks_of_a_model_without_weights_is_an_empty_cell(planted_run, tmp_path):
    run = Path(shutil.copytree(planted_run, tmp_path / "run"))
    manifest = json.loads((run / "manifest.json").read_text())
    later = {"benchmark": "heldout_loss@later", "metric": "loss", "higher_is_better": False}
    manifest["stages"]["sft"]["evaluations"].append(later | {"fingerprint": "aaaa"})
    (run / "manifest.json").write_text(json.dumps(manifest))
    trial = run / "trials" / "sft-000000000000"
    with open(trial / "attempts.jsonl", "a") as attempts:  # as an earlier version left it
        attempts.write(
            json.dumps({"event": "failed", "reason": "its weights were not kept"}) + "\n"
        )
    (trial / "weights_removed.json").write_text('{"reason": "keep: best"}')
    read = source.load(run)
    rows = read.frame[read.frame.key == "000000000000"]
    assert set(rows.status) == {"ok"}
    assert later["benchmark"] not in set(rows.benchmark)
    (note,) = read.notes
    assert note == (
        "heldout_loss@later: 1 trial (000000000000) has no score: `keep` had removed the weights "
        "before the grid file asked for it"
    )
    evaluations = {stage: len(of["evaluations"]) for stage, of in manifest["stages"].items()}
    told = summary_tables.progress(run, rows, evaluations)
    assert told is not None and told.done == 1


def test_trials_of_a_stage_that_was_taken_out_stay_in_the_table_or_are_told(planted_run, tmp_path):
    run = Path(shutil.copytree(planted_run, tmp_path / "run"))
    plan = pd.read_csv(run / "plan.csv", dtype="str")
    plan[plan.stage != "sft"].to_csv(run / "plan.csv", index=False)
    before = source.load(run).frame
    manifest = json.loads((run / "manifest.json").read_text())
    taken = {"sft": manifest["stages"].pop("sft")}
    (run / "manifest.json").write_text(json.dumps(manifest | {"earlier_stages": taken}))
    read = source.load(run)
    assert set(read.frame.key) == set(before.key)
    assert "trials here are not in the plan" in read.notes[0]
    (run / "manifest.json").write_text(json.dumps(manifest))
    read = source.load(run)
    assert "sft" not in set(read.frame.stage)
    assert "of stage sft" in read.notes[0] and "put it back" in read.notes[0]
