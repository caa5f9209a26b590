"""What Ray's dashboard and Prometheus say of a run while it goes on, asked by Ray's state API."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sweep.execution.backends.ray_metrics import NAMES, STATES

ROOT = Path(__file__).parents[4]
BOARD = ROOT / "docs" / "launch" / "grafana.json"

GRID = """\
name: story
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 400}
    steps: 3000
    max_length: 128
    heldout: 8
    grid: {learning_rate: [0.001], batch_size: [4, 8]}
evaluate: {benchmarks: [], limit: 8}
resources: {cpus_per_trial: 1, max_concurrent: 2}
"""

ASK = """
import json, sys
from ray.util.state import list_actors, list_jobs, list_tasks
address = sys.argv[1]
print(json.dumps({
    "actors": [[one.class_name, one.name] for one in list_actors(address=address, detail=True)],
    "tasks": [one.name for one in list_tasks(address=address, detail=True)],
    "jobs": [one.metadata for one in list_jobs(address=address, detail=True)],
}))
"""


class Story(NamedTuple):
    state: dict[str, Any]
    metrics: str


def until(true: Callable[[], Any], process: subprocess.Popen, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        assert process.poll() is None, "it ended"
        time.sleep(0.5)
    raise AssertionError("it did not happen in time")


def exported(folder: Path) -> str:
    """What Prometheus would read of every process of this Ray."""
    targets = json.loads((folder / "ray" / "prom_metrics_service_discovery.json").read_text())
    texts = []
    for target in targets[0]["targets"]:
        try:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
                texts.append(answer.read().decode())
        except OSError:  # the target of a part that exports nothing here
            continue
    return "\n".join(texts)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Of a run in the middle of its trainings, under each of which two are at work."""
    with tempfile.TemporaryDirectory(prefix="story", dir="/tmp") as place:  # sockets: short paths
        folder = Path(place)
        (folder / "grid.yaml").write_text(GRID)
        environment = os.environ | {"RAY_TMPDIR": place, "RAY_AUTH_MODE": "token"}
        log = folder / "log"
        command = [sys.executable, "-m", "sweep.run", str(folder / "grid.yaml"), "--runs", place]
        with open(log, "w") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        try:
            dashboard = until(lambda: re.search(r"Ray dashboard: (\S+)", log.read_text()), process)[
                1
            ]
            until(lambda: exported(folder).count("ray_sweep_loss{") >= 2, process)
            asked = subprocess.run(
                [sys.executable, "-c", ASK, dashboard],
                env=environment,
                capture_output=True,
                text=True,
            )
            assert asked.returncode == 0, asked.stderr
            yield Story(json.loads(asked.stdout.splitlines()[-1]), exported(folder))
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.slow
def test_actors_tasks_and_job_have_names(story):
    assert {tuple(one) for one in story.state["actors"]} == {
        ("SweepTrial", "worker 1"),
        ("SweepTrial", "worker 2"),
    }
    assert {"sft lr 0.001 bs 4 seed 0", "sft lr 0.001 bs 8 seed 0"} <= set(story.state["tasks"])
    assert {"name": "story"} in story.state["jobs"]


@pytest.mark.slow
def test_every_metric_is_exported(story):
    for name in NAMES:
        assert f"ray_{name}{{" in story.metrics
    rows = re.findall(r'ray_sweep_trials\{.*state="(\w+)".*\} (\S+)', story.metrics)
    counts = {state: float(count) for state, count in rows}
    assert set(counts) == set(STATES)
    assert counts["running"] == 2
    loss = re.findall(r'ray_sweep_loss\{.*trial="(\S+?)".*\} (\S+)', story.metrics)
    assert {trial.rpartition("-")[0] for trial, _ in loss} == {
        "sft-lr1.00e-03-bs4-seed0",
        "sft-lr1.00e-03-bs8-seed0",
    }
    assert all(0 < float(value) < 20 for _, value in loss)


def test_grafana_board_asks_for_what_is_exported():
    board = json.loads(BOARD.read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\bray_(\w+)", target["expr"])
    }
    assert asked == set(NAMES)
    assert all(panel["title"] and panel["gridPos"] for panel in board["panels"])
