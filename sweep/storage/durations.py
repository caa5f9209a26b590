"""How long the attempts at a trial have lasted, by its records."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sweep.storage.trial_folder import TrialFolder
from trainers import files
from trainers.processes.attempt import signed_at

ENDS = ("done", "failed", "stopped", "superseded", "trained", "unbundled")
ATTEMPTS = "attempts.jsonl"


class Held(NamedTuple):
    """What the attempts at a trial have held, and for how long; of a pass over several, the
    trial's share."""

    ran: float
    """Seconds of the attempts, whoever shared them."""
    seconds: float
    gpu_seconds: float
    cpu_seconds: float


class Attempt(NamedTuple):
    """One attempt, by its events."""

    seconds: float
    started: dict[str, Any]
    ended: dict[str, Any]
    """Empty where it left no end."""

    @property
    def share(self) -> float:
        """Its seconds; of a pass over several trials, the trial's share of them."""
        return self.seconds / max(1, int(self.started.get("lanes", 1)))


def held(trial: TrialFolder, attempts: Sequence[dict[str, Any]], gpus: float, cpus: float) -> Held:
    """By the events of all attempts. `gpus` and `cpus` are those of an attempt whose record does
    not say what it held.

    Raises:
        Damaged: an event is not what was written, as one without a time.
    """
    sums = [0.0, 0.0, 0.0, 0.0]
    with files.shaped(trial.path / ATTEMPTS):
        for attempt in each(trial, attempts):
            holds = attempt.started.get("holds", {"gpus": gpus, "cpus": cpus})
            sums[0] += attempt.seconds
            for place, count in enumerate((1.0, holds["gpus"], holds["cpus"]), 1):
                sums[place] += attempt.share * count
    return Held(*sums)


def last_sign(trial: TrialFolder, attempts: Sequence[dict[str, Any]]) -> float:
    """When the latest attempt was last heard of, in seconds since the epoch."""
    return max(time_of(attempts[-1]), signed_at(trial.path) or 0.0)


def each(trial: TrialFolder, attempts: Sequence[dict[str, Any]]) -> Iterator[Attempt]:
    """Oldest first. One that left no end, as where its process was killed, lasted until its last
    sign; one that ran before `previous_sign` was recorded, until the next began.

    Raises:
        Damaged: an event is not what was written, as one without a time.
    """
    with files.shaped(trial.path / ATTEMPTS):
        yield from _each(trial, attempts)


def _each(trial: TrialFolder, attempts: Sequence[dict[str, Any]]) -> Iterator[Attempt]:
    began: dict[str, Any] | None = None
    heard = 0.0
    for event in attempts:
        if began is None and event["event"] != "started":
            continue
        at = time_of(event)
        if event["event"] == "started":
            if began is not None:
                heard = max(heard, event.get("previous_sign", at) or 0.0)
                yield Attempt(max(0.0, min(at, heard) - time_of(began)), began, {})
            began = event
        elif event["event"] in ENDS and began is not None:
            seconds = float(event.get("seconds") or max(0.0, at - time_of(began)))
            yield Attempt(seconds, began, event)
            began = None
        heard = at
    if began is not None:
        yield Attempt(max(0.0, last_sign(trial, attempts) - time_of(began)), began, {})


def time_of(event: dict[str, Any]) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(event["time"]).timestamp()
