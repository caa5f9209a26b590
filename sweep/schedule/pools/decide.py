"""The run that decides: which cell is next, from a refit of the results so far.

`analysis.design.decide` chooses; here its choices are handed out. A refit runs in a thread of its
own while the cells of the last one are handed out, so a free worker never waits for it; only where
nothing runs and nothing is chosen does the queue wait. Each choice depends on the results that are
there and on nothing else, and a restart goes on from the records.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from analysis.benchmarks import task
from analysis.design.decide import Choice, Decision, Settings, decide
from analysis.design.space import Cell, Tried
from analysis.fit.surface import Fit, fit
from analysis.posterior.cells import surfaces
from analysis.tables.records import run_table
from analysis.tables.records.decided import Stop, recorded_stop
from analysis.tables.records.screening import without
from analysis.text import listed
from sweep.gridfile import choosing
from sweep.gridfile.keys.schema import Grid
from sweep.gridfile.screening import own_space, screening_stage
from sweep.plan.evaluations import WantedByStage, named
from sweep.plan.trials import Trial
from sweep.plan.widen import decided_stage, space
from sweep.schedule.pools import prior
from sweep.schedule.pools.pool import Pool, PoolQueue
from sweep.schedule.pools.screening import Screening
from sweep.schedule.queue import Pending
from sweep.storage.run_folder import RunFolder
from trainers import files

LAST = "decision.json"
"""In decide/ of the run folder: why the run stopped, under which settings and axes, after which
cells."""


class DecidePool(Pool[Cell]):
    """Every cell that may run, and what has come of those that ran."""

    def __init__(self, grid: Grid, planned: list[Trial], folder: RunFolder, wants: WantedByStage):
        assert grid.decide is not None, "the grid does not decide"
        self.settings = grid.decide
        self.space = space(grid)
        stage = decided_stage(grid)
        self._axes = own_space(stage)
        self.stage = stage.name
        every = choosing.measured(stage, grid.stages, grid.evaluate)
        asked = grid.decide.benchmarks or _all(every)
        evaluations = [named(wants[stage.name], name) for name in asked]
        self.benchmarks = {want.benchmark for want in evaluations}
        self._fingerprints = sorted(want.fingerprint for want in evaluations)
        cells: dict[Cell, list[Trial]] = {}
        for trial in planned:
            if trial.stage == stage.name and trial.spec is not None:
                cells[_cell(trial)] = [trial]
        super().__init__(cells, planned, folder, grid.decide.trials)
        self.expected = prior.expected(grid, stage, self.space, self.benchmarks, self._path.parent)
        short = screening_stage(grid)
        self.screening = None if short is None else Screening(grid, short, planned, self.space)
        if self.screening is not None:
            self.before = frozenset(trial.key for trial in self.screening.trials)
        self._late: frozenset[str] | None = None
        """Screening runs that had not begun when the first cell had; None before that."""
        self.chosen = set(self.started)
        """Cells that are in the plan."""

    @property
    def over(self) -> bool:
        return super().over or self._recorded() is not None

    def close(self, stop: Stop) -> None:
        """Record that the run has decided, or why it cannot go on."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        last = {"reason": stop.reason, "stopped_by": stop.by, "of": self._marks()}
        files.write_json(self._path, last | self._compared())

    def passed_over(self) -> frozenset[str]:
        """Screening runs too that have not ended when the first cell has begun: the start is laid
        out without them."""
        return super().passed_over() | self._too_late()

    def total(self, planned: list[Trial]) -> int:
        return super().total(planned) - len(self._too_late())

    def shown(self, planned: list[Trial]) -> list[Trial]:
        """Those that were chosen, and what is no cell."""
        late = self._too_late()
        shown = {None, *self.chosen}
        return [t for t in planned if self.cell_of.get(t.key) in shown and t.key not in late]

    def to_come(self) -> Counter[str]:
        left = 0 if self.over else max(self.budget - len(self.chosen), 0)
        return Counter({"planned": left}) if left else Counter()

    def verdict(self, goes_on: Callable[[Trial], bool] = lambda _: False) -> Stop | None:
        """Why the run stopped, and what it leaves undecided; None where it has not, or goes on with
        a cell that it has begun."""
        if not self.over or any(goes_on(self.cells[cell][0]) for cell in self.started):
            return None
        decision = self.decision(self.tried(set()), 0)
        stop = self._recorded() or decision.stop
        assert stop is not None, "without cells to choose there is a reason"
        left: dict[str, list[str]] = {}
        for question in decision.open_questions:
            label = task(question.benchmark).label if question.benchmark else ""
            left.setdefault(label, []).append(question.words)
        parts = [f"{label}: {listed(words)}".removeprefix(": ") for label, words in left.items()]
        undecided = "".join(f"; undecided: {part}" for part in parts)
        return stop._replace(reason=f"decide: {stop.reason}{undecided}")

    def news(self) -> list[str]:
        return [] if self.screening is None else self.screening.news()

    def queue(self, pending: Pending) -> "DecideQueue":
        return DecideQueue(self, pending)

    def tried(self, running: set[Cell]) -> list[Tried]:
        """Every cell that was begun; of those that run no more, how it ended."""
        return sorted(
            Tried(cell, "running" if cell in running else self._status(self.cells[cell][0]))
            for cell in self.started | running
        )

    def decision(self, tried: list[Tried], count: int) -> Decision:
        """The next cells, from what is in the records now."""
        allowed = self.cells.keys()
        ended = sum(trial.status in ("ok", "diverged") for trial in tried)
        fits, expected = list[Fit](), self.expected
        if ended or self.screening is not None:
            whole = run_table.read(self._folder.path).frame
            items = run_table.items(self._folder.path, whole)
            fits = self._fits(without(whole), items) if ended else []
            if self.screening is not None:
                expected = self.screening.expected(whole, items, tried, allowed)
        screening = self.screening is not None
        benchmarks = tuple(sorted(self.benchmarks))
        settings = Settings(self.budget, self.settings.octaves, expected, screening, benchmarks)
        return decide(fits, tried, self.space, settings, count, allowed)

    def _fits(self, frame: pd.DataFrame, items: pd.DataFrame) -> list[Fit]:
        wanted = frame.stage.eq(self.stage) & frame.benchmark.isin(self.benchmarks)
        # trials of before the grid file was edited are arms of their own
        wanted &= frame.arm.isin(frame.arm[frame.key.isin(self.cell_of)])
        return [fit(cells) for cells in surfaces(frame.loc[wanted], items)]

    def _too_late(self) -> frozenset[str]:
        if self._late is None and self.screening is not None and self.started:
            trials = self.screening.trials
            self._late = frozenset(t.key for t in trials if not self._folder.trial(t).attempts())
        return self._late or frozenset()

    def _status(self, trial: Trial) -> str:
        folder = self._folder.trial(trial)
        if (training := folder.training()) is not None:
            return str(training["status"])
        return "failed" if folder.failed() else "running"  # by another start, of which it is left

    def _recorded(self) -> Stop | None:
        """Why the run stopped; None where it has not, or where something of what decided is another
        now."""
        last = files.read_json(self._path)
        with files.shaped(self._path):
            if last is None or last["of"] != self._marks():
                return None
            if any(last.get(name, mark) != mark for name, mark in self._compared().items()):
                return None
            return recorded_stop(last)

    def _compared(self) -> dict[str, str]:
        """What else decided, by its names in the record, of which old ones lack some."""
        return {"results": self._results(), "axes": files.short_hash(self._axes)}

    def _results(self) -> str:
        """Of what decided: how each cell that had run ended, and on what it is scored."""
        trials = [self.cells[cell][0] for cell in sorted(self.started)]
        marks = self._fingerprints
        ends = [[self._status(t), self._folder.trial(t).missing(marks)] for t in trials]
        return files.short_hash(ends, marks)

    def _marks(self) -> str:
        """Of what decided: the settings, and the cells that had run."""
        given = self.settings.model_dump(exclude={"at_once", "fidelity"})
        return files.short_hash(given, sorted(self.started), sorted(self.benchmarks))

    @property
    def _path(self) -> Path:
        return self._folder.path / "decide" / LAST


