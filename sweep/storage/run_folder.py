"""The run folder: every path, atomic writes, what is done, and who holds the lock.

The records here are the only truth about a sweep; what a scheduler believes is not consulted.
"""

import csv
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML

from analysis.tables.errors import ResultsError
from analysis.tables.records import run_folder as records
from sweep.gridfile.keys.schema import Grid
from sweep.plan import trials
from sweep.plan.prepared import preparations
from sweep.plan.trials import Trial
from sweep.storage import driver_signs, leftovers
from sweep.storage.driver_lock import FolderLock
from sweep.storage.driver_signs import Driver
from sweep.storage.trial_folder import TrialFolder
from trainers import files
from trainers.files import Damaged

PLAN_COLUMNS: list[str] = [
    "key", "parent", "stage", "arm", "learning_rate", "batch_size", "lr_bs_ratio", "seed",
    "steps", "examples", "disk_bytes", "folder",
]  # fmt: skip


LAYOUT = 1
"""Of a run folder, as its manifest says. Raised when today's code would misread what is written
from then on; docs/run.md has the rule."""

GRID = "grid.yaml"
"""What the grid file declares, overrides included."""

CALIBRATION = "calibration.json"
"""What --calibrate has measured on this machine, perhaps before there is a run."""

MARK = "mirror.json"
"""In the mirror of a run that lies in an object store: the run's URL."""


T = TypeVar("T", bound=Trial)


class RunFolder:
    def __init__(self, path: Path):
        self.path = path.absolute()

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def choices(self) -> Path:
        return self.path / "choices"

    def choice(self, stage: str) -> Path:
        """Which parent was chosen for a stage with `parent: best`."""
        return self.choices / f"{stage}.json"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def calibration(self) -> Path:
        return self.path / CALIBRATION

    def trial(self, trial: Trial) -> "TrialFolder":
        return TrialFolder(self.path / "trials" / trial.folder)

    def kept(self, planned: Iterable[T]) -> list[T]:
        """The same trials, each in the folder that it has already: by its key, whatever stage and
        arm an earlier plan had it in.

        Raises:
            Damaged: two folders are of one trial, or a trial.json was edited.
        """
        try:
            deque(records.trials(self.path), maxlen=0)
        except ResultsError as error:
            raise Damaged(str(error)) from error
        names: dict[str, set[str]] = {}
        for path in self.path.glob("trials/*-*"):
            names.setdefault(path.name.rpartition("-")[2], set()).add(path.name)
        return [
            trial
            if trial.folder in (has := names.get(trial.key, {trial.folder}))
            else trial.model_copy(update={"kept_in": min(has)})
            for trial in planned
        ]

    def driver(self) -> Driver:
        """Whether a driver is at work on the run."""
        return driver_signs.of(self.path)

    @property
    def mirror_of(self) -> str | None:
        """URL of the run in an object store that this is the mirror of; None where it is the run
        itself."""
        mark = files.read_json(self.path / MARK)
        return mark and mark["url"]

    def to_delete(self, path: Path) -> str:
        """How to name a path below this folder to whoever is to delete it: as the store has it,
        where this is a mirror, to which what is deleted here alone comes back."""
        name, url = path.absolute().relative_to(self.path).as_posix(), self.mirror_of
        return f"{name} of the run" if url is None else f"{url}/{name}"

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
                return self._other_run(url) or self.newer()
        return None

    def newer(self) -> str | None:
        """Why this code cannot read the folder: a later one has written it; None where it can."""
        written = (files.read_json(self.manifest) or {}).get("layout", LAYOUT)
        if isinstance(written, int) and written <= LAYOUT:
            return None
        return (
            f"{self.manifest}: written by a later version (layout {written}; this one reads up to "
            f"{LAYOUT}): update the code, or work in another folder"
        )

    def _other_run(self, url: str | None) -> str | None:
        is_of = self.mirror_of
        if is_of == url:
            return None
        if is_of is not None:
            runs = is_of.rpartition("/")[0]
            return f"{self.path}: is the mirror of {is_of}; give --runs {runs}, or rename the grid"
        if self.path.exists() and any(not _before_a_plan(f.name) for f in self.path.iterdir()):
            return (
                f"{self.path}: holds a run of its own, and would have to be the mirror of {url}; "
                "rename the grid, or work from another folder"
            )
        return None

    def lock(self, say: Callable[[str], None] = print) -> FolderLock:
        return FolderLock(self.path, say)

    def write_plan(self, grid: Grid, planned: list[Trial]) -> None:
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
        stream = io.StringIO()
        yaml.dump(grid.declared, stream)
        files.write_text(self.path / GRID, stream.getvalue())
        self.extend_plan(planned, planned)

    def extend_plan(self, planned: Sequence[Trial], fresh: Iterable[Trial]) -> None:
        """plan.csv of all that are planned, and trial.json of those that are `fresh`."""
        files.write_text(self.path / "plan.csv", plan_csv(planned, self.data))
        for trial in fresh:
            if not trial.waits:
                self.trial(trial).write_identity(trial)


def _before_a_plan(name: str) -> bool:
    """Whether a start that came to no plan may have left this; such a folder holds no run yet."""
    return name in (CALIBRATION, "data", *leftovers.BEFORE_THE_PLAN) or files.is_part(name)


def plan_csv(planned: Sequence[Trial], data: Path | None = None) -> str:
    """Rows that were counted in `data`, where it was prepared, replace estimates."""
    known = preparations(planned, data) if data else {}
    counts = {key: preparation.total for key, preparation in known.items()}
    stream = io.StringIO()
    writer = csv.DictWriter(stream, PLAN_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for trial in planned:
        spec = trial.spec
        facts = {"key": trial.key, "parent": trial.parent, "stage": trial.stage, "arm": trial.label}
        if spec is not None:
            facts |= {"learning_rate": spec.learning_rate, "batch_size": spec.batch_size}
            facts |= {"lr_bs_ratio": trial.lr_bs_ratio, "seed": spec.seed}
        cost = trials.cost(trial, counts.get(trial.key))
        row: dict[str, Any] = {**facts, **cost._asdict(), "folder": trial.folder}
        writer.writerow(row)
    return stream.getvalue()
