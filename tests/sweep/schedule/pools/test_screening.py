"""A run that decides after screening runs: their order, what they change, how it goes on."""

import json
import math
import re

import pytest
import yaml

from analysis.report import build
from analysis.tables import load as results
from sweep.storage.status.reader import Reader
from tests.sweep.schedule.pools.deciding import DECIDE, Records, bowl, cells

GRID = DECIDE.replace("benchmarks: [world_choice]}", "fidelity: {share: 0.25}}").replace(
    "world_choice, world_continuation", "world_choice"
)


def displaced(trial) -> float:
    """Best at 0.03 rather than at 0.004."""
    rate = trial.spec.learning_rate
    return 0.6 - 0.03 * math.log2(rate / 0.03) ** 2


@pytest.fixture
def records(load, tmp_path):
    return lambda short=bowl, name="run": Records(load(GRID), tmp_path / name, short)


def of_stage(trials: list, stage: str) -> list:
    return [trial for trial in trials if trial.stage == stage]


def keys(trials: list) -> list[str]:
    return [trial.key for trial in trials]


def test_screening_runs_come_first_and_place_the_start(records):
    run = records()
    ran = run.run(run.queue(run.pool()), count=2 + 21 + 12)
    assert [trial.stage for trial in ran] == [
        "base",
        "before",
        *["sft_screening"] * 21,
        *["sft"] * 12,
    ]
    start = of_stage(ran, "sft")
    assert all("about the rates of 21 screening runs" in run.reasons[key] for key in keys(start))
    assert max(abs(math.log2(t.spec.learning_rate / 0.004)) for t in start) <= 2.5
    assert set(cells(start)) <= set(cells([t.model_copy(update={"stage": "sft"}) for t in ran]))
    assert "21 screening runs of 0.25 of the length put the best learning rate near" in run.told[0]


def test_no_full_run_begins_while_a_screening_run_runs(records):
    run = records()
    queue = run.queue(run.pool())
    run.run(queue, count=2)
    short = [queue.next() for _ in range(21)]
    assert {trial.stage for trial in short} == {"sft_screening"}
    assert queue.next() is None
    assert not queue.exhausted
    for trial in short:
        run.end(trial)
        queue.ended(trial.key)
    assert queue.next().stage == "sft"


def test_start_that_ranks_alike_goes_on_and_says_so(records):
    run = records()
    run.run(run.queue(run.pool()), count=2 + 21 + 18)
    assert "learning rates rank alike at 0.25 of the length and in full" in run.told[1]
    assert "of 12 cells by Held-out loss)" in run.told[1]
    assert len(run.told) == 2
    assert not any("spread over the grid" in reason for reason in run.reasons.values())


@pytest.mark.slow
def test_start_that_ranks_otherwise_is_spread_after_all(records):
    run = records(displaced)
    run.run(run.queue(run.pool()), count=2 + 21 + 24)
    assert "screening is refused" in run.told[1]
    assert len(run.told) == 2
    assert any("spread over the grid" in reason for reason in run.reasons.values())


def test_a_budget_that_ends_with_the_start_says_how_it_ranks(load, tmp_path):
    run = Records(load(re.sub("trials: [0-9]+", "trials: 12", GRID)), tmp_path / "run")
    pool = run.pool()
    ran = run.run(run.queue(pool))
    assert len(of_stage(ran, "sft")) == 12
    assert pool.verdict()
    assert "rank alike" in [*run.told, *pool.news()][-1]


@pytest.mark.slow
def test_interrupted_run_takes_the_same_decisions(records):
    whole = records(displaced, "whole")
    at_once = keys(whole.run(whole.queue(whole.pool()), count=2 + 21 + 12))
    parts = records(displaced, "parts")
    ran = []
    for count in (9, 14 + 5, 7):
        ran += keys(parts.run(parts.queue(parts.pool()), count=count))
    assert ran == at_once
    first, again = parts.pool(), whole.pool()
    assert first.decision(first.tried(set()), 4) == again.decision(again.tried(set()), 4)
    assert first.screening.news() == again.screening.news()


def test_screening_is_left_out_where_the_run_has_begun_without(load, tmp_path):
    without = Records(
        load(GRID.replace("fidelity: {share: 0.25}", "prior: none")), tmp_path / "run"
    )
    without.run(without.queue(without.pool()), count=2 + 5)
    later = Records(load(GRID), tmp_path / "run")
    pool = later.pool()
    late = pool.passed_over()
    assert len(late) == 21
    assert not {trial.key for trial in pool.shown(later.planned)} & late
    pending = [t for t in later.planned if t.key not in late]
    assert len(pending) == len(later.planned) - 21
    pool.decision(pool.tried(set()), 1)
    assert pool.screening.news() == ["the run had begun without screening runs, so none is run"]


