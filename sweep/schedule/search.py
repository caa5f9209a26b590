"""Which cells to run next in a search with Optuna. The only `import optuna`.

A sampler sees an axis as the indices 0, 1, 2, ... of its ordered values and proposes one cell at a
time; for a cell that was proposed before, the nearest unused one is taken. The study in the run
folder serves restarts and optuna-dashboard; where it differs from the records, it is rebuilt from
them.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import qmc

from sweep.gridfile.axes import Scalar
from sweep.gridfile.schema import Grid, Search
from sweep.plan.evaluations import WantedByStage, named
from sweep.plan.trials import Trial
from sweep.schedule.queue import TrialQueue
from sweep.storage.ranking import primary_score
from sweep.storage.run_folder import RunFolder
from trainers import files
from trainers.specs.identity import identity

Cell = tuple[int, ...]
"""An index on each searched axis, into its ordered values."""

FIRST_CELLS = 5
"""A Latin hypercube over the grid before the sampler proposes; not for `random`."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """An Optuna study of the cells, and the sampler's next proposal."""

    def __init__(
        self,
        axes: dict[str, tuple[Scalar, ...]],
        settings: Search,
        *,
        maximize: bool,
        path: Path | None = None,
        name: str = "search",
    ):
        """`path` is the file of the study, in memory without one; `axes` hold ordered values."""
        self.axes = axes
        self._settings = settings
        self._distributions = {key: _distribution(values) for key, values in axes.items()}
        self._direction: Literal["maximize", "minimize"] = "maximize" if maximize else "minimize"
        self._name = name
        self._storage = _open(path) if path is not None else None
        self._study = self._create()

    def propose(self, free: Collection[Cell]) -> Cell:
        """The cell of `free` that is nearest to the sampler's proposal."""
        proposal = self._proposal()
        return min(free, key=lambda cell: (self._distance(cell, proposal), cell))

    def start(self, cell: Cell) -> None:
        self._study.add_trial(self._trial(cell, TrialState.RUNNING))

    def tell(self, cell: Cell, value: float | None, status: str) -> None:
        """Record how a cell ended. For Optuna a cell without a value has failed, if diverged
        too."""
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        running = [trial for trial in self._trials(TrialState.RUNNING) if self._cell(trial) == cell]
        if not running:
            self._study.add_trial(self._trial(cell, state, value, status))
            return
        optuna.Trial(self._study, running[0]._trial_id).set_user_attr("status", status)
        self._study.tell(running[0].number, value, state=state)

    def agree(self, records: dict[Cell, tuple[float | None, str]], running: set[Cell]) -> None:
        """Bring the study into line with the records of every started cell."""
        values = {cell: value for cell, (value, _) in records.items()}
        for trial in self._trials(TrialState.COMPLETE):
            if values.get(self._cell(trial)) != trial.value:
                optuna.delete_study(study_name=self._name, storage=self._study._storage)
                self._study = self._create()
                break
        recorded = {(self._cell(trial), trial.value) for trial in self._trials(*_FINISHED)}
        for cell, (value, status) in records.items():
            if (cell, value) not in recorded:
                self.tell(cell, value, status)
        for trial in self._trials(TrialState.RUNNING):
            if self._cell(trial) not in running:
                self.tell(self._cell(trial), None, "never started")

    def _create(self) -> optuna.Study:
        # This study's own sampler proposes nothing, so it is the cheapest one.
        return optuna.create_study(
            study_name=self._name,
            storage=self._storage,
            direction=self._direction,
            sampler=optuna.samplers.RandomSampler(),
            load_if_exists=True,
        )

    def _proposal(self) -> Cell:
        """The sampler's next cell, used or not; the same after a restart."""
        asked = len(self._trials())
        if self._settings.sampler != "random" and asked < FIRST_CELLS:
            return self._spread()[asked]
        shown = optuna.create_study(direction=self._direction, sampler=self._sampler(asked))
        shown.add_trials(self._shown())
        params = shown.ask(self._distributions).params
        return tuple(params[key] for key in self.axes)

    def _spread(self) -> list[Cell]:
        """A Latin hypercube over the axes."""
        sizes = [len(values) for values in self.axes.values()]
        cube = qmc.LatinHypercube(len(sizes), rng=self._settings.seed, optimization="random-cd")
        places = (cube.random(FIRST_CELLS) * sizes).astype(int)
        return [tuple(map(int, row)) for row in places]

    def _sampler(self, asked: int) -> optuna.samplers.BaseSampler:
        seed = (self._settings.seed * 1_000_003 + asked) % 2**32
        match self._settings.sampler:
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=FIRST_CELLS)
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_CELLS)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)

    def _shown(self) -> list[FrozenTrial]:
        """The study for the sampler. Samplers ignore failed trials and would propose the neighbours
        of diverged cells again and again, so these count as the worst value seen."""
        values = [trial.values[0] for trial in self._trials(TrialState.COMPLETE)]
        if not values:
            return self._trials()
        worst = min(values) if self._direction == "maximize" else max(values)
        return [
            self._trial(self._cell(trial), TrialState.COMPLETE, worst, "diverged")
            if trial.user_attrs.get("status") == "diverged"
            else trial
            for trial in self._trials()
        ]

    def _distance(self, cell: Cell, other: Cell) -> float:
        """Euclidean, in shares of each axis's length; words all have the same distance."""
        total = 0.0
        for here, there, (key, values) in zip(cell, other, self.axes.items(), strict=True):
            ordered = isinstance(self._distributions[key], IntDistribution)
            step = abs(here - there) / (len(values) - 1) if ordered else float(here != there)
            total += step**2
        return math.sqrt(total)

    def _trial(
        self, cell: Cell, state: TrialState, value: float | None = None, status: str = ""
    ) -> FrozenTrial:
        facts: dict[str, Any] = {
            key: values[place] for place, (key, values) in zip(cell, self.axes.items(), strict=True)
        }
        return create_trial(
            state=state,
            value=value,
            params=dict(zip(self.axes, cell, strict=True)),
            distributions=self._distributions,
            user_attrs=facts | ({"status": status} if status else {}),
        )

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _cell(self, trial: FrozenTrial) -> Cell:
        return tuple(trial.params[key] for key in self.axes)


