"""How long the attempts at a trial have lasted, by its records."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sweep.storage.trial_folder import TrialFolder
from trainers import files
from trainers.attempt import SIGNS

ENDS = ("done", "failed", "stopped", "superseded")
ATTEMPTS = "attempts.jsonl"


def seconds(trial: TrialFolder, now: float) -> float:
    """Of all attempts; `now` is the time since the epoch.

    Raises:
        Damaged: an event has no time.
    """
    with files.shaped(trial.path / ATTEMPTS):
        return sum(_each(trial, now))


def last_sign(trial: TrialFolder) -> float | None:
    """When an attempt was last heard of, in seconds since the epoch; None where none was."""
    times = []
    for name in (SIGNS, ATTEMPTS):
        with contextlib.suppress(OSError):
            times.append((trial.path / name).stat().st_mtime)
    return max(times, default=None)


def _each(trial: TrialFolder, now: float) -> Iterator[float]:
    """One that left no end, as where its process was killed, lasted until its last sign."""
    end = last_sign(trial) or now
    began: float | None = None
    for event in trial.attempts():
        if event["event"] == "started":
            if began is not None:
                yield max(0.0, min(_time(event), end) - began)
            began = _time(event)
        elif event["event"] in ENDS and began is not None:
            yield float(event.get("seconds") or max(0.0, _time(event) - began))
            began = None
    if began is not None:
        yield max(0.0, end - began)


def _time(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()
