"""The time to the end, from trials that have ended."""

import time
from typing import NamedTuple

import numpy as np
import pytest

from sweep.gridfile.keys.schema import Pricing
from sweep.schedule.spending import Spent
from sweep.storage.status.reader import RunStatus
from sweep.storage.status.time_left import Left, spent, time_left
from sweep.terminal import words

SPENT = Spent(1.0, 0.0, Pricing(gpu_hour=2.0, cpu_hour=0.1, currency="EUR"))


class Trial(NamedTuple):
    state: str
    held: float = 0.0
    stage: str = "sft"
    batch_size: int | None = 8
    gpus: float = 1.0
    cpus: float = 2.0
    lanes: int = 1
    trained: float = 0.0
    scored: tuple[str, ...] = ()
    again: bool = False

    @property
    def gpu_seconds(self) -> float:
        return self.held * self.gpus

    @property
    def cpu_seconds(self) -> float:
        return self.held * self.cpus


def test_known_times_give_the_time_to_the_end():
    ended = [Trial("ok", 100.0)] * 50
    left = time_left([*ended, *[Trial("running", 50.0)] * 2, *[Trial("planned")] * 4])
    assert left is not None
    assert left.seconds == pytest.approx(250, rel=0.05)
    assert left.low < left.seconds < left.high
    assert left.high - left.low < 0.3 * left.seconds
    assert left.gpu_seconds == pytest.approx(500, rel=0.05)
    assert left.cpu_seconds == pytest.approx(1000, rel=0.05)


def test_trials_in_one_pass_share_a_slot():
    ended = [Trial("ok", 100.0)] * 50
    passes = [Trial("running", 50.0, lanes=5)] * 10
    left = time_left([*ended, *passes, *[Trial("planned")] * 4])
    assert left is not None
    assert left.seconds == pytest.approx((10 * 50 + 4 * 100) / 2, rel=0.05)


WANTED = {"sft": {"evaluations": [{"benchmark": "old"}, {"benchmark": "added"}]}}
SCORING = {("sft", "old"): [100.0] * 50, ("sft", "added"): [20.0] * 50}


@pytest.mark.parametrize(
    ("trained", "scored", "seconds"),
    [
        (0.0, (), 1000),
        (0.5, (), 0.5 * 880 + 120),
        (1.0, (), 120),
        (1.0, ("old",), 20),
    ],
)
def test_of_a_trial_that_was_begun_before_what_is_left_counts(trained, scored, seconds):
    ended = [Trial("ok", 1000.0)] * 50
    running = Trial("running", 1000.0, trained=1.0, scored=("old",))
    begun = [Trial("planned", 900.0, trained=trained, scored=scored)] * 9
    left = time_left([*ended, running, *begun], WANTED, SCORING)
    assert left is not None
    assert left.seconds == pytest.approx(9 * seconds + 20, rel=0.06)
    assert left.gpu_seconds == pytest.approx(9 * seconds + 20, rel=0.06)


def test_time_of_a_score_that_no_trial_has_yet_is_not_made_up():
    """All that has ended has diverged."""
    ended = [Trial("diverged", 100.0)] * 50
    left = time_left([*ended, Trial("running"), Trial("planned", 90.0, trained=1.0)], WANTED)
    assert left is not None and left.seconds == pytest.approx(200, rel=0.1)


def test_failed_trial_that_is_tried_again_counts():
    ended = [Trial("ok", 100.0)] * 50
    failed = [Trial("failed", 60.0, again=True)] * 10 + [Trial("failed", 60.0)] * 5
    left = time_left([*ended, Trial("running"), *failed])
    assert left is not None and left.seconds == pytest.approx(1100, rel=0.05)


@pytest.mark.parametrize("planned", [0, 2, 60], ids=["decide", "some chosen", "search"])
def test_cells_that_are_chosen_count_up_to_the_number_that_may_run(planned):
    ended, others = [Trial("ok", 100.0)] * 50, [Trial("ok", 7.0, stage="base")] * 3
    stages = {"base": {}, "sft": {"trials": 56, "resources": {"gpus": 1.0, "cpus": 2.0}}}
    running = [Trial("running", 50.0)] * 2
    left = time_left([*others, *ended, *running, *[Trial("planned")] * planned], stages)
    assert left is not None and left.at_most
    assert left.seconds == pytest.approx(250, rel=0.05)
    assert left.gpu_seconds == pytest.approx(500, rel=0.05)
    assert left.cpu_seconds == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize(("at_most", "about"), [(False, "about"), (True, "at most about")])
