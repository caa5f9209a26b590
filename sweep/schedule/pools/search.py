"""Which cells to run next in a search with Optuna. The only `import optuna`.

A sampler sees an axis as the indices 0, 1, 2, ... of its ordered values and proposes one cell at a
time; for a cell that was proposed before, the nearest unused one is taken. The study in the run
folder serves restarts and optuna-dashboard; where it differs from the records, it is rebuilt from
them.
"""

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import qmc

from sweep.gridfile.keys.axes import Scalar
from sweep.gridfile.keys.choosers import Search

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
