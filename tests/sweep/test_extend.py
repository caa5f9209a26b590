"""`--extend`: what the report asks for next, round after round, within the limits."""

import json
import shutil
import uuid
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from ruamel.yaml import YAML

from analysis.advice import grid_file
from sweep import extend
from sweep.gridfile.keys.schema import Limits
from sweep.options import Options
from sweep.plan import trials
from sweep.resolve.resolve import CannotStart
from sweep.schedule import selection
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.object_store import Unreachable
from sweep.storage.run_folder import RunFolder
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


def test_trials_of_earlier_starts_do_not_count_against_the_limits_of_this_one(tmp_path):
    folder = RunFolder(tmp_path)
    names = ["begun", *["started"] * 40, "ended", "begun", "started", "ended"]
    names += ["begun", *["started"] * 3, "ended"]
    files.append_events(folder.events, [{"event": name} for name in names])
    assert (extend.begun(folder, 1), extend.begun(folder, 2)) == (3, 4)


def test_round_writes_over_no_file_of_an_earlier_start(tmp_path):
    def step(text: str) -> list[extend.Step]:
        return [extend.Step("sft", "", "Add.", text, {}, 1)]

    place, texts = tmp_path / "extended", ("a", "b", "a", "c")
    asked = [extend.written(step(text), place, "# one") for text in texts]
    assert [file.name for file in asked] == ["1.yaml", "2.yaml", "1.yaml", "3.yaml"]
    assert [file.read_text() for file in asked] == [f"# one\n{text}" for text in texts]
    assert extend.written(step("a"), place, "# other grid").name == "4.yaml"


def report(folder: Path, **cells: int) -> None:
    """A record whose grids, named stage_arm, ask for so many cells."""
    stages = {}
    for name, count in cells.items():
        stage, _, arm = name.partition("_")
        step = {"sentence": f"Add to {arm}.", "cells": count, "text": "name: x", "axes": {}}
        grid = {"stage": stage, "arm": arm, "summary": {"next_step": step}}
        stages[name] = grid
    (folder / "report").mkdir(exist_ok=True)
    files.write_json(folder / extend.RECOMMENDATIONS, {"stages": stages})


def test_report_that_asks_for_nothing_ends_the_rounds(tmp_path):
    assert extend.next_steps(tmp_path) == []
    report(tmp_path, sft=0)
    assert extend.next_steps(tmp_path) == []
    report(tmp_path, sft=4)
    assert [step.stage for step in extend.next_steps(tmp_path)] == ["sft"]


def test_arms_of_a_stage_ask_together_and_a_later_stage_waits(tmp_path):
    report(tmp_path, sft_adamw=2, sft_lion=0, sft_sgd=3, dpo=4)
    assert [step.arm for step in extend.next_steps(tmp_path)] == ["adamw", "sgd"]
    report(tmp_path, sft_adamw=0, sft_lion=0, dpo=4)
    assert [step.stage for step in extend.next_steps(tmp_path)] == ["dpo"]


ARMS = """\
name: small
stages:
  sft:
    batch_size: 4
    arms:
    - name: adamw
      grid: {learning_rate: [0.001, 0.01]}
    - name: lion
      set: {optimizer: lion}
      grid: {learning_rate: [0.0001, 0.001]}
"""


def test_steps_of_several_arms_stand_in_one_file(tmp_path):
    run, file = tmp_path / "grid.yaml", tmp_path / "1.yaml"
    run.write_text(ARMS)
    axes = {"adamw": [0.001, 0.01, 0.1], "lion": [0.00001, 0.0001, 0.001]}
    steps = [
        extend.Step(
            "sft",
            arm,
            "",
            grid_file.read("sft", arm, run).text({"learning_rate": rates, "batch_size": [4]}),
            {"learning_rate": rates, "batch_size": [4]},
            1,
        )
        for arm, rates in axes.items()
    ]
    stage = YAML(typ="safe").load(extend.together(steps, file))["stages"]["sft"]
    written = {arm["name"]: arm["grid"]["learning_rate"] for arm in stage["arms"]}
    assert written == axes
    assert stage["batch_size"] == 4


