"""The run that decides, on records: what it hands out, how it goes on, when it is over."""

import json
import shutil

import pytest
import yaml

from analysis.design.decide import NO_CELL
from sweep.gridfile.load import GridError
from sweep.plan import trials as plan
from sweep.plan.widen import space, widened
from sweep.schedule.pools.decide import LAST
from sweep.storage.run_folder import RunFolder, TrialFolder
from tests.sweep.schedule.pools.deciding import DECIDE, WANTED, Records, cells
from trainers.files import read_json, write_json


@pytest.fixture
def records(load, tmp_path):
    return lambda text=DECIDE, *overrides: Records(load(text, *overrides), tmp_path / "run")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("trials: 30", "trials: 3", "decide.trials"),
        ("octaves: 2.5", "octaves: 0", "decide.octaves"),
        ("[world_choice]}", "[arc]}", "'arc': use one of heldout_loss, world_choice"),
        ("{log2: [0.0005, 0.032]}", "[0.001, 0.002]", "needs 3 or more"),
        ("seed: [3, 5]", "epochs: [1, 2]", "give epochs one value"),
        (
            "batch_size: 4\n",
            "grid: {batch_size: [4], seed: [0, 1]}\n",
            "2 models of before are each",
        ),
        ("trials: 30,", "trial: 30,", "did you mean `trials`"),
        (
            "decide:",
            "search: {method: optuna, trials: 2}\ndecide:",
            "both choose the cells to run; give one of them",
        ),
    ],
)
def test_wrong_file_is_refused(load, old, new, problem):
    with pytest.raises(GridError, match=problem.replace("[", r"\[")):
        load(DECIDE.replace(old, new))


def test_space_has_further_seeds_and_settings_beyond_the_borders(load):
    found = space(load(DECIDE))
    assert found.seeds == (3, 5, 6, 7, 8)
    assert found.lower == (0.00025, 0.000125)
    assert found.higher == (0.064, 0.128)
    assert (found.smaller, found.larger) == ((2,), (32,))
    assert not space(load(DECIDE, "decide.extend=false")).lower


def test_cells_of_one_refit_that_may_share_a_pass_are_handed_out_together(records):
    here = records(DECIDE, "decide.at_once=9", "resources.lanes=9")
    queue = here.queue(here.pool())
    here.run(queue, 2)  # the model as it is, and what all cells start from
    asked, passes = [], []
    while (lead := queue.next()) is not None:
        passes.append([lead, *queue.companions(lead, 2)])
        asked += passes[-1]
    assert len(asked) == 9, "no more are open than may be"
    assert max(map(len, passes)) > 1
    for one in passes:
        assert len({(trial.spec.batch_size, trial.spec.seed) for trial in one}) == 1
    assert all(here.reasons[trial.key] for trial in asked)
    assert len({trial.key for trial in asked}) == 9


def test_batch_that_is_larger_than_the_data_is_not_added(load):
    assert space(load(DECIDE, "stages.sft.data.examples=30")).larger == ()


def test_cells_of_the_grid_keep_their_keys(load):
    grid = load(DECIDE)
    keys = {trial.key for trial in plan.trials(grid)}
    assert keys < {trial.key for trial in plan.trials(widened(grid))}


def test_decides_and_is_over(records):
    run = records()
    pool = run.pool()
    ran = run.run(run.queue(pool))
    assert [trial.stage for trial in ran[:2]] == ["base", "before"]
    assert len(cells(ran)) == len(set(cells(ran))) >= 21
    assert pool.over
    stop = pool.verdict()
    assert stop.by == "answered"
    assert "decide: every question is decided within 2.5 octaves" in stop.reason
    assert {run.reasons[trial.key] for trial in ran if trial.stage == "sft"} > {
        "start: cells spread over the grid"
    }
    plan_rows = (run.folder.path / "plan.csv").read_text().splitlines()
    assert len(plan_rows) == 1 + len(ran)
    assert all((run.folder.trial(trial).path / "trial.json").exists() for trial in ran)
    assert run.run(run.queue(run.pool())) == []


def test_counts_of_a_run_open_no_record(records, monkeypatch):
    """They are told at the end of each trial, of which there may be thousands."""
    run = records()
    pool = run.pool()
    ran = run.run(run.queue(pool), count=2 + 5)
    monkeypatch.setattr(TrialFolder, "attempts", lambda _: pytest.fail("opened"))
    assert len(pool.started) == len(cells(ran)) == 5
    assert not pool.over
    assert pool.total(run.planned) == 2 + 30
    assert pool.most(run.planned) == {"sft": 30}


def test_no_more_trials_are_open_than_allowed_at_once(records):
    run = records()
    queue = run.queue(run.pool())
    run.run(queue, count=2)
    given = [queue.next(), queue.next()]
    assert all(given)
    assert queue.next() is None
    assert not queue.exhausted
    run.end(given[0])
    queue.ended(given[0].key)
    assert queue.next() is not None, "a free worker does not wait for the refit"


def test_interrupted_run_goes_on_from_its_records(records):
    run = records()
    first = run.run(run.queue(run.pool()), count=2 + 16)
    second = run.run(run.queue(run.pool()))
    ran = cells(first + second)
    assert len(ran) == len(set(ran)) <= 30
    assert run.pool().over


def test_decision_depends_on_the_results_alone(records):
    run = records()
    run.run(run.queue(run.pool()), count=2 + 15)
    pool, again = run.pool(), run.pool()
    assert pool.decision(pool.tried(set()), 3) == again.decision(again.tried(set()), 3)


