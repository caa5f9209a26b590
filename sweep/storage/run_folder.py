"""The run folder: every path, atomic writes, what is done, and who holds the lock.

The records here are the only truth about a sweep; what a scheduler believes is not consulted.
"""

import csv
import io
import os
import shutil
import socket
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from sweep.gridfile.schema import Grid
from sweep.plan import trials
from sweep.plan.trials import Trial
from trainers import files

PLAN_COLUMNS: list[str] = [
    "key", "parent", "stage", "arm", "learning_rate", "batch_size", "lr_bs_ratio", "seed",
    "steps", "examples", "disk_bytes", "folder",
]  # fmt: skip


REMOVED = "weights_removed.json"
"""Says why a trial that was trained has no weights any more."""


CALIBRATION = "calibration.json"
"""What --calibrate has measured on this machine, perhaps before there is a run."""

MARK = "mirror.json"
"""In the mirror of a run that lies in an object store: the run's URL."""


class RunHeld(Exception):
    """Another driver is at work on the run folder."""


class RunFolder:
    def __init__(self, path: Path):
        self.path = path.absolute()

    @property
    def data(self) -> Path:
        return self.path / "data"

    def choice(self, stage: str) -> Path:
        """Which parent was chosen for a stage with `parent: best`."""
        return self.path / "choices" / f"{stage}.json"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    def trial(self, trial: Trial) -> "TrialFolder":
        return TrialFolder(self.path / "trials" / trial.folder)

    def held(self) -> bool:
        """Whether a driver says that it is at work here; not one of this machine that is gone."""
        holder = files.read_json(self.path / Lock.HOLDER)
        if holder is None:
            return False
        return holder.get("host") != socket.gethostname() or lives(holder["pid"])

    @property
    def mirror_of(self) -> str | None:
        """URL of the run in an object store that this is the mirror of; None where it is the run
        itself."""
        mark = files.read_json(self.path / MARK)
        return mark and mark["url"]

    def problem(self, url: str | None = None) -> str | None:
        """Why this is no place for a run, or for the mirror of the run at `url`; None where it is
        one.

        `--runs` may be a link; the run's own folder may not, since its name alone would lead out of
        there.
        """
        if self.path.is_symlink():
            leads = os.readlink(self.path)
            return f"{self.path}: a link to {leads}; remove it, or give --runs another place"
        for place in (self.path, *self.path.parents):
            if place.exists() or place.is_symlink():
                if not place.is_dir():
                    return f"{place}: is not a folder; remove it, or give --runs another place"
                if not os.access(place, os.W_OK | os.X_OK):
                    return f"{place}: may not be written to; give --runs another place"
                return self._other_run(url)
        return None

    def _other_run(self, url: str | None) -> str | None:
        is_of = self.mirror_of
        if is_of == url:
            return None
        if is_of is not None:
            runs = is_of.rpartition("/")[0]
            return f"{self.path}: is the mirror of {is_of}; give --runs {runs}, or rename the grid"
        if self.path.exists() and any(f.name != CALIBRATION for f in self.path.iterdir()):
            return (
                f"{self.path}: holds a run of its own, and would have to be the mirror of {url}; "
                "rename the grid, or work from another folder"
            )
        return None

    def lock(self) -> "Lock":
        return Lock(self.path)

    def write_plan(self, grid: Grid, planned: list[Trial]) -> None:
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
        stream = io.StringIO()
        yaml.dump(grid.declared, stream)
        files.write_text(self.path / "grid.yaml", stream.getvalue())
        files.write_text(self.path / "plan.csv", plan_csv(planned))
        for trial in planned:
            if not trial.waits:
                self.trial(trial).write_identity(trial)


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
        if not (self.path / "trial.json").exists():
            record = trial.model_dump(mode="json") | {
                "model": trial.model.name,
                "model_revision": trial.model.revision,
                "kind": trial.spec.kind if trial.spec else trial.stage,
            }
            files.write_json(self.path / "trial.json", record)

    def training(self) -> dict[str, Any] | None:
        """train.json, or None while training has not ended."""
        return files.read_json(self.path / "train.json")

    def trained(self) -> bool:
        """Whether training has ended, well or not."""
        return (self.path / "train.json").exists()

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

    def failures(self) -> int:
        """How often training or evaluation failed since it last ended well.

        Being blocked by a parent, or cut off from the object store, does not count.
        """
        count = 0
        for event in self.attempts():
            if event["event"] == "done":
                count = 0
            elif event["event"] == "failed" and event.get("phase") in ("train", "evaluate"):
                count += 1
        return count

    def memory_kills(self) -> int:
        """Attempts that ended without a word while their machine killed for want of memory."""
        count, before = 0, None
        for event in self.attempts():
            if event["event"] in ("done", "failed") and not event.get("killed"):
                before = None
            elif event["event"] == "started":
                if before is not None and before["host"] == event["host"]:
                    then, now = (one.get("memory_kills_here") for one in (before, event))
                    count += then is not None and now is not None and now > then
                before = event
        return count

    def failed(self) -> bool:
        """Whether the latest attempt that ended failed."""
        ended = [event for event in self.attempts() if event["event"] in ("done", "failed")]
        return bool(ended) and ended[-1]["event"] == "failed"

    def log_attempt(self, event: str, **facts: Any) -> None:
        files.append_events(self.path / "attempts.jsonl", [{"event": event, **facts}])


class Lock:
    """Held by the one driver of a run folder; the system lets go of it when the driver dies."""

    HOLDER = "driver.json"

    def __init__(self, folder: Path):
        self._holder = folder / self.HOLDER
        self._lock = FileLock(folder / "driver.lock")

    def __enter__(self) -> "Lock":
        self._holder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            holder = files.read_json(self._holder) or {}
            raise RunHeld(
                f"{self._holder.parent}: held by process {holder.get('pid', '?')} on "
                f"{holder.get('host', '?')} since {holder.get('since', '?')}; wait for it, or "
                "stop it"
            ) from error
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": files.now()}
        files.write_json(self._holder, facts)
        return self

    def __exit__(self, *_: Any) -> None:
        self._holder.unlink(missing_ok=True)
        self._lock.release()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def plan_csv(planned: list[Trial]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, PLAN_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for trial in planned:
        spec = trial.spec
        facts = {"key": trial.key, "parent": trial.parent, "stage": trial.stage, "arm": trial.arm}
        if spec is not None:
            facts |= {"learning_rate": spec.learning_rate, "batch_size": spec.batch_size}
            facts |= {"lr_bs_ratio": trial.lr_bs_ratio, "seed": spec.seed}
        row: dict[str, Any] = {**facts, **trials.cost(trial)._asdict(), "folder": trial.folder}
        writer.writerow(row)
    return stream.getvalue()