def test_steps_of_arms_that_share_axes_add_to_each_other(tmp_path):
    run, file = tmp_path / "grid.yaml", tmp_path / "1.yaml"
    text = "name: x\nstages: {sft: {arms: [{name: a}, {name: b}], grid: {seed: [0], "
    run.write_text(text + "learning_rate: {log: [0.001, 0.01], count: 2}}}}")
    asked = {"a": [0.001, 0.01, 0.1], "b": [0.0001, 0.001, 0.01]}
    steps = []
    for arm, rates in asked.items():
        axes: dict[str, list[Any]] = {"learning_rate": rates, "seed": [0]}
        whole = grid_file.read("sft", arm, run).text(axes)
        steps.append(extend.Step("sft", arm, "", whole, axes, 2))
    grid = YAML(typ="safe").load(extend.together(steps, file))["stages"]["sft"]["grid"]
    assert grid == {"seed": [0], "learning_rate": [0.0001, 0.001, 0.01, 0.1]}


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


@pytest.fixture
def started(load, small, tmp_path, monkeypatch):
    """What `--extend` would run of a grid, start after start: the learning rates of each round."""

    def start(
        text: str,
        *steps: extend.Step,
        max_hours: float | None = None,
        store: str | None = None,
    ) -> tuple[list[set], Counter[str]]:
        rounds = list[set]()

        def drive(grid, planned, *_):
            rounds.append({trial.spec.learning_rate for trial in planned if trial.spec})
            return Counter(ok=1)

        asked = iter([steps])
        monkeypatch.setattr(extend.driver, "drive", drive)
        monkeypatch.setattr(extend, "next_steps", lambda path: next(asked, ()))
        grid = load(text)
        grid = grid.model_copy(update={"limits": Limits(max_hours=max_hours)})
        console: Any = SimpleNamespace(say=print)
        options = Options(store=store)
        path = tmp_path / "small"
        return rounds, extend.drive(grid, trials.trials(grid), path, options, console)

    (tmp_path / "small").mkdir()
    return start


SECOND = """\
  second: {kind: sft, start_from: sft, parent: abcdef123456, data: {name: world:sft, examples: 24},
           batch_size: 4, learning_rate: 0.001, heldout: 8}
"""

OWN, WIDER, WIDEST = "[0.001, 0.002]", "[0.001, 0.002, 0.004]", "[0.0005, 0.001, 0.002, 0.004]"


def asked_for(small: str, rates: str) -> extend.Step:
    return extend.Step("sft", "", "Add.", small.replace(OWN, rates), {}, 1)


def test_a_start_goes_on_with_the_last_round_of_an_earlier_one(started, small, tmp_path, capsys):
    assert started(small, asked_for(small, WIDER))[0] == [{0.001, 0.002}, {0.001, 0.002, 0.004}]
    assert "goes on with" not in capsys.readouterr().out
    again, _ = started(small, asked_for(small, WIDEST))
    assert again == [{0.001, 0.002, 0.004}, {0.0005, 0.001, 0.002, 0.004}]
    assert "extend: goes on with extended/1.yaml" in capsys.readouterr().out
    files_of_rounds = sorted(file.name for file in (tmp_path / "small" / "extended").iterdir())
    assert files_of_rounds == ["1.yaml", "2.yaml"], "none is written over"


def test_a_start_on_another_machine_finds_the_last_round_in_the_store(
    started, load, small, tmp_path
):
    store, here = f"memory://bucket-{uuid.uuid4().hex}/runs/small", tmp_path / "small"
    text = small.replace("evaluate:", f"{SECOND}evaluate:").replace("abcdef123456", "best")
    assert started(text, store=store)[0] == [{0.001, 0.002}], "nothing is there"
    started(text, asked_for(text, WIDER))
    grid = load(text)
    chosen = {"rule": selection._rule(grid, "second"), "parent": trials.trials(grid)[-2].key}
    files.write_json(RunFolder(here).choice("second"), chosen)
    Mirror(here, store).push()
    for folder in ("extended", "choices"):
        shutil.rmtree(here / folder)
    assert started(text, store=store)[0] == [{0.001, 0.002, 0.004}]


