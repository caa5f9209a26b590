"""Trackers: what they hold is read back with their own readers, and they cost a run nothing.

The run folder is written by hand; the process that follows it, W&B and TensorBoard are real. wandb
is imported in other processes alone: this one trains in other tests, without it.
"""

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.gridfile import load as config
from sweep.gridfile.load import GridError
from sweep.plan import trials
from sweep.plan.trials import Trial
from sweep.storage.run_folder import RunFolder
from sweep.tracking import follow as tracking
from tests.faults.runs import wait_until
from trainers import files

ROOT = Path(__file__).parents[3]

GRID = """\
name: followed
model: tiny
stages:
  sft:
    kind: sft
    data: world:sft
    grid:
      learning_rate: [0.001, 100]
      batch_size: [4]
evaluate: {benchmarks: [world_choice]}
tracking: {wandb: {project: smoltulu}, tensorboard: true, trackio: {project: smoltulu}}
"""


class Run:
    """A run folder of two trials and the model as it is, none of them started."""

    def __init__(self, folder: Path, *overrides: str):
        folder.mkdir(parents=True)
        file = folder.with_suffix(".yaml")
        file.write_text(GRID)
        self.grid = config.load(file, list(overrides))
        self.folder = RunFolder(folder)
        self.path = folder
        self.base, *trained = trials.trials(self.grid)
        self.good, self.bad = sorted(trained, key=lambda trial: trial.spec.learning_rate)
        self.planned = [self.base, *trained]
        self.folder.write_plan(self.grid, self.planned)
        want = {"benchmark": "world_choice", "fingerprint": "f", "metric": "acc"}
        stages = {stage: {"evaluations": [want]} for stage in ("base", "sft")}
        files.write_json(self.folder.manifest, {"name": "followed", "stages": stages})

    def plan_later(self) -> None:
        """Two trials more of one readable name, as `decide` and a chosen parent have them later."""
        axes = "{learning_rate: [0.01], batch_size: [4], weight_decay: [0.1, 0.2]}"
        grid = config.load(self.path.with_suffix(".yaml"), [f"stages.sft.grid={axes}"])
        self.later = [trial for trial in trials.trials(grid) if trial.stage == "sft"]
        self.folder.write_plan(self.grid, [*self.planned, *self.later])

    def start(self, trial: Trial) -> None:
        self.folder.trial(trial).log_attempt("started")

    def steps(self, trial: Trial, losses: list[float | None], mode: str = "a") -> None:
        path = self.folder.trial(trial).path / "metrics.jsonl"
        before = len(path.read_text().splitlines()) if mode == "a" and path.exists() else 0
        with open(path, mode) as file:
            for step, loss in enumerate(losses, before + 1):
                row = {"step": step, "loss": loss, "smoothed_loss": loss, "learning_rate": 0.001}
                file.write(json.dumps(row | {"grad_norm": 1.5, "tokens": 10 * step}) + "\n")

    def end(self, trial: Trial, status: str = "ok", reason: str = "", value: float = 0.75) -> None:
        here = self.folder.trial(trial)
        files.write_json(here.path / "train.json", {"status": status, "reason": reason, "steps": 2})
        if status == "ok":
            score = {"metric": "acc", "value": value, "stderr": 0.02, "n": 400, "primary": True}
            files.write_json(here.scores("f"), {"benchmark": "world_choice", "scores": [score]})
        here.log_attempt("done")

    def report(self) -> None:
        figures = self.path / "report" / "figures"
        figures.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(figures / "sft-world_choice-contour.png")
        setting = {"learning_rate": 2e-3, "batch_size": 8, "expected_regret": 0.01}
        kinds = {"benchmarks": {"world_choice": setting}, "task_types": {"reasoning": setting}}
        record = {"stage": "sft", "stages": {"sft": {"setting": kinds}}}
        files.write_json(self.path / "report" / "recommendations.json", record)
        row = f"key,status,value\n{self.good.key},ok,0.75\n{self.bad.key},diverged,\n"
        (self.path / "results.csv").write_text(row)

    def follow(self):
        said: list[str] = []
        return said, tracking.following(self.grid.tracking, self.path, said.append)

    def wandb_folders(self, label: str) -> list[Path]:
        return sorted(self.path.glob(f"wandb/offline-run-*-followed-{label}"))

    def events(self, trial: Trial) -> dict[str, dict[int, float]]:
        return scalars(self.path / "tensorboard" / self.folder.trial(trial).path.name)


