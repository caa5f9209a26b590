"""How long the attempts at a trial have lasted, by its records."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sweep.storage.trial_folder import TrialFolder
from trainers import files
from trainers.attempt import SIGNS

ENDS = ("done", "failed", "stopped", "superseded", "trained", "unbundled")
ATTEMPTS = "attempts.jsonl"


def seconds(trial: TrialFolder, now: float) -> float:
    """Of all attempts; `now` is the time since the epoch.

    Raises:
        Damaged: an event has no time.
    """
    with files.shaped(trial.path / ATTEMPTS):
        return sum(seconds for seconds, _ in _each(trial, now))


def held(trial: TrialFolder, now: float) -> float:
    """Seconds for which the trial has held what a trial is given: of a pass over several, its share
    of them.

    Raises:
        Damaged: an event has no time.
    """
    with files.shaped(trial.path / ATTEMPTS):
        return sum(seconds / lanes for seconds, lanes in _each(trial, now))


def last_sign(trial: TrialFolder) -> float | None:
    """When an attempt was last heard of, in seconds since the epoch; None where none was."""
    times = []
    for name in (SIGNS, ATTEMPTS):
        with contextlib.suppress(OSError):
            times.append((trial.path / name).stat().st_mtime)
    return max(times, default=None)


def _each(trial: TrialFolder, now: float) -> Iterator[tuple[float, int]]:
    """Seconds and lanes of each attempt. One that left no end, as where its process was killed,
    lasted until its last sign."""
    end = last_sign(trial) or now
    began: float | None = None
    lanes = 1
    for event in trial.attempts():
        if event["event"] == "started":
            if began is not None:
                yield max(0.0, min(time_of(event), end) - began), lanes
            began, lanes = time_of(event), max(1, int(event.get("lanes", 1)))
        elif event["event"] in ENDS and began is not None:
            yield float(event.get("seconds") or max(0.0, time_of(event) - began)), lanes
            began = None
    if began is not None:
        yield max(0.0, end - began), lanes


def time_of(event: dict[str, Any]) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(event["time"]).timestamp()
