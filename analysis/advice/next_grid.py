"""The grid file that would decide what a grid left undecided: its axes, longer where that helps.

Where the run's own grid file is known, the whole file with the new axes: the same command runs only
the cells that are new. Without one, the part of a file that holds the axes.
"""

import io
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from analysis.benchmarks import task
from analysis.fit.surface import CLIFF, Fit, FitStatus
from analysis.text import counted, listed, rate

OCTAVE = 2.0
BEYOND = 2
"""Learning rates to add beyond a border that holds the optimum."""

ENOUGH = 5
"""Values of an axis below which a grid of too few cells is completed to this many."""


NAMES = {"learning_rate": "learning rate", "batch_size": "batch size", "seed": "seed"}


class NextGrid(NamedTuple):
    """A grid file's text, what running it adds to the cells there are, and the names of the
    benchmarks that are undecided."""

    text: str
    sentence: str
    undecided: str


def next_grid(fits: Iterable[Fit], rows: pd.DataFrame, file: Path | None) -> NextGrid | None:
    """For the undecided among the fits of one grid; None where all are identified.

    `rows` are the grid's own results; `file` is the run's grid.yaml.
    """
    undecided = [fit for fit in fits if fit.status is not FitStatus.IDENTIFIED]
    if not undecided:
        return None
    table = undecided[0].cells.table
    seeds = sorted({int(seed) for seed in rows.seed.dropna()}) or [0]
    rates = sorted({float(rate) for fit in undecided for rate in _rates(fit)})
    sizes = sorted({int(size) for fit in undecided for size in _sizes(fit)})
    if any(_needs_seeds(fit) for fit in undecided):
        seeds = seeds + [max(seeds) + 1 + extra for extra in range(max(2, len(seeds)))]
    axes = {"learning_rate": [float(f"{rate:.4g}") for rate in rates]}
    axes |= {"batch_size": sizes, "seed": seeds}
    had = set(zip(rows.learning_rate, rows.batch_size, rows.seed.fillna(0), strict=True))
    known = {(float(f"{rate:.4g}"), int(size), int(seed)) for rate, size, seed in had}
    new = sum(cell not in known for cell in product(*axes.values()))
    if not new:
        return None
    stage = undecided[0].cells.stage
    sentence = (
        f"{counted(new, 'new cell')} beside the {len(table)} there are: "
        f"{counted(len(rates), 'learning rate')} x {counted(len(sizes), 'batch size')} x "
        f"{counted(len(seeds), 'seed')}. New: {_new(axes, known)}. "
        "Running it runs only what is new."
    )
    names = listed([task(fit.cells.benchmark).label for fit in undecided])
    return NextGrid(_text(stage, axes, file), sentence, names)


def _new(axes: dict[str, list[Any]], known: set[tuple[float, int, int]]) -> str:
    """The values of each axis that no cell has yet, or that the cells lack in combination."""
    parts = []
    for place, (name, values) in enumerate(axes.items()):
        new = [value for value in values if value not in {cell[place] for cell in known}]
        if new:
            texts = [rate(value) if name == "learning_rate" else str(value) for value in new]
            parts.append(f"{NAMES[name]}{'s' if len(new) > 1 else ''} {listed(texts)}")
    return "; ".join(parts) or "combinations that were not scored"


def _needs_seeds(fit: Fit) -> bool:
    return fit.status is FitStatus.FLAT


def _rates(fit: Fit) -> list[float]:
    """Learning rates of the cells, and those that the fit asks for, at the cells' own step."""
    table = fit.cells.table
    ok = table.loc[fit.cells.ok]
    rates = np.unique(table.learning_rate)
    if ok.empty:
        return [*rates, rates.min() / OCTAVE**2, rates.min() / OCTAVE**4]
    step = _step(rates)
    low, high = float(ok.learning_rate.min()), float(ok.learning_rate.max())
    added: list[float] = []
    if any(side in ("higher learning rates", CLIFF) for side in fit.edges):
        wall = table.learning_rate[(table.status == "diverged") & (table.learning_rate > high)]
        if wall.empty:
            added += [high * step**k for k in range(1, BEYOND + 1)]
        else:
            added += [high * (float(wall.min()) / high) ** share for share in (1 / 3, 2 / 3)]
    if "lower learning rates" in fit.edges:
        added += [low / step**k for k in range(1, BEYOND + 1)]
    if fit.status is FitStatus.TOO_FEW:
        diverges = bool((table.status[table.learning_rate > high] == "diverged").any())
        added += _completed(np.unique(ok.learning_rate), step, upwards=not diverges)
    return [*rates, *added]


def _sizes(fit: Fit) -> list[int]:
    sizes = np.unique(fit.cells.table.batch_size)
    added: list[float] = []
    if "larger batches" in fit.edges:
        added += [sizes.max() * OCTAVE]
    if "smaller batches" in fit.edges:
        added += [sizes.min() / OCTAVE]
    if fit.status is FitStatus.TOO_FEW:
        added += _completed(sizes, OCTAVE)
    return [int(size) for size in (*sizes, *added) if size >= 1]


def _completed(values: np.ndarray, step: float, upwards: bool = True) -> list[float]:
    """What is missing to `ENOUGH` values, half of it on either side, or all of it below."""
    missing = max(0, ENOUGH - len(values))
    count = missing - missing // 2 if upwards else 0
    above = [float(values.max()) * step**k for k in range(1, count + 1)]
    below = [float(values.min()) / step**k for k in range(1, missing - count + 1)]
    return above + below


def _step(values: np.ndarray) -> float:
    """Typical factor from one learning rate to the next, at most two octaves."""
    if len(values) < 2:
        return OCTAVE
    return min(float(np.exp(np.median(np.diff(np.log(values))))), OCTAVE**2)


def _text(stage: str, axes: dict[str, list[Any]], file: Path | None) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 96
    yaml.indent(mapping=2, sequence=4, offset=2)
    grid: dict[str, Any] = {"stages": {stage: {"grid": {}}}}
    if file is not None and file.exists():
        whole = yaml.load(file)
        if "grid" in whole.get("stages", {}).get(stage, {}):
            grid = whole
    place = grid["stages"][stage]["grid"]
    if "ratio" in place and "batch_size" in place:
        del place["ratio"]
    for name, values in axes.items():
        if name == "seed" and len(values) == 1 and "seed" not in place:
            continue
        place[name] = CommentedSeq(values)
        place[name].fa.set_flow_style()
    with io.StringIO() as stream:
        yaml.dump(grid, stream)
        return stream.getvalue()