def test_time_of_a_run_that_chooses_its_cells_is_told_as_the_most(at_most, about):
    left = Left(60.0, 50.0, 70.0, 60.0, 3600.0, 0.0, at_most)
    run = RunStatus("run", [], [], left, "", {}, [])
    assert words.time_left(run).lower().startswith(f"{about} 1 min 00 s to the end")
    assert f", {about} 2.00 EUR" in words.cost(run, SPENT)


def test_time_to_go_costs_what_its_devices_do():
    """On CPUs after hours on GPUs."""
    left = Left(60.0, 50.0, 70.0, 60.0, 0.0, 3600.0 * 40)
    text = words.cost(RunStatus("run", [], [], left, "", {}, []), SPENT)
    assert text == "Cost so far: 2.00 EUR (1.00 GPU hours), about 4.00 EUR (40.00 CPU hours) to go"


def test_each_batch_size_takes_its_own_time():
    ended = [Trial("ok", 10.0, batch_size=8)] * 30 + [Trial("ok", 1000.0, batch_size=64)] * 30
    quick = time_left([*ended, Trial("running", 1.0), Trial("planned")])
    slow = time_left([*ended, Trial("running", 1.0), Trial("planned", batch_size=64)])
    assert quick is not None and slow is not None
    assert quick.seconds < 30 and slow.seconds > 800


def test_interval_is_wide_while_few_have_ended():
    rest = [Trial("running", 1.0), *[Trial("planned")] * 5]
    few = time_left([Trial("ok", 100.0), *rest])
    many = time_left([*[Trial("ok", 100.0)] * 100, *rest])
    assert few is not None and many is not None
    assert few.high - few.low > 3 * (many.high - many.low)


def test_interval_holds_the_end_of_simulated_runs():
    """Two slots, trials whose times scatter by 20 %: the 90 % interval, seen half way."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(100):
        times = 100 * np.exp(rng.normal(0, 0.2, 20))
        done = [Trial("ok", float(seconds)) for seconds in times[:9]]
        left = time_left([*done, *[Trial("running")] * 2, *[Trial("planned")] * 9])
        free = [0.0, 0.0]
        for seconds in times[9:]:
            free[free.index(min(free))] += seconds
        assert left is not None
        inside += left.low <= max(free) <= left.high
    assert inside >= 80


@pytest.mark.parametrize(
    "trials",
    [
        [Trial("ok", 5.0), Trial("planned")],
        [Trial("running", 5.0), Trial("planned")],
        [Trial("ok", 5.0), Trial("running", 1.0), Trial("planned", stage="dpo")],
        [],
    ],
    ids=["nothing runs", "none has ended", "none of that stage", "no trials"],
)
def test_nothing_is_said_without_grounds(trials):
    assert time_left(trials) is None


def test_spent_counts_every_attempt():
    assert spent([Trial("ok", 10.0), Trial("failed", 5.0), Trial("planned")]) == (15.0, 30.0)


def test_ten_thousand_trials_take_no_time_worth_naming():
    trials = [Trial("ok", 10.0)] * 100 + [Trial("running", 1.0)] * 8 + [Trial("planned")] * 10_000
    left = time_left(trials)
    assert left is not None and left.seconds == pytest.approx(12_500, rel=0.1)


def test_thousands_of_begun_trials_take_no_time_worth_naming():
    names = [f"b{number}" for number in range(8)]
    wanted = {"sft": {"evaluations": [{"benchmark": name} for name in names]}}
    scoring = {("sft", name): [1.0] * 4000 for name in names}
    begun = [Trial("planned", 5.0, trained=0.5)] * 4000
    start = time.process_time()
    assert time_left([Trial("ok", 10.0)] * 4000 + [Trial("running"), *begun], wanted, scoring)
    assert time.process_time() - start < 2
