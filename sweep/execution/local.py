"""Trials one after another in this process, for tests, laptops and pdb."""

from sweep.execution import remote_trial, trial
from sweep.execution.job import Job, Outcome, Watch
from sweep.execution.trial import TrialFailed
from sweep.schedule.queue import Frontier
from trainers import devices


def run(frontier: Frontier, jobs: dict[str, Job], retries: int, watch: Watch) -> None:
    """Run every trial of the frontier; a failed one is tried `retries` more times and then left.

    CUDA looks at what is visible once in a process, so all of them see what the largest asks for.
    """
    with devices.seeing(max((job.gpus for job in jobs.values()), default=0.0)):
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
