"""The folder of one trial: its paths, its records, and what they say of its attempts."""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.tables.records.run_folder import REMOVED, due
from sweep.plan.trials import Trial
from trainers import files
from trainers.files import Damaged
from trainers.specs.optimizer import READERS
from trainers.specs.training import TrainingSpec

PASS = "reference_pass.json"
"""Tells the folder of a reference pass from a trial's: which pass it is."""

OF_THE_WORK = ("train", "evaluate", "reference")
"""Phases of an attempt whose failures are not those of machines."""


class TrainRecord(BaseModel):
    """What has to hold of train.json; its other figures are the trainer's."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    status: Literal["ok", "diverged"]
    reason: str = ""
    steps: int = Field(default=0, ge=0)


class TrialFolder:
    def __init__(self, path: Path):
        self.path = path

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """Of a training that has not ended."""
        return self.path / "checkpoints"

    def write_identity(self, trial: Trial) -> None:
        """trial.json; of one that is there, the place in the plan of now."""
        path = self.path / "trial.json"
        place = {
            "stage": trial.stage,
            "arm": trial.arm,
            "kind": trial.spec.kind if trial.spec else trial.stage,
        }
        before = files.read_json(path)
        record = before or trial.model_dump(mode="json") | {
            "spec": None if trial.spec is None else settings_of(trial.spec),
            "model": trial.model.name,
            "model_revision": trial.model.revision,
        }
        if before is None or before | place != before:
            files.write_json(path, record | place)

    def training(self) -> dict[str, Any] | None:
        """train.json, or None while training has not ended.

        Raises:
            Damaged: it cannot be read, or holds what no training leaves.
        """
        path = self.path / "train.json"
        record = files.read_json(path)
        if record is not None:
            try:
                TrainRecord.model_validate(record)
            except ValidationError as error:
                first = error.errors()[0]
                at = ".".join(map(str, first["loc"])) or "the record"
                raise Damaged(
                    f"{path}: {at}: {first['msg']}; delete it to train the trial anew"
                ) from error
        return record

    def weights_name(self, key: str) -> str:
        """Of the weights of this training; those of another one of the same trial, whose folder was
        deleted, have another name. Records from before names were given have none."""
        return " ".join(filter(None, (key, (self.training() or {}).get("weights"))))

    def trained(self) -> bool:
        """Whether training has ended, well or not."""
        return (self.path / "train.json").exists()

    @property
    def phase(self) -> str:
        """What an attempt is at now."""
        if (self.path / PASS).exists():
            return "reference"
        return "evaluate" if self.trained() else "train"

    def usable(self) -> bool:
        """Whether training has ended with weights; `has_weights` says whether they are there."""
        record = self.training()
        return record is not None and record["status"] == "ok"

    def has_weights(self) -> bool:
        return self.model.exists()

    def weights_removed(self) -> str | None:
        """Why the weights were removed on purpose; None where they were not."""
        record = files.read_json(self.path / REMOVED)
        return None if record is None else record["reason"]

    def remove_weights(self, reason: str) -> None:
        """The marker first: what is cut off here is gone on the next look."""
        files.write_json(self.path / REMOVED, {"reason": reason, "time": files.now()})
        aside = self.path / ".model.removed.part"
        shutil.rmtree(aside, ignore_errors=True)
        self.model.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def weights_written(self) -> None:
        (self.path / REMOVED).unlink(missing_ok=True)

    def scores(self, fingerprint: str) -> Path:
        return self.path / "scores" / f"{fingerprint}.json"

    def scored(self) -> set[str]:
        """Benchmarks of which a score is there, under whatever settings."""
        records = (files.read_json(path) or {} for path in self.path.glob("scores/*.json"))
        return {str(record.get("benchmark")) for record in records}

    def due(self, evaluations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of evaluations as the manifest has them, those that the trial has or can get
        (`analysis.tables.records.run_folder.due`)."""
        return due(self.path, evaluations)

    def missing(self, fingerprints: list[str]) -> list[str]:
        return [mark for mark in fingerprints if not self.scores(mark).exists()]

    def done(self, fingerprints: list[str]) -> bool:
        """Training has ended and each wanted evaluation has its file; a diverged model has no
        scores."""
        record = self.training()
        if record is None:
            return False
        return record["status"] == "diverged" or not self.missing(fingerprints)

    def attempts(self) -> list[dict[str, Any]]:
        """Events of all attempts, oldest first; a line that was cut off by a crash is left out."""
        return files.read_events(self.path / "attempts.jsonl")

    def progress(self) -> list[int]:
        """What a further attempt would not do again; a greater one is further: whether training
        has ended, the newest checkpoint's step, the number of scores."""
        scores = sum(1 for _ in (self.path / "scores").glob("*.json"))
        return [int(self.trained()), self.checkpoint_steps()[0], scores]

    def checkpoint_steps(self) -> list[int]:
        """Steps that training can go on from, the newest first; the last is 0, the beginning."""
        names = [path.name for path in self.checkpoints.glob("step-*")]
        steps = {int(name[5:]) for name in names if name[5:].isdecimal()}
        return sorted({0, *steps}, reverse=True)

    def failures(self, setting: str | None = None, fingerprints: list[str] | None = None) -> int:
        """Failures of training or evaluation since it last ended well that count against retries.

        Not those of another training setting than `setting`, nor those before an evaluation among
        `fingerprints` was asked for: what has been mended since is tried anew.

        Not those of machines: being blocked by a parent, cut off from the object store or out of
        disk; nor a process that died or stalled after its trial had got further than any attempt
        before it, as when a node is preempted. Nor those of a pass over several trials: each of
        them is tried alone after that.
        """
        count, furthest = 0, [0, 0, 0]
        required = set(self.missing(fingerprints or []))
        started: dict[str, Any] = {}
        for event in self.attempts():
            if event["event"] == "done":
                count = 0
            elif event["event"] == "started":
                started = event
            elif _is_mended(event, started, setting, required) or _is_of_pass(event, started):
                continue
            elif event["event"] == "failed" and event.get("phase") in OF_THE_WORK:
                progress = event.get("progress", furthest)
                machine = event.get("died") or event.get("stalled")
                count += not (machine and progress > furthest)
                furthest = max(furthest, progress)
        return count

    def died_in_a_pass(self) -> bool:
        """Whether its latest attempt was one lane of several, and its process died: perhaps as
        some of them had their checkpoints of a step and others not yet."""
        events = self.attempts()
        begun = [place for place, event in enumerate(events) if event["event"] == "started"]
        if not begun or events[begun[-1]].get("lanes", 1) == 1:
            return False
        return not any(e["event"] in ("stopped", "unbundled") for e in events[begun[-1] :])

    def fruitless_passes(self) -> int:
        """Attempts as one of several lanes whose process died, and that have brought the trial no
        further than it is now."""
        count, begun, here = 0, False, self.progress()
        for event in self.attempts():
            if event["event"] == "started":
                begun = event.get("lanes", 1) > 1 and event.get("progress") == here
                count += begun
            elif event["event"] in ("unbundled", "stopped") and begun:
                begun = False
                count -= 1
        return count

    def memory_kills(self) -> int:
        """Attempts that died without a reason while their machine killed for want of memory, and
        times that a training began again with half the token budget within an attempt."""
        count, before = 0, None
        for event in self.attempts():
            count += bool(event.get("of_memory"))  # on another of its nodes
            count += event["event"] == "halved"
            if event["event"] in ("done", "failed", "trained", "unbundled") and not (
                event.get("killed") or event.get("died")
            ):
                before = None
            elif event["event"] == "started":
                if before is not None and before["host"] == event["host"]:
                    then, now = (record.get("memory_kills_here") for record in (before, event))
                    count += then is not None and now is not None and now > then
                before = event
        return count

    def failed(self) -> bool:
        """Whether the latest attempt that ended failed."""
        return has_failed(self.attempts())

    def last_step(self) -> dict[str, Any]:
        """The last whole line of metrics.jsonl; empty where there is none, or none that reads."""
        try:
            with open(self.path / "metrics.jsonl", "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - 4096, 0))
                lines = file.read().split(b"\n")[:-1]
                return json.loads(lines[-1]) if lines else {}
        except (OSError, ValueError):
            return {}

    def log_attempt(self, event: str, **facts: Any) -> None:
        files.append_events(self.path / "attempts.jsonl", [{"event": event, **facts}])


def has_failed(attempts: Sequence[dict[str, Any]]) -> bool:
    """`TrialFolder.failed`, by events that were read before."""
    ended = [event["event"] for event in attempts if event["event"] in ("done", "failed")]
    return bool(ended) and ended[-1] == "failed"


def _is_mended(
    failure: dict[str, Any], started: dict[str, Any], setting: str | None, missing: set[str]
) -> bool:
    """Whether what an attempt failed of is no longer what a further one would do."""
    if failure.get("phase") in ("train", "reference"):
        return setting is not None and started.get("setting", setting) != setting
    before = started.get("missing")
    return before is not None and not missing <= set(before)


def _is_of_pass(failure: dict[str, Any], started: dict[str, Any]) -> bool:
    """Whether it says nothing of what the trial would come to alone."""
    return started.get("lanes", 1) > 1 and not failure.get("out_of_time")


def settings_of(spec: TrainingSpec) -> dict[str, Any]:
    """All settings of a training as JSON has them, also those that identity leaves out while they
    have their defaults; of the optimizers' keys those that this one reads."""
    written = spec.model_dump(mode="json")
    names = [name for name in type(spec).model_fields if name not in written]
    read = [
        name
        for name in names
        if all(
            spec.optimizer in readers
            for start, readers in READERS.items()
            if name.startswith(start)
        )
    ]
    return written | {name: getattr(spec, name) for name in read}
