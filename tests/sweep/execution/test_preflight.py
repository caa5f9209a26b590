"""What keeps a right grid from starting here and now: exit code 4, and nothing is written."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from sweep.execution import preflight
from sweep.plan import trials
from sweep.plan.widen import at_most, widened
from sweep.resolve import resolve
from sweep.resolve.resolve import CannotStart
from sweep.storage.run_folder import RunFolder
from tests.sweep.schedule.pools.deciding import DECIDE
from trainers import files

RLVR = """\
name: rl
model: tiny
stages:
  rlvr:
    kind: rlvr
    data: world:prompts
    reward_model: {judge}
    learning_rate: 0.0001
    batch_size: 8
    group_size: 8
evaluate: {{benchmarks: [world_choice]}}
"""


def test_world_and_local_items_need_no_hub(load, small, tmp_path):
    assert resolve.needs(load(small)).empty
    for part in ("arc_easy", "arc_challenge"):
        (tmp_path / f"{part}_test.jsonl").write_text("{}\n")
    assert resolve.needs(
        load(small, "evaluate.benchmarks=[arc]", f"evaluate.data_dir={tmp_path}")
    ).empty


@pytest.mark.parametrize(
    "override", ["model=a/b", "stages.sft.data.name=a/b", "evaluate.benchmarks=[arc]"]
)
def test_hub_is_needed_for(override, load, small):
    assert not resolve.needs(load(small, override)).empty


def train(folder: RunFolder, grid) -> None:
    """Leave the record of a trained cell of the grid."""
    trial = next(trial for trial in trials.trials(grid) if trial.spec is not None)
    folder.trial(trial).write_identity(trial)
    files.write_json(folder.trial(trial).path / "train.json", {"status": "diverged"})


def test_changed_data_under_one_name_is_refused(load, small, grid_file, command, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n' * 40)
    grid = load(small.replace("{name: world:sft, examples: 24}", str(rows)))
    folder = RunFolder(tmp_path / "runs" / "small")
    files.write_json(folder.manifest, {"data": resolve.fingerprints(grid, {})})
    train(folder, grid)
    preflight.check_unchanged(folder, resolve.fingerprints(grid, {}))
    rows.write_text('{"text": "b"}\n' * 40)
    with pytest.raises(CannotStart, match=r"rows\.jsonl.* has changed .* another name"):
        preflight.check_unchanged(folder, resolve.fingerprints(grid, {}))
    run = command(tmp_path / "grid.yaml", "--runs", tmp_path / "runs")
    assert run.returncode == 4
    assert "has changed" in run.stderr


def test_changed_reward_model_under_one_name_is_refused(load, tmp_path):
    judge = tmp_path / "judge"
    judge.mkdir()
    (judge / "config.json").write_text("{}")
    (judge / "model.safetensors").write_bytes(bytes(8))
    (judge / "chat_template.jinja").write_text("old")
    grid = load(RLVR.format(judge=judge))
    folder = RunFolder(tmp_path / "runs" / "rl")
    marks = resolve.fingerprints(grid, {})
    files.write_json(folder.manifest, {"data": marks})
    train(folder, grid)
    preflight.check_unchanged(folder, resolve.fingerprints(grid, {}))
    (judge / "chat_template.jinja").write_text("new")
    with pytest.raises(CannotStart, match=r"judge \(tokenizer .*\)' has changed since the run"):
        preflight.check_unchanged(folder, resolve.fingerprints(grid, {}))
    # a run folder from before templates were looked at
    files.write_json(folder.manifest, {"data": {f"model:{judge}": marks[f"model:{judge}"]}})
    preflight.check_unchanged(folder, resolve.fingerprints(grid, {}))
    (judge / "model.safetensors").write_bytes(bytes(9))
    with pytest.raises(CannotStart, match=r"judge' has changed since the run began"):
        preflight.check_unchanged(folder, resolve.fingerprints(grid, {}))


def test_missing_items_are_found_before_anything_is_written(small, grid_file, command, tmp_path):
    (tmp_path / "items").mkdir()
    text = small.replace("[world_choice]", f"[hellaswag]\n  data_dir: {tmp_path / 'items'}")
    run = command(grid_file(text), "--runs", tmp_path / "runs")
    assert run.returncode == 2
    assert "no file hellaswag_validation*.jsonl" in run.stderr
    assert not (tmp_path / "runs").exists()


def test_data_that_the_hub_does_not_give_is_found_before_anything_is_written(
    small, grid_file, command, tmp_path
):
    """The environment of the tests is offline."""
    run = command(grid_file(small.replace("world:sft", "a/b")), "--runs", tmp_path / "runs")
    assert run.returncode == 4
    assert "data set 'a/b'" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "runs").exists()


CHOOSERS = {
    "decide": ["decide.trials=30"],
    "search": ["decide=null", "search={method: optuna, trials: 15, objective: world_choice}"],
}
"""30 trainings of a grid of two seeds, at most."""


@pytest.mark.parametrize("chooser", CHOOSERS)
@pytest.mark.parametrize(("begun", "trained", "left"), [(0, 0, 30), (8, 8, 22), (30, 29, 1)])
def test_cells_that_were_begun_count_among_those_that_a_run_chooses(
    load, tmp_path, chooser, begun, trained, left
):
    grid, folder = load(DECIDE, *CHOOSERS[chooser]), RunFolder(tmp_path / "run")
    planned = [t for t in trials.trials(widened(grid)) if t.stage == "sft"]
    for number, trial in enumerate(reversed(planned[-begun:] if begun else [])):
        folder.trial(trial).log_attempt("started")
        if number < trained:
            files.write_json(
                folder.trial(trial).path / "train.json", {"status": "ok", "reason": ""}
            )
    assert len(preflight.to_train(folder, grid, planned)) == left


def test_what_starts_from_cells_that_are_left_out_is_left_out(load):
    own = "{kind: sft, start_from: sft, data: {name: world:sft}, batch_size: 4, learning_rate: 0.1}"
    grid = load(DECIDE, *CHOOSERS["search"], f"stages.after={own}")
    stages = Counter(trial.stage for trial in at_most(grid, trials.trials(grid)))
    assert stages == {"base": 1, "before": 1, "sft": 30, "after": 30}


def test_too_little_disk_is_refused(load, small, monkeypatch, tmp_path):
    grid = load(small)
    planned = trials.trials(grid)
    full = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: full)
    with pytest.raises(CannotStart, match=r"make room, .* or choose another place with --runs"):
        preflight.check_disk(RunFolder(tmp_path / "run"), grid, planned)
    assert not (tmp_path / "run").exists()


def test_damaged_record_stops_the_command_with_the_files_name(small, grid_file, command, tmp_path):
    manifest = tmp_path / "runs" / "small" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"data": {}})[:-3])
    run = command(grid_file(small), "--runs", tmp_path / "runs")
    assert run.returncode == 4
    assert "manifest.json: damaged" in run.stderr
    assert "Traceback" not in run.stderr


def test_vllm_is_asked_for_with_a_whole_gpu_and_with_its_package(load, small):
    grid = load(small, "evaluate.backend=vllm")
    with pytest.raises(CannotStart) as refused:
        resolve.check_benchmarks(grid)
    assert "pip install 'lm-eval[vllm]'" in str(refused.value)
    assert "gpus_per_trial: 1" in str(refused.value)