def ended(run: Records, but: int = 0) -> list[str]:
    """What is said once the screening runs have ended, of which the last `but` failed."""
    run.folder.write_plan(run.grid, run.planned)
    short = of_stage(run.planned, "sft_screening")
    for trial in short[: len(short) - but]:
        run.end(trial)
    for trial in short[len(short) - but :]:
        run.folder.trial(trial).log_attempt("failed", phase="train", reason="broken")
    pool = run.pool()
    start = pool.decision([], 12).choices
    return [*pool.screening.news(), *(choice.reason for choice in start)]


def test_rows_of_before_the_grid_file_was_edited_place_no_start(load, tmp_path):
    longer = GRID.replace("examples: 200}", "examples: 200}\n    epochs: 2")
    before = Records(load(longer), tmp_path / "run", displaced)
    now = Records(load(GRID), tmp_path / "run")
    ended(before)
    told, *_ = ended(now)
    rates = [float(rate) for rate in re.findall("([0-9.e-]+) at batch size", told)]
    assert len(rates) == 3
    assert all(abs(math.log2(rate / 0.004)) < 1 for rate in rates)


@pytest.mark.parametrize(
    ("but", "said", "reason"),
    [
        (10, "11 of 21 screening runs of 0.25 ", "about the rates of 11 of 21 screening runs"),
        (21, "none of 21 screening runs of 0.25 ", "start: cells spread over the grid"),
    ],
)
def test_screening_runs_that_failed_are_not_counted(records, but, said, reason):
    told, *reasons = ended(records(), but)
    assert told.startswith(said)
    assert all(reason in one for one in reasons)


def test_results_list_them_and_no_answer_has_them(records):
    run = records()
    run.run(run.queue(run.pool()), count=2 + 21 + 12)
    run.folder.write_plan(run.grid, run.pool().shown(run.planned))
    page = build.write(run.folder.path)
    csv = (run.folder.path / "results.csv").read_text().splitlines()
    assert csv[0].endswith(",screens")
    assert sum(line.endswith(",sft") for line in csv) == 21
    for source in (run.folder.path, run.folder.path / "results.csv"):
        frame = results.read(source)
        assert "screens" not in frame
        assert "sft_screening" not in set(frame.stage)
    record = json.loads((page.parent / "recommendations.json").read_text())
    assert list(record["stages"]) == ["sft"]
    assert "screening" not in (page.parent / "data.csv").read_text()
    status = Reader(run.folder.path).read()
    assert {best.stage for best in status.best} == {"sft"}
    assert sum(trial.stage == "sft_screening" for trial in status.trials) == 21


@pytest.mark.slow
def test_whole_command_screens(drive, small, tmp_path):
    grid = yaml.safe_load(small)
    grid["stages"]["sft"]["grid"] = {
        "learning_rate": [0.0005, 0.001, 0.002, 0.004],
        "batch_size": [4, 8],
    }
    grid["stages"]["sft"]["steps"] = 4
    grid["decide"] = {"trials": 9, "at_once": 3, "fidelity": {"share": 0.5}}
    ended = drive(yaml.safe_dump(grid), tmp_path / "runs" / "small")
    assert ended.code == 0, ended.output
    events = [json.loads(line) for line in (ended.path / "events.jsonl").read_text().splitlines()]
    told = [event["reason"] for event in events if event["event"] == "screened"]
    assert told
    assert all(f"{reason}\n" in ended.output.replace("\n\n", "\n") for reason in told)
    short = [
        line
        for line in (ended.path / "results.csv").read_text().splitlines()
        if line.endswith(",sft")
    ]
    assert len(short) == 8
    assert not list(ended.path.glob("trials/sft_screening-*/model"))
    assert "screening runs, in no answer" in (ended.path / "report" / "index.html").read_text()
    again = drive(yaml.safe_dump(grid), tmp_path / "runs" / "small")
    assert again.code == 0
    assert "18 of 18 models done, 0 to go" in again.output
    assert told == [
        event["reason"]
        for event in map(json.loads, (ended.path / "events.jsonl").open())
        if event["event"] == "screened"
    ]
