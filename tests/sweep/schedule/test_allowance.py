"""Limits of a run: with a made-up clock, and plans whose prices are twice or half the truth."""

import heapq
import random

import pytest

from sweep.gridfile.keys.schema import Grid
from sweep.plan.trials import Trial
from sweep.plan.trials import trials as plan
from sweep.schedule.allowance import Allowance
from sweep.schedule.queue import Pending, TrialQueue
from sweep.schedule.spending import Spending
from sweep.storage.run_folder import RunFolder

GRID = """\
name: priced
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 40}
    grid:
      learning_rate: {log: [0.0001, 0.01], count: 10}
      batch_size: [2, 4, 8, 16]
evaluate: {benchmarks: []}
resources: {gpus_per_trial: 0.5}
price: {gpu_hour: 4.0, currency: EUR}
limits: {max_cost: 20}
"""
"""40 trials, at 2 EUR an hour each."""

RATE = 2.0


def waiting(trials: list[Trial], limits: Allowance) -> TrialQueue:
    pending = Pending(trials, lambda key: True, limits.begin, limits.affords)
    return TrialQueue(pending)


class Simulation:
    """Trials on some slots, with a clock that jumps from event to event. At a limit running trials
    stop within `stop_hours`."""

    def __init__(self, grid: Grid, folder: RunFolder, slots: int, wrong: float, planned: bool):
        self.now = 0.0
        self.slots = slots
        draw = random.Random(slots)
        self.trials = [trial for trial in plan(grid) if trial.spec is not None]
        self.hours = {trial.key: draw.uniform(0.5, 1.5) for trial in self.trials}
        spending = Spending(grid, folder, clock=self.clock)
        self.allowance = Allowance(grid, spending, clock=self.clock)
        if planned:
            costs = {key: hours * RATE * wrong for key, hours in self.hours.items()}
            self.allowance.expect(costs)
        self.spent, self.whole = 0.0, 0

    def clock(self) -> float:
        return self.now

    def run(self, stop_hours: float) -> None:
        queue = waiting(self.trials, self.allowance)
        ends: list[tuple[float, str]] = []
        began: dict[str, float] = {}
        while True:
            while len(ends) < self.slots and (trial := queue.next()) is not None:
                began[trial.key] = self.now
                self.allowance.started(trial)
                heapq.heappush(ends, (self.now + 3600 * self.hours[trial.key], trial.key))
            if not ends:
                return
            if self.allowance.reached():
                for _, key in ends:
                    self.spent += RATE * ((self.now - began[key]) / 3600 + stop_hours)
                return
            if ends[0][0] <= self.now:
                _, key = heapq.heappop(ends)
                self.spent += RATE * self.hours[key]
                self.whole += 1
                self.allowance.ended(key, whole=True)
                queue.ended(key)
            self.now = min(self.now + 60, ends[0][0]) if ends else self.now


