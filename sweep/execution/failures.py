"""What the driver says of attempts that failed: a reason where they left none, and their time."""

from collections.abc import Iterable

from sweep.execution.job import Outcome
from sweep.storage import durations
from sweep.storage.trial_folder import TrialFolder

WORKER_DIED = "the worker died (killed, or out of memory)"


def unrecorded(stored: bool) -> str:
    """Why an attempt failed that recorded no reason; `stored`: its records went through a store."""
    return f"{WORKER_DIED}, or could not reach the store" if stored else WORKER_DIED


def with_seconds(outcome: Outcome, folder: TrialFolder) -> Outcome:
    """Of a failure, with the seconds of its attempt: all of them those of the phase that failed."""
    events = folder.attempts() if outcome.status == "failed" else []
    latest = list(durations.each(folder, events))[-1:]
    if not latest or latest[0].ended is not events[-1]:
        return outcome
    name = "eval_seconds" if events[-1].get("phase") == "evaluate" else "train_seconds"
    return outcome._replace(**{name: latest[0].share})


def lost_seconds(folders: Iterable[TrialFolder], since: float) -> float:
    """Of attempts begun `since` then (seconds since the epoch) that failed or left no end; of a
    pass over several trials, the trial's share."""
    return sum(
        attempt.share
        for folder in folders
        for attempt in durations.each(folder, folder.attempts())
        if attempt.ended.get("event") in ("failed", "superseded", None)
        and durations.time_of(attempt.started) >= since
    )
