"""`--extend`: what the report asks for next, round after round, within the limits."""

import json

import pytest
import yaml

from sweep import extend
from sweep.gridfile.keys.schema import Limits
from trainers import files


@pytest.mark.parametrize(
    ("limits", "begun", "seconds", "expected"),
    [
        (Limits(), 50, 1e6, Limits()),
        (Limits(max_trials=10), 4, 0, Limits(max_trials=6)),
        (Limits(max_trials=10), 10, 0, None),
        (Limits(max_hours=2), 4, 3600, Limits(max_hours=1)),
        (Limits(max_hours=2), 4, 7200, None),
    ],
)
def test_rounds_share_the_limits(limits, begun, seconds, expected):
    assert extend.left(limits, begun, seconds) == expected


def test_report_that_asks_for_nothing_ends_the_rounds(tmp_path):
    def report(cells: int, text: str) -> None:
        step = {"sentence": "Add a rate.", "cells": cells, "text": text}
        record = {"stages": {"sft": {"summary": {"next_step": step}}}}
        files.write_json(tmp_path / extend.RECOMMENDATIONS, record)

    (tmp_path / "report").mkdir()
    assert extend.next_step(tmp_path) is None
    report(0, "")
    assert extend.next_step(tmp_path) is None
    report(4, "name: x")
    assert extend.next_step(tmp_path)["cells"] == 4


@pytest.mark.parametrize(
    ("more", "options", "problem"),
    [
        ({"search": {"method": "optuna", "trials": 2}}, [], "choose their own cells"),
        ({}, ["--only", "abcd"], "give one of them"),
    ],
)
def test_what_chooses_its_own_cells_is_refused(drive, small, tmp_path, more, options, problem):
    grid = yaml.safe_load(small)
    grid["stages"]["sft"]["grid"]["learning_rate"] = [0.001, 0.002, 0.004]
    ended = drive(yaml.safe_dump(grid | more), tmp_path / "small", "--extend", *options)
    assert ended.code == 2
    assert problem in ended.output


def test_whole_command_runs_what_the_report_asks_for(drive, small, tmp_path):
    grid = yaml.safe_load(small)
    grid["stages"]["sft"]["steps"] = 1
    grid["limits"] = {"max_trials": 5}
    ended = drive(yaml.safe_dump(grid), tmp_path / "runs" / "small", "--extend")
    assert "extend, round 1: Add learning rate" in ended.output
    assert (ended.path / "extended" / "1.yaml").exists()
    events = [json.loads(line) for line in (ended.path / "events.jsonl").read_text().splitlines()]
    started = [event for event in events if event["event"] == "started"]
    assert 3 < len(started) <= 5
    assert len({event["key"] for event in started}) == len(started)