class DecideQueue(PoolQueue[Cell]):
    """A queue that holds cells back until the results so far ask for them."""

    def __init__(self, pool: DecidePool, pending: Pending):
        super().__init__(pool, pending, pool.settings.most_at_once)
        self._cells = pool
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="refit")
        self._refit: Future[Decision] | None = None
        self._next: list[Choice] = []
        self._reasons: dict[Cell, str] = {}
        self._stale = True
        """Whether results have come since the last refit began."""
        self.stop: Stop | None = None

    def choose(self) -> Cell | None:
        self._look()
        if not self._next and not self.running and not self.stop:
            self._look(wait=True)
        while self._next:
            choice = self._next.pop(0)
            if choice.cell in self._held:
                self._reasons[choice.cell] = choice.reason
                return choice.cell
        return None

    def companions(self, lead: Trial, free: int) -> list[Trial]:
        """Among them cells that the same refit has chosen."""
        rule = self.pending.bundles
        if rule is not None and (own := rule.key(lead)) is not None:
            held = [choice for choice in self._next if choice.cell in self._held]
            for choice in held:
                if self._may_ask() and rule.key(self._trial(choice.cell)) == own:
                    self._next.remove(choice)
                    self._reasons[choice.cell] = choice.reason
                    self._ask(choice.cell)
        return super().companions(lead, free)

    def entered(self, cell: Cell) -> None:
        self._cells.chosen.add(cell)
        self.pending.chose(self._trial(cell), self._reasons[cell])

    def left(self, cell: Cell) -> None:
        self._stale, self.stop = True, None
        if self._asks_left():
            self._look()

    def _trial(self, cell: Cell) -> Trial:
        return self._cells.cells[cell][0]

    @property
    def exhausted(self) -> bool:
        """Over when the last decision, from all results, is to stop."""
        if self.stop and not self.running and not self.waiting:
            return True
        return super().exhausted

    def _look(self, wait: bool = False) -> None:
        """Take up what a refit has decided, and begin the next where results have come."""
        if self._refit is None and self._stale:
            self._begin()
        if self._refit is not None and (wait or self._refit.done()):
            self._take(self._refit.result())
            if self._stale:
                self._begin()
                if wait and not self._next:
                    self._look(wait=True)

    def _begin(self) -> None:
        self._stale = False
        tried = self._cells.tried(self._open)
        count = 2 * self._cells.settings.most_at_once  # for all workers, and while the next runs
        self._refit = self._thread.submit(self._cells.decision, tried, count)

    def _take(self, decision: Decision) -> None:
        self._refit = None
        for sentence in self._cells.news():
            self.pending.told(sentence)
        self._next = [choice for choice in decision.choices if choice.cell in self._held]
        self.stop = decision.stop if not self._next else None
        if self.stop and not self._open and not self._stale:
            self._cells.close(self.stop)


def _cell(trial: Trial) -> Cell:
    assert trial.spec is not None, "a cell is trained"
    return Cell(trial.spec.learning_rate, trial.spec.batch_size, trial.spec.seed)


def _all(measured: list[str]) -> list[str]:
    """Every benchmark; a held-out loss, which comes first, where there is nothing else."""
    return measured[1:] if len(measured) > 1 and measured[0].startswith("heldout") else measured
