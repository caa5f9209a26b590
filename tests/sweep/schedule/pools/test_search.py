"""Adaptive search: which cells are asked for, what the study holds, and how it goes on."""

import json
import math
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweep.gridfile.keys.choosers import Search
from sweep.gridfile.load import GridError
from sweep.plan import trials as plan
from sweep.plan.trials import Trial
from sweep.schedule.pools.search import Study, ordered
from sweep.schedule.pools.search_queue import SearchPool, SearchQueue
from sweep.schedule.queue import Pending
from sweep.storage.run_folder import RunFolder
from tests.sweep.schedule.pools.deciding import BEFORE, WANTED
from trainers import files

SEARCH = (
    f"name: searched\n{BEFORE}"
    + """\
    data: {name: world:sft, examples: 24}
    grid:
      learning_rate: [0.004, 0.001, 0.016, 0.002, 0.008]
      batch_size: [2, 4, 8]
      seed: [0, 1]
evaluate: {benchmarks: [world_choice, world_arithmetic]}
search: {method: optuna, sampler: gp, trials: 6, objective: world_choice}
"""
)
"""A search of 6 of 15 cells with two seeds each, from a trained start."""

AXES = {"learning_rate": tuple(2.0**i for i in range(10)), "batch_size": tuple(range(1, 7))}
CELLS = [(i, j) for i in range(10) for j in range(6)]


def settings(sampler: str, **other) -> Search:
    return Search.model_validate({"method": "optuna", "sampler": sampler, "trials": 60, **other})


def bowl(cell: tuple[int, ...]) -> float:
    """Least at (6, 1), sheared as an LR x BS surface is."""
    rate, batch = cell[0] - 6, cell[1] - 1
    return (rate - 0.5 * batch) ** 2 + 0.5 * batch**2


def search(study: Study, count: int, value=bowl, free=CELLS) -> list[tuple[int, ...]]:
    free, order = set(free), []
    for _ in range(count):
        cell = study.propose(free)
        free.remove(cell)
        study.start(cell)
        found = value(cell)
        study.tell(cell, found, "diverged" if found is None else "ok")
        order.append(cell)
    return order


def states(path: Path) -> list[TrialState]:
    storage = JournalStorage(JournalFileBackend(str(path)))
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    return [trial.state for trial in study.trials]


class Records:
    """A run folder whose trials end as a test says."""

    def __init__(self, grid, folder: Path):
        self.grid = grid
        self.planned = plan.trials(grid)
        self.folder = RunFolder(folder)
        self.path = folder / "study.log"
        self.pool = SearchPool(grid, self.planned, self.folder, {"sft": (WANTED,)})

    def frontier(self, **options) -> SearchQueue:
        pending = [trial for trial in self.planned if not self.folder.trial(trial).training()]
        return SearchQueue(self.pool, Pending(pending, self.usable, **options), self.path)

    def usable(self, key: str) -> bool:
        return self.folder.trial(next(t for t in self.planned if t.key == key)).usable()

    def end(self, trial: Trial, value: float | None = 0.5) -> None:
        """With a score, or diverged without one."""
        here = self.folder.trial(trial)
        here.log_attempt("started")
        status = "diverged" if value is None else "ok"
        files.write_json(here.path / "train.json", {"status": status, "reason": ""})
        if value is not None:
            score = {"metric": "acc", "value": value, "primary": True}
            files.write_json(here.scores("f"), {"scores": [score]})
        here.log_attempt("done")

    def run(self, frontier: SearchQueue, value=lambda trial: 0.5, count: int = 99) -> list[Trial]:
        """As the runner with one trial at a time does it."""
        ran = []
        while len(ran) < count and (trial := frontier.next()) is not None:
            self.end(trial, value(trial))
            frontier.ended(trial.key)
            ran.append(trial)
        return ran


@pytest.fixture
def records(load, tmp_path):
    return lambda text=SEARCH, *overrides: Records(load(text, *overrides), tmp_path / "run")


