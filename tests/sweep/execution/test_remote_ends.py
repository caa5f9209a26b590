"""What a driver makes of attempts that end on nodes which share no folder with it."""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.execution import remote_driver
from sweep.execution.handout import Handout
from sweep.execution.job import Outcome
from sweep.execution.remote_driver import RemoteRun
from sweep.execution.retries import Retries
from sweep.execution.worker import remote_trial
from sweep.orchestrate import Orchestrator
from sweep.plan.trials import Trial
from sweep.schedule.queue import Pending, TrialQueue
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.object_store import Unreachable
from sweep.storage.run_folder import RunFolder, TrialFolder
from tests.faults.runs import wait_until
from trainers import files
from trainers.specs.data import Model


def trial(key: str, parent: str | None = None) -> Trial:
    model = Model(name="tiny")
    return Trial(key=key, parent=parent, stage="s", arm="", model=model, spec=None)


class Queue(TrialQueue):
    """Knows whether the weights of a trial were here when it was told of its end."""

    def ended(self, key: str) -> None:
        self.saw = self.pending.usable(key)
        super().ended(key)


class Driver:
    """Of a run of three trials, of which `b` starts from `a`; each may be tried once more. It
    records a death of `a`, as the orchestrator does."""

    def __init__(self, root: Path):
        self.root = root
        self.url = f"memory://bucket-{uuid.uuid4().hex}/run"
        self.folder = RunFolder(root / "driver")
        self.run = RemoteRun(self.url, self.folder, print)
        self.ends: list[str] = []
        trials = [trial("a"), trial("b", "a"), trial("c")]
        self.a = self.folder.trial(trials[0])
        jobs = {t.key: SimpleNamespace(folder=str(self.folder.trial(t).path)) for t in trials}
        callback = self.run.callback(self, jobs)  # pyright: ignore[reportArgumentType]
        retries = Retries(jobs, 1, callback, print)  # pyright: ignore[reportArgumentType]
        self.queue = Queue(Pending(trials, lambda key: self.a.usable(), affords=self.affords))
        self.handout = Handout(self.queue, retries, callback, {"s": 2}, print)

    def affords(self, trial: Trial) -> bool:
        return not self.run.holds_back()

    def started(self, key: str, lanes: int = 1) -> None: ...

    def seen(self, key: str) -> bool:
        return True

    def handed_back(self, key: str) -> None: ...

    def retried(self, key: str) -> None: ...

    def died(self, key: str) -> None:
        if self.a.attempts()[-1]["event"] != "failed":
            facts = {"died": True, "progress": self.a.progress()}
            self.a.log_attempt("failed", phase="train", reason="died", **facts)

    def ended(self, ended: Outcome) -> None:
        self.ends.append(ended.status)

    def attempt(self) -> tuple[list[Trial], Mirror]:
        """What is handed out next, and the folder of a node that begins an attempt at it."""
        trials = self.handout.next()
        self.handout.started(trials)
        name = f"trials/{trials[0].folder}"
        node = remote_trial._Trial(self.root / uuid.uuid4().hex, f"{self.url}/{name}")
        node.begin()
        TrialFolder(node.mirror.here).log_attempt("started")
        return trials, node.mirror

    def preempted(self, step: int | None = None) -> None:
        """In an attempt that has saved a checkpoint, where there is a step."""
        trials, node = self.attempt()
        if step is not None:
            checkpoint = node.here / "checkpoints" / f"step-{step:08}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "checksums.json").write_text("{}")
        node.push()
        self.handout.failed(trials)

    def train(self) -> Callable[[], None]:
        """In an attempt that ends well; what tells the driver so."""
        trials, node = self.attempt()
        files.write_json(node.here / "train.json", {"status": "ok"})
        node.push()
        outcome = Outcome(trials[0].key, "ok", "", 1.0, 0.0)
        return lambda: self.handout.ended(trials, [outcome])


@pytest.fixture
def driver(tmp_path, monkeypatch) -> Iterator[Driver]:
    """One that follows its trials."""
    monkeypatch.setattr(remote_driver, "FOLLOWED_EVERY", 0.02)
    driver = Driver(tmp_path)
    follower = threading.Thread(target=driver.run._follow)
    follower.start()
    yield driver
    driver.run._end(follower)


