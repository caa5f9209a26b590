"""How a run stands, read from its run folder alone: neither the driver nor Ray is asked."""

import csv
import io
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from sweep.storage import durations, ranking
from sweep.storage.driver_signs import Driver
from sweep.storage.ranking import Scored
from sweep.storage.run_folder import RunFolder
from sweep.storage.status.again import Again
from sweep.storage.status.best_so_far import Best, BestSoFar, Identities
from sweep.storage.status.notes import Notes
from sweep.storage.status.starts import named_by_start
from sweep.storage.status.time_left import Left, time_left
from sweep.storage.trial_folder import TrialFolder, has_failed
from trainers import files
from trainers.files import Damaged

AT_REST = ("done", "failed", "stopped", "trained", "unbundled")
"""Events after which nobody is at work on a trial."""

STATES = ("ok", "diverged", "failed", "running", "planned")


class TrialStatus(NamedTuple):
    """One planned trial. `loss` in nats per token; `step` of `steps` optimizer steps."""

    key: str
    folder: str
    """Its name under trials/."""
    stage: str
    arm: str
    learning_rate: float | None
    batch_size: int | None
    seed: int | None
    state: str
    phase: str
    step: int | None
    steps: int | None
    loss: float | None
    steps_per_second: float | None
    tokens_per_second: float | None
    seconds: float
    """That its attempts have run so far, without waiting between them."""
    held: float
    """Of these, its share of the passes in which it is trained beside others."""
    gpu_seconds: float
    cpu_seconds: float
    """That share times what each attempt held."""
    lanes: int
    """Trials that its latest attempt trains in one pass."""
    gpus: float
    cpus: float
    """What it holds while it runs."""
    reason: str
    last_sign: float | None
    """Seconds since a running trial last showed progress."""
    stalled: bool
    """That is longer than it may be."""
    trained: float = 0.0
    """Share of the training that a further attempt would not do again."""
    scored: tuple[str, ...] = ()
    """Benchmarks that it has scores of."""
    again: bool = False
    """Whether the driver tries one that has failed again."""


class RunStatus(NamedTuple):
    name: str
    trials: list[TrialStatus]
    best: list[Best]
    left: Left | None
    """None where nothing runs, or no trial has ended yet to judge by."""
    driver: str
    """What there is to say of its driver (`driver_signs.py`); empty where all is well."""
    scores: dict[tuple[str, str], dict[str, Scored]]
    """(stage, benchmark) -> key of a trial that has ended -> its score."""
    notes: list[str]
    """What else there is to say (`notes.py`)."""

    @property
    def counts(self) -> dict[str, int]:
        states = Counter(trial.state for trial in self.trials)
        return {state: states[state] for state in STATES}


def _rows(plan: str) -> list[dict[str, str]]:
    """
    Raises:
        KeyError, ValueError: it is no plan.
    """
    rows = list(csv.DictReader(io.StringIO(plan)))
    for row in rows:
        for name in ("key", "folder", "stage", "arm", "learning_rate", "batch_size"):
            if row.get(name) is None:
                raise KeyError(name)
        _ = float(row["learning_rate"] or 0), int(row["batch_size"] or 0)
    return named_by_start(rows)


