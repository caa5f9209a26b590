"""What a driver makes of attempts that end on nodes which share no folder with it."""

import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.execution.handout import Handout
from sweep.execution.job import Outcome
from sweep.execution.remote_driver import RemoteRun
from sweep.execution.retries import Retries
from sweep.execution.worker import remote_trial
from sweep.plan.trials import Trial
from sweep.schedule.queue import Pending, TrialQueue
from sweep.storage.run_folder import RunFolder, TrialFolder
from trainers.specs.data import Model


class Driver:
    """Of a run with one trial, which may be tried once more; records a death."""

    def __init__(self, root: Path):
        self.root = root
        self.url = f"memory://bucket-{uuid.uuid4().hex}/run"
        self.run = RemoteRun(self.url, RunFolder(root / "driver"), print)
        self.folder = TrialFolder(root / "driver" / "trials" / "a")
        self.ends: list[str] = []
        trial = Trial(key="a", parent=None, stage="s", arm="", model=Model(name="tiny"), spec=None)
        jobs = {"a": SimpleNamespace(folder=str(self.folder.path))}
        callback = self.run.callback(self, jobs)  # pyright: ignore[reportArgumentType]
        retries = Retries(jobs, 1, callback, print)  # pyright: ignore[reportArgumentType]
        queue = TrialQueue(Pending([trial], lambda key: self.folder.usable()))
        self.handout = Handout(queue, retries, callback, {"s": 1}, print)

    def started(self, key: str, lanes: int = 1) -> None: ...

    def handed_back(self, key: str) -> None: ...

    def retried(self, key: str) -> None: ...

    def died(self, key: str) -> None:
        if self.folder.attempts()[-1]["event"] != "failed":
            facts = {"died": True, "progress": self.folder.progress()}
            self.folder.log_attempt("failed", phase="train", reason="died", **facts)

    def ended(self, ended: Outcome) -> None:
        self.ends.append(ended.status)

    def preempted(self, step: int | None = None) -> None:
        """The trial is handed out, and a node begins an attempt at it, saves a checkpoint where
        there is a step, and dies."""
        trials = self.handout.next()
        self.handout.started(trials)
        here = self.root / uuid.uuid4().hex
        node = remote_trial._Trial(here, f"{self.url}/trials/a")
        node.begin()
        TrialFolder(here).log_attempt("started")
        if step is not None:
            checkpoint = here / "checkpoints" / f"step-{step:08}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "checksums.json").write_text("{}")
        node.push()
        self.handout.failed(trials)


@pytest.fixture
def driver(tmp_path) -> Driver:
    return Driver(tmp_path)


def test_trial_that_gets_further_each_time_is_preempted_as_often_as_it_may_be(driver):
    for step in (5, 10, 15):
        driver.preempted(step)
    driver.preempted()
    assert driver.ends == []
    driver.preempted()
    assert driver.ends == ["failed"], "the second without progress"
