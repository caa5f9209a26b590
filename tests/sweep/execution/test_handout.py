"""What is run next after what became of trials, alone and of several in one pass."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.execution.handout import PREEMPTED, Handout
from sweep.execution.job import ALONE, TRAINED, WAITS, Outcome
from sweep.execution.retries import MOST_PASSES, Retries
from sweep.plan.trials import Trial
from sweep.schedule.queue import Pending, TrialQueue
from sweep.storage.trial_folder import TrialFolder
from trainers.specs.data import Model


def trial(key: str, parent: str | None = None) -> Trial:
    return Trial(key=key, parent=parent, stage="s", arm="", model=Model(name="tiny"), spec=None)


class Told:
    """What the driver is told, and its record of a death."""

    def __init__(self, root: Path):
        self.root = root
        self.lines: list[str] = []
        self.ends: dict[str, Outcome] = {}
        self.unseen: set[str] = set()

    def started(self, key: str, lanes: int = 1) -> None:
        TrialFolder(self.root / key).log_attempt("started", node="", lanes=lanes)
        self.lines.append(f"started {key} {lanes}")

    def seen(self, key: str) -> bool:
        return key not in self.unseen

    def handed_back(self, key: str) -> None:
        self.lines.append(f"handed back {key}")

    def retried(self, key: str) -> None:
        self.lines.append(f"retried {key}")

    def died(self, key: str) -> None:
        facts = {"died": True, "progress": TrialFolder(self.root / key).progress()}
        TrialFolder(self.root / key).log_attempt("failed", phase="train", reason="died", **facts)

    def ended(self, ended: Outcome) -> None:
        self.ends[ended.key] = ended


class Column:
    """All trials share a pass, or as many as `most`."""

    most = 99

    def key(self, trial: Trial) -> str:
        return "all"

    def size(self, trial: Trial, alike: int, ready: int, free: int) -> int:
        self.free = [*getattr(self, "free", []), free]
        return min(alike, self.most)

    def lines(self, planned: Iterable[Trial]) -> list[str]:
        return []


class Case:
    def __init__(self, root: Path, keys: str, **parents: str):
        self.folders = {key: TrialFolder(root / key) for key in keys}
        jobs = {
            key: SimpleNamespace(folder=str(folder.path)) for key, folder in self.folders.items()
        }
        self.told = Told(root)
        self.said: list[str] = []
        retries = Retries(jobs, 1, self.told, self.said.append)  # pyright: ignore[reportArgumentType]
        self.rule = Column()
        trials = [trial(key, parents.get(key)) for key in keys]
        pending = Pending(trials, lambda key: False, bundles=self.rule)  # pyright: ignore[reportArgumentType]
        self.queue = TrialQueue(pending)
        self.handout = Handout(self.queue, retries, self.told, {"s": 3}, self.said.append)

    def next(self) -> list[Trial]:
        trials = self.handout.next()
        self.handout.started(trials)
        return trials

    def ended(self, trials: list[Trial], statuses: Iterable[str], reason: str = "") -> None:
        each = zip(trials, statuses, strict=True)
        self.handout.ended(trials, [Outcome(t.key, status, reason, 2.0, 1.0) for t, status in each])


def keys(trials: list[Trial]) -> str:
    return "".join(trial.key for trial in trials)


@pytest.fixture
def case(tmp_path) -> Case:
    return Case(tmp_path, "abcd")


def test_what_a_pass_leaves_is_done_by_whoever_is_free(case):
    trials = case.next()
    assert keys(trials) == "abcd"
    assert case.told.lines == [f"started {key} 4" for key in "abcd"]
    case.ended(trials, ["diverged", TRAINED, TRAINED, WAITS])
    assert list(case.told.ends) == ["a"] and case.queue.running == {"b", "c", "d"}
    assert not case.handout.exhausted
    rest = [case.next() for _ in range(3)]
    assert list(map(keys, rest)) == ["b", "c", "d"]
    for trials in rest:
        case.ended(trials, ["ok"])
    assert [one.train_seconds for one in case.told.ends.values()] == [2.0, 4.0, 4.0, 4.0]
    assert case.handout.exhausted and case.handout.next() == [] and not case.queue.running


def test_nothing_follows_from_an_attempt_before_the_records_of_all_its_trials_are_here(case):
    trials = case.next()
    before = list(case.told.lines)
    case.told.unseen = {"b"}
    case.ended(trials, ["ok", "ok", WAITS, TRAINED])
    assert not case.handout.caught_up() and not case.handout.exhausted
    assert case.told.ends == {} and case.told.lines == before and len(case.queue.running) == 4
    assert case.handout.next() == []
    case.told.unseen = set()
    assert case.handout.caught_up()
    assert list(case.told.ends) == ["a", "b"] and case.queue.running == {"c", "d"}
    assert {keys(case.next()) for _ in range(2)} == {"c", "d"}


def test_what_waits_is_tried_in_another_pass_and_what_is_alone_is_not(case):
    case.ended(case.next(), [WAITS, ALONE, ALONE, WAITS], "the memory holds less")
    assert [keys(case.next()) for _ in range(3)] == ["b", "c", "ad"]
    assert case.said == ["s: not trained in one pass with others: the memory holds less"]


def test_a_worker_goes_on_with_the_first_of_its_pass(case):
    first, *others = trials = case.next()
    case.handout.goes_on(trials, [Outcome(one.key, TRAINED, "", 2.0, 0.0) for one in trials])
    assert keys(others) == "bcd"
    assert case.told.lines[-2:] == ["handed back a", "started a 1"]
    case.ended([first], ["ok"])
    assert case.told.ends["a"].train_seconds == 4.0
    assert keys(case.next()) == "b"


def test_a_pass_that_is_preempted_goes_on_as_one(case):
    case.ended(case.next(), ["stopped"] * 4, f"{PREEMPTED}, at step 3 of 9")
    assert keys(case.next()) == "abcd"


def test_a_pass_that_is_stopped_at_a_limit_is_over(case):
    case.ended(case.next(), ["stopped"] * 4, "the limit of limits.max_hours is reached")
    assert case.handout.exhausted and len(case.told.ends) == 4


def test_what_starts_from_a_trial_that_is_stopped_at_a_limit_is_not_lost(tmp_path):
    case = Case(tmp_path, "abc", b="a", c="b")
    case.ended(case.next(), ["stopped"], "the limit of limits.max_hours is reached")
    assert case.handout.next() == [] and case.handout.exhausted
    assert case.queue.blocked == {} and set(case.queue.waiting) == {"b", "c"}


def test_deaths_of_a_pass_use_up_no_retry_and_end_with_each_trial_alone(case):
    for _ in range(MOST_PASSES):
        trials = case.next()
        assert keys(trials) == "abcd"
        case.handout.failed(trials)
    assert [case.folders[key].failures() for key in "abcd"] == [0, 0, 0, 0]
    alone = case.next()
    assert keys(alone) == "a"
    case.handout.failed(alone)
    assert [keys(case.next()) for _ in range(4)] == ["b", "c", "d", "a"], "it has a retry left"
    case.handout.failed(alone)
    assert case.told.ends["a"].status == "failed"


def test_deaths_of_a_pass_that_gets_further_each_time_do_not_end_it(case):
    for step in range(1, MOST_PASSES + 3):
        trials = case.next()
        assert keys(trials) == "abcd"
        for folder in case.folders.values():
            (folder.checkpoints / f"step-{step:08}").mkdir(parents=True)
        case.handout.failed(trials)
    assert case.said == []


def test_what_was_not_begun_is_handed_out_again(case):
    trials = case.handout.next()
    case.handout.back(trials)
    assert keys(case.next()) == "abcd" and case.handout.exhausted


def test_bundles_are_told_how_many_slots_are_free(case):
    case.rule.most = 1
    first, second = case.next(), case.next()
    case.handout.failed(second)
    case.ended(first, ["ok"])
    assert keys(case.next()) == keys(second), "what was begun goes before"
    for _ in range(2):
        case.next()
    assert case.rule.free == [3, 2, 2, 1]
