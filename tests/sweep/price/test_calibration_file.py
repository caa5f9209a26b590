"""What was measured before counts as far as it says something of the grid of now."""

import json

import pytest

from sweep.execution.calibration import train_speed
from sweep.plan import trials
from sweep.price import calibration, calibration_file, cost
from tests.sweep.price.measuring import measured
from trainers import files


def test_measurement_of_another_model_or_limit_is_told_and_left_out(load, small, tmp_path):
    grid, told = load(small), list[str]()
    as_it_is = {"limit": 8}
    for update, why in (
        (as_it_is, ""),
        (
            {"model": None, "limit": None, "setting": None},
            "measured by an earlier version, so it does not count",
        ),
        (as_it_is | {"setting": None}, "measured by an earlier version, so it does not count"),
        (as_it_is | {"limit": None, "setting": "x"}, "on tiny with no evaluate.limit"),
        (
            as_it_is | {"model": grid.model.model_copy(update={"name": "large"}), "setting": "x"},
            "on large with 8",
        ),
    ):
        record = measured(grid).model_copy(update=update)
        files.write_json(tmp_path / "calibration.json", record.model_dump())
        found = calibration_file.read(tmp_path / "calibration.json", grid, told.append)
        assert found == (None if why else record)
        assert why in "".join(told[-1:])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stages.sft.grid.learning_rate=[0.5]", ""),
        ("stages.sft.grid.batch_size=[4,8]", ""),
        ("stages.sft.steps=5", ""),
        ("stages.sft.seed=7", ""),
        ("stages.sft.data.examples=30", ""),
        ("evaluate.benchmarks=[world_choice, world_arithmetic]", ""),
        ("stages.sft.max_length=64", "settings of sft"),
        ("stages.sft.data.name=world:pretrain", "settings of sft"),
        ("stages.sft.dtype=bfloat16", "settings of sft"),
        ("stages.sft.adapter={rank: 4}", "settings of sft"),
        ("resources.gpus_per_trial=0.5", "without a GPU, and trials ask for one"),
        ("resources.cpus_per_trial=2", "other resources"),
        ("resources={cpus_per_trial: 2, ranks_per_trial: 2, sharding: full}", "sft divide it"),
        ("evaluate.backend=vllm", "settings of `evaluate`"),
    ],
)
def test_measurement_of_other_settings_does_not_count(load, small, tmp_path, override, told):
    grid, lines = load(small), list[str]()
    files.write_json(tmp_path / "calibration.json", measured(grid).model_dump())
    found = calibration_file.read(
        tmp_path / "calibration.json", load(small, override), lines.append
    )
    kept = [] if found is None else [*found.stages, *found.benchmarks]
    assert told in "".join(lines) and bool(lines) == bool(told)
    assert kept == (
        {"": ["sft", "world_choice"], "settings of sft": ["world_choice"]}.get(told, [])
    )


ON_GPU = "resources.gpus_per_trial=0.5"


@pytest.mark.parametrize(
    ("update", "told"),
    [
        ({"device": "cuda"}, ""),
        ({}, "without a GPU, and trials ask for one, so it does not count"),
        ({"device": "cuda", "version": 1}, "by an earlier version, so it does not count"),
    ],
)
def test_trials_on_gpus_are_priced_by_what_a_gpu_took(load, small, tmp_path, update, told):
    grid, lines = load(small, ON_GPU), list[str]()
    path = tmp_path / "calibration.json"
    files.write_json(path, measured(grid).model_copy(update=update).model_dump())
    found = calibration_file.read(path, grid, lines.append)
    assert (found is None) == bool(told) == bool(lines)
    assert told in "".join(lines)


ARMS = "stages.sft.arms=[{name: full}, {name: lora, set: {adapter: {rank: 4}}}]"


def test_what_was_measured_of_one_arm_says_nothing_of_the_other(load, small, tmp_path):
    """As records of earlier versions are, which had the first cell of a stage alone."""
    grid, lines = load(small, ARMS), list[str]()
    record = measured(grid)
    assert list(record.stages) == ["sft / full", "sft / lora"]
    record = record.model_copy(update={"stages": {"sft": record.stages["sft / full"]}})
    path = tmp_path / "calibration.json"
    files.write_json(path, record.model_dump())
    found = calibration_file.read(path, grid, lines.append)
    assert found is not None and "settings of sft / lora, so" in lines[0]
    known = {
        trial.arm: cost.price(grid, trial, found).train_hours is not None
        for trial in trials.trials(grid)
        if trial.spec is not None
    }
    assert known == {"full": True, "lora": False}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["stages.sft.grid.batch_size=[4, 8]", "stages.sft.grid.weight_decay=[0, 0.1]"], ["sft"]),
        (["stages.sft.grid.dtype=[auto, float32]"], ["sft / dtype=auto", "sft / dtype=float32"]),
        (["stages.sft.arms=[{name: a}, {name: b, set: {weight_decay: 0.1}}]"], ["sft"]),
    ],
)
def test_each_training_of_another_speed_is_measured_once(load, small, overrides, words):
    grid = load(small, *overrides)
    found = calibration.trainings(grid).values()
    assert [training.words for training in found] == words
    cells = [cell for training in found for cell in training.cells]
    assert sorted(number for _, number in cells) == [*range(len(grid.stages["sft"].cells))]
    slices = [train_speed.slice_of(grid, training) for training in found]
    sizes = grid.stages["sft"].axes["batch_size"]
    assert all(part.batch_sizes == sizes for part in slices)


@pytest.mark.slow
def test_calibration_is_measured_kept_and_read_by_the_next_plan(
    command, grid_file, load, small, tmp_path
):
    file = grid_file(small)
    ended = command(file, "--calibrate", "--runs", tmp_path / "runs")
    assert ended.returncode == 0, ended.stderr
    assert "wall time" in ended.stdout
    found = calibration_file.read(
        tmp_path / "runs" / "small" / "calibration.json", load(small), pytest.fail
    )
    assert found is not None
    assert 10 < found.stages["sft"].tokens_per_example < 100
    assert found.stages["sft"].seconds_per_step + found.stages["sft"].seconds_per_token > 0
    assert found.benchmarks["world_choice"].items == 8
    again = command(file, "--dry-run", "--runs", tmp_path / "runs")
    assert again.stdout.splitlines()[-1] == ended.stdout.splitlines()[-1]
    names = {path.name for path in (tmp_path / "runs" / "small").iterdir()}
    assert names == {"calibration.json"}, "nothing is trained and kept"
    json.loads((tmp_path / "runs" / "small" / "calibration.json").read_text())
