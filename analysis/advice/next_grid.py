"""What to run next: a sentence, and the grid file that does exactly what the sentence says.

The step follows the table of learning rates on the first screen, by task type, and by benchmark for
those that are of none: learning rates are added where a best one lies at or beyond an end of the
measured ones, seeds where noise hides it. Batch sizes are added where the next one is expected to
gain more than a difference of no importance. A benchmark whose cells do not differ beyond noise has
a say only where none does better. Where the run's own grid file is known the text is the whole file
with longer axes: the same command runs only the cells that are new. Where the run chooses its cells
(`decide`, `search`) it gets more trials instead of seeds. Without a file the text is the part that
holds the axes. A grid of ratios grows in ratio; where cells are no product of axes, the text holds
the new ones alone.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.advice.answers import Answers, BenchmarkAnswer, Signal
from analysis.advice.measured_grid import MeasuredGrid, measured_grid
from analysis.advice.new_values import new_rates, new_sizes, one_end, reasons_of, typical_step
from analysis.fit.rates import RateAt
from analysis.fit.surface import Fit
from analysis.posterior.cells import Cells
from analysis.tables.records import plan_file
from analysis.text import counted, listed, rate

MORE_TRIALS = 12
"""Added where the run chooses its cells: as many as the start of `decide` has at most."""

FEWEST = 3
"""Learning rates that place a best one."""

NAMES = {
    "learning_rate": "learning rate",
    "ratio": "LR/BS ratio",
    "batch_size": "batch size",
    "seed": "seed",
}


Added = dict[str, tuple[list[Any], str]]
"""Axis -> the values to add to it, and why."""


class Additions(NamedTuple):
    """`no_rates` is why no learning rate is added where one is asked for, `noise` why further seeds
    or trials are; "" elsewhere. `end` is where new rates begin and at which batch size, where cells
    are no product of axes."""

    added: Added
    no_rates: str
    noise: str
    end: RateAt | None


class NextStep(NamedTuple):
    """`sentence` says what to add, why, and how many cells that is; `text` is the grid file, ""
    where no grid holds them, and where nothing needs to be run, with `cells` 0. `axes` are those
    that it gives the grid, by key."""

    sentence: str
    text: str
    cells: int
    axes: dict[str, list[Any]]


def next_step(
    fits: Sequence[Fit],
    answers: Answers,
    rows: pd.DataFrame,
    file: Path | None,
    arms: Sequence[str] = ("",),
    plan: pd.DataFrame | None = None,
    stopped: str = "",
) -> NextStep:
    """Of one grid; `rows` are all its results; `file` is the run's grid.yaml, whose stage has these
    arms, or values of further axes. Each gets the new cells, unless arms have axes of their own.
    `plan` is the run's (`plan_file.read_plan`); `stopped` is why it chooses no further cell of the
    axes that it has, however many trials it may run."""
    measured = measured_grid(fits, rows, file)
    if failed := _failed(measured.cells):
        return NextStep(failed, "", 0, {})
    additions = _additions(measured, answers)
    if measured.written.chooser and (additions.added or additions.noise):
        return _more_trials(measured, additions, stopped)
    if not additions.added:
        return NextStep(_nothing(additions, answers), "", 0, {})
    if not measured.axis and "seed" in additions.added:
        return _again(measured.rows, *additions.added["seed"])
    crossed = _crossed_with(measured, additions, answers)
    axes = _extended(measured, additions.added, crossed)
    count, there_are = _new_cells(measured, axes)
    several = len(measured.written.shared_by(arms)) if file is not None else 1
    sentence = (
        f"{_in_words(additions.added)}{crossed.where} That is {counted(count, 'new cell')}"
        f"{f' in each of {several} arms (variants of the grid),' if several > 1 else ''} beside "
        f"the {there_are} there are{_descendants(plan, measured.cells[0].stage, count * several)}"
        f"{'; running the grid file runs only what is new' if file is not None else ''}."
    )
    return NextStep(sentence, measured.written.text(axes), count * several, axes)


def _failed(cells: Sequence[Cells]) -> str:
    """What to do where failed cells have the rates that would place a best one; "" elsewhere."""
    table = pd.concat([one.table for one in cells])
    failed = table.loc[table.status == "failed"]
    scored = table.learning_rate[table.status == "ok"]
    every = {*scored, *failed.learning_rate}
    count = len(failed[["learning_rate", "batch_size"]].drop_duplicates())
    if scored.empty and len(failed) > (table.status == "diverged").sum():
        return (
            f"Find out why {counted(count, 'cell')} failed, and run them again: none has a score."
        )
    if not 0 < scored.nunique() < FEWEST <= len(every):
        return ""
    return (
        f"Find out why {counted(count, 'cell')} failed, and run them again: with their learning "
        "rates a best one can be placed. A loss that is no number may be of a training that "
        "diverged: a table says so with the status diverged."
    )


def _additions(measured: MeasuredGrid, answers: Answers) -> Additions:
    """What the answers ask for: learning rates and batch sizes, else seeds where noise hides the
    answer; a run that chooses its cells replicates them by itself."""
    cells, reasons = measured.cells, reasons_of(answers)
    ok = pd.concat([grid_cells.table.loc[grid_cells.ok] for grid_cells in cells])
    end = None if measured.axis else one_end(answers)
    rates, why_rates = new_rates(cells, ok, reasons, typical_step(ok), end)
    sizes, why_sizes = new_sizes(measured.sizes, reasons, measured.written.group)
    added: Added = {}
    if rates:
        added[measured.axis or "learning_rate"] = (rates, why_rates)
    if sizes:
        added["batch_size"] = (sizes, why_sizes)
    noise = f"noise still hides the answer for {listed(reasons.seeds)}" if reasons.seeds else ""
    if noise and not added and not measured.written.chooser:
        added["seed"] = (_new_seeds(measured), noise)
    return Additions(added, "" if rates else why_rates, noise, end)


def _new_seeds(measured: MeasuredGrid) -> list[int]:
    """Those that only some cells have, else as many new ones as there are, at least two."""
    seeds = measured.seeds
    return measured.seeds_of_some or [max(seeds) + 1 + extra for extra in range(max(2, len(seeds)))]


def _nothing(additions: Additions, answers: Answers) -> str:
    """Why nothing is added."""
    if additions.no_rates:
        return f"No learning rate is left to add: {additions.no_rates}."
    return _settled(list(answers.benchmarks.values()))


class Crossed(NamedTuple):
    """Rates and batch sizes that new values are crossed with; `where` says which, where these are
    not all."""

    rates: list[float]
    sizes: list[int]
    where: str


def _crossed_with(measured: MeasuredGrid, additions: Additions, answers: Answers) -> Crossed:
    """All that there are; where cells are no product of axes, new rates go with one batch size and
    new batch sizes with one rate."""
    if measured.axis:
        return Crossed(measured.rates, measured.sizes, "")
    setting = answers.settings[0] if answers.settings else None
    if "learning_rate" not in additions.added:
        return Crossed([] if setting is None else [setting.learning_rate], [], "")
    at = additions.end or setting
    size = measured.sizes[len(measured.sizes) // 2] if at is None else at.batch_size
    more_sizes, _ = additions.added.get("batch_size", ([], ""))
    return Crossed([], [size], f" The rates are for {_values('batch_size', [size, *more_sizes])}.")


def _extended(measured: MeasuredGrid, added: Added, crossed: Crossed) -> dict[str, list[Any]]:
    """The axes of the grid file, by key."""
    name = measured.axis or "learning_rate"
    axes = {name: crossed.rates, "batch_size": crossed.sizes, "seed": measured.seeds}
    if not measured.cells[0].sized:
        del axes["batch_size"]
    axes = {key: sorted({*axes[key], *added.get(key, ([], ""))[0]}) for key in axes}
    axes[name] = [_shown(value) for value in axes[name]]
    return measured.written.joined(axes)


def _new_cells(measured: MeasuredGrid, axes: dict[str, list[Any]]) -> tuple[int, int]:
    """How many cells of these axes have not run, and how many have run."""
    rows = measured.rows.rename(columns={"learning_rate": measured.axis or "learning_rate"})
    parents = rows.parent.fillna("")  # several are one's seeds
    had = set(zip(parents, *(rows[name].fillna(0) for name in axes), strict=True))
    known = {(parent, float(f"{value:.4g}"), *map(int, its)) for parent, value, *its in had}
    every = product(parents.unique(), *axes.values())
    return sum(cell not in known for cell in every), len(known)


def _again(rows: pd.DataFrame, seeds: list[int], noise: str) -> NextStep:
    """Of cells that are no product of axes: other seeds for each, which no grid file can hold."""
    cells = rows[["learning_rate", "batch_size"]].drop_duplicates()
    count = len(cells) * len(seeds)
    sentence = (
        f"Run each of the {len(cells)} cells again with {_values('seed', seeds)}, because {noise}. "
        f"That is {counted(count, 'new cell')}."
    )
    return NextStep(sentence, "", count, {"seed": seeds})


def _descendants(plan: pd.DataFrame | None, stage: str, count: int) -> str:
    """The trials of later stages that start from each of so many new ones, in words."""
    stages = {} if plan is None else plan_file.descendants(plan, stage)
    parts = [f"{each * count} of {name}, which starts from each" for name, each in stages.items()]
    return f", and {listed(parts)}" if parts else ""


def _more_trials(measured: MeasuredGrid, additions: Additions, stopped: str) -> NextStep:
    """Of a run that chooses its cells: more of them, among longer axes where some are added, else
    because of the noise; none where the run has `stopped` on the axes that it has."""
    written, added = measured.written, additions.added
    if stopped and not added:
        chose = f"The run chose no further cell: {stopped}."
        return NextStep(f"{chose} More trials would change nothing.", "", 0, {})
    own: dict[str, list[Any]] = {measured.axis: measured.rates, "batch_size": measured.sizes}
    gives_way = "ratio" in written.place and "ratio" not in own
    names = own if added and gives_way else added  # a ratio goes with one axis alone
    axes = {name: sorted({*own[name], *added.get(name, ([], ""))[0]}) for name in names}
    axes = {name: [_shown(value) for value in values] for name, values in axes.items()}
    before = written.trials
    each = ["learning_rate", "batch_size", *(["seed"] if written.chooser == "decide" else [])]
    begun = len(measured.rows.drop_duplicates(each))  # of a budget that was lowered, more than it
    after = max(before, begun) + MORE_TRIALS
    raised = f"{written.chooser}.trials from {before} to {after}"
    if added:
        sentence = f"{_in_words(added)} Raise {raised}"
    else:
        sentence = f"Raise {raised}, because {additions.noise}"
    sentence += "; running the grid file goes on with what has run, and chooses the new cells."
    return NextStep(sentence, written.text(axes, after), MORE_TRIALS, axes)


def _shown(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _in_words(added: Added) -> str:
    """What is added to the axes, and why."""
    parts = [f"{_values(name, values)}, because {why}" for name, (values, why) in added.items()]
    return f"Add {listed(parts, '; ')}."


def _values(name: str, values: list[Any]) -> str:
    texts = [
        rate(value) if name in ("learning_rate", "ratio") else str(value)
        for value in sorted(values)
    ]
    return f"{NAMES[name]}{'s' if len(values) > 1 else ''} {listed(texts)}"


def _settled(answers: Sequence[BenchmarkAnswer]) -> str:
    silent = [
        answer.label for answer in answers if answer.signal in (Signal.CONSTANT, Signal.CHANCE)
    ]
    if silent and len(silent) == len(answers):
        return (
            f"No further cell would tell more: the scores of {listed(silent)} show nothing of the "
            "setting. A larger model, more training or more items may."
        )
    return (
        "Nothing has to be run for these answers. More seeds or items would narrow the intervals."
    )
