"""Values to add to the axes of a grid: which, and for which task types and benchmarks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.answers import Answers, Signal
from analysis.benchmarks import TASK_TYPE_LABELS, task
from analysis.fit.batch import Batch
from analysis.fit.rates import RateAt, RateStatus
from analysis.posterior.cells import Cells
from analysis.text import listed, rate

OCTAVE = 2.0
BEYOND = 2
"""Learning rates to add beyond an end."""

ENOUGH = 5
"""Learning rates below which a grid that places nothing is completed to this many."""

SMALLEST_STEP = 2**0.5
"""Factor between learning rates that are added, at least."""

ROUNDED = 0.99
"""Of a factor between rates, which grids give in two digits."""

USUAL_HIGHEST = 1e-2
"""Where every cell diverged, the search goes on below this or below the lowest rate that did."""

UNTOLD = (Signal.FLAT, Signal.TOO_FEW, Signal.UNREPEATED)
"""Where noise may hide a difference; no seed tells more of what is constant or at chance."""


class Reasons(NamedTuple):
    """Labels of the task types and benchmarks that ask for more of an axis."""

    higher: list[str]
    lower: list[str]
    smaller: list[str]
    larger: list[str]
    seeds: list[str]


def reasons_of(answers: Answers) -> Reasons:
    reasons = Reasons([], [], [], [], [])
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
            if any(at.status is RateStatus.EDGE and at.side == side for at in rates):
                labels.append(label)
        if sum(at.status is RateStatus.LEVEL for at in rates) > len(rates) / 2:
            reasons.seeds.append(label)
    if not clear:
        reasons.seeds.extend(answer.label for answer in every if answer.signal in UNTOLD)
    return reasons


def one_end(answers: Answers) -> RateAt | None:
    """The end of the learning rates beyond which new ones are run at its batch size alone, where
    cells are no product of axes: at the largest size whose best rate lies above the measured ones,
    or the smallest whose lies below, whichever side has more sizes. None where none lies beyond."""
    every = [at for _, rates in answers.columns for at in rates]
    edges = [at for at in every if at.status is RateStatus.EDGE]
    higher = [at for at in edges if at.side == "higher"]
    lower = [at for at in edges if at.side == "lower"]
    if len(higher) >= len(lower):
        return max(higher, key=lambda at: (at.batch_size, at.learning_rate), default=None)
    return min(lower, key=lambda at: (at.batch_size, at.learning_rate))


def new_rates(
    cells: Sequence[Cells],
    ok: pd.DataFrame,
    reasons: Reasons,
    step: float,
    end: RateAt | None = None,
) -> tuple[list[float], str]:
    """Learning rates to add, and why; none and why not, where a rate that diverged lies close. With
    an `end` they go on from it, at its batch size."""
    tables = pd.concat([grid_cells.table for grid_cells in cells])
    if ok.empty:
        start = min(float(tables.learning_rate.min()), USUAL_HIGHEST)
        added = [start / OCTAVE ** (2 * k) for k in range(1, 4)]
        return [float(f"{value:.3g}") for value in added], "no cell has a score yet"
    low, high = float(ok.learning_rate.min()), float(ok.learning_rate.max())
    if end is not None:
        tables = tables.loc[tables.batch_size == end.batch_size]
        own = ok.learning_rate[ok.batch_size == end.batch_size]
        low = min([end.learning_rate * step, *own])
        high = max([end.learning_rate / step, *own])
        other = {"lower": []} if end.side == "higher" else {"higher": []}
        reasons = reasons._replace(**other)
    walls = tables.learning_rate[(tables.status == "diverged") & (tables.learning_rate > high)]
    wall = float(walls.min()) if len(walls) else np.inf
    above = [high * step**k for k in range(1, BEYOND + 1) if high * step ** (k + 0.5) < wall]
    if not above and wall >= ROUNDED * high * SMALLEST_STEP**2:
        above = [(high * wall) ** 0.5]
    below = [low / step**k for k in range(1, BEYOND + 1)]
    added, why = [], []
    if reasons.higher or (wall > high * step ** (BEYOND + 0.5) and _best_at(cells, high)):
        added += above
        labels = reasons.higher or _best_at(cells, high)
        up = f"{_verb(labels, 'improves', 'improve')} up to the highest one"
        if not above:
            up += f", less than an octave below {rate(wall)}, which diverged"
        why.append(up)
    if reasons.lower:
        added += below
        why.append(f"{_verb(reasons.lower, 'improves', 'improve')} down to the lowest one")
    missing = ENOUGH - int(ok.learning_rate.nunique())
    if ok.learning_rate.nunique() < 3 and not added:
        between = [(low * high) ** 0.5] if high > OCTAVE**2 * low else []
        added = (between + above[:1] + below[:1] + above[1:] + below[1:] + [low / step**3])[
            :missing
        ]
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


def new_sizes(sizes: list[int], reasons: Reasons, group: int) -> tuple[list[int], str]:
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


def typical_step(settings: pd.DataFrame) -> float:
    """Typical factor from one learning rate to the next at one batch size, half an octave to two
    octaves."""
    own = [
        np.unique(rates.to_numpy(dtype=float))
        for _, rates in settings.groupby("batch_size").learning_rate
    ]
    gaps = np.concatenate([[], *(np.diff(np.log(rates)) for rates in own)])
    if not len(gaps):
        return OCTAVE
    return float(np.clip(np.exp(np.median(gaps)), SMALLEST_STEP, OCTAVE**2))
