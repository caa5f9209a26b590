"""What a run has cost so far, from its records, at the grid's `price.gpu_hour` and `cpu_hour`.

An attempt costs what it holds for as long as it holds it; trials that are trained in one pass share
that. What a rented machine costs while it
waits between trials is not known here.
"""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sweep.gridfile.keys.resources import TrialResources
from sweep.gridfile.keys.schema import Grid, Pricing
from sweep.plan.trials import Trial
from sweep.price.money import hourly
from sweep.storage import durations
from sweep.storage.run_folder import GRID, RunFolder
from sweep.storage.trial_folder import PASS, TrialFolder
from trainers import files

RECORD = "cost.json"
"""In the run folder: what the report and programs read of it, and what trials whose folders are
deleted later have cost."""


class Spent(NamedTuple):
    """Of a run so far."""

    gpu_hours: float
    cpu_hours: float
    cost: float | None
    """None where the grid names no price of an hour."""
    currency: str

    @property
    def words(self) -> str:
        kind, hours = ("GPU", self.gpu_hours) if self.gpu_hours else ("CPU", self.cpu_hours)
        used = f"{hours:,.2f} {kind} hours" if hours >= 0.1 else f"{3600 * hours:.0f} {kind} s"
        return used if self.cost is None else f"{self.cost:,.2f} {self.currency} ({used})"


class Spending:
    """The cost of a run while its driver is at work: earlier starts by their records, this one by
    the clock."""

    def __init__(self, grid: Grid, folder: RunFolder, clock: Callable[[], float] = time.monotonic):
        self._grid = grid
        self._clock = clock
        before = so_far(folder.path, price=grid.price) if folder.path.exists() else None
        self._spent = (before and before.cost) or 0.0
        self._running: dict[str, tuple[float, str, int]] = {}
        """Trial -> when its attempt began, its stage, and how many trials share what it holds."""

    def started(self, trial: Trial, lanes: int = 1) -> None:
        """An attempt at so many trials in one pass."""
        self.ended(trial.key)
        self._running[trial.key] = (self._clock(), trial.stage, lanes)

    def ended(self, key: str) -> float:
        """Returns what the attempt has cost."""
        cost = self._of(key)
        self._spent += cost
        self._running.pop(key, None)
        return cost

    def now(self) -> float:
        """In the grid's currency."""
        return self._spent + sum(map(self._of, self._running))

    def running(self) -> dict[str, float]:
        """Running trials -> what each has cost so far in this attempt."""
        return {key: self._of(key) for key in self._running}

    def _of(self, key: str) -> float:
        if key not in self._running:
            return 0.0
        started, stage, lanes = self._running[key]
        hours = (self._clock() - started) / 3600 / lanes
        return hours * (hourly(self._grid.price, self._grid.trial_resources(stage)) or 0.0)


def so_far(run_dir: Path, price: Pricing | None = None) -> Spent:
    """Of all attempts at the trials of a run folder, those that run at this moment included, and of
    deleted ones as far as `cost.json` has them, at one price: that of the grid that the folder has
    where none is given."""
    return _priced(price or _price(run_dir), *_sum(run_dir, _counts(run_dir)))


Counts = dict[str, dict[str, Any]]
"""Trial -> when its first attempt began, and the GPU and CPU seconds that its attempts held."""

SECONDS = ("gpu_seconds", "cpu_seconds")


def _counts(run_dir: Path) -> Counts:
    held, counts = _held(run_dir), Counts()
    for folder in run_dir.glob("trials/*"):
        identity = files.read_json(folder / "trial.json") or files.read_json(folder / PASS) or {}
        asked = held(str(identity.get("stage", "")))
        trial = TrialFolder(folder)
        if attempts := trial.attempts():
            spent = durations.held(trial, attempts, asked.gpus_per_trial, asked.cpus_per_trial)
            counts[str(identity.get("key", folder.name))] = {
                "since": attempts[0].get("time"),
                **dict(zip(SECONDS, (spent.gpu_seconds, spent.cpu_seconds), strict=True)),
            }
    return counts


def _sum(run_dir: Path, counts: Counts) -> list[float]:
    """`SECONDS` of all trials, deleted ones included."""
    parts = [*counts.values(), _deleted(run_dir, counts)]
    return [sum(part[name] for part in parts) for name in SECONDS]


def _deleted(run_dir: Path, counts: Counts) -> dict[str, float]:
    """`SECONDS` of trials whose folders are there no more, or anew."""
    record = run_dir / RECORD
    before = files.read_json(record) or {}
    with files.shaped(record):
        parts = [before["deleted"]] if "deleted" in before else []
        for key, part in before.get("trials", {}).items():
            if counts.get(key, {}).get("since") != part["since"]:
                parts.append(part)
        return {name: sum(float(part[name]) for part in parts) for name in SECONDS}


def at_price_of(run_dir: Path, gpu_seconds: float, cpu_seconds: float) -> Spent:
    """What device time costs at the prices of a run's grid."""
    return _priced(_price(run_dir), gpu_seconds, cpu_seconds)


def _priced(price: Pricing, gpu_seconds: float, cpu_seconds: float) -> Spent:
    gpu_hours, cpu_hours = gpu_seconds / 3600, cpu_seconds / 3600
    if price.gpu_hour is None and price.cpu_hour is None:
        return Spent(gpu_hours, cpu_hours, None, price.currency)
    cost = gpu_hours * (price.gpu_hour or 0.0) + cpu_hours * (price.cpu_hour or 0.0)
    return Spent(gpu_hours, cpu_hours, cost, price.currency)


def _declared(run_dir: Path) -> dict[str, Any]:
    path = run_dir / GRID
    try:
        return YAML(typ="safe", pure=True).load(path) or {} if path.exists() else {}
    except (YAMLError, ValueError) as error:
        raise files.Damaged(f"{path}: cannot be read ({error}); put it back") from error


def _price(run_dir: Path) -> Pricing:
    with files.shaped(run_dir / GRID):
        return Pricing.model_validate(_declared(run_dir).get("price") or {})


def write(run_dir: Path) -> Spent:
    """Leave `cost.json` in the run folder; returns what it says."""
    counts = _counts(run_dir)
    spent = _priced(_price(run_dir), *_sum(run_dir, counts))
    parts = {"trials": counts, "deleted": _deleted(run_dir, counts)}
    files.write_json(run_dir / RECORD, spent._asdict() | {"words": spent.words} | parts)
    return spent


def _held(run_dir: Path) -> Callable[[str], TrialResources]:
    """Stage -> what a trial of it holds, where an attempt does not say: by the manifest, which has
    the screening runs too; of a run before that had it, by the grid file."""
    declared, manifest = _declared(run_dir), RunFolder(run_dir).manifest
    recorded = files.read_json(manifest) or {}

    @cache
    def held(stage: str) -> TrialResources:
        with files.shaped(manifest):
            if of_stage := recorded.get("stages", {}).get(stage, {}).get("resources"):
                gpus, cpus = of_stage["gpus"], of_stage["cpus"]
                return TrialResources(gpus_per_trial=gpus, cpus_per_trial=cpus)
        with files.shaped(run_dir / GRID):
            return _resources(declared, stage)

    return held


def _resources(declared: dict[str, Any], stage: str) -> TrialResources:
    """As the grid file has them: the stage's own keys over the grid's."""
    known = TrialResources.model_fields.keys()
    of_stage = (declared.get("stages") or {}).get(stage) or {}
    both = (declared.get("resources") or {}) | (of_stage.get("resources") or {})
    return TrialResources.model_validate({key: both[key] for key in both.keys() & known})
