"""Cells that a run chooses from as results come in, and a queue that holds them back until then.

`search` (Optuna) and `decide` say what a cell is and which one is next.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from analysis.tables.records.decided import Stop
from sweep.plan.trials import Trial
from sweep.schedule.queue import Pending, TrialQueue
from sweep.storage.run_folder import RunFolder

C = TypeVar("C", bound=Hashable)


class Pool(ABC, Generic[C]):
    """The cells of the one swept stage, and their trials.

    `cell_of`: key of a trial -> its cell; trials that start from a cell's trial belong to the cell
    too. `parent` is the key of what all of them start from.
    """

    def __init__(
        self, cells: Mapping[C, list[Trial]], planned: list[Trial], folder: RunFolder, trials: int
    ):
        """`trials` is how many cells are chosen at most."""
        self._folder = folder
        self.cells = dict(cells)
        self.cell_of = {trial.key: cell for cell, own in cells.items() for trial in own}
        self.parent = next(iter(self.cells.values()))[0].parent or ""
        for trial in planned:  # parents come before children
            if trial.parent in self.cell_of:
                self.cell_of[trial.key] = self.cell_of[trial.parent]
        self.trials = trials
        self.budget = min(trials, len(self.cells))
        self.before: frozenset[str] = frozenset()
        """Keys of trials that end before any cell is chosen."""
        self.started = self._begun()
        """Cells that any start of the command has begun; the queue adds those that it begins."""

    def _begun(self) -> set[C]:
        """By the records of the attempts, of which each is opened."""
        return {
            cell
            for cell, trials in self.cells.items()
            if any(self._folder.trial(trial).attempts() for trial in trials)
        }

    def beside(self, trial: Trial, planned: list[Trial]) -> list[Trial]:
        """Those of the `planned` trials that are of the same cell, the trial itself among them."""
        cell = self.cell_of[trial.key]
        return [other for other in planned if self.cell_of.get(other.key) == cell]

    @property
    def over(self) -> bool:
        """Whether no further cell will be chosen."""
        return len(self.started) >= self.budget

    def passed_over(self) -> frozenset[str]:
        """Keys of the trials that will never be chosen; none before that is over."""
        self.started |= self._begun()  # a queue of `--only` tells nothing
        if not self.over:
            return frozenset()
        return frozenset(key for key, cell in self.cell_of.items() if cell not in self.started)

    def total(self, planned: list[Trial]) -> int:
        """How many of the `planned` trials there will be in the end, at most."""
        per_cell = len(self.cell_of) // len(self.cells)
        return len(planned) - (len(self.cells) - self._most_cells) * per_cell

    def most(self, planned: list[Trial]) -> dict[str, int]:
        """The same of each stage that has cells."""
        of_stages = Counter(trial.stage for trial in planned if trial.key in self.cell_of)
        per_cell = {stage: count // len(self.cells) for stage, count in of_stages.items()}
        return {stage: count * self._most_cells for stage, count in per_cell.items()}

    @property
    def _most_cells(self) -> int:
        return len(self.started) if self.over else max(self.budget, len(self.started))

    def shown(self, planned: list[Trial]) -> list[Trial]:
        """Those of the `planned` trials that stand in plan.csv."""
        return planned

    def to_come(self) -> Counter[str]:
        """States of trials that will be chosen and are not shown yet."""
        return Counter()

    def news(self) -> list[str]:
        """What else has come of results since this was last asked, in sentences."""
        return []

    def verdict(self, goes_on: Callable[[Trial], bool] = lambda _: False) -> Stop | None:
        """Why no further cell is chosen; None where there is nothing to say. `goes_on` tells
        whether another start goes on with a trial."""
        return None

    @abstractmethod
    def queue(self, pending: Pending) -> TrialQueue:
        """What hands out the pending trials."""


class PoolQueue(TrialQueue, ABC, Generic[C]):
    """A queue that holds back the cells of a pool until they are chosen."""

    def __init__(self, pool: Pool[C], pending: Pending, at_once: int | None):
        """Cells begun by an earlier start continue first; at most `at_once` are open."""
        started = set(pool.started)
        trials = pending.trials
        now = [t for t in trials if t.key not in pool.cell_of or pool.cell_of[t.key] in started]
        super().__init__(replace(pending, trials=now))
        self._pool = pool
        self._starts = set[str]().union(
            *(pending.starts(trial) for cell in pool.cells.values() for trial in cell)
        )
        """What the cells wait for."""
        self._at_once = at_once
        self._held: dict[C, list[Trial]] = {}
        for trial in trials:
            cell = pool.cell_of.get(trial.key)
            if cell is not None and cell not in started:
                self._held.setdefault(cell, []).append(trial)
        self._asked = started
        self._open = {cell for cell in started if self._unfinished(cell)}

    @abstractmethod
    def choose(self) -> C | None:
        """The next of the cells that are held back; None where there is none now."""

    @abstractmethod
    def entered(self, cell: C) -> None:
        """The first trial of a cell is handed out."""

    @abstractmethod
    def left(self, cell: C) -> None:
        """The last trial of a cell has ended."""

    def next(self) -> Trial | None:
        trial = super().next()
        while trial is None and self._may_ask() and (cell := self.choose()) is not None:
            self._ask(cell)
            trial = super().next()
        return trial

    def ended(self, key: str) -> None:
        super().ended(key)
        cell = self._pool.cell_of.get(key)
        if cell is not None and cell in self._open and not self._unfinished(cell):
            self._open.remove(cell)
            self.left(cell)

    @property
    def exhausted(self) -> bool:
        return self.stopped or (not self.waiting and not self._asks_left())

    @property
    def to_come(self) -> int:
        """Of the cells as many as may still be chosen."""
        if self.exhausted:
            return 0
        cells = min(len(self._held), max(self._pool.budget - len(self._asked), 0))
        return super().to_come + cells * max(map(len, self._held.values()), default=0)

    def _hand_out(self, trial: Trial) -> Trial | None:
        given = super()._hand_out(trial)
        cell = self._pool.cell_of.get(trial.key)
        if given is not None and cell is not None and cell not in self._pool.started:
            self._pool.started.add(cell)
            self.entered(cell)
        return given

    def _ask(self, cell: C) -> None:
        """A cell that was chosen is held back no more."""
        self._asked.add(cell)
        self._open.add(cell)
        self.waiting.update({held.key: held for held in self._held.pop(cell)})

    def _unfinished(self, cell: C) -> bool:
        keys = {trial.key for trial in self._pool.cells[cell]}
        return bool(keys & (self.waiting.keys() | self.running))

    def _start_to_come(self) -> bool:
        first = self._starts | self._pool.before
        return bool(first & (self.waiting.keys() | self.running))

    def _asks_left(self) -> bool:
        """Where the cells have nothing to start from, one is handed out and blocked, so that the
        reason is recorded."""
        return (
            bool(self._held)
            and len(self._asked) < self._pool.budget
            and (
                self._start_to_come()
                or all(map(self.pending.usable, self._starts))
                or not self.blocked
            )
        )

    def _may_ask(self) -> bool:
        return (
            not self.stopped
            and not self.held_back
            and not self._start_to_come()
            and self._asks_left()
            and (self._at_once is None or len(self._open) < self._at_once)
        )
