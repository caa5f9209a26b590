"""Trials on a real Ray: workers, retries, interruptions, and requests that no node can meet."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.faults.runs import TIMES, wait_until

ROOT = Path(__file__).parents[4]

GRID = """\
name: ray
model: tiny
stages:
  first:
    kind: sft
    data: {name: world:sft, examples: 40}
    learning_rate: 0.001
    batch_size: 4
    steps: 5
    heldout: 8
    max_length: 128
  second:
    kind: sft
    start_from: first
    data: {name: world:sft, examples: 40}
    steps: 20
    heldout: 8
    max_length: 128
    grid:
      learning_rate: [0.001, 0.002]
      batch_size: [2, 4]
evaluate: {benchmarks: [world_choice], limit: 8, batch_size: 8}
resources: {cpus_per_trial: 1, max_concurrent: 2}
"""
"""Six models: base, first, and four that start from it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cluster")
    (path / "grid.yaml").write_text(GRID)
    return path


def arguments(folder: Path, runs: str, *options: str) -> list[str]:
    command = [sys.executable, "-m", "sweep.run", str(folder / "grid.yaml")]
    return [*command, "--runs", str(folder / runs), *options]


def run(
    folder: Path, runs: str, *options: str, seconds: float = 200
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(folder, runs, *options),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def start(folder: Path, runs: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments(folder, runs, *options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def attempts(run_folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Events of each trial, by its folder's name."""
    return {
        file.parent.name: [json.loads(line) for line in file.read_text().splitlines()]
        for file in run_folder.glob("trials/*/attempts.jsonl")
    }


def table(run_folder: Path) -> pd.DataFrame:
    return pd.read_csv(run_folder / "results.csv").drop(columns=TIMES)


def training(run_folder: Path) -> Iterator[Path]:
    """Folders of second-stage trials that are in the middle of their training."""
    for metrics in run_folder.glob("trials/second-*/metrics.jsonl"):
        if metrics.stat().st_size and not (metrics.parent / "train.json").exists():
            yield metrics.parent


@pytest.fixture(scope="module")
def uninterrupted(folder) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The grid on Ray from beginning to end; only to be read."""
    return run(folder, "whole"), folder / "whole" / "ray"


def test_grid_runs_on_ray(uninterrupted):
    ended, path = uninterrupted
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "6 ok" in ended.stdout
    assert "Ray dashboard: http://" in ended.stdout
    assert "trials at once: 2" in ended.stdout
    assert len(attempts(path)) == 6
    assert set(table(path).status) == {"ok"}


def test_workers_are_used_again(uninterrupted):
    events = [event for trial in attempts(uninterrupted[1]).values() for event in trial]
    pids = {event["pid"] for event in events}
    assert len(pids) <= 2
    assert os.getpid() not in pids


def test_each_trial_is_started_once_and_after_its_parents_training(uninterrupted):
    """A child need not wait until its parent has been scored."""
    trials = attempts(uninterrupted[1])
    assert all([e["event"] for e in events] == ["started", "done"] for events in trials.values())
    (trained,) = (uninterrupted[1] / "trials").glob("first*/train.json")
    ended = datetime.fromtimestamp(int(trained.stat().st_mtime), UTC)
    for name, events in trials.items():
        if name.startswith("second"):
            assert datetime.fromisoformat(events[0]["time"]) >= ended


def test_ray_gives_the_table_that_one_process_gives(uninterrupted, drive, tmp_path):
    alone = drive(GRID, tmp_path / "ray")
    assert alone.code == 0
    pd.testing.assert_frame_equal(table(alone.path), table(uninterrupted[1]))


def test_ray_leaves_no_scratch_in_the_run_folder(uninterrupted):
    assert {path.name for path in uninterrupted[1].iterdir()} == {
        "cost.json", "data", "driver.lock", "driver.log", "events.jsonl", "grid.yaml",
        "manifest.json", "plan.csv", "report",
        "results.csv", "results.parquet", "trials",
    }  # fmt: skip


def test_same_command_again_runs_nothing(uninterrupted, folder):
    _, path = uninterrupted
    before = attempts(path)
    results = (path / "results.csv").read_bytes()
    again = run(folder, "whole")
    assert again.returncode == 0
    assert "6 of 6 models done, 0 to go" in again.stdout
    assert "Ray" not in again.stdout, "Ray need not even start"
    assert attempts(path) == before
    assert (path / "results.csv").read_bytes() == results


def test_request_that_no_node_can_meet_ends_at_once(folder):
    started = time.monotonic()
    ended = run(folder, "too-much", "--set", "resources.gpus_per_trial=1")
    assert time.monotonic() - started < 45, "it would stay pending for ever"
    assert ended.returncode == 4
    assert "no node has as much" in ended.stderr
    assert "1 GPUs" in ended.stderr
    assert not (folder / "too-much").exists(), "it is known before anything is written"


@pytest.mark.slow
def test_request_of_what_is_done_is_no_request(uninterrupted, folder):
    """A run of a large cluster gets its report anew on a small machine."""
    again = run(folder, "whole", "--set", "resources.gpus_per_trial=1")
    assert again.returncode == 0, again.stderr
    assert "6 of 6 models done, 0 to go" in again.stdout


def test_cluster_that_is_not_there_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")  # long dead
    ended = run(folder, "nowhere", "--address", "auto")
    assert ended.returncode == 4
    assert "--address auto" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_address_that_does_not_answer_ends_within_a_minute_or_two(folder):
    ended = run(folder, "silent", "--address", "127.0.0.1:1", seconds=120)
    assert ended.returncode == 4
    assert "127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_killed_worker_is_replaced_and_its_trial_tried_again(folder, uninterrupted):
    process = start(folder, "killed", "--set", "stages.second.steps=60")
    path = folder / "killed" / "ray"
    victim = wait_until(lambda: next(training(path), None), process)
    pid = attempts(path)[victim.name][-1]["pid"]
    os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    events = attempts(path)[victim.name]
    assert [event["event"] for event in events if event["event"] != "failed"] == [
        "started", "started", "done",
    ]  # fmt: skip
    assert events[-1]["pid"] != pid
    assert set(table(path).status) == {"ok"}


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_run_goes_on_to_the_same_table(sent, folder, uninterrupted):
    runs = f"stopped-{sent.name}"
    process = start(folder, runs)
    path = folder / runs / "ray"
    wait_until(lambda: list(path.glob("trials/first-*/train.json")), process)
    wait_until(lambda: next(training(path), None), process)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=60)
    wait_until_gone(path)
    if sent is not signal.SIGKILL:
        assert process.returncode == 130, output
        assert "the same command continues from here" in output
    done = {path.parent for path in path.glob("trials/*/train.json")}
    before = {folder: (folder / "train.json").stat().st_mtime_ns for folder in done}
    assert 1 <= len(done) < 6

    again = run(folder, runs)
    assert again.returncode == 0, again.stdout + again.stderr
    after = {folder: (folder / "train.json").stat().st_mtime_ns for folder in done}
    assert after == before, "what was trained is not trained again"
    pd.testing.assert_frame_equal(table(path), table(uninterrupted[1]))


def wait_until_gone(path: Path, seconds: float = 60) -> None:
    """No worker outlives its driver by more than a moment."""
    pids = {event["pid"] for events in attempts(path).values() for event in events}
    end = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end, "a worker outlives its driver"
        time.sleep(0.2)