def records(folder: Path) -> list[dict[str, Any]]:
    """An offline run, by wandb's own reader."""
    run = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"WANDB_ERROR_REPORTING": "false"},
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def history(found: list[dict[str, Any]], name: str) -> dict[int, float]:
    rows = [record["history"] for record in found if record["type"] == "history"]
    return {row["step"]["num"]: row["item"][name] for row in rows if name in row["item"]}


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    updates = [record["summary"]["update"] for record in found if record["type"] == "summary"]
    return {key: value for update in updates for key, value in update.items()}


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """An event file, record by record: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in folder.glob("events.*"):
        data = path.read_bytes()
        while len(data) > 12:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Run:
    """A run that was followed from its start to its report; only to be read."""
    run = Run(tmp_path_factory.mktemp("tracked") / "followed")
    said, following = run.follow()
    with following:
        run.start(run.base)
        run.end(run.base, value=0.25)
        run.start(run.good)
        run.steps(run.good, [2.0, 1.0])
        wait_until(lambda: run.events(run.good).get("train/loss") == {1: 2.0, 2: 1.0})
        run.end(run.good)
        run.start(run.bad)
        run.steps(run.bad, [3.0, None])
        run.end(run.bad, "diverged", "loss nan at step 2")
        run.plan_later()
        for trial in run.later:
            run.start(trial)
            run.end(trial)
        run.report()
    assert not said, (said, (run.path / "tracking.log").read_text())
    return run


@pytest.fixture(scope="module")
def good(tracked) -> list[dict[str, Any]]:
    (folder,) = tracked.wandb_folders(tracked.good.key)
    return records(folder)


def test_wandb_run_says_what_was_trained(tracked, good):
    (run,) = [record["run"] for record in good if record["type"] == "run"]
    assert run["run_id"] == f"followed-{tracked.good.key}"
    assert run["project"] == "smoltulu"
    assert run["run_group"] == "followed"
    assert run["job_type"] == "sft"
    settings = run["config"]["update"]
    assert settings["key"] == tracked.good.key
    assert settings["parent"] == tracked.base.key
    assert settings["model"] == "tiny"
    assert settings["learning_rate"] == 0.001
    assert settings["lr_bs_ratio"] == 0.001 / 4


def test_wandb_run_holds_every_optimizer_step(good):
    assert history(good, "train/loss") == {1: 2.0, 2: 1.0}
    assert history(good, "train/tokens") == {1: 10, 2: 20}
    assert history(good, "train/learning_rate") == {1: 0.001, 2: 0.001}
    assert set(history(good, "train/grad_norm")) == {1, 2}
    assert set(history(good, "train/smoothed_loss")) == {1, 2}


def test_wandb_run_ends_with_scores_and_errors(good):
    found = summary(good)
    assert found["status"] == "ok"
    assert found["scores/world_choice/acc"] == 0.75
    assert found["scores/world_choice/acc_stderr"] == 0.02
    assert found["scores/world_choice/acc_n"] == 400
    assert good[-1]["exit"]["exit_code"] == 0


def test_diverged_trial_is_told_with_its_reason(tracked):
    found = records(*tracked.wandb_folders(tracked.bad.key))
    assert history(found, "train/loss") == {1: 3.0}
    assert summary(found)["status"] == "diverged"
    assert summary(found)["reason"] == "loss nan at step 2"


def test_model_before_training_has_a_run_too(tracked):
    found = records(*tracked.wandb_folders(tracked.base.key))
    assert summary(found)["scores/world_choice/acc"] == 0.25


def test_trial_that_is_planned_later_reaches_every_tracker(tracked):
    later = tracked.later[0]
    found = records(*tracked.wandb_folders(later.key))
    assert summary(found)["scores/world_choice/acc"] == 0.75
    assert tracked.events(later)["scores/world_choice/acc"] == {0: 0.75}
    assert later.folder in trackio_runs(tracked)


def test_summary_run_holds_the_report(tracked):
    (folder,) = tracked.wandb_folders("summary")
    (run,) = [record["run"] for record in records(folder) if record["type"] == "run"]
    assert (run["run_group"], run["job_type"]) == ("followed", "summary")
    tables = {
        path.name.split("_")[0]: json.loads(path.read_text())
        for path in folder.rglob("*.table.json")
    }
    assert tables["results"]["data"] == [
        [tracked.good.key, "ok", 0.75],
        [tracked.bad.key, "diverged", None],
    ]
    assert [row[:2] for row in tables["recommendations"]["data"]] == [
        ["benchmarks", "world_choice"],
        ["task_types", "reasoning"],
    ]
    assert len(list(folder.rglob("*contour*.png"))) == 1


def test_tensorboard_holds_the_same(tracked):
    found = tracked.events(tracked.good)
    assert found["train/loss"] == {1: 2.0, 2: 1.0}
    assert found["scores/world_choice/acc"] == {2: 0.75}
    assert found["scores/world_choice/acc_stderr"] == {2: pytest.approx(0.02)}
    assert tracked.events(tracked.bad)["train/loss"] == {1: 3.0}


TRACKIO = """
import json
from trackio import Api
from trackio.sqlite_storage import SQLiteStorage as storage
runs = [(run.name, run.config, storage.get_logs("smoltulu", run.name, run_id=run.id))
        for run in Api().runs("smoltulu")]