def cells(trials: list[Trial]) -> list[tuple[float, int]]:
    specs = [trial.spec for trial in trials if trial.spec and trial.stage == "sft"]
    return list(dict.fromkeys((spec.learning_rate, spec.batch_size) for spec in specs))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("objective: world_choice", "objective: world_chess", "search.objective: 'world_chess'"),
        ("learning_rate: 0.001\n", "grid: {learning_rate: [0.001, 0.01]}\n", "before, sft"),
        ("[0.004, 0.001, 0.016, 0.002, 0.008]", "[0.004]", "there is none"),
        (
            "batch_size: 4\n",
            "grid: {batch_size: [4], seed: [0, 1]}\n",
            "2 models of before are each",
        ),
        ("sampler: gp", "sampler: cma", "search.sampler: 'cma'"),
        ("trials: 6", "trials: 0", "search.trials: 0"),
        (
            "    grid:",
            "    arms: [{name: a, set: {}}, {name: b, set: {steps: 3}}]\n    grid:",
            "arms",
        ),
        (
            "evaluate:",
            "  more: {kind: sft, start_from: before, data: {name: 'world:sft', examples: 24}, "
            "learning_rate: 0.004, batch_size: 2}\nevaluate:",
            "stages.more: 1 cell with the same training as in sft",
        ),
        ("objective: world_choice", "seed: 0}\n# {", "search` needs the heldout_loss"),
    ],
)
def test_search_that_cannot_be_is_refused(load, old, new, problem):
    text = SEARCH.replace("[2, 4, 8]", "[4]") if "[0.004]" in new else SEARCH
    if "needs the" in problem:
        text = text.replace("    grid:", "    heldout: 0\n    grid:")
    with pytest.raises(GridError, match=problem.replace("[", r"\[")):
        load(text.replace(old, new))