def test_a_store_out_of_reach_is_told_before_a_round_begins(started, small, monkeypatch):
    def away(*_: str) -> None:
        raise Unreachable("s3://bucket: does not answer")

    monkeypatch.setattr(Mirror, "pull", away)
    with pytest.raises(CannotStart, match="does not answer"):
        started(small, store="memory://bucket/runs/small")


@pytest.mark.parametrize(
    ("old", "new", "rates"),
    [
        ("steps: 3", "steps: 2", {0.001, 0.002}),
        ("limit: 8", "limit: 4", {0.001, 0.002}),
        (OWN, "[0.001]", {0.001}),
        (OWN, WIDER, {0.001, 0.002, 0.004}),
    ],
)
def test_rounds_of_a_grid_that_was_edited_since_are_left_out(started, small, old, new, rates):
    started(small, asked_for(small, WIDEST))
    assert started(small.replace(old, new))[0] == [rates]


def test_a_round_whose_file_names_no_cells_goes_on_as_before(started, small, tmp_path):
    started(small, asked_for(small, WIDER))
    (file,) = (tmp_path / "small" / "extended").iterdir()
    file.write_text(file.read_text().partition("\n")[2])
    assert started(small)[0] == [{0.001, 0.002, 0.004}]


def test_limits_that_leave_no_trial_to_a_round_leave_its_cells_planned(started, small):
    rounds, states = started(small, asked_for(small, WIDER), max_hours=1e-12)
    assert rounds == [{0.001, 0.002}]
    assert states == Counter(ok=1, planned=1)


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


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("batch_size: [4]", "batch_size: [64]", "extended/1.yaml:13: stages.sft.grid.batch_size"),
        (
            "evaluate:",
            f"{SECOND}evaluate:",
            "stages.second.parent: 'abcdef123456': no model of sft",
        ),
    ],
)
def test_next_grid_that_cannot_run_is_told_and_the_run_ends_as_it_ended(
    drive, small, tmp_path, monkeypatch, old, new, problem
):
    text = small.replace("steps: 3", "steps: 1").replace("[0.001, 0.002]", "[0.001]")
    step = extend.Step("sft", "", "Add.", text.replace(old, new), {}, 1)
    monkeypatch.setattr(extend, "next_steps", lambda path: [step])
    ended = drive(text, tmp_path / "runs" / "small", "--extend")
    assert ended.code == 0
    (line,) = (line for line in ended.output.splitlines() if line.startswith("extend:"))
    assert problem in line


OPTIMIZERS = """\
name: optimizers
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 60}
    steps: 3
    batch_size: 4
    heldout: 8
    max_length: 64
    arms:
      - name: adamw
        grid: {learning_rate: [1.0e-5, 2.0e-5]}
      - name: lion
        set: {optimizer: lion}
        grid: {learning_rate: {log: [1.0e-7, 2.0e-7], count: 2}}
evaluate: {benchmarks: []}
resources: {cpus_per_trial: 1}
limits: {max_trials: 12}
"""
"""Two rates in each arm, which place no best one."""


@pytest.mark.slow
def test_arms_with_axes_of_their_own_are_extended_each_in_its_own(drive, tmp_path):
    ended = drive(OPTIMIZERS, tmp_path / "runs" / "optimizers", "--extend")
    assert "extend, round 1: adamw: Add learning rate" in ended.output
    assert "extend, round 1: lion: Add learning rate" in ended.output
    first = YAML(typ="safe").load(ended.path / "extended" / "1.yaml")
    adamw, lion = (arm["grid"]["learning_rate"] for arm in first["stages"]["sft"]["arms"])
    assert {1e-5, 2e-5} < set(adamw)
    assert {1e-7, 2e-7} < set(lion)
    frame = pd.read_csv(ended.path / "results.csv")
    trained = frame.loc[frame.stage == "sft"].drop_duplicates("key")
    assert set(adamw) <= set(trained.learning_rate[trained.arm == "adamw"])
    assert set(lion) <= set(trained.learning_rate[trained.arm == "lion"])
    assert max(lion) < min(adamw), "none of the other's rates"
    events = [json.loads(line) for line in (ended.path / "events.jsonl").read_text().splitlines()]
    started = [event["key"] for event in events if event["event"] == "started"]
    assert len(started) == len(set(started)) <= 12, "nothing runs twice"
