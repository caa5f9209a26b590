"""What a run has cost, from records written by hand and by a real run."""

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweep import status
from sweep.page.view import View
from sweep.schedule import spending
from sweep.schedule.spending import Spending
from sweep.storage.run_folder import RunFolder

GRID = """\
price: {gpu_hour: 2.5, cpu_hour: 0.1}
resources: {gpus_per_trial: 0.5, cpus_per_trial: 2}
stages: {sft: {}, dpo: {resources: {gpus_per_trial: 2}}}
"""

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def write(run: Path, name: str, stage: str, events: list[tuple[str, float, dict]]) -> None:
    """Attempts of a trial: (event, hours after noon, facts)."""
    folder = run / "trials" / name
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"stage": stage}))
    lines = [
        json.dumps({"event": event, "time": (NOON + timedelta(hours=at)).isoformat(), **facts})
        for event, at, facts in events
    ]
    (folder / "attempts.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def run(tmp_path) -> Path:
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def test_each_attempt_costs_what_its_stage_holds(run):
    write(run, "a", "sft", [("started", 0, {}), ("done", 2, {"seconds": 7200.0})])
    write(run, "b", "dpo", [("started", 0, {}), ("failed", 1, {}), ("started", 1, {}),
                            ("done", 2, {"seconds": 3600.0})])  # fmt: skip
    spent = spending.so_far(run)
    assert spent.gpu_hours == pytest.approx(2 * 0.5 + 2 * 2)
    assert spent.cpu_hours == pytest.approx(4 * 2)
    assert spent.cost == pytest.approx(5 * 2.5 + 8 * 0.1)
    assert spent.words == "13.30 USD (5.00 GPU hours)"


def test_screening_runs_cost_what_their_stage_holds(run):
    """They are a stage of the manifest, and none of the grid file."""
    stages = {"dpo_screening": {"resources": {"gpus": 2, "cpus": 2}, "screens": "dpo"}}
    (run / "manifest.json").write_text(json.dumps({"stages": stages}))
    write(run, "a", "dpo_screening", [("started", 0, {}), ("done", 1, {"seconds": 3600.0})])
    assert spending.so_far(run).gpu_hours == pytest.approx(2)


def test_trials_in_one_pass_share_its_cost_until_it_is_over(run):
    both = [("started", 0, {"lanes": 2}), ("trained", 2, {"seconds": 7200.0}), ("started", 5, {}),
            ("done", 6, {"seconds": 3600.0})]  # fmt: skip
    write(run, "a", "sft", both)
    write(run, "b", "sft", [both[0], ("done", 2, {"seconds": 7200.0})])
    assert spending.so_far(run).gpu_hours == pytest.approx((2 + 1) * 0.5)


def test_attempts_cost_what_they_held_whatever_the_grid_asks_for_now(run):
    holds = {"holds": {"gpus": 4, "cpus": 8}}
    write(run, "a", "sft", [("started", 0, holds), ("failed", 1, {}), ("started", 1, {}),
                            ("done", 2, {"seconds": 3600.0})])  # fmt: skip
    spent = spending.so_far(run)
    assert (spent.gpu_hours, spent.cpu_hours) == pytest.approx((4 + 0.5, 8 + 2))


@pytest.mark.parametrize("before", ["", "price: {cpu_hour: 0.001, currency: EUR}\n"])
def test_earlier_starts_count_at_the_price_that_the_grid_has_now(before, load, small, tmp_path):
    folder = RunFolder(tmp_path / "run")
    write(folder.path, "a", "sft", [("started", 0, {}), ("done", 2, {"seconds": 7200.0})])
    (folder.path / "grid.yaml").write_text(before + "resources: {cpus_per_trial: 1}\n")
    grid = load(small + "price: {cpu_hour: 3.0}\nlimits: {max_cost: 5}\n")
    assert Spending(grid, folder).now() == pytest.approx(6.0)


def test_deleted_trials_and_those_trained_again_count(run):
    write(run, "a", "sft", [("started", 0, {}), ("done", 2, {"seconds": 7200.0})])
    write(run, "b", "sft", [("started", 0, {}), ("done", 1, {"seconds": 3600.0})])
    whole = spending.write(run)
    shutil.rmtree(run / "trials" / "a")
    for _ in range(2):
        assert spending.so_far(run) == spending.write(run) == whole
    write(run, "a", "sft", [("started", 5, {}), ("done", 10, {"seconds": 18000.0})])
    for _ in range(2):
        assert spending.so_far(run).gpu_hours == pytest.approx(0.5 * (2 + 1 + 5))
        spending.write(run)
    shutil.rmtree(run / "trials" / "b")
    assert spending.write(run).gpu_hours == pytest.approx(0.5 * (2 + 1 + 5))


def at(hours: float) -> float:
    return (NOON + timedelta(hours=hours)).timestamp()


@pytest.mark.parametrize("sign", [{"time": (NOON + timedelta(hours=3)).isoformat()}, None])
def test_an_attempt_without_an_end_lasted_until_its_last_sign(sign, run):
    """Whenever its records were copied here; of a sign that a crash cut off by the file's time."""
    write(run, "a", "sft", [("started", 0, {})])
    signs = run / "trials" / "a" / "signs.json"
    signs.write_text(json.dumps(sign) if sign else "")
    os.utime(signs, (at(12 if sign else 3),) * 2)
    assert spending.so_far(run).gpu_hours == pytest.approx(1.5)


@pytest.mark.parametrize("heard, hours", [
    ({"previous_sign": at(3)}, 3), ({"previous_sign": at(20)}, 12), ({"previous_sign": None}, 1),
    ({}, 12),
])  # fmt: skip
def test_time_between_two_starts_is_not_that_of_the_attempt_that_was_killed(heard, hours, run):
    """It was heard of until 3, if not later; events of earlier versions do not say when."""
    write(run, "a", "sft", [("started", 0, {}), ("refused", 1, {}), ("started", 12, heard),
                            ("done", 13, {"seconds": 3600.0})])  # fmt: skip
    assert spending.so_far(run).gpu_hours == pytest.approx((hours + 1) * 0.5)


def test_without_prices_hours_alone_are_told(run):
    (run / "grid.yaml").write_text("resources: {cpus_per_trial: 2}\n")
    write(run, "a", "base", [("started", 0, {}), ("done", 2, {"seconds": 7200.0})])
    spent = spending.so_far(run)
    assert (spent.cost, spent.words) == (None, "4.00 CPU hours")


PLAN = "key,stage,arm,learning_rate,batch_size,seed,steps,folder\na,dpo,,1e-5,8,0,10,a\n"


def test_page_counts_what_is_not_in_the_plan_too(run):
    """A reference pass, and a trial that an edited grid plans no more."""
    for name in ("a", "dpo-reference-1", "gone"):
        events = [("started", 0, {"holds": {"gpus": 2, "cpus": 2}}), ("done", 1, {})]
        write(run, name, "dpo", events)
    (run / "trials" / "dpo-reference-1" / "trial.json").rename(
        run / "trials" / "dpo-reference-1" / "reference_pass.json"
    )
    (run / "plan.csv").write_text(PLAN)
    words = spending.so_far(run).words
    assert words == "15.60 USD (6.00 GPU hours)"
    view = View(run)
    assert f"Cost so far: {words}" in (view.text(view.read(None), "", False) or "")


def test_attempts_that_are_over_are_read_again_where_one_more_was_made(run):
    attempts = spending.Attempts(run)
    write(run, "a", "sft", [("started", 0, {}), ("failed", 1, {})])
    assert attempts.seconds() == attempts.seconds() == (0.5 * 3600, 2 * 3600)
    path = run / "trials" / "a" / "attempts.jsonl"
    path.write_text(path.read_text() * 2)
    assert attempts.seconds() == (3600, 4 * 3600)


def test_run_stops_at_its_cost_and_says_so(small, drive, tmp_path):
    """The first model costs more than the limit; with a higher one the same command goes on."""
    run = tmp_path / "run"
    priced = small + "price: {cpu_hour: 1000}\n"
    ended = drive(priced + "limits: {max_cost: 0.0001}\n", run)
    assert ended.code == 5
    assert "cost so far: " in ended.output and "USD" in ended.output
    record = json.loads((run / "cost.json").read_text())
    assert record["cost"] == pytest.approx(1000 * record["cpu_hours"])
    assert 0.0001 <= record["cost"] < 10
    assert record["words"] in (run / "report" / "index.html").read_text()
    shown = CliRunner().invoke(status.app, [str(run)])
    assert f"Cost so far: {record['words']}" in shown.output
    assert drive(priced, run).code == 0
    assert spending.so_far(run).cost > record["cost"]