print(json.dumps(runs))
"""


def trackio_runs(run: Run) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Name -> configuration and rows, by trackio's own reader, in a process that asks no hub."""
    environment = os.environ | {"TRACKIO_DIR": str(run.path / "trackio")}
    read = subprocess.run(
        [sys.executable, "-c", TRACKIO], env=environment, capture_output=True, text=True
    )
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout.splitlines()[-1])
    assert len({name for name, *_ in found}) == len(found), "a run replaces an earlier one"
    return {name: (config, rows) for name, config, rows in found}


def test_trackio_holds_the_same(tracked):
    found = trackio_runs(tracked)
    assert set(found) == {trial.folder for trial in [*tracked.planned, *tracked.later]}
    assert len({trial.readable for trial in tracked.later}) == 1, "the key tells them apart"
    config, rows = found[tracked.good.folder]
    assert (config["key"], config["learning_rate"]) == (tracked.good.key, 0.001)
    assert config["_Group"] == "followed"
    losses = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
    assert losses == {1: 2.0, 2: 1.0}
    assert rows[-1]["scores/world_choice/acc"] == 0.75
    bad = found[tracked.bad.folder][1]
    assert [row["train/loss"] for row in bad if "train/loss" in row] == [3.0]
    assert bad[-1]["status"] == "diverged"


TWO_GRIDS = """
from pathlib import Path
from sweep.gridfile.keys.trackers import Trackio
from sweep.tracking.trackio_run import TrackioRun
for grid in ("one", "other", "other"):
    run = TrackioRun(Trackio(project="smoltulu"), Path(), grid, "base-key", {})
    run.log({"step": 1, "loss": 1.0})
    run.run.finish()
from trackio import Api
print(sorted(run.config["_Group"] for run in Api().runs("smoltulu")))
"""


def test_trackio_run_of_another_grid_is_left_alone(tmp_path):
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", TWO_GRIDS], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout.splitlines()[-1] == "['one', 'other']", run.stderr


