"""Trials one after another in this process, for tests, laptops and pdb."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sweep.execution import preemption
from sweep.execution.job import Job, Outcome, TrialCallback
from sweep.execution.retries import Retries
from sweep.execution.supervisor import STOP_SECONDS
from sweep.execution.worker import remote_trial, trial
from sweep.execution.worker.trial import TrialFailed
from sweep.execution.worker.watchdog import GO_ON
from sweep.resolve.resolve import CannotStart
from sweep.schedule.queue import TrialQueue
from trainers import attempt, devices
from trainers.cli import INTERRUPTED, LIMIT_REACHED

LOOK_SECONDS = 0.5


def run(
    frontier: TrialQueue,
    jobs: dict[str, Job],
    retries: Retries,
    callback: TrialCallback,
    reached: Callable[[], str],
) -> None:
    """Run every trial of the frontier, until `reached` says that a limit of the run is.

    CUDA looks at what is visible once in a process, so all of them see what the largest asks for.

    Raises:
        CannotStart: the first trials failed, and this machine is to blame.
        KeyboardInterrupt: SIGTERM came, and the trial has saved a checkpoint.
    """
    with devices.seeing(max((job.gpus for job in jobs.values()), default=0.0)):
        while (planned := frontier.next()) is not None:
            callback.started(planned.key)
            callback.ended(_until_it_ends(jobs[planned.key], retries, callback, reached))
            frontier.ended(planned.key)
            if retries.hopeless:
                raise CannotStart(retries.hopeless)
            if preemption.noticed():
                raise KeyboardInterrupt


def _until_it_ends(
    job: Job, retries: Retries, callback: TrialCallback, reached: Callable[[], str]
) -> Outcome:
    key = job.trial.key
    while True:
        try:
            with remote_trial.here(job) as here, _stopping(Path(here.folder), reached):
                outcome = trial.run(here)
        except TrialFailed as error:
            if not retries.again(key):
                return Outcome(key, "failed", str(error), 0, 0)
            callback.retried(key)
        else:
            if outcome.status in ("ok", "diverged"):
                retries.ended(key)
            return outcome


@contextlib.contextmanager
def _stopping(folder: Path, reached: Callable[[], str]) -> Iterator[None]:
    """Ask the trial to stop at a limit or at SIGTERM, and end the command where it does not do so
    in time."""
    over = threading.Event()

    def watch() -> None:
        asked = math.inf
        while not over.wait(LOOK_SECONDS):
            now = time.monotonic()
            late = reached()
            if asked == math.inf and (late or preemption.noticed()):
                attempt.ask_to_stop(folder, late or "SIGTERM")
                asked = now
            if preemption.is_due() or (late and now > asked + STOP_SECONDS):
                os.write(2, f"{folder}: ended without a checkpoint; {GO_ON}\n".encode())
                os._exit(LIMIT_REACHED if late else INTERRUPTED)

    thread = threading.Thread(target=watch, name="stopping", daemon=True)
    thread.start()
    try:
        with preemption.heard():
            yield
    finally:
        over.set()
        thread.join()