def test_nothing_is_decided_while_a_cell_of_the_budget_is_to_go_on(records):
    """As where a limit has stopped it after the last cell was handed out."""
    run = records(DECIDE, "decide.trials=9")
    queue = run.queue(run.pool())
    run.run(queue, count=2 + 8)
    last = queue.next()
    for event in ("started", "stopped"):
        run.folder.trial(last).log_attempt(event)
    pool = run.pool()
    assert pool.over
    assert pool.verdict(lambda trial: trial.key == last.key) is None
    assert [trial.status for trial in pool.tried(set())].count("running") == 1
    run.end(last)
    assert run.pool().verdict() is not None


@pytest.fixture
def closed(records):
    """A run that stopped after some cells, one of which has failed, with budget left."""
    run = records()
    ran = run.run(run.queue(run.pool()), count=2 + 4)
    shutil.rmtree(run.folder.trial(ran[-1]).path / "scores")
    run.pool().close(NO_CELL)
    assert run.pool().over
    return run, ran[-1]


def test_verdict_is_the_reason_that_the_run_stopped_for(closed):
    run, _ = closed
    undecided = "World choice: a best learning rate (3 of 4 trials have a score)"
    reason = f"decide: {NO_CELL.reason}; undecided: {undecided}"
    assert run.pool().verdict() == ("no_cell", reason)


def test_other_items_and_mended_cells_open_a_decided_run_again(closed):
    run, failed = closed
    assert not run.pool(WANTED.model_copy(update={"fingerprint": "g"})).over
    run.end(failed)
    assert not run.pool().over


def test_longer_axes_open_a_decided_run_again(closed, records):
    for axis in (
        "learning_rate={log2: [0.0005, 0.064]}",
        "batch_size=[4, 8, 16, 32]",
        "seed=[3, 5, 6]",
    ):
        wider = records(DECIDE, f"stages.sft.grid.{axis}").pool()
        assert not wider.over, axis
        assert not wider.passed_over(), axis


def test_run_that_was_decided_before_results_and_axes_were_recorded_stays_so(closed):
    run, _ = closed
    path = run.folder.path / "decide" / LAST
    record = read_json(path)
    write_json(path, {"reason": record["reason"], "of": record["of"]})
    assert run.pool().over
    assert run.pool().verdict().by == record["stopped_by"] == "no_cell"


@pytest.mark.slow
def test_narrower_question_goes_on(records):
    run = records()
    run.run(run.queue(run.pool()))
    narrower = records(DECIDE, "decide.octaves=0.05")
    assert not narrower.pool().over
    assert narrower.run(narrower.queue(narrower.pool()), count=1)


@pytest.mark.slow
def test_whole_command_decides(drive, small, tmp_path):
    grid = yaml.safe_load(small)
    grid["stages"]["sft"]["grid"] = {
        "learning_rate": [0.0005, 0.001, 0.002, 0.004],
        "batch_size": [4, 8],
    }
    grid["stages"]["sft"]["steps"] = 1
    grid["decide"] = {"trials": 9, "at_once": 3}
    ended = drive(yaml.safe_dump(grid), tmp_path / "runs" / "small")
    assert ended.code == 0, ended.output
    assert "10 ok" in ended.output
    assert "decide: " in ended.output
    events = [json.loads(line) for line in (ended.path / "events.jsonl").read_text().splitlines()]
    chosen = [event for event in events if event["event"] == "chosen"]
    assert len(chosen) == 9
    (end,) = [event for event in events if event["event"] == "decided"]
    assert f"{end['reason']}\n" in ended.output.replace("\n\n", "\n")
    assert all(event["reason"] for event in chosen)
    log = ended.path / "events.jsonl"
    kept = [line for line in log.read_text().splitlines(True) if '"decided"' not in line]
    log.write_text("".join(kept))  # as a driver leaves it that dies before it says so
    for _ in range(2):
        again = drive(yaml.safe_dump(grid), tmp_path / "runs" / "small")
        assert again.code == 0
        assert "10 of 10 models done, 0 to go" in again.output
        assert f"{end['reason']}\n" in again.output.replace("\n\n", "\n")
    (told,) = [event for event in map(json.loads, log.open()) if event["event"] == "decided"]
    assert told["reason"] == end["reason"]


def test_single_cells_leave_the_plan_and_the_weights_that_others_start_from(
    drive, chain, planned, tmp_path
):
    grid = yaml.safe_load(chain)
    grid["stages"]["first"] |= {"keep": "none", "steps": 1}
    axes = {"learning_rate": [0.0005, 0.001, 0.002], "batch_size": [4]}
    grid["stages"]["second"] |= {"grid": axes, "steps": 1, "keep": "none"}
    grid["evaluate"] |= {"benchmarks": ["world_choice"], "limit": 1}
    text = yaml.safe_dump(grid | {"decide": {"trials": 9}})
    _, first, *cells = planned(text)
    for number, cell in enumerate(cells[:2]):
        ended = drive(text, tmp_path / "chain", "--only", cell.key)
        assert ended.code == 0, ended.output
        assert f"{3 + number} ok\n" in ended.output
    rows = [line.split(",")[0] for line in (ended.path / "plan.csv").read_text().splitlines()]
    assert {first.key, cells[0].key, cells[1].key} < set(rows)
    assert cells[2].key not in rows
    assert RunFolder(ended.path).trial(first).has_weights(), "further cells start from them"
