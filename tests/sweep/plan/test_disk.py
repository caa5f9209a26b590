"""What a plan says of disk, against counts by hand."""

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest

from sweep.plan import trials as plan
from sweep.plan import widen
from sweep.plan.disk import CHECKPOINTS, disk, full, running_at_once

ONE = 4 * 967_104
"""Bytes of the tiny model's weights."""


def of(load, text, *overrides):
    grid = load(text, "resources.max_concurrent=1", *overrides)
    return disk(grid, plan.trials(grid))


CHECKPOINT = CHECKPOINTS * 3 * ONE  # weights and two moments


@pytest.mark.parametrize(
    ("keep", "kept", "peak"),
    [("all", 2, 2), ("best", 1, 2), ("none", 0, 1)],
    ids=lambda value: str(value),
)
def test_weights_that_stay_and_weights_at_one_time(load, small, keep, kept, peak):
    found = of(load, small, f"stages.sft.keep={keep}")
    assert found == (kept * ONE, peak * ONE + CHECKPOINT)


def test_best_holds_one_model_of_each_cell_while_seeds_are_to_come(load, small):
    found = of(load, small, "stages.sft.keep=best", "stages.sft.grid.seed=[0, 1, 2]")
    assert found == (ONE, (2 + 1) * ONE + CHECKPOINT)


def test_best_holds_all_models_until_a_run_has_decided(load, small):
    rates = "stages.sft.grid.learning_rate=[0.001, 0.002, 0.004]"
    found = of(load, small, "stages.sft.keep=best", rates, "decide={trials: 9}")
    assert found == (ONE, 3 * ONE + CHECKPOINT)


def test_what_decides_may_run_more_than_the_cells_of_its_file(load, small):
    rates = "stages.sft.grid.learning_rate=[0.001, 0.002, 0.004]"
    grid = load(small, rates, "decide={trials: 20}", "resources.max_concurrent=1")
    planned = widen.at_most(grid, widen.every(grid, plan.trials(grid)))
    assert disk(grid, planned).kept == 20 * ONE
    alone = load(small)
    assert widen.every(alone, plan.trials(alone)) == plan.trials(alone)


def test_parents_are_there_until_their_children_are_trained(load, chain):
    """One parent, whose weights do not stay, and two children, whose weights do."""
    found = of(load, chain, "stages.first.keep=none")
    assert found == (2 * ONE, 3 * ONE + CHECKPOINT)


def test_checkpoints_are_those_of_the_trials_that_run_at_once(load, small):
    grid = load(small, "resources.max_concurrent=2", "stages.sft.keep=none")
    assert disk(grid, plan.trials(grid)).peak == 2 * ONE + 2 * CHECKPOINT


def test_an_adapter_is_kept_and_checkpointed_alone(load, small):
    """Weights of A and B at rank 8, in both layers of the tiny model."""
    adapter = 4 * 2 * 8 * (4 * 2 * 192 + 3 * (192 + 512))
    found = of(load, small, "stages.sft.adapter={rank: 8}")
    assert found == (2 * adapter, 2 * adapter + CHECKPOINTS * 3 * adapter)
    found = of(load, small, "stages.sft.adapter={rank: 8}", "stages.sft.optimizer=sgd")
    assert found == (2 * adapter, 2 * adapter + CHECKPOINTS * 2 * adapter)


def test_an_adapter_on_a_parent_is_merged_and_kept_whole(load, chain):
    found = of(load, chain, "stages.second.adapter={rank: 8}", "stages.first.keep=none")
    assert found.kept == 2 * ONE


def test_trials_at_once_as_far_as_the_grid_says(load, small):
    def resources(*overrides):
        return running_at_once(load(small, *overrides).resources)

    assert resources("resources.max_concurrent=3") == 3
    assert resources("resources.gpus_per_trial=0.5") == 2
    assert resources("resources.gpus_per_trial=0.2") == 5
    assert resources("resources.gpus_per_trial=1") == 1
    assert resources("resources.gpus_per_trial=2") == 1
    assert resources("resources.cpus_per_trial=1000") == 1


@pytest.mark.parametrize(("gpus", "at_once"), [(1, 2), (2, 4), (8, 16)])
def test_trials_of_all_gpus_have_checkpoints(load, small, gpus, at_once, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
    grid = load(
        small,
        "resources.gpus_per_trial=0.5",
        "stages.sft.keep=none",
        f"stages.sft.grid.seed={list(range(10))}",
    )
    planned = plan.trials(grid)
    assert running_at_once(grid.resources) == at_once
    assert disk(grid, planned).peak == at_once * (ONE + CHECKPOINT)
    assert disk(grid, planned, at_once=3).peak == 3 * (ONE + CHECKPOINT), "a cluster was asked"


def test_unknown_model_takes_unknown_disk(load, small):
    assert of(load, small, "model=a/b") == (None, None)


def size(folder: Path) -> int:
    """Bytes of all files; one that goes while it is looked at is none."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found += os.stat(os.path.join(place, name)).st_size
    return found


def test_weights_of_a_run_take_what_its_plan_says(load, chain, chain_run):
    """But for the diverged cell, which has none."""
    grid = load(chain)
    trials = [one for one in plan.trials(grid) if one.spec and one.spec.learning_rate < 1]
    stated = disk(grid, trials).kept
    real = sum(size(folder) for folder in chain_run.path.glob("trials/*/model"))
    assert stated == pytest.approx(real, rel=0.2)


@pytest.mark.slow
def test_a_run_takes_at_most_what_its_plan_says_and_not_much_less(load, drive, small, tmp_path):
    """Looked at all the time, while every step leaves a checkpoint."""
    settings = "steps: 12\n    save_every_steps: 1\n    keep: none"
    text = small.replace("steps: 3", settings).replace("cpus_per_trial: 1", "max_concurrent: 1")
    grid, ended, sizes = load(text), threading.Event(), [0]

    def look() -> None:
        while not ended.is_set():
            sizes.append(size(tmp_path / "run" / "trials"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        assert drive(text, tmp_path / "run").code == 0
    finally:
        ended.set()
        looking.join()
    stated = disk(grid, plan.trials(grid)).peak
    assert stated is not None
    assert 0.8 * stated <= max(sizes) <= 1.05 * stated


def test_full_disk_is_told_from_other_errors_and_found_among_those_it_led_to():
    cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a file")
    assert full(cause) is cause
    assert full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert full(FileNotFoundError(errno.ENOENT, "no such file")) is None
    assert full(None) is None
    try:
        try:
            raise cause
        except OSError as error:
            raise RuntimeError("inconsistent stream") from error
    except RuntimeError as error:
        assert full(error) is cause
