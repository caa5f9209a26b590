"""Looks from the driver at the signs of running trials, and ends what shows none.

A worker that hangs ends itself (`watchdog`); one that is stopped, swapped out, or on a machine that
does not answer cannot. So the driver waits a little longer than the worker would, but no longer
than resources.stalled_minutes, records the failure and kills the process.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweep.execution import stop_request
from sweep.execution.job import Job
from sweep.storage.trial_folder import TrialFolder
from trainers.processes.attempt import last_sign

LOOK_SECONDS = 2.0

GRACE_SECONDS = 30.0
"""Longer than the worker's own time limit, or as long again where that is less."""

KILL_SECONDS = 60.0
"""After which a process that is still there is killed again."""

STOP_SECONDS = 60.0
"""For a running trial to save a checkpoint when it is asked to stop."""


class Supervisor:
    """Of the trials that run at this moment."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        kill: Callable[[dict[str, Any]], None],
        reached: Callable[[], str] = lambda: "",
        sees: Callable[[], bool] = lambda: True,
    ):
        """`kill` ends the process of an attempt, given its `started` event. Once `reached` says
        which limit of the run is reached, running trials are asked to stop. While `sees` says
        that their signs do not come here, none that is missing counts against a trial."""
        self._jobs = jobs
        self._kill = kill
        self._reached = reached
        self._sees = sees
        self._over_since = math.inf
        self._running: dict[str, _Running] = {}
        self._looked = -math.inf

    def started(self, key: str, lanes: int = 1) -> None:
        """An attempt at so many trials in one pass."""
        self._running[key] = _Running(self._jobs[key], lanes)

    def ended(self, key: str) -> None:
        self._running.pop(key, None)

    @property
    def is_over(self) -> bool:
        """Whether no attempt may go on."""
        return bool(self._reached())

    @property
    def running(self) -> list[str]:
        return list(self._running)

    def look(self) -> None:
        """To be called often; looks every few seconds."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        over = self._reached()
        self._over_since = min(self._over_since, now) if over else math.inf
        if not self._sees():
            for trial in self._running.values():
                trial.unseen(now)
        for trial in self._running.values():
            if why := trial.look(now, over, self._over_since):
                event, facts = why
                trial.end(now, event, facts, self._kill)

    def ask_all_to_stop(self, reason: str) -> None:
        for trial in self._running.values():
            stop_request.ask(trial.job, reason)


class _Running:
    """One running trial."""

    def __init__(self, job: Job, lanes: int):
        self.job = job
        self.folder = TrialFolder(Path(job.folder))
        self._limits = job.limits.of_lanes(lanes)
        self._begun = self._changed = time.monotonic()
        self._sign = last_sign(self.folder.path)
        self._killed = -math.inf
        self._asked = False

    def unseen(self, now: float) -> None:
        """Whether it gives signs cannot be known now."""
        self._changed = now

    def look(self, now: float, over: str, since: float) -> tuple[str, dict[str, Any]] | None:
        """The event that ends it, with its facts; None where it may go on. `over`: the limit of the
        run that has been reached, `since` a time."""
        latest = last_sign(self.folder.path)
        if latest != self._sign:
            self._sign, self._changed = latest, now
        limits = self._limits
        silent = now - self._changed
        if silent > limits.silent_seconds_outside:
            reason = f"{limits.why_stalled(silent)}, and the process did not end by itself"
            return "failed", {"reason": reason, "stalled": True}
        if now - self._begun > _late(limits.hard_seconds):
            reason = f"over the time limit of {limits.max_seconds:.0f} s (limits.max_trial_hours)"
            return "failed", {"reason": reason, "out_of_time": True}
        if over and not self._asked:
            self._asked = True
            stop_request.ask(self.job, over)
        if now > since + STOP_SECONDS:
            return "stopped", {"reason": f"{over}; ended without a checkpoint"}
        return None

    def end(
        self,
        now: float,
        event: str,
        facts: dict[str, Any],
        kill: Callable[[dict[str, Any]], None],
    ) -> None:
        """Record it, once, and kill the process."""
        if now - self._killed < KILL_SECONDS:
            return
        if self._killed == -math.inf:
            phase = self.folder.phase
            facts = facts | {"reason": f"{phase}: {facts['reason']}", "phase": phase}
            self.folder.log_attempt(event, progress=self.folder.progress(), **facts)
        self._killed = now
        started = [event for event in self.folder.attempts() if event["event"] == "started"]
        if started:
            kill(started[-1])


def _late(seconds: float) -> float:
    return seconds + min(GRACE_SECONDS, seconds)
