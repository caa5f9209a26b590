"""events.jsonl in the run folder: a line per event, oldest first, from all starts of the command.

| event | when | beside `event`, `time`, `seconds`, `host`, `pid` |
|---|---|---|
| begun, ended | the command | `planned`, `done`, `to_go` and, of those, the keys that failed before and are tried `again`, of its first wave; `duration`, a count per state, and the `reason` where a limit ended it |
| planned | a trial is in the plan, with its parent, for the first time | `key`, `trial` |
| chosen | `decide` has asked for a trial | `key`, `trial`, `reason` |
| screened | what the screening runs of `decide.fidelity` say, and whether that stands | `reason` |
| decided | `decide` has stopped | `reason`, with what it leaves undecided; `stopped_by`: `answered`, `budget` or `no_cell`; `trials`, the budget |
| started | its first attempt of this start | `key`, `trial` |
| retried | a further attempt | `key`, `trial`, `reason` of the one before |
| done, failed, stopped | its end; one that was stopped goes on at the next start | `key`, `trial`, `status`, `reason`, `duration` from `started`, and of that `train_seconds` and `eval_seconds` |

`time` is the wall clock's. `seconds` are those since `begun`, and every duration is a monotonic
clock's: a clock that is set back shows in `time` alone. The one writer is the driver, so lines
never mix, whatever file system the nodes share; attempts.jsonl of each trial has what its workers
wrote themselves. A driver that was killed leaves no `ended`.
"""  # noqa: E501  (a table)

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.plan.trials import Trial
from trainers import files


class Events:
    """The events of one start of the command."""

    def __init__(self, path: Path):
        self._path = path
        self._zero = time.monotonic()
        self._begun = False
        self._started: dict[str, float] = {}

    def begun(
        self, trials: Iterable[Trial], done: int, to_go: int, again: Sequence[str] = ()
    ) -> None:
        """Told of each wave; later ones bring only trials whose parent is known now. One that still
        waits for that has not its own key yet."""
        planned = list(trials)
        known = {event.get("key") for event in read(self._path) if event["event"] == "planned"}
        if not self._begun:
            self._begun = True
            facts = {"planned": len(planned), "done": done, "to_go": to_go, "again": list(again)}
            self._write([("begun", facts)])
        fresh = [trial for trial in planned if not trial.waits and trial.key not in known]
        self._write([("planned", _named(trial)) for trial in fresh])

    def started(self, trial: Trial) -> None:
        """Told of each attempt; only the first is an event of its own."""
        if trial.key not in self._started:
            self._started[trial.key] = time.monotonic()
            self._write([("started", _named(trial))])

    def retried(self, trial: Trial, reason: str) -> None:
        self._write([("retried", _named(trial) | {"reason": reason})])

    def ended(
        self, trial: Trial, status: str, reason: str, train_seconds: float, eval_seconds: float
    ) -> None:
        started = self._started.pop(trial.key, None)
        facts = _named(trial) | {
            "status": status,
            "reason": reason,
            "duration": None if started is None else round(time.monotonic() - started, 3),
            "train_seconds": round(train_seconds, 3),
            "eval_seconds": round(eval_seconds, 3),
        }
        self._write([(status if status in ("failed", "stopped") else "done", facts)])

    def chosen(self, trial: Trial, reason: str) -> None:
        self._write([("chosen", _named(trial) | {"reason": reason})])

    def screened(self, reason: str) -> bool:
        """Whether it was not told before, by another start."""
        told = {event["reason"] for event in read(self._path) if event["event"] == "screened"}
        if reason not in told:
            self._write([("screened", {"reason": reason})])
        return reason not in told

    def decided(self, reason: str, stopped_by: str, trials: int) -> None:
        """Told at the end of each start; written where it is not what was written last."""
        told = [event for event in read(self._path) if event["event"] in ("chosen", "decided")]
        facts = {"reason": reason, "stopped_by": stopped_by, "trials": trials}
        if not told or told[-1]["event"] != "decided" or told[-1] | facts != told[-1]:
            self._write([("decided", facts)])

    def finished(self, states: Mapping[str, int], reason: str = "") -> None:
        """`reason` is the limit that leaves trials to another start, if one does."""
        duration = round(time.monotonic() - self._zero, 3)
        facts = {"duration": duration, "states": dict(states), "reason": reason}
        self._write([("ended", facts)])

    def _write(self, events: list[tuple[str, dict[str, Any]]]) -> None:
        seconds = round(time.monotonic() - self._zero, 3)
        files.append_events(self._path, [{"event": e, **f, "seconds": seconds} for e, f in events])


def read(path: Path) -> list[dict[str, Any]]:
    """Events, oldest first; a line that was cut off by a crash is left out."""
    return files.read_events(path)


def _named(trial: Trial) -> dict[str, Any]:
    return {"key": trial.key, "trial": trial.title}
