"""Each measurement of `python -m tests.gpu` on a CPU, with the tiny model."""

import os
import subprocess
import sys

import pytest

from tests.gpu import setting
from tests.gpu.__main__ import measure, measurements, table
from tests.gpu.setting import ROOT

EXPECTED = {
    "kernels": {"longest", "attention", "launches_per_step"},
    "packed against alone": {"largest_difference", "mean_loss"},
    "losses against the CPU": {"float32", "auto", "cpu"},
    "training speed": {"batch 2", "batch 4"},
    "evaluation": {"model_class", "world_choice"},
    "decoding": {"tokens_per_second", "slots"},
    "two halves of a GPU": {"alone", "both", "gain"},
    "memory after each trial": {"held"},
    "out of memory": {"budgets_too_large"},
    "resume": {"difference"},
}


def test_every_measurement_is_tested():
    assert measurements().keys() == EXPECTED.keys()


SLOW = {"two halves of a GPU": pytest.mark.slow}
"""Three processes of their own."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW.get(name, ())) for name in EXPECTED]
)
def test_measurement_runs_and_holds_what_it_checks(name):
    results = measure(setting.small(), {name: measurements()[name]}, 1000)
    result = results[name]
    assert "failed" not in result, result
    assert EXPECTED[name] <= result.keys()
    assert result.get("ok", True), result
    assert f"| {name} |" in table({"GPU": "none"}, results)


def test_time_that_is_over_leaves_measurements_out():
    assert "left_out" in measure(setting.small(), {"kernels": None}, -1)["kernels"]


def test_a_measurement_that_fails_is_told_and_the_next_one_runs():
    def fails(*_):
        raise ValueError("no")

    results = measure(setting.small(), {"first": fails, "second": lambda *_: {"x": 1}}, 100)
    assert results["first"]["ok"] is False
    assert results["second"]["x"] == 1


def test_without_a_gpu_the_command_says_so_and_ends_well(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "tests.gpu", "--out", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "no GPU is visible here" in ended.stdout
    assert not list(tmp_path.iterdir())
