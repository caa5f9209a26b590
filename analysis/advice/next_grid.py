"""What to run next: a sentence, and the grid file that does exactly what the sentence says.

The step follows the table of learning rates on the first screen, by task type, and by benchmark for
those that are of none: learning rates are added where a best one lies at or beyond an end of the
measured ones, seeds where noise hides it. Batch sizes are added where the next one is expected to
gain more than a difference of no importance. A benchmark whose cells do not differ beyond noise has
a say only where none does better. Where the run's own grid file is known the text is the whole file
with longer axes: the same command runs only the cells that are new. Where the run chooses its cells
(`decide`, `search`) it gets more trials instead of seeds. Without a file the text is the part that
holds the axes.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.advice import grid_file
from analysis.advice.answers import Answers, BenchmarkAnswer, Signal
from analysis.benchmarks import TASK_TYPE_LABELS, task
from analysis.fit.batch import Batch
from analysis.fit.rates import RateStatus
from analysis.fit.surface import Fit
from analysis.posterior.cells import Cells
from analysis.tables.records import plan_file
from analysis.text import counted, listed, rate

OCTAVE = 2.0
BEYOND = 2
"""Learning rates to add beyond an end."""

ENOUGH = 5
"""Learning rates below which a grid that places nothing is completed to this many."""

MORE_TRIALS = 12
"""Added where the run chooses its cells: as many as the start of `decide` has at most."""

USUAL_HIGHEST = 1e-2
"""Where every cell diverged, the search goes on below this or below the lowest rate that did."""

UNTOLD = (Signal.FLAT, Signal.TOO_FEW)
"""Where noise may hide a difference; no seed tells more of what is constant or at chance."""

NAMES = {"learning_rate": "learning rate", "batch_size": "batch size", "seed": "seed"}


class NextStep(NamedTuple):
    """`sentence` says what to add, why, and how many cells that is; `text` is the grid file, "" and
    `cells` 0 where nothing needs to be run. `axes` are those that it gives the grid, by key."""

    sentence: str
    text: str
    cells: int
    axes: dict[str, list[Any]]


class _Reasons(NamedTuple):
    """Labels of the task types and benchmarks that ask for more of an axis."""

    higher: list[str]
    lower: list[str]
    smaller: list[str]
    larger: list[str]
    seeds: list[str]


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
    reasons = _reasons(answers)
    ok = pd.concat([grid_cells.table.loc[grid_cells.ok] for grid_cells in cells])
    rates = sorted({float(r) for grid_cells in cells for r in grid_cells.table.learning_rate})
    sizes = sorted({int(size) for grid_cells in cells for size in grid_cells.table.batch_size})
    seeds, of_some = _seeds(rows)
    step = _step(np.array(sorted(ok.learning_rate.unique())))
    added: dict[str, tuple[list[Any], str]] = {}
    new_rates, why = _new_rates(cells, ok, reasons, step)
    if new_rates:
        added["learning_rate"] = (new_rates, why)
    written = grid_file.read(cells[0].stage, cells[0].arm, file)
    new_sizes, why = _new_sizes(sizes, reasons, written.group)
    if new_sizes:
        added["batch_size"] = (new_sizes, why)
    noise = f"noise still hides the answer for {listed(reasons.seeds)}" if reasons.seeds else ""
    if written.chooser and (added or noise):
        if stopped and not added:
            chose = f"The run chose no further cell: {stopped}."
            return NextStep(f"{chose} More trials would change nothing.", "", 0, {})
        measured = {"learning_rate": rates, "batch_size": sizes}
        return _more_trials(written, added, measured, noise)
    if noise and not added:
        more = of_some or [max(seeds) + 1 + extra for extra in range(max(2, len(seeds)))]
        added["seed"] = (more, noise)
    if not added:
        return NextStep(_settled(list(answers.benchmarks.values())), "", 0, {})
    axes = {"learning_rate": rates, "batch_size": sizes, "seed": seeds}
    if not cells[0].sized:
        del axes["batch_size"]
    axes = {name: sorted({*axes[name], *added.get(name, ([], ""))[0]}) for name in axes}
    axes["learning_rate"] = [_shown(value) for value in axes["learning_rate"]]
    axes = written.joined(axes)
    parents = rows.parent.fillna("")  # several are one's seeds
    had = set(zip(parents, *(rows[name].fillna(0) for name in axes), strict=True))
    known = {(parent, float(f"{value:.4g}"), *map(int, its)) for parent, value, *its in had}
    count = sum(cell not in known for cell in product(parents.unique(), *axes.values()))
    several = len(written.shared_by(arms)) if file is not None else 1
    sentence = (
        f"{_additions(added)} That is {counted(count, 'new cell')}"
        f"{f' in each of {several} arms (variants of the grid),' if several > 1 else ''} beside "
        f"the {len(known)} there are{_descendants(plan, cells[0].stage, count * several)}"
        f"{'; running the grid file runs only what is new' if file is not None else ''}."
    )
    return NextStep(sentence, written.text(axes), count * several, axes)


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
    names = measured if added and "ratio" in written.place else added  # a ratio goes with one alone
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


def _reasons(answers: Answers) -> _Reasons:
    reasons = _Reasons([], [], [], [], [])
    every = answers.benchmarks.values()
    clear = [answer for answer in every if answer.signal is Signal.CLEAR]
    for answer in clear:
        way = answer.direction
        if way is None or way.next_gain is None or answer.epsilon is None:
            continue
        if way.next_gain > answer.epsilon and way.verdict in (Batch.SMALLER, Batch.LARGER):
            side = reasons.smaller if way.verdict is Batch.SMALLER else reasons.larger
            side.append(answer.label)
    columns = {TASK_TYPE_LABELS[kind].lower(): rates for kind, rates in answers.type_rates.items()}
    alone = (answer for answer in clear if answer.task_type not in answers.type_rates)
    columns |= {answer.label: answer.rates for answer in alone}
    for label, rates in columns.items():
        for side, labels in (("higher", reasons.higher), ("lower", reasons.lower)):
            if any(rate.status is RateStatus.EDGE and rate.side == side for rate in rates):
                labels.append(label)
        if sum(rate.status is RateStatus.LEVEL for rate in rates) > len(rates) / 2:
            reasons.seeds.append(label)
    if not clear:
        reasons.seeds.extend(answer.label for answer in every if answer.signal in UNTOLD)
    return reasons


def _new_rates(
    cells: Sequence[Cells], ok: pd.DataFrame, reasons: _Reasons, step: float
) -> tuple[list[float], str]:
    """Learning rates to add, and why."""
    tables = pd.concat([grid_cells.table for grid_cells in cells])
    if ok.empty:
        start = min(float(tables.learning_rate.min()), USUAL_HIGHEST)
        added = [start / OCTAVE ** (2 * k) for k in range(1, 4)]
        return [float(f"{value:.3g}") for value in added], "no cell has a score yet"
    low, high = float(ok.learning_rate.min()), float(ok.learning_rate.max())
    walls = tables.learning_rate[(tables.status == "diverged") & (tables.learning_rate > high)]
    wall = float(walls.min()) if len(walls) else np.inf
    above = [high * step**k for k in range(1, BEYOND + 1) if high * step ** (k + 0.5) < wall]
    if not above:  # between the highest that trains and the lowest above it that does not
        above = [high * (wall / high) ** share for share in (1 / 3, 2 / 3)]
    below = [low / step**k for k in range(1, BEYOND + 1)]
    added, why = [], []
    if reasons.higher or (wall > high * step ** (BEYOND + 0.5) and _best_at(cells, high)):
        added += above
        labels = reasons.higher or _best_at(cells, high)
        why.append(f"{_verb(labels, 'improves', 'improve')} up to the highest one")
    if reasons.lower:
        added += below
        why.append(f"{_verb(reasons.lower, 'improves', 'improve')} down to the lowest one")
    missing = ENOUGH - int(ok.learning_rate.nunique())
    if ok.learning_rate.nunique() < 3 and not added:
        added = (above + below + [low / step**3])[:missing]
        why.append("three are the least that place a best one")
    return [float(f"{value:.3g}") for value in added], listed(why)


def _best_at(cells: Sequence[Cells], learning_rate: float) -> list[str]:
    """Labels of the benchmarks whose best cell has this learning rate, below a diverged cell so far
    above that it says nothing of the rates between."""
    return [
        task(grid_cells.benchmark).label
        for grid_cells in cells
        if (grid_cells.table.status == "diverged").any()
        and grid_cells.best is not None
        and grid_cells.table.learning_rate.iloc[grid_cells.best] == learning_rate
    ]


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


def _new_sizes(sizes: list[int], reasons: _Reasons, group: int) -> tuple[list[int], str]:
    """Batch sizes to add, multiples of `group`, and why."""
    added, why = [], []
    half = sizes[0] // 2
    if reasons.smaller and half and half % group == 0:
        added.append(half)
        why.append(f"smaller ones may still help {listed(reasons.smaller)}")
    if reasons.larger:
        added.append(sizes[-1] * 2)
        why.append(f"larger ones may still help {listed(reasons.larger)}")
    return added, listed(why)


def _verb(labels: Sequence[str], one: str, several: str) -> str:
    return f"{listed(labels)} still {one if len(labels) == 1 else several}"


def _values(name: str, values: list[Any]) -> str:
    texts = [rate(value) if name == "learning_rate" else str(value) for value in sorted(values)]
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


def _step(values: np.ndarray) -> float:
    """Typical factor from one learning rate to the next, at most two octaves."""
    if len(values) < 2:
        return OCTAVE
    return min(float(np.exp(np.median(np.diff(np.log(values))))), OCTAVE**2)
