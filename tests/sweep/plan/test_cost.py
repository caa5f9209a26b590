"""What a plan will take, stated or measured."""

import json

import pytest

from sweep.plan import cost, trials
from sweep.plan.cost import BenchmarkSpeed, Calibration, StageSpeed

PARAMETERS = 967_104
"""Of the tiny model."""


@pytest.fixture
def priced(load):
    """The planned trials of a grid with their prices, by (stage, learning rate)."""

    def of(text, *overrides, measured=None):
        grid = load(text, *overrides)
        planned = trials.trials(grid)
        return grid, planned, [cost.price(grid, trial, measured) for trial in planned]

    return of


def measured(at_once: int = 2) -> Calibration:
    return Calibration(
        device="cpu",
        at_once=at_once,
        start_seconds=10.0,
        trial_seconds=1.0,
        stages={
            name: StageSpeed(tokens_per_example=30, seconds_per_step=0.1, seconds_per_token=0.01)
            for name in ("first", "second", "sft")
        },
        benchmarks={"world_choice": BenchmarkSpeed(seconds=1.0, seconds_per_item=0.5, items=8)},
    )


def test_training_takes_six_flops_per_parameter_and_token(priced, small):
    _, _, (base, cell, _) = priced(small, "price.tokens_per_example=30")
    assert cell.tokens == 3 * 4 * 30
    assert cell.train_flops == 6 * PARAMETERS * 360
    assert cell.eval_flops == 2 * PARAMETERS * 8 * 91
    assert (base.tokens, base.train_flops) == (0, 0)


@pytest.mark.parametrize(
    "stated",
    [
        ["price.tokens_per_second=100"],
        ["price.utilisation=0.5", f"price.device_flops={6 * PARAMETERS * 200}"],
    ],
)
def test_hours_follow_from_a_stated_speed(stated, priced, small):
    _, _, (_, cell, _) = priced(small, "price.tokens_per_example=30", *stated)
    assert cell.train_hours == pytest.approx(360 / 100 / 3600)


def test_without_a_speed_hours_are_unknown_and_not_nought(priced, small):
    grid, planned, prices = priced(small)
    assert prices[1].tokens is None
    assert cost.total(prices).hours is None
    assert cost.wall_hours(grid, planned, prices, None) is None


def test_measured_speed_goes_before_the_stated_one(priced, small):
    _, _, (_, cell, _) = priced(small, "price.tokens_per_second=1", measured=measured())
    assert cell.train_hours == pytest.approx((3 * 0.1 + 360 * 0.01 + 1.0) / 3600)
    assert cell.eval_hours == pytest.approx((1.0 + 0.5 * 8) / 3600)


def test_children_wait_for_their_parent_in_the_wall_time(priced, chain):
    grid, planned, prices = priced(chain, "evaluate.benchmarks=[world_choice]", measured=measured())
    _, first, *seconds = prices
    wall = cost.wall_hours(grid, planned, prices, measured())
    ends = [10 / 3600 + first.hours, 10 / 3600 + first.train_hours + seconds[0].hours]
    assert wall == pytest.approx(min(ends) + seconds[1].hours)


def test_calibration_is_measured_kept_and_read_by_the_next_plan(
    command, grid_file, small, tmp_path
):
    from sweep.execution import calibrate

    file = grid_file(small)
    ended = command(file, "--calibrate", "--runs", tmp_path / "runs")
    assert ended.returncode == 0, ended.stderr
    assert "wall time" in ended.stdout
    found = calibrate.read(tmp_path / "runs" / "small")
    assert found is not None
    assert 10 < found.stages["sft"].tokens_per_example < 100
    assert found.stages["sft"].seconds_per_step + found.stages["sft"].seconds_per_token > 0
    assert found.benchmarks["world_choice"].items == 8
    again = command(file, "--dry-run", "--runs", tmp_path / "runs")
    assert again.stdout.splitlines()[-1] == ended.stdout.splitlines()[-1]
    names = {path.name for path in (tmp_path / "runs" / "small").iterdir()}
    assert names == {"calibration.json"}, "nothing is trained and kept"
    json.loads((tmp_path / "runs" / "small" / "calibration.json").read_text())