def test_search_from_the_best_of_several_seeds_is_planned(load):
    seeds = SEARCH.replace("batch_size: 4\n", "grid: {batch_size: [4], seed: [0, 1]}\n", 1)
    grid = load(
        seeds.replace("start_from: before", "start_from: before\n    parent: {best: world_choice}")
    )
    assert {trial.waits for trial in plan.trials(grid) if trial.stage == "sft"} != {""}


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_every_cell_is_asked_for_once(sampler):
    free = {(i, j) for i in range(4) for j in range(3)}
    study = Study({"a": (1, 2, 3, 4), "b": (1, 2, 3)}, settings(sampler), maximize=False)
    order = search(study, 12, free=free)
    assert sorted(order) == [(i, j) for i in range(4) for j in range(3)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_planted_optimum_is_found_in_a_third_of_the_cells(sampler, seed):
    study = Study(AXES, settings(sampler, seed=seed), maximize=False)
    assert (6, 1) in search(study, 20)


def test_maximum_is_sought_where_higher_is_better():
    study = Study(AXES, settings("gp"), maximize=True)
    assert (6, 1) in search(study, 20, lambda cell: -bowl(cell))


def test_diverged_cells_are_failed_in_the_study_and_their_neighbours_left_alone(tmp_path):
    """The loss falls with the rate up to a cliff: a sampler that forgets failures walks on it."""

    def cliff(cell):
        return None if cell[0] > 6 else 10.0 - cell[0]

    study = Study(AXES, settings("gp"), maximize=False, path=tmp_path / "s")
    order = search(study, 20, cliff)
    lost = sum(cell[0] > 6 for cell in order)
    assert states(tmp_path / "s").count(TrialState.FAIL) == lost
    assert 0 < lost <= 6


def test_cells_in_progress_are_not_asked_for_again_nor_beside_each_other():
    study = Study(AXES, settings("gp"), maximize=False)
    begun = search(study, 10)
    free = set(CELLS) - set(begun)
    found = []
    for _ in range(3):
        found.append(study.propose(free))
        free.remove(found[-1])
        study.start(found[-1])
    assert len(set(found)) == 3


def test_words_of_an_axis_have_no_order_and_numbers_do():
    assert ordered([4, 1, 2]) == (1, 2, 4)
    assert ordered(["linear", "cosine"]) == ("linear", "cosine")
    axes = {"schedule": ("a", "b", "c"), "batch_size": (1, 2, 4)}
    study = Study(axes, settings("tpe"), maximize=False)
    assert study._distance((0, 0), (2, 0)) == study._distance((0, 0), (1, 0))
    assert study._distance((0, 0), (0, 2)) == 2 * study._distance((0, 0), (0, 1))


def test_search_runs_as_many_cells_as_wanted_with_all_their_seeds(records):
    run = records()
    frontier = run.frontier()
    ran = run.run(frontier)
    assert [trial.stage for trial in ran[:2]] == ["base", "before"]
    assert len(cells(ran)) == 6
    assert len(ran) == 2 + 6 * 2
    assert frontier.exhausted
    assert len(run.pool.passed_over()) == 9 * 2
    assert run.pool.total(run.planned) == len(ran)
    assert run.pool.most(run.planned) == {"sft": 6 * 2}


def test_cell_is_told_the_mean_over_its_seeds(records):
    run = records()
    run.run(run.frontier(), lambda trial: 0.2 + 0.2 * (trial.spec.seed if trial.spec else 0))
    storage = JournalStorage(JournalFileBackend(str(run.path)))
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    assert [trial.value for trial in study.trials] == [pytest.approx(0.3)] * 6
    assert study.trials[0].user_attrs["learning_rate"] in (0.001, 0.002, 0.004, 0.008, 0.016)


def test_cell_with_a_diverged_seed_is_told_as_failed(records):
    run = records()
    run.run(
        run.frontier(), lambda t: None if t.spec and (t.stage, t.spec.seed) == ("sft", 1) else 0.5
    )
    assert states(run.path) == [TrialState.FAIL] * 6


def test_cells_that_would_probably_diverge_are_left_out(records):
    def value(trial: Trial) -> float | None:
        return None if trial.spec and trial.spec.learning_rate >= 0.008 else 0.5

    run = records(SEARCH, "search.trials=9")
    ran = cells(run.run(run.frontier(), value))
    assert sum(rate >= 0.008 for rate, _ in ran) <= 3


def test_no_more_cells_are_open_than_allowed_at_once(records):
    run = records(SEARCH, "search.at_once=2")
    frontier = run.frontier()
    run.run(frontier, count=2)
    given = []
    while (trial := frontier.next()) is not None:
        given.append(trial)
    assert len(given) == 4
    assert not frontier.exhausted
    for trial in given[:2]:
        run.end(trial)
        frontier.ended(trial.key)
    assert len(cells(given[:2])) == 1
    assert frontier.next() is not None


def test_no_cell_is_asked_for_before_its_start_is_trained(records):
    run = records()
    frontier = run.frontier()
    before = [frontier.next()]
    run.end(before[0])
    frontier.ended(before[0].key)
    assert frontier.next().stage == "before"
    assert frontier.next() is None
    assert not frontier.exhausted


def test_start_without_weights_blocks_one_cell_to_say_so_and_ends(records):
    run = records()
    frontier = run.frontier()
    run.run(frontier, lambda trial: None if trial.stage == "before" else 0.5)
    assert frontier.exhausted
    assert set(frontier.blocked.values()) == {run.pool.parent}
    assert len({run.pool.cell_of[key] for key in frontier.blocked}) == 1


@pytest.mark.parametrize("damage", ["none", "lost", "cut off", "lags", "lies"])
def test_interrupted_search_goes_on_as_if_it_had_not_been(records, damage, tmp_path):
    def value(trial: Trial) -> float:
        return (
            0.1 if trial.spec is None else 1 - abs(math.log2(trial.spec.learning_rate / 0.004)) / 9
        )

    whole = records()
    undisturbed = whole.run(whole.frontier(), value)
    (tmp_path / "run").rename(tmp_path / "whole")
    run = records()
    first = run.run(run.frontier(), value, count=2 + 5)
    lines = run.path.read_text().splitlines(keepends=True)
    match damage:
        case "lost":
            run.path.unlink()
        case "cut off":
            run.path.write_text("".join(lines)[:-20])
        case "lags":
            run.path.write_text("".join(lines[:2]))
        case "lies":
            value_line = next(i for i, line in enumerate(lines) if '"values":[' in line)
            record = json.loads(lines[value_line])
            lines[value_line] = json.dumps(record | {"values": [0.99]}) + "\n"
            run.path.write_text("".join(lines))
    second = run.run(run.frontier(), value)
    ran = [trial.key for trial in first + second]
    assert len(ran) == len(set(ran))
    assert len(cells(first + second)) == 6
    if damage == "none":
        assert cells(first + second) == cells(undisturbed)
    assert states(run.path) == [TrialState.COMPLETE] * 6


def test_more_trials_later_go_on_from_what_was_found(records):
    run = records()
    run.run(run.frontier())
    assert run.frontier().exhausted
    more = records(SEARCH, "search.trials=8")
    assert len(cells(more.run(more.frontier()))) == 2
    assert len(states(more.path)) == 8


def test_limit_that_stops_the_search_leaves_nothing_running(records):
    run = records()
    left = iter([True] * 6 + [False])
    frontier = run.frontier(may_start=lambda trial: next(left))
    run.run(frontier)
    assert frontier.exhausted
    assert TrialState.RUNNING not in states(run.path)
    assert not run.pool.passed_over(), "cells are still wanted"


@pytest.mark.slow
def test_whole_command_asks_runs_and_is_done(drive, small, tmp_path):
    grid = yaml.safe_load(small)
    grid["stages"]["sft"]["grid"] = {"learning_rate": [0.0005, 0.001, 0.002], "batch_size": [4, 8]}
    grid["stages"]["sft"]["steps"] = 1
    grid["search"] = {"method": "optuna", "sampler": "tpe", "trials": 2}
    ended = drive(yaml.safe_dump(grid), tmp_path / "runs" / "small")
    assert ended.code == 0, ended.output
    assert "3 ok" in ended.output
    assert "4 not asked for" in ended.output
    assert len((ended.path / "plan.csv").read_text().splitlines()) == 1 + 7
    again = drive(yaml.safe_dump(grid), tmp_path / "runs" / "small")
    assert again.code == 0
    assert "3 of 3 models done, 0 to go" in again.output
