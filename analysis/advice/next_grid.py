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
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.advice import grid_file
from analysis.advice.answers import Answers, BenchmarkAnswer, Signal
from analysis.advice.new_values import new_rates, new_sizes, one_end, reasons_of, typical_step
from analysis.advice.product_axes import in_ratios, rate_axis
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
    cells = [fit.cells for fit in fits]
    rows = _numbered(rows.loc[rows.learning_rate.notna()])
    written = grid_file.read(cells[0].stage, cells[0].arm, file)
    name = rate_axis(rows, written, file is not None)
    if name == "ratio":
        known = written.values(name)
        cells = [replace(one, table=in_ratios(one.table, known)) for one in cells]
        rows = in_ratios(rows, known)
    reasons = reasons_of(answers)
    ok = pd.concat([grid_cells.table.loc[grid_cells.ok] for grid_cells in cells])
    if failed := _failed(cells):
        return NextStep(failed, "", 0, {})
    rates = sorted({float(r) for grid_cells in cells for r in grid_cells.table.learning_rate})
    sizes = sorted({int(size) for grid_cells in cells for size in grid_cells.table.batch_size})
    seeds, of_some = _seeds(rows)
    step = typical_step(ok)
    added: dict[str, tuple[list[Any], str]] = {}
    end = None if name else one_end(answers)
    more_rates, why_rates = new_rates(cells, ok, reasons, step, end)
    if more_rates:
        added[name or "learning_rate"] = (more_rates, why_rates)
    more_sizes, why = new_sizes(sizes, reasons, written.group)
    if more_sizes:
        added["batch_size"] = (more_sizes, why)
    noise = f"noise still hides the answer for {listed(reasons.seeds)}" if reasons.seeds else ""
    if written.chooser and (added or noise):
        if stopped and not added:
            chose = f"The run chose no further cell: {stopped}."
            return NextStep(f"{chose} More trials would change nothing.", "", 0, {})
        measured = {name: rates, "batch_size": sizes}
        return _more_trials(written, added, measured, noise)
    if noise and not added:
        more = of_some or [max(seeds) + 1 + extra for extra in range(max(2, len(seeds)))]
        added["seed"] = (more, noise)
    if not added:
        closed = f"No learning rate is left to add: {why_rates}."
        settled = _settled(list(answers.benchmarks.values()))
        return NextStep(closed if why_rates else settled, "", 0, {})
    where = ""
    if not name:
        if "seed" in added:
            return _again(rows, added["seed"][0], noise)
        here = answers.settings[0] if answers.settings else None
        rates = [here.learning_rate] if here is not None and not more_rates else []
        if more_rates:
            at = end or here
            sizes = [sizes[len(sizes) // 2] if at is None else at.batch_size]
            where = f" The rates are for {_values('batch_size', [*sizes, *more_sizes])}."
        else:
            sizes = []
        name = "learning_rate"
    axes = {name: rates, "batch_size": sizes, "seed": seeds}
    if not cells[0].sized:
        del axes["batch_size"]
    axes = {name: sorted({*axes[name], *added.get(name, ([], ""))[0]}) for name in axes}
    axes[name] = [_shown(value) for value in axes[name]]
    axes = written.joined(axes)
    rows = rows.rename(columns={"learning_rate": name})
    parents = rows.parent.fillna("")  # several are one's seeds
    had = set(zip(parents, *(rows[name].fillna(0) for name in axes), strict=True))
    known = {(parent, float(f"{value:.4g}"), *map(int, its)) for parent, value, *its in had}
    count = sum(cell not in known for cell in product(parents.unique(), *axes.values()))
    several = len(written.shared_by(arms)) if file is not None else 1
    sentence = (
        f"{_additions(added)}{where} That is {counted(count, 'new cell')}"
        f"{f' in each of {several} arms (variants of the grid),' if several > 1 else ''} beside "
        f"the {len(known)} there are{_descendants(plan, cells[0].stage, count * several)}"
        f"{'; running the grid file runs only what is new' if file is not None else ''}."
    )
    return NextStep(sentence, written.text(axes), count * several, axes)


def _failed(cells: Sequence[Cells]) -> str:
    """What to do where failed cells have the rates that would place a best one; "" elsewhere."""
    table = pd.concat([one.table for one in cells])
    failed = table.loc[table.status == "failed"]
    scored = table.learning_rate[table.status == "ok"]
    every = {*scored, *failed.learning_rate}
    if not 0 < scored.nunique() < FEWEST <= len(every):
        return ""
    count = len(failed[["learning_rate", "batch_size"]].drop_duplicates())
    return (
        f"Find out why {counted(count, 'cell')} failed, and run them again: with their learning "
        "rates a best one can be placed. A loss that is no number may be of a training that "
        "diverged: a table says so with the status diverged."
    )


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


def _more_trials(
    written: grid_file.GridFile,
    added: dict[str, tuple[list[Any], str]],
    measured: dict[str, list[Any]],
    noise: str,
) -> NextStep:
    """Of a run that chooses its cells: more of them, among longer axes where some are `added`, else
    because of the `noise`."""
    gives_way = "ratio" in written.place and "ratio" not in measured
    names = measured if added and gives_way else added  # a ratio goes with one axis alone
    axes = {name: sorted({*measured[name], *added.get(name, ([], ""))[0]}) for name in names}
    axes = {name: [_shown(value) for value in values] for name, values in axes.items()}
    before = written.trials
    after = before + MORE_TRIALS
    raised = f"{written.chooser}.trials from {before} to {after}"
    if added:
        sentence = f"{_additions(added)} Raise {raised}"
    else:
        sentence = f"Raise {raised}, because {noise}"
    sentence += "; running the grid file goes on with what has run, and chooses the new cells."
    return NextStep(sentence, written.text(axes, after), MORE_TRIALS, axes)


def _shown(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _additions(added: dict[str, tuple[list[Any], str]]) -> str:
    """What is added to the axes, and why."""
    parts = [f"{_values(name, values)}, because {why}" for name, (values, why) in added.items()]
    return f"Add {listed(parts, '; ')}."


def _seeds(rows: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Those of all cells, with which a new one is run, and those of some."""
    cells = rows.groupby(["learning_rate", "batch_size"], dropna=False).seed
    each = [{int(seed) for seed in seeds.dropna()} for _, seeds in cells]
    of_all = set.intersection(*each)
    return sorted(of_all), sorted(set.union(*each) - of_all)


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """With the seeds 0, 1, ... in each cell, where the table names none or none is of all cells."""
    if _seeds(rows)[0]:
        return rows
    trials = rows.drop_duplicates("key")
    seeds = trials.groupby(["learning_rate", "batch_size"], dropna=False).cumcount()
    return rows.assign(seed=rows.key.map(dict(zip(trials.key, seeds, strict=True))))


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
            f"No further cell would tell more: the scores of {listed(silent)} do not depend on the "
            "setting. A larger model, more training or more items may."
        )
    return "Nothing has to be run for these answers. More seeds would narrow the intervals."
