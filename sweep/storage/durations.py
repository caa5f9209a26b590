"""How long the attempts at a trial have lasted, by its records."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sweep.storage.trial_folder import TrialFolder
from trainers import files
from trainers.attempt import SIGNS

ENDS = ("done", "failed", "stopped", "superseded", "trained", "unbundled")
ATTEMPTS = "attempts.jsonl"


class Held(NamedTuple):
    """What the attempts at a trial have held, and for how long; of a pass over several, the
    trial's share."""

    seconds: float
    gpu_seconds: float
    cpu_seconds: float


def seconds(trial: TrialFolder, now: float) -> float:
    """Of all attempts; `now` is the time since the epoch.

    Raises:
        Damaged: an event has no time.
    """
    with files.shaped(trial.path / ATTEMPTS):
        return sum(seconds for seconds, _ in _each(trial, now))


def held(trial: TrialFolder, now: float, gpus: float, cpus: float) -> Held:
    """`gpus` and `cpus` are those of an attempt whose record does not say what it held.

    Raises:
        Damaged: an event has no time.
    """
    sums = [0.0, 0.0, 0.0]
    with files.shaped(trial.path / ATTEMPTS):
        for seconds, started in _each(trial, now):
            share = seconds / max(1, int(started.get("lanes", 1)))
            holds = started.get("holds", {"gpus": gpus, "cpus": cpus})
            for place, count in enumerate((1.0, holds["gpus"], holds["cpus"])):
                sums[place] += share * count
    return Held(*sums)


def last_sign(trial: TrialFolder) -> float | None:
    """When an attempt was last heard of, in seconds since the epoch; None where none was."""
    times = []
    for name in (SIGNS, ATTEMPTS):
        with contextlib.suppress(OSError):
            times.append((trial.path / name).stat().st_mtime)
    return max(times, default=None)


def _each(trial: TrialFolder, now: float) -> Iterator[tuple[float, dict[str, Any]]]:
    """Seconds of each attempt, and the event of its start. One that left no end, as where its
    process was killed, lasted until its last sign."""
    end = last_sign(trial) or now
    began: dict[str, Any] | None = None
    for event in trial.attempts():
        if event["event"] == "started":
            if began is not None:
                yield max(0.0, min(time_of(event), end) - time_of(began)), began
            began = event
        elif event["event"] in ENDS and began is not None:
            yield float(event.get("seconds") or max(0.0, time_of(event) - time_of(began))), began
            began = None
    if began is not None:
        yield max(0.0, end - time_of(began)), began


def time_of(event: dict[str, Any]) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(event["time"]).timestamp()
