"""What Ray's metrics say of a run, for Prometheus and Grafana (docs/launch/grafana.json).

The driver alone exports, from the records of the trials that run. Prometheus sees each name with
`ray_` before it.
"""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ray.util.metrics import Gauge

from sweep.execution.job import Job
from sweep.plan.reference_passes import ReferencePass
from sweep.schedule.queue import TrialQueue
from sweep.storage.trial_folder import TrialFolder

LOOK_SECONDS = 5.0

NAMES = {
    "sweep_trials": "Trials of this start of the command, by state; those waiting at most.",
    "sweep_steps": "Optimizer steps of a running trial.",
    "sweep_loss": "Training loss of a running trial's last step, in nats per token.",
    "sweep_tokens_per_second": "Training tokens per second of a running trial.",
}

STATES = ("waiting", "running", "ok", "diverged", "failed", "stopped")


class _Seen(NamedTuple):
    at: float
    tokens: float


class Metrics:
    """Told by the runner what becomes of trials, in all waves of a start of the command."""

    def __init__(self, grid: str):
        self._grid = grid
        self._jobs: dict[str, Job] = {}
        self._queue: TrialQueue | None = None
        self._states: dict[str, str] = {}
        self._seen: dict[str, _Seen] = {}
        self._looked = 0.0
        tags = {"sweep_trials": ("grid", "state")}
        self._gauges = {
            name: Gauge(name, text, tag_keys=tags.get(name, ("grid", "trial")))
            for name, text in NAMES.items()
        }

    def follow(self, queue: TrialQueue, jobs: Mapping[str, Job]) -> None:
        """The next wave."""
        self._queue = queue
        self._jobs |= jobs
        self._count()

    def began(self, key: str) -> None:
        self._states[key] = "running"
        self._seen.pop(key, None)
        self._count()

    def ended(self, key: str, status: str) -> None:
        """`waiting` where it is tried again."""
        self._states[key] = status
        self._set("sweep_tokens_per_second", key, 0.0)
        self._count()

    def look(self) -> None:
        """To be called often; looks every few seconds."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        self._count()  # or they would be forgotten
        for key, state in self._states.items():
            if state == "running":
                self._export(key, now)

    def _export(self, key: str, now: float) -> None:
        row = TrialFolder(Path(self._jobs[key].folder)).last_step()
        if "step" not in row:
            return
        self._set("sweep_steps", key, row["step"])
        if row.get("loss") is not None:
            self._set("sweep_loss", key, row["loss"])
        tokens = row.get("tokens") or 0
        before = self._seen.get(key)
        self._seen[key] = _Seen(now, tokens)
        if before is not None:
            rate = (tokens - before.tokens) / (now - before.at)
            self._set("sweep_tokens_per_second", key, max(rate, 0.0))
        elif row.get("seconds"):
            self._set("sweep_tokens_per_second", key, tokens / row["seconds"])

    def counts(self) -> Counter[str]:
        """State -> trials of this start; reference passes are none. Cells that a run chooses from
        wait as far as they may still be chosen."""
        counts = Counter(state for key, state in self._states.items() if not self._is_pass(key))
        if self._queue is not None:
            passes = sum(map(self._is_pass, self._queue.waiting))
            counts["waiting"] += max(self._queue.to_come - passes, 0)
            handed = self._queue.running - self._states.keys()  # Tune holds some before they begin
            counts["waiting"] += sum(not self._is_pass(key) for key in handed)
        return counts

    def _is_pass(self, key: str) -> bool:
        return isinstance(self._jobs[key].trial, ReferencePass)

    def _count(self) -> None:
        counts = self.counts()
        for state in STATES:
            tags = {"grid": self._grid, "state": state}
            self._gauges["sweep_trials"].set(counts[state], tags=tags)

    def _set(self, name: str, key: str, value: float) -> None:
        trial = self._jobs[key].trial.folder  # has the key: several trials may share all else
        self._gauges[name].set(value, tags={"grid": self._grid, "trial": trial})
