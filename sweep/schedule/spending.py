"""What a run has cost so far, from its records, at the grid's `price.gpu_hour` and `cpu_hour`.

An attempt costs what it holds for as long as it holds it; trials that are trained in one pass share
that. What a rented machine costs while it waits between trials is not known here.
"""

import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
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

SECONDS = ("gpu_seconds", "cpu_seconds")
"""Of a share, in the record."""

ResourcesOf = Callable[[str], TrialResources]
"""Stage -> what a trial of it holds, where an attempt does not say."""


class Spent(NamedTuple):
    """Of a run so far."""

    gpu_hours: float
    cpu_hours: float
    price: Pricing

    @property
    def cost(self) -> float | None:
        """None where the grid names no price of an hour."""
        price = self.price
        if price.gpu_hour is None and price.cpu_hour is None:
            return None
        gpus = self.gpu_hours * (price.gpu_hour or 0.0)
        return gpus + self.cpu_hours * (price.cpu_hour or 0.0)

    @property
    def record(self) -> dict[str, float | str | None]:
        """For programs."""
        hours = {"gpu_hours": self.gpu_hours, "cpu_hours": self.cpu_hours}
        return hours | {"cost": self.cost, "currency": self.price.currency}

    @property
    def words(self) -> str:
        kind, hours = ("GPU", self.gpu_hours) if self.gpu_hours else ("CPU", self.cpu_hours)
        used = f"{hours:,.2f} {kind} hours" if hours >= 0.1 else f"{3600 * hours:.0f} {kind} s"
        return used if self.cost is None else f"{self.cost:,.2f} {self.price.currency} ({used})"

    def of(self, gpu_seconds: float, cpu_seconds: float) -> "Spent":
        """Other device time at the same price."""
        return Spent(gpu_seconds / 3600, cpu_seconds / 3600, self.price)


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
    return Spent(0.0, 0.0, price or _price(run_dir)).of(*Attempts(run_dir).seconds())


class Share(NamedTuple):
    """What the attempts at one trial have held."""

    key: str
    since: str | None
    """When the first of them began."""
    gpu_seconds: float
    cpu_seconds: float

    @property
    def seconds(self) -> dict[str, float]:
        """As the record has them."""
        return dict(zip(SECONDS, (self.gpu_seconds, self.cpu_seconds), strict=True))


def _sum(shares: Iterable[Share]) -> tuple[float, float]:
    """GPU seconds and CPU seconds."""
    every = list(shares)
    return sum(share.gpu_seconds for share in every), sum(share.cpu_seconds for share in every)


class Attempts:
    """All attempts under trials/ of a run folder, the reference passes and those at trials that
    are in the plan no more among them; those that are over are read once."""

    def __init__(self, run_dir: Path):
        self._run_dir = run_dir
        self._over: dict[str, tuple[tuple[int, int], Share]] = {}
        """Of a folder when its attempts changed and their size, and what they held."""

    def seconds(self, but: Container[str] = ()) -> tuple[float, float]:
        """GPU seconds and CPU seconds that they have held, those of deleted trials included; `but`
        those in the folders of these names."""
        shares = self.shares()
        parts = [share for name, share in shares.items() if name not in but]
        return _sum([*parts, _deleted(self._run_dir, shares.values())])

    def shares(self) -> dict[str, Share]:
        """By the names of the folders."""
        held = cache(lambda: _held(self._run_dir))
        shares = {
            folder.name: self._of(folder, held)
            for folder in self._run_dir.glob("trials/*")
            if (folder / durations.ATTEMPTS).exists()
        }
        return {name: share for name, share in shares.items() if share is not None}

    def _of(self, folder: Path, held: Callable[[], ResourcesOf]) -> Share | None:
        stat = (folder / durations.ATTEMPTS).stat()
        stamp = stat.st_mtime_ns, stat.st_size
        known = self._over.get(folder.name)
        if known is not None and known[0] == stamp:
            return known[1]
        trial = TrialFolder(folder)
        if not (events := trial.attempts()):
            return None
        identity = files.read_json(folder / "trial.json") or files.read_json(folder / PASS) or {}
        asked = held()(str(identity.get("stage", "")))
        spent = durations.held(trial, events, asked.gpus_per_trial, asked.cpus_per_trial)
        key, since = str(identity.get("key", folder.name)), events[0].get("time")
        share = Share(key, since, spent.gpu_seconds, spent.cpu_seconds)
        if events[-1]["event"] in durations.ENDS:
            self._over[folder.name] = stamp, share
        return share


def _deleted(run_dir: Path, there: Iterable[Share]) -> Share:
    """What trials have held whose folders are there no more, or anew.

    Raises:
        Damaged: `cost.json` is not what was written.
    """
    since = {share.key: share.since for share in there}
    record = run_dir / RECORD
    with _costly(), files.shaped(record):
        before = files.read_json(record) or {}
        parts = [before["deleted"]] if "deleted" in before else []
        for key, part in before.get("trials", {}).items():
            if key not in since or since[key] != part["since"]:
                parts.append(part)
        gpu, cpu = (sum(float(part[name]) for part in parts) for name in SECONDS)
    return Share("", None, gpu, cpu)


@contextmanager
def _costly() -> Iterator[None]:
    """Says what is lost with the record that cannot be read."""
    try:
        yield
    except files.Damaged as error:
        lost = "what deleted trials have cost is then forgotten"
        raise files.Damaged(f"{error}; {lost}") from error


def at_price_of(run_dir: Path, gpu_seconds: float, cpu_seconds: float) -> Spent:
    """What device time costs at the prices of a run's grid."""
    return Spent(0.0, 0.0, _price(run_dir)).of(gpu_seconds, cpu_seconds)


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
    shares = Attempts(run_dir).shares().values()
    deleted = _deleted(run_dir, shares)
    spent = Spent(0.0, 0.0, _price(run_dir)).of(*_sum([*shares, deleted]))
    parts = {
        "trials": {share.key: {"since": share.since, **share.seconds} for share in shares},
        "deleted": deleted.seconds,
    }
    files.write_json(run_dir / RECORD, spent.record | {"words": spent.words} | parts)
    return spent


def _held(run_dir: Path) -> ResourcesOf:
    """By the manifest, which has the screening runs too; of a run before that had it, by the grid
    file."""
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
