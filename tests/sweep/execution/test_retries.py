"""Whose fault a failure is, how often a trial is tried, and on which nodes."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.execution import retries as module
from sweep.execution.job import Outcome
from sweep.execution.retries import Retries
from sweep.storage.trial_folder import TrialFolder


class TrialCallback:
    """Records a death, as the driver does."""

    def __init__(self, folders: dict[str, TrialFolder]):
        self.folders = folders

    def started(self, key: str) -> None: ...

    def retried(self, key: str) -> None: ...

    def ended(self, ended: Outcome) -> None: ...

    def died(self, key: str) -> None:
        folder = self.folders[key]
        if folder.attempts()[-1]["event"] != "failed":
            facts = {"died": True, "progress": folder.progress()}
            folder.log_attempt("failed", phase="train", reason="died", **facts)


class Case:
    def __init__(self, root: Path, retries: int):
        self.folders = {f"t{n}": TrialFolder(root / f"t{n}") for n in range(6)}
        self.said: list[str] = []
        jobs = {
            key: SimpleNamespace(folder=str(folder.path)) for key, folder in self.folders.items()
        }
        self.retries = Retries(jobs, retries, TrialCallback(self.folders), self.said.append)  # pyright: ignore[reportArgumentType]

    def die(self, key: str, node: str = "n", step: int | None = None) -> bool:
        folder = self.folders[key]
        folder.log_attempt("started", node=node)
        if step is not None:
            (folder.checkpoints / f"step-{step:08}").mkdir(parents=True)
        return self.retries.again(key)

    def end(self, key: str, node: str) -> None:
        self.folders[key].log_attempt("started", node=node)
        self.folders[key].log_attempt("done")
        self.retries.ended(key)


@pytest.fixture
def case(tmp_path) -> Case:
    return Case(tmp_path, retries=1)


def test_death_with_progress_uses_up_no_retry(case):
    assert all(case.die("t0", step=step) for step in (5, 10, 15, 20))
    assert case.folders["t0"].failures() == 0, "nor for the next start of the command"


def test_deaths_without_progress_are_bounded(case):
    assert case.die("t0", step=5)
    assert [case.die("t0") for _ in range(2)] == [True, False]
    assert case.folders["t0"].failures() == 2


def test_recorded_failure_counts_though_there_was_progress(case):
    folder = case.folders["t0"]
    for again in (True, False):
        folder.log_attempt("started", node="n")
        (folder.checkpoints / f"step-{len(folder.attempts()):08}").mkdir(parents=True)
        folder.log_attempt("failed", phase="train", reason="ValueError", progress=folder.progress())
        assert case.retries.again("t0") is again


def test_full_disk_is_tried_as_often_as_allowed_and_does_not_count(case):
    folder = case.folders["t0"]
    for again in (True, False):
        folder.log_attempt("started", node="n")
        folder.log_attempt("failed", phase="disk", reason="no room")
        assert case.retries.again("t0") is again
    assert folder.failures() == 0


def test_trial_over_its_time_is_not_tried_again(case):
    folder = case.folders["t0"]
    folder.log_attempt("started", node="n")
    folder.log_attempt("failed", phase="train", reason="over", out_of_time=True)
    assert not case.retries.again("t0")


def test_retry_avoids_the_node_of_the_failure(case):
    case.die("t0", node="bad")
    assert list(case.retries.avoided("t0")) == ["bad"]
    assert list(case.retries.avoided("t1")) == []


def test_node_on_which_trials_fail_while_others_succeed_is_named_and_avoided(case):
    case.end("t5", node="good")
    for number in range(module.BAD_NODE_TRIALS):
        case.die(f"t{number}", node="bad")
    assert list(case.retries.avoided("t4")) == ["bad"]
    (line,) = case.said
    assert "node" in line and "died" in line
    assert not case.retries.hopeless


def test_node_is_not_blamed_where_nothing_succeeds_elsewhere(case):
    case.end("t5", node="bad")
    for number in range(module.BAD_NODE_TRIALS):
        case.die(f"t{number}", node="bad")
    assert list(case.retries.avoided("t4")) == []


def test_everything_that_fails_of_machines_ends_the_run_with_the_cause(case):
    for number in range(module.HOPELESS_TRIALS):
        case.die(f"t{number}", node=f"n{number}")
    assert "died" in case.retries.hopeless
    assert not case.die("t4")


def test_other_code_ends_the_run_at_once(case):
    folder = case.folders["t0"]
    folder.log_attempt("started", node="n")
    folder.log_attempt("failed", phase="code", reason="is not the code")
    assert not case.retries.again("t0")
    assert case.retries.hopeless == "is not the code"
