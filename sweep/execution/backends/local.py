"""Trials one after another in this process, for tests, laptops and pdb."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sweep.execution import preemption
from sweep.execution.handout import Handout
from sweep.execution.job import Job, Outcome
from sweep.execution.retries import Retries
from sweep.execution.supervisor import STOP_SECONDS
from sweep.execution.worker import bundle, remote_trial, trial
from sweep.execution.worker.trial import TrialFailed
from sweep.execution.worker.watchdog import GO_ON
from sweep.resolve.resolve import CannotStart
from trainers.cli import INTERRUPTED, LIMIT_REACHED
from trainers.processes import attempt, devices

LOOK_SECONDS = 0.5


def run(
    handout: Handout, jobs: dict[str, Job], retries: Retries, reached: Callable[[], str]
) -> None:
    """Run all that is handed out, until `reached` says that a limit of the run is.

    CUDA looks at what is visible once in a process, so all of them see what the largest asks for.

    Raises:
        CannotStart: the first trials failed, and this machine is to blame.
        Unreachable: the records of a trial are not to be had.
        KeyboardInterrupt: SIGTERM came, and the trial has saved a checkpoint.
    """
    with devices.seeing(max((job.gpus for job in jobs.values()), default=0.0)):
        while trials := handout.next():
            handout.started(trials)
            try:
                outcomes = _attempt([jobs[trial.key] for trial in trials], reached)
            except TrialFailed as error:
                handout.failed(trials, str(error))
            else:
                handout.ended(trials, outcomes)
            while not (handout.caught_up() or preemption.noticed()):
                time.sleep(LOOK_SECONDS)
            if retries.hopeless:
                raise CannotStart(retries.hopeless)
            if preemption.noticed():
                raise KeyboardInterrupt


def _attempt(jobs: list[Job], reached: Callable[[], str]) -> list[Outcome]:
    with remote_trial.all_here(jobs) as here:
        folders = [Path(job.folder) for job in here]
        with _stopping(folders, reached):
            return bundle.train(here) if len(here) > 1 else [trial.run(here[0])]


@contextlib.contextmanager
def _stopping(folders: list[Path], reached: Callable[[], str]) -> Iterator[None]:
    """Ask the trials to stop at a limit or at SIGTERM, and end the command where they do not do so
    in time."""
    over = threading.Event()

    def watch() -> None:
        asked = math.inf
        while not over.wait(LOOK_SECONDS):
            now = time.monotonic()
            late = reached()
            if asked == math.inf and (late or preemption.noticed()):
                for folder in folders:
                    attempt.ask_to_stop(folder, late or "SIGTERM")
                asked = now
            if preemption.is_due() or (late and now > asked + STOP_SECONDS):
                os.write(2, f"{folders[0]}: ended without a checkpoint; {GO_ON}\n".encode())
                os._exit(LIMIT_REACHED if late else INTERRUPTED)

    thread = threading.Thread(target=watch, name="stopping", daemon=True)
    thread.start()
    try:
        with preemption.heard():
            yield
    finally:
        over.set()
        thread.join()