_FINISHED = (TrialState.COMPLETE, TrialState.FAIL)


def ordered(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    """Numbers in rising order, words in the order of the file."""
    values = tuple(values)
    return tuple(sorted(values)) if _are_numbers(values) else values  # type: ignore[type-var]


def _are_numbers(values: tuple[Scalar, ...]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _distribution(values: tuple[Scalar, ...]) -> BaseDistribution:
    if _are_numbers(values):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution(tuple(range(len(values))))


def _open(path: Path) -> JournalStorage:
    """Open the study's file; a damaged one is renamed. Only the holder of the run folder's lock
    calls this, so a lock file that a killed driver left can be removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        path.replace(path.with_name(f"{path.name}.damaged"))  # cut off in the middle of a line
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, KeyError):
        path.replace(path.with_name(f"{path.name}.damaged"))
        return JournalStorage(JournalFileBackend(str(path)))


class Pool:
    """The cells of the searched stage, their trials, and their results in the records."""

    def __init__(self, grid: Grid, planned: list[Trial], folder: RunFolder, wants: WantedByStage):
        assert grid.search is not None, "the grid asks for no search"
        self.settings = grid.search
        stage = next(stage for stage in grid.stages.values() if stage.searched_axes)
        self.axes = {key: ordered(values) for key, values in stage.searched_axes.items()}
        self.objective = named(wants[stage.name], self.settings.objective)
        self._folder = folder
        by_spec = {_mark(trial): trial for trial in planned if trial.stage == stage.name}
        self.cells: dict[Cell, list[Trial]] = {}
        self.cell_of: dict[str, Cell] = {}
        """Key of a trial -> its cell; trials that start from a cell's trial belong to the cell
        too."""
        for values, (_, spec) in zip(
            itertools.product(*stage.axes.values()), stage.cells, strict=True
        ):
            given = dict(zip(stage.axes, values, strict=True))
            trial = by_spec[str(identity(spec))]
            if trial.key not in self.cell_of:
                cell = tuple(places.index(given[key]) for key, places in self.axes.items())
                self.cells.setdefault(cell, []).append(trial)
                self.cell_of[trial.key] = cell
        self.parent = next(iter(by_spec.values())).parent or ""
        for trial in planned:  # parents come before children
            if trial.parent in self.cell_of:
                self.cell_of[trial.key] = self.cell_of[trial.parent]
        self.budget = min(self.settings.trials, len(self.cells))

    def started(self) -> set[Cell]:
        """Cells that any start of the command has begun."""
        return {
            cell
            for cell, trials in self.cells.items()
            if any(self._folder.trial(trial).attempts() for trial in trials)
        }

    def passed_over(self) -> frozenset[str]:
        """Keys of the trials that the search will never run; none until it has started its whole
        number of cells."""
        started = self.started()
        if len(started) < self.budget:
            return frozenset()
        return frozenset(key for key, cell in self.cell_of.items() if cell not in started)

    def total(self, planned: list[Trial]) -> int:
        """How many of the `planned` trials will exist once the search has ended."""
        cells = max(self.budget, len(self.started()))
        per_cell = len(self.cell_of) // len(self.cells)
        return len(planned) - (len(self.cells) - cells) * per_cell

    def result(self, cell: Cell) -> tuple[float | None, str]:
        """Mean of the objective over seeds, None unless each has one; and the status."""
        folders = [self._folder.trial(trial) for trial in self.cells[cell]]
        if any((folder.training() or {}).get("status") == "diverged" for folder in folders):
            return None, "diverged"
        scores = [primary_score(folder, self.objective.record) for folder in folders]
        if not all(scores):
            return None, "failed"
        return float(np.mean([score["value"] for score in scores])), "ok"


def _mark(trial: Trial) -> str:
    assert trial.spec is not None, "only `base` has no spec"
    return str(identity(trial.spec))


class SearchQueue(TrialQueue):
    """A queue that holds back the searched cells until the study proposes them."""

    def __init__(
        self,
        pool: Pool,
        pending: Iterable[Trial],
        usable: Callable[[str], bool],
        may_start: Callable[[], bool] = lambda: True,
        affords: Callable[[Trial], bool] = lambda trial: True,
        path: Path | None = None,
    ):
        """`path` is the file of the study. Cells begun by an earlier start continue first."""
        started = pool.started()
        pending = list(pending)
        now = [t for t in pending if t.key not in pool.cell_of or pool.cell_of[t.key] in started]
        super().__init__(now, usable, may_start, affords)
        self._pool = pool
        self._held: dict[Cell, list[Trial]] = {}
        for trial in pending:
            cell = pool.cell_of.get(trial.key)
            if cell is not None and cell not in started:
                self._held.setdefault(cell, []).append(trial)
        self._asked = started
        self._open = {cell for cell in started if self._unfinished(cell)}
        keys = sorted(trial.key for trials in pool.cells.values() for trial in trials)
        self._study = Study(
            pool.axes,
            pool.settings,
            maximize=pool.objective.higher_is_better,
            path=path,
            name=files.short_hash(keys, pool.objective.fingerprint),
        )
        ended = {cell: pool.result(cell) for cell in sorted(started - self._open)}
        self._study.agree(ended, self._open)
        self._entered = set(started)

    def next(self) -> Trial | None:
        trial = super().next()
        while trial is None and self._may_ask():
            cell = self._study.propose(self._held)
            self._asked.add(cell)
            self._open.add(cell)
            self.waiting.update({held.key: held for held in self._held.pop(cell)})
            trial = super().next()
        return trial

    def ended(self, key: str) -> None:
        super().ended(key)
        cell = self._pool.cell_of.get(key)
        if cell in self._open and not self._unfinished(cell):
            self._open.remove(cell)
            self._study.tell(cell, *self._pool.result(cell))

    @property
    def exhausted(self) -> bool:
        return self.stopped or (not self.waiting and not self._asks_left())

    def _hand_out(self, trial: Trial) -> Trial | None:
        given = super()._hand_out(trial)
        cell = self._pool.cell_of.get(trial.key)
        if given is not None and cell is not None and cell not in self._entered:
            self._entered.add(cell)
            self._study.start(cell)
        return given

    def _unfinished(self, cell: Cell) -> bool:
        keys = {trial.key for trial in self._pool.cells[cell]}
        return bool(keys & (self.waiting.keys() | self.running))

    def _parent_to_come(self) -> bool:
        return self._pool.parent in self.waiting or self._pool.parent in self.running

    def _asks_left(self) -> bool:
        """Where the parent of the cells has no weights, one cell is handed out and blocked, so
        that the reason is recorded."""
        return (
            bool(self._held)
            and len(self._asked) < self._pool.budget
            and (self._parent_to_come() or self._usable(self._pool.parent) or not self.blocked)
        )

    def _may_ask(self) -> bool:
        at_once = self._pool.settings.at_once
        return (
            not self.stopped
            and not self.held_back
            and not self._parent_to_come()
            and self._asks_left()
            and (at_once is None or len(self._open) < at_once)
        )
