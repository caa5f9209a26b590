"""Which GPUs trials see, on a Ray that believes in two of them and in one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.execution.backends import runner
from sweep.resolve.resolve import CannotStart

ROOT = Path(__file__).parents[4]

GRID = """\
name: assigned
model: tiny
stages:
  first:
    kind: sft
    data: {name: world:sft, examples: 24}
    learning_rate: 0.001
    batch_size: 4
    steps: 2
    heldout: 8
    max_length: 128
  second:
    kind: sft
    start_from: first
    data: {name: world:sft, examples: 24}
    steps: 2
    heldout: 8
    max_length: 128
    resources: {gpus_per_trial: 0.5}
    grid:
      learning_rate: [0.001, 0.002]
      batch_size: [2, 4]
evaluate: {benchmarks: [world_choice], limit: 4}
resources: {cpus_per_trial: 0.5}
"""

ON_TWO_GPUS = """
import functools, sys
from sweep.execution.backends import ray_cluster
ray_cluster.ray.init = functools.partial(ray_cluster.ray.init, num_gpus=2, num_cpus=2)
ray_cluster.compat_ray.this_machine = lambda: {"CPU": 2, "GPU": 2}
from sweep import run
run.app(sys.argv[1:])
"""
"""Ray hands out GPUs by number and does not look whether they are there."""


def seen(folder: Path, stage: str) -> list[tuple[str, ...]]:
    """What CUDA_VISIBLE_DEVICES left visible in each trial of a stage."""
    starts = [
        json.loads(path.read_text().splitlines()[0])
        for path in sorted(folder.glob(f"trials/{stage}-*/attempts.jsonl"))
    ]
    return [tuple(start["gpus"]) for start in starts]


@pytest.mark.slow
def test_on_ray_a_share_sees_one_gpu_and_a_trial_without_sees_none(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID)
    # The node has devices of its own to see, as a machine with GPUs does.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "0,1"}
    ended = subprocess.run(
        [sys.executable, "-c", ON_TWO_GPUS, str(file), "--runs", str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=880,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    run = tmp_path / "assigned"
    assert seen(run, "base") == [()]
    assert seen(run, "first") == [()]
    assert sorted(seen(run, "second")) == [("0",), ("0",), ("1",), ("1",)]


@pytest.mark.parametrize(
    ("asked", "visible"),
    [(0, []), *(pytest.param(asked, ["3"], marks=pytest.mark.slow) for asked in (0.5, 1))],
)
def test_in_one_process_trials_see_what_they_ask_for(asked, visible, drive, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    text = GRID.replace("gpus_per_trial: 0.5", f"gpus_per_trial: {asked}")
    text = text.replace("cpus_per_trial: 0.5", f"cpus_per_trial: 1, gpus_per_trial: {asked}")
    assert drive(text, tmp_path / "run", "--set", "stages.second.steps=1").code == 0
    starts = [*seen(tmp_path / "run", "base"), *seen(tmp_path / "run", "second")]
    assert set(starts) == {tuple(visible)}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_one_process_refuses_to_show_its_trials_different_numbers_of_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    runner._check_local({0.5, 1.0})
    runner._check_local({2.0})
    with pytest.raises(CannotStart, match="gpus_per_trial differs"):
        runner._check_local({1.0, 2.0})


@pytest.mark.parametrize(
    ("nodes", "gpus", "parts", "fits"),
    [
        ([{"CPU": 64, "GPU": 8}], 0.5, 1, 16),
        ([{"CPU": 32, "GPU": 8}], 0.5, 1, 8),
        ([{"CPU": 64, "GPU": 8}], 0.2, 1, 16),  # 40 by the GPUs alone
        ([{"CPU": 8, "GPU": 3}] * 4, 2, 1, 4),  # of the 12 GPUs no more: a trial is on one node
        ([{"CPU": 0}, {"CPU": 16, "GPU": 1}], 0.25, 1, 4),
        ([{"CPU": 16}], 1, 1, 0),
        ([{"CPU": 8, "GPU": 8}] * 2, 16, 2, 1),
        ([{"CPU": 64, "GPU": 16}], 16, 2, 0),  # one node has no two parts of a trial
        ([{"CPU": 8, "GPU": 8}, {"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}], 4, 2, 2),
        ([{"CPU": 99, "GPU": 8}, {"CPU": 8, "GPU": 1}], 2, 2, 1),  # the large one waits in part
    ],
)
def test_trials_that_a_cluster_holds_are_counted_node_by_node(nodes, gpus, parts, fits):
    from sweep.execution.backends import ray_cluster
    from sweep.gridfile.keys.resources import TrialResources

    asked = TrialResources(cpus_per_trial=4, gpus_per_trial=gpus, nodes_per_trial=parts)
    assert ray_cluster.fitting(asked, nodes) == fits
    assert ray_cluster._fits(asked, nodes) == (fits > 0)


def test_trial_that_no_nodes_hold_is_refused_in_words():
    from sweep.execution.backends import ray_cluster
    from sweep.gridfile.keys.resources import TrialResources

    asked = TrialResources(cpus_per_trial=4, gpus_per_trial=4, nodes_per_trial=2)
    with pytest.raises(ray_cluster.CannotRun) as refused:
        ray_cluster._check(asked, [{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 1}])
    assert str(refused.value) == (
        "resources: a trial asks for 2 CPUs and 2 GPUs on each of 2 nodes, and 1 of 2 have as much "
        "(nodes: 8 CPUs and 4 GPUs; 8 CPUs and 1 GPUs); lower resources.nodes_per_trial, "
        "cpus_per_trial or gpus_per_trial, or have a cluster that grows waited for with "
        "--wait MINUTES"
    )


@pytest.mark.parametrize(
    ("cores", "gpus", "share", "fits"),
    [(64, 8, 0.5, 16), (64, 1, 0.2, 5), (8, 2, 1, 2), (64, 1, 2, 1), (1, 0, 0, 1)],
)
def test_calibration_runs_as_many_as_trials_fit_here(cores, gpus, share, fits):
    from sweep.execution.calibration import calibrate
    from sweep.gridfile.keys.resources import Resources

    assert calibrate.fit_here(Resources(gpus_per_trial=share), cores, gpus) == fits
