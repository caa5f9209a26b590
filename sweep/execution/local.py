"""Trials one after another in this process, for tests, laptops and pdb."""

import os

from sweep.execution import remote_trial, trial
from sweep.execution.job import Job, Outcome, Watch
from sweep.execution.trial import TrialFailed
from sweep.schedule.queue import Frontier


def run(frontier: Frontier, jobs: dict[str, Job], retries: int, watch: Watch) -> None:
    """Run every trial of the frontier; a failed one is tried `retries` more times and then left."""
    if all(job.ranks == 1 for job in jobs.values()):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # TRL refuses several in one process
    while (planned := frontier.next()) is not None:
        watch.started(planned.key)
        watch.ended(_attempt(jobs[planned.key], retries, watch))
        frontier.ended(planned.key)


def _attempt(job: Job, retries: int, watch: Watch) -> Outcome:
    for left in range(retries, -1, -1):
        try:
            with remote_trial.here(job) as mine:
                return trial.run(mine)
        except TrialFailed as error:
            if left == 0:
                return Outcome(job.trial.key, "failed", str(error), 0, 0)
            watch.retried(job.trial.key)
    raise AssertionError("retries is not negative")