class Reader:
    """Reads a run folder again and again; what has ended is read once."""

    def __init__(self, path: Path, plan: str | None = None):
        """`plan` is the content of plan.csv where that is not written yet.

        Raises:
            FileNotFoundError: there is no plan.
            Damaged: the plan is not whole, or a later version has written the folder; `read` raises
                it of other records.
        """
        self.folder = RunFolder(path)
        if newer := self.folder.newer():
            raise Damaged(newer)
        self._ended: dict[str, TrialStatus] = {}
        self._scores: dict[tuple[str, str], dict[str, Scored]] = defaultdict(dict)
        self._identities = Identities(path / "trials")
        self._best = BestSoFar(self._identities)
        self._notes = Notes(path)
        self._again = Again(self.folder.events)
        self._scoring: dict[tuple[str, str], list[float]] = defaultdict(list)
        """(stage, benchmark) -> the seconds that the scores of each ended trial took."""
        self._plan_changed = 0
        self.rows = self._plan() if plan is None else _rows(plan)

    def _plan(self) -> list[dict[str, str]]:
        path = self.folder.path / "plan.csv"
        self._plan_changed = self._changed()
        text = path.read_bytes().decode("utf-8", errors="replace")
        if not text.endswith("\n"):
            raise Damaged(f"{path}: cut off; the command that runs the grid writes it anew")
        with files.shaped(path):
            return _rows(text)

    def _changed(self) -> int:
        """When the plan was written, which `decide` adds to; 0 of one that is not there yet."""
        path = self.folder.path / "plan.csv"
        return path.stat().st_mtime_ns if path.exists() else 0

    def read(self) -> RunStatus:
        if self._plan_changed != self._changed():
            self.rows = self._plan()
        manifest = files.read_json(self.folder.manifest) or {}
        driver = self.folder.driver()
        with files.shaped(self.folder.manifest):
            for stage in manifest.get("stages", {}).values():
                _ = stage.get("evaluations", []), stage.get("resources", {})
            stages = manifest.get("stages", {}).items()
            screens = {name for name, stage in stages if stage.get("screens")}
        self._identities.follow(self.rows)
        again = self._again.keys(driver)
        trials = [self._trial(row, manifest, driver) for row in self.rows]
        trials = [trial._replace(again=True) if trial.key in again else trial for trial in trials]
        with files.shaped(self.folder.manifest):
            left = time_left(trials, dict(stages), self._scoring)
        return RunStatus(
            name=manifest.get("name", self.folder.path.name),
            trials=trials,
            best=self._best.of(self.rows, self._scores, screens),
            left=left,
            driver=driver.told,
            scores=self._scores,
            notes=self._notes.lines(driver.at_work),
        )

    def _trial(self, row: dict[str, str], manifest: dict[str, Any], driver: Driver) -> TrialStatus:
        if row["key"] in self._ended:
            return self._ended[row["key"]]
        folder = TrialFolder(self.folder.path / "trials" / row["folder"])
        with files.shaped(folder.path):
            return self._read(row, folder, manifest, driver)

    def _read(
        self, row: dict[str, str], folder: TrialFolder, manifest: dict[str, Any], driver: Driver
    ) -> TrialStatus:
        stage = manifest.get("stages", {}).get(row["stage"], {})
        required = folder.due(stage.get("evaluations", []))
        resources = stage.get("resources", {})
        status = _status(row, folder, required, driver, resources)
        if status.state in ("ok", "diverged"):
            self._ended[status.key] = status
            self._notes.ended(folder, required)
            record = self._identities.record(row["key"])
            if record is not None and status.learning_rate is not None:
                trial = ranking.of_record(record, self._identities.record)
                if trial.key != status.key:
                    raise ValueError(f"trial.json is of {trial.key}, the plan has {status.key}")
                for want in required:
                    scores = self._scores[status.stage, want["benchmark"]]
                    scores[status.key] = ranking.with_score(trial, folder, want)
            for want in required if status.state == "ok" else ():
                record = files.read_json(folder.scores(want["fingerprint"])) or {}
                seconds = float(record.get("eval_seconds") or 0.0)
                self._scoring[status.stage, want["benchmark"]].append(seconds)
        return status


def _status(
    row: dict[str, str],
    folder: TrialFolder,
    required: list[dict[str, Any]],
    driver: Driver,
    resources: dict[str, float],
) -> TrialStatus:
    attempts = folder.attempts()
    training = folder.training()
    gpus, cpus = resources.get("gpus", 0.0), resources.get("cpus", 0.0)
    held = durations.held(folder, attempts, gpus, cpus)
    last = attempts[-1] if attempts else {}
    marks = {want["fingerprint"]: want["benchmark"] for want in required}
    missing = [] if training is None else folder.missing(list(marks))
    if training is not None and (training["status"] == "diverged" or not missing):
        state = training["status"]
    elif last and last["event"] not in AT_REST:
        begun = driver.at_work and durations.time_of(last) >= driver.since
        state = "running" if begun else "planned"
    else:
        state = "failed" if has_failed(attempts) else "planned"
    scored = () if training is None else tuple(marks[m] for m in marks if m not in missing)
    trained = 0.0 if training is None else 1.0
    if training is None and attempts and state != "running":
        trained = min(1.0, folder.checkpoint_steps()[0] / max(int(row["steps"] or 0), 1))
    step = folder.last_step() if state == "running" else {}
    seconds = step.get("seconds")
    sign = durations.last_sign(folder, attempts) if state == "running" else None
    silent = None if sign is None else max(0.0, driver.now - sign)
    started = next((e for e in reversed(attempts) if e["event"] == "started"), {})
    reason = (training or {}).get("reason", "") or (
        last.get("reason", "") if state == "failed" else ""
    )
    return TrialStatus(
        key=row["key"],
        folder=row["folder"],
        stage=row["stage"],
        arm=row["arm"],
        learning_rate=float(row["learning_rate"]) if row["learning_rate"] else None,
        batch_size=int(row["batch_size"]) if row["batch_size"] else None,
        seed=int(row["seed"]) if row["seed"] else None,
        state=state,
        phase="evaluate" if training else "train",
        step=step.get("step"),
        steps=int(row["steps"]) if row["steps"] else None,
        loss=step.get("loss"),
        steps_per_second=step["step"] / seconds if seconds else None,
        tokens_per_second=step.get("tokens", 0) / seconds if seconds else None,
        seconds=held.ran,
        held=held.seconds,
        gpu_seconds=held.gpu_seconds,
        cpu_seconds=held.cpu_seconds,
        lanes=started.get("lanes", 1),
        gpus=gpus,
        cpus=cpus,
        reason=reason,
        last_sign=silent,
        stalled=silent is not None and silent > (started.get("stalled_seconds") or math.inf),
        trained=trained,
        scored=scored,
    )
