"""A search: the cells of the searched stage, and a queue that holds them back until the study
(`search`) proposes them."""

import itertools
from pathlib import Path

import numpy as np

from analysis.design import space
from analysis.design.space import Tried, diverging
from sweep.gridfile.keys.schema import Grid
from sweep.plan.evaluations import WantedByStage, named
from sweep.plan.trials import Trial
from sweep.schedule.pools.pool import Pool, PoolQueue
from sweep.schedule.pools.search import Cell, Study, ordered
from sweep.schedule.queue import Pending
from sweep.storage.ranking import primary_score
from sweep.storage.run_folder import RunFolder
from trainers import files
from trainers.specs.identity import identity


class SearchPool(Pool[Cell]):
    """The cells of the searched stage, their trials, and their results in the records."""

    def __init__(self, grid: Grid, planned: list[Trial], folder: RunFolder, wants: WantedByStage):
        assert grid.search is not None, "the grid asks for no search"
        self.settings = grid.search
        stage = next(stage for stage in grid.stages.values() if stage.searched_axes)
        self.axes = {key: ordered(values) for key, values in stage.searched_axes.items()}
        self.objective = named(wants[stage.name], self.settings.objective)
        by_spec = {_mark(trial): trial for trial in planned if trial.stage == stage.name}
        cells: dict[Cell, list[Trial]] = {}
        placed = set()
        for values, (_, spec) in zip(
            itertools.product(*stage.axes.values()), stage.cells, strict=True
        ):
            given = dict(zip(stage.axes, values, strict=True))
            trial = by_spec[str(identity(spec))]
            if trial.key not in placed:
                placed.add(trial.key)
                cell = tuple(places.index(given[key]) for key, places in self.axes.items())
                cells.setdefault(cell, []).append(trial)
        super().__init__(cells, planned, folder, self.settings.trials)

    def queue(self, pending: Pending) -> "SearchQueue":
        return SearchQueue(self, pending, self._folder.path / "search" / "study.log")

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


class SearchQueue(PoolQueue[Cell]):
    """A queue that holds back the searched cells until the study proposes them."""

    def __init__(self, pool: SearchPool, pending: Pending, path: Path | None = None):
        """`path` is the file of the study. Cells begun by an earlier start continue first."""
        super().__init__(pool, pending, pool.settings.at_once)
        self._results = pool.result
        keys = sorted(trial.key for trials in pool.cells.values() for trial in trials)
        self._study = Study(
            pool.axes,
            pool.settings,
            maximize=pool.objective.higher_is_better,
            path=path,
            name=files.short_hash(keys, pool.objective.fingerprint),
        )
        ended = {cell: pool.result(cell) for cell in sorted(self._asked - self._open)}
        self._status = {cell: status for cell, (_, status) in ended.items()}
        self._samples_by_chance = pool.settings.sampler == "random"
        self._study.agree(ended, self._open)

    def choose(self) -> Cell | None:
        return self._study.propose(self._likely())

    def entered(self, cell: Cell) -> None:
        self._study.start(cell)

    def left(self, cell: Cell) -> None:
        value, status = self._results(cell)
        self._status[cell] = status
        self._study.tell(cell, value, status)

    def _likely(self) -> list[Cell]:
        """The cells that would probably train, by those that have ended; all of them where none
        would, and for chance, which is the baseline."""
        if self._samples_by_chance:
            return list(self._held)
        ended = [Tried(self._design(cell), status) for cell, status in self._status.items()]
        held = list(self._held)
        bad = diverging([self._design(cell).setting for cell in held], ended)
        return [cell for cell, diverges in zip(held, bad, strict=True) if not diverges] or held

    def _design(self, cell: Cell) -> space.Cell:
        spec = self._pool.cells[cell][0].spec
        assert spec is not None, "a cell is trained"
        return space.Cell(spec.learning_rate, spec.batch_size, spec.seed)