@contextlib.contextmanager
def away(driver: Driver) -> Iterator[None]:
    """The store, until the end of the block."""

    def cut(*_, **__):
        raise OSError("the line is cut")

    with pytest.MonkeyPatch.context() as line:
        for request in ("find", "exists"):
            line.setattr(driver.run._mirror.system, request, cut)
        yield


def test_trial_that_gets_further_each_time_is_preempted_as_often_as_it_may_be(driver):
    for step in (5, 10, 15):
        driver.preempted(step)
    driver.preempted()
    assert driver.ends == []
    driver.preempted()
    assert driver.ends == ["failed"], "the second without progress"


def test_what_the_driver_records_of_a_death_is_there_for_the_next_attempt(driver):
    for _ in range(2):
        driver.preempted()
    events = [event["event"] for event in driver.a.attempts()]
    assert events == ["started", "failed"] * 2
    assert driver.a.failures() == 2


def test_the_queue_is_told_of_an_end_when_the_records_are_here(driver):
    driver.train()()
    assert driver.queue.saw and driver.ends == ["ok"]


def test_end_while_the_store_is_away_is_told_when_it_is_back(driver):
    ends = driver.train()
    with away(driver):
        ends()
        assert not driver.handout.caught_up()
        assert [one.key for one in driver.handout.next()] == ["c"], "`b` may not begin yet"
        assert driver.handout.next() == []
        assert not driver.handout.exhausted and driver.ends == []
    wait_until(driver.handout.caught_up)
    assert driver.queue.saw and driver.ends == ["ok"] and driver.queue.blocked == {}
    assert [one.key for one in driver.handout.next()] == ["b"]


def test_store_that_is_gone_holds_trials_back_until_it_is_back(driver, monkeypatch):
    driver.attempt()
    with away(driver), monkeypatch.context() as soon:
        soon.setattr(remote_driver, "GONE_AFTER", 0.0)
        wait_until(lambda: driver.run.gone)
        assert driver.handout.next() == []
    assert not driver.handout.exhausted
    wait_until(lambda: not driver.run.away)
    assert [one.key for one in driver.handout.next()] == ["c"]


def test_store_that_is_gone_with_no_trial_at_work_ends_the_run(driver, monkeypatch):
    monkeypatch.setattr(remote_driver, "GONE_AFTER", 0.0)
    ends = driver.train()
    with away(driver):
        wait_until(lambda: driver.run.gone)
        ends()
        for more in (driver.handout.caught_up, driver.handout.next):
            with pytest.raises(Unreachable, match="the same command continues"):
                more()


def test_death_of_an_attempt_that_was_cut_off_is_no_failure_of_its_trial(driver):
    trials, node = driver.attempt()
    node.push()
    with away(driver):
        wait_until(lambda: driver.run.away)
    wait_until(lambda: driver.run.seen(f"trials/{trials[0].folder}"))
    run = SimpleNamespace(
        folder=driver.folder,
        by_key={"a": trials[0]},
        stored=driver.run,
        reason_unrecorded="it died",
    )
    dead = Outcome("a", "failed", "", 0.0, 0.0)
    assert Orchestrator.with_reason(run, dead).reason == "it died"  # pyright: ignore[reportArgumentType]
    assert driver.a.failed() and driver.a.failures() == 0


def test_chosen_trial_is_in_the_store_before_it_begins(tmp_path):
    driver, chosen = Driver(tmp_path), trial("c")
    run = SimpleNamespace(
        folder=driver.folder,
        pool=SimpleNamespace(beside=lambda trial, planned: [trial]),
        planned=[chosen],
        shown=[chosen],
        stored=driver.run,
        events=SimpleNamespace(chosen=lambda trial, reason: None),
    )
    Orchestrator.chose(run, chosen, "it is asked for")  # pyright: ignore[reportArgumentType]
    assert list(driver.run._mirror.there()) == [f"trials/{chosen.folder}/trial.json"]