@pytest.mark.parametrize("slots", [1, 3, 8])
@pytest.mark.parametrize("wrong", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("planned", [True, False])
def test_at_most_one_trial_over_though_prices_are_wrong(load, tmp_path, slots, wrong, planned):
    grid = load(GRID)
    simulation = Simulation(grid, RunFolder(tmp_path / "run"), slots, wrong, planned)
    simulation.run(stop_hours=1 / 60)
    dearest = RATE * max(simulation.hours.values())
    assert simulation.spent <= 20 + dearest
    assert simulation.spent >= 20 - 2 * dearest, "the money is used"


def test_right_prices_leave_no_trial_unfinished(load, tmp_path):
    simulation = Simulation(load(GRID), RunFolder(tmp_path / "run"), 8, 1.0, True)
    simulation.run(stop_hours=1 / 60)
    assert simulation.spent <= 20
    assert simulation.spent == pytest.approx(
        sum(
            RATE * simulation.hours[key]
            for key in [t.key for t in simulation.trials][: simulation.whole]
        )
    )


@pytest.fixture
def allowance(load, tmp_path):
    """An allowance of the grid, its trials, and a clock that a test sets, in seconds."""
    time = [0.0]

    def made(*overrides: str) -> tuple[Allowance, list[Trial], list[float]]:
        grid = load(GRID, *overrides)
        spending = Spending(grid, RunFolder(tmp_path / "run"), clock=lambda: time[0])
        return Allowance(grid, spending, clock=lambda: time[0]), plan(grid), time

    return made


def test_running_trials_are_stopped_when_the_money_is_spent(allowance):
    limits, trials, time = allowance()
    limits.started(trials[1])
    time[0] = 9 * 3600
    assert limits.reached() == ""
    time[0] = 10 * 3600 + 1
    assert limits.reached() == "the limit of limits.max_cost is reached (20 EUR)"
    assert limits.ended_by().endswith("(20 EUR); raise it, then the same command goes on")
    assert not limits.begin(trials[2])


@pytest.mark.parametrize("part", ["went on from an earlier start", "tried again"])
def test_the_end_of_a_trial_tells_nothing_of_whole_ones(allowance, part):
    limits, trials, time = allowance()
    first, other = trials[1:3]
    begun = {first.key} if part == "went on from an earlier start" else set()
    limits.expect({trial.key: 0.4 if trial.key in begun else 4.0 for trial in trials}, begun)
    limits.started(first)
    if part == "tried again":
        time[0] = 3600
        limits.retried(first.key)
        limits.started(first)
    time[0] += 0.2 * 3600
    limits.ended(first.key, whole=True)
    assert limits._cost(other.key) == pytest.approx(4.0)


def test_a_pass_costs_once_and_what_it_has_cost_is_no_more_to_come(allowance):
    limits, trials, time = allowance()
    limits.expect({trial.key: 4.0 for trial in trials})
    lanes = trials[1:5]
    for trial in lanes:
        assert limits.affords(trial)
        limits.started(trial, len(lanes))
    time[0] = 4 * 3600
    assert limits.affords(trials[5]), "8 are spent, 8 to come, and 4"
    assert not limits.reached()
    for trial in lanes:
        limits.handed_back(trial.key)
    limits.started(lanes[0])
    time[0] += 3600
    limits.ended(lanes[0].key, whole=True)
    assert limits._spending.now() == pytest.approx(8 + 2)
    assert limits._cost(trials[6].key) == pytest.approx(4.0), "2 of the pass and 2 by itself"


def test_hours_and_trials_are_limits_too(allowance):
    limits, trials, time = allowance("limits={max_hours: 2, max_trials: 3}")
    assert [limits.begin(trial) for trial in trials[:4]] == [True, True, True, False]
    assert limits.ended_by() == (
        "no further trial begins: this start has begun as many trials as limits.max_trials lets "
        "it; the same command goes on"
    )
    time[0] = 7201
    assert "max_hours" in limits.reached()


def test_a_trial_that_is_held_back_does_not_end_the_queue(allowance):
    """It waits for those that run, and begins when they turn out to be cheap."""
    limits, trials, time = allowance("limits={max_cost: 5}")
    first, second, third = (trial for trial in trials[1:4])
    limits.expect({trial.key: 3.0 for trial in (first, second, third)})
    queue = waiting([first, second, third], limits)
    assert queue.next() == first
    limits.started(first)
    assert queue.next() is None
    assert queue.held_back and not queue.exhausted
    assert "the next trial is expected to cost 3" in limits.ended_by()
    time[0] = 1800.0
    limits.ended(first.key, whole=True)
    queue.ended(first.key)
    assert queue.next() == second, "the plan was three times too high"
    assert limits.ended_by() == ""
    limits.started(second)
    assert queue.next() == third


def test_trials_that_were_handed_out_count_before_they_start(allowance):
    """Ray asks for as many as may run at once before it starts the first of them."""
    limits, trials, time = allowance()
    limits.expect({trial.key: 4.5 for trial in trials})
    queue = waiting(trials[1:9], limits)
    given = [trial for _ in range(8) if (trial := queue.next()) is not None]
    assert len(given) == 4
    assert queue.held_back and not queue.exhausted
    limits.started(given[0])
    time[0] = 3600.0
    limits.retried(given[0].key)
    assert queue.next() is None, "it goes on, and has cost 2 more"
    limits.started(given[0])
    limits.ended(given[0].key, whole=True)
    queue.ended(given[0].key)
    assert queue.next() is not None, "none of its 4.5 are to come"


def test_limit_below_one_trial_begins_none(allowance):
    limits, trials, _ = allowance("limits={max_cost: 1}")
    limits.expect({trials[1].key: 3.0})
    queue = waiting([trials[1]], limits)
    assert queue.next() is None
    assert queue.exhausted
    assert limits.ended_by() == (
        "no further trial begins: of limits.max_cost (1 EUR) 0.00 are used, and the next trial is "
        "expected to cost 3.00; raise it, then the same command goes on"
    )
