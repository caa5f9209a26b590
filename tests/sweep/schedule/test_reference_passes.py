"""Reference passes in whole runs: once, before the trials that need them; failures are told."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from sweep import run
from sweep.execution.worker import scoring, training
from sweep.plan import trials
from sweep.plan.reference_passes import needed
from sweep.schedule.reference_passes import ReferencePasses
from sweep.storage.run_folder import RunFolder
from sweep.storage.status.notes import Notes
from trainers import files
from trainers.specs.result import StageResult

DPO = """\
name: pairs
model: tiny
stages:
  dpo:
    kind: dpo
    data: {name: world:preferences, examples: 24}
    steps: 2
    heldout: 8
    grid: {learning_rate: [0.0001, 0.001], batch_size: [4]}
evaluate: {benchmarks: []}
limits: {max_trials: 3}
"""
"""The base model is one of the three; a pass is no trial."""


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """The command in this process; returns its result."""
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(DPO)

    def drive(*options: str):
        arguments = ["grid.yaml", "--local", *options]
        return CliRunner().invoke(run.app, arguments, catch_exceptions=False)

    return drive


def records(pattern: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(Path("runs/pairs").glob(pattern))]


def test_the_reference_is_computed_once_by_a_step_of_its_own(drive):
    ended = drive()
    assert ended.exit_code == 0, ended.output
    (record,) = records("trials/dpo-reference-*/train.json")
    assert record["pairs"] == record["pairs_computed"] > 15
    assert (Path("runs/pairs/data/reference") / record["reference_file"]).exists()
    trained = records("trials/dpo-lr*/train.json")
    assert [one["reference_pairs_computed"] for one in trained] == [0, 0]
    assert f"reference log-probabilities of dpo: {record['pairs']} pairs in" in ended.output
    with open("runs/pairs/results.csv") as table:
        assert "reference" not in table.read().replace("reference_pairs", "")
    began = [
        min(json.loads(line)["time"] for line in (path / "attempts.jsonl").read_text().splitlines())
        for path in (
            *Path("runs/pairs/trials").glob("dpo-reference-*"),
            *Path("runs/pairs/trials").glob("dpo-lr*"),
        )
    ]
    assert began[0] == min(began)
    assert Notes(Path("runs/pairs")).lines(held=False) == []


def test_a_reference_that_cannot_be_computed_is_told_once_for_each_trial(drive):
    """And the same command goes on when it can."""
    Path("runs/pairs/data").mkdir(parents=True)
    Path("runs/pairs/data/reference").write_text("no folder")
    ended = drive()
    failures = [line for line in ended.output.splitlines() if "could not be computed" in line]
    assert len(failures) == 2
    assert "reference: FileExistsError" in failures[0]
    assert "trials/dpo-reference-" in failures[0]
    (note,) = Notes(Path("runs/pairs")).lines(held=False)
    assert note.startswith("reference log-probabilities of dpo: failed, reference: FileExistsError")
    Path("runs/pairs/data/reference").unlink()
    ended = drive("--retry-failed")
    assert ended.exit_code == 0, ended.output
    assert len(records("trials/dpo-lr*/train.json")) == 2


def test_a_record_without_its_values_is_computed_anew(drive):
    drive()
    for path in Path("runs/pairs/trials").glob("dpo-lr*"):
        shutil.rmtree(path)
    shutil.rmtree("runs/pairs/data/reference")
    ended = drive()
    assert ended.exit_code == 0, ended.output
    trained = records("trials/dpo-lr*/train.json")
    assert [one["reference_pairs_computed"] for one in trained] == [0, 0]


def test_a_parent_that_was_trained_anew_needs_a_pass_of_its_own(load, pipeline, tmp_path):
    """Under the same key; records from before weights had names count as they are."""
    planned = {one.key: one for one in trials.trials(load(pipeline, "stages.dpo.parent=each"))}
    dpo = next(one for one in planned.values() if one.stage == "dpo")
    start, (one,) = planned[dpo.parent], needed(dpo, True, [], {})
    folder = RunFolder(tmp_path)
    passes = ReferencePasses(SimpleNamespace(), folder, retry_failed=False)  # pyright: ignore
    parent, kept = folder.trial(start), folder.data / "reference" / "values.npz"
    record = {"status": "ok", "reason": "", "reference_file": kept.name}
    files.write_text(kept, "")
    assert not passes.done(one, planned)

    def named() -> str:
        return scoring.start_name(SimpleNamespace(trial=dpo, parent_folder=str(parent.path)))

    files.write_json(folder.trial(one).path / "train.json", record)
    assert not passes.done(one, planned), "what it starts from was deleted"
    files.write_json(parent.path / "train.json", {"status": "ok"})
    assert passes.done(one, planned)
    parent.model.mkdir()
    for _ in range(2):
        training.finish(parent, StageResult("ok", "", {"steps": 3}))
        assert not passes.done(one, planned)
        files.write_json(folder.trial(one).path / "train.json", record | {"start": named()})
        assert passes.done(one, planned)


def test_a_pass_at_work_is_shown_with_what_it_is_at(tmp_path):
    folder = tmp_path / "trials" / "dpo-reference-abc"
    files.write_json(folder / "reference_pass.json", {"stage": "dpo"})
    files.append_events(folder / "attempts.jsonl", [{"event": "started"}])
    files.write_json(folder / "signs.json", {"what": "pair 4096 of 20000"})
    assert Notes(tmp_path).lines(held=True) == [
        "reference log-probabilities of dpo: pair 4096 of 20000; the trials that need them wait"
    ]
    assert Notes(tmp_path).lines(held=False) == []