STAND_IN = "Settings = dict\ndef init(**_):\n"
"""In the place of wandb, where W&B itself cannot be made to misbehave."""


@contextlib.contextmanager
def untouched(run: Run) -> Iterator[None]:
    def files() -> dict[str, int]:
        paths = [*run.path.glob("wandb/offline-run-*"), *run.path.glob("tensorboard/*")]
        return {path.name: path.stat().st_mtime_ns for path in paths}

    before = files()
    yield
    assert files() == before


def test_what_is_written_is_not_written_again(tracked):
    with untouched(tracked):
        subprocess.run(
            [sys.executable, "-m", "sweep.tracking", str(tracked.path)], cwd=ROOT, check=True
        )


@pytest.mark.slow
def test_new_attempt_replaces_the_old_run(tmp_path):
    """The first attempt dies without a word, the driver too; the second trains from the start."""
    run = Run(tmp_path / "followed")
    for losses in ([5.0, 4.0, 3.0], [2.0, 1.0]):
        run.start(run.good)
        run.steps(run.good, losses, mode="w")
        if losses == [2.0, 1.0]:
            run.end(run.good)
        said, following = run.follow()
        with following:
            pass
        assert not said
        (folder,) = run.wandb_folders(run.good.key)
        found = records(folder)
        assert history(found, "train/loss") == dict(enumerate(losses, 1))
        assert run.events(run.good)["train/loss"] == dict(enumerate(losses, 1))
        assert summary(found)["status"] == ("ok" if losses == [2.0, 1.0] else "interrupted")


def test_tracker_that_fails_is_named_and_the_other_goes_on(tmp_path):
    run = Run(tmp_path / "followed")
    (tmp_path / "wandb.py").write_text(f"{STAND_IN}    raise OSError('no server')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        run.start(run.good)
        run.steps(run.good, [1.0])
        run.end(run.good)
        said, following = run.follow()
        with following:
            pass
    assert "no server" in said[0]
    assert f"python -m sweep.tracking {run.path}" in said[0]
    assert run.events(run.good)["train/loss"] == {1: 1.0}
    subprocess.run([sys.executable, "-m", "sweep.tracking", str(run.path)], cwd=ROOT, check=True)
    assert len(run.wandb_folders(run.good.key)) == 1, "the advice does not help"


@pytest.mark.slow
def test_tracker_that_hangs_is_given_up(tmp_path, monkeypatch):
    run = Run(tmp_path / "followed")
    (tmp_path / "wandb.py").write_text(f"{STAND_IN}    __import__('time').sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 4.0)
    run.start(run.good)
    run.end(run.good)
    said, following = run.follow()
    with following:
        pass
    assert "so it was stopped" in said[0]


@pytest.mark.parametrize(
    ("wandb", "problem"),
    [
        (
            "{project: p, api_key: abc}",
            "tracking.wandb.api_key: unknown key; use one of entity, mode",
        ),
        ("{mode: offline}", "tracking.wandb.project: is missing"),
        ("{project: p, mode: live}", "tracking.wandb.mode: 'live'"),
    ],
)
def test_wrong_settings_are_refused(load, small, wandb, problem):
    with pytest.raises(GridError, match=problem):
        load(small + f"tracking: {{wandb: {wandb}}}\n")


WATCHED = """
import runpy, sys
sys.argv = ["sweep.run", *sys.argv[1:]]
try:
    runpy.run_module("sweep.run", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print("TRL", "trl" in sys.modules)
print("TRACKERS", *sorted({"wandb", "tensorboard", "tensorboardX"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_without_a_tracker_none_is_imported(grid_file, small, tmp_path):
    """A whole run that trains; TRL alone would import wandb."""
    text = small.replace("[0.001, 0.002]", "[0.001]").replace("steps: 3", "steps: 1")
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, grid_file(text), "--local", "--runs", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "TRL True" in run.stdout
    assert "TRACKERS\n" in run.stdout
    assert not list(tmp_path.glob("*/tracking.log"))
