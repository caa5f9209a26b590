"""Surfaces whose truth is known, and grids measured on them, for the benches of the analysis.

Axes are octaves from the corner. Interior optima lie in the middle half of each side; those of
the edge families a tenth to six tenths of a side beyond it. A surface ranges over 3 to 6 points in
the grid. A run's own noise is 0.8 to 1.3 points: a quarter of its variance from the items, which
all cells share (correlation 0.7, so that a larger part is common to all), the rest from the seed.
A seed may also move all of its runs alike and flip single answers, and cells may be repeated in
part (`Runs`). Where a surface is not a number training diverges.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.design.space import Cell
from analysis.posterior.cells import Cells, surfaces
from analysis.tables.external.adopt import adopt

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]

SHAPES = ("quadratic", "skewed", "plateau", "cliff", "ridge, ratio", "ridge, root")
REFUSED = ("flat", "edge: rate", "edge: batch", "edge: corner", "slope", "saturating")
ITEMS = 100
ITEM_SHARE = 0.25
CORRELATION = 0.7
POINT = 0.01
RATE, BATCH = -13.0, 2.0
"""log2 of the corner's learning rate and batch size."""

WALL = 0.6
"""Octaves above the best rate at which cells of the cliff family diverge."""

LEVEL = 0.02
"""Of the range: points this near the best are as good, where a top is not unique."""


class Runs(NamedTuple):
    """`seeds` of every cell, and `repeated` cells in the middle of the grid with one seed more.

    common: standard deviation of what a seed does to all cells alike, in shares of what it does to
    one; flips: that of what it does to an item in one cell, in shares of what the cell does to it.
    """

    seeds: int = 1
    repeated: int = 0
    common: float = 0.0
    flips: float = 0.0

    def of(self, rates: int, sizes: int) -> tuple[np.ndarray, np.ndarray]:
        """The number of each run's cell, and its seed."""
        x, y = np.divmod(np.arange(rates * sizes), sizes)
        apart = (x - (rates - 1) / 2) ** 2 + (y - (sizes - 1) / 2) ** 2
        more = np.sort(np.argsort(apart, kind="stable")[: self.repeated])
        cell = np.repeat(np.arange(rates * sizes), self.seeds)
        seed = np.tile(np.arange(self.seeds), rates * sizes)
        return np.append(cell, more), np.append(seed, np.full(len(more), self.seeds))


class Truth(NamedTuple):
    """A surface in shares of 1 over octaves (0 to x_span, 0 to y_span), its top, and the log2
    ratios, low and high, of the points within `LEVEL` of it, in the table's own log2 units."""

    score: Function
    ratio: float
    low: float
    high: float
    batch_size: float


def truth(shape: str, x_span: float, y_span: float, rng: np.random.Generator) -> Truth:
    """One surface of a family; its place, direction, steepness and range are random."""
    a, b = rng.uniform(0.25, 0.75, 2) * (x_span, y_span)
    w, h = x_span / 2, y_span / 2
    if shape in ("edge: rate", "edge: corner"):
        a = _beyond(x_span, rng)
    if shape in ("edge: batch", "edge: corner"):
        b = _beyond(y_span, rng)
    gamma, turn = rng.uniform(0, 0.7), rng.uniform(0, 2 * np.pi)
    steep = rng.uniform(0.8, 1.6)

    def raw(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        v = (y - b) / h
        u = (x - a - gamma * (y - b)) / w
        match shape:
            case "skewed":
                return -2 * (np.expm1(steep * u) - steep * u) / steep**2 - v**2
            case "plateau":
                cliff = 1 / (1 + np.exp(-(u * w - 1.2) / 0.3))
                return -cliff - 0.25 * np.maximum(0, -u) - 0.2 * v**2
            case "cliff":
                return np.where(u * w > WALL, np.nan, -(u**2) - 0.2 * v**2)
            case "ridge, ratio":
                return -(((x - a - (y - b)) / w) ** 2) - 0.15 * v**2
            case "ridge, root":
                return -(((x - a - 0.5 * (y - b)) / w) ** 2) - 0.15 * v**2
            case "flat":
                return np.zeros_like(x)
            case "slope":
                return np.cos(turn) * x / x_span + np.sin(turn) * y / y_span
            case "saturating":
                return -np.exp(-3 * x / x_span) + 0.1 * y / y_span
            case _:
                return -(u**2) - v**2

    mesh_x, mesh_y = np.meshgrid(np.linspace(0, x_span, 101), np.linspace(0, y_span, 101))
    heights = raw(mesh_x, mesh_y)
    span = float(np.nanmax(heights) - np.nanmin(heights))
    points = rng.uniform(3, 6)
    scale = POINT * points / span if span > 0 else POINT
    top = np.unravel_index(np.nanargmax(heights), heights.shape)
    good = heights >= np.nanmax(heights) - LEVEL * span
    ratios = (mesh_x - mesh_y) + RATE - BATCH
    return Truth(
        lambda x, y: 0.4 + scale * raw(x - RATE, y - BATCH),
        float(ratios[top]),
        float(ratios[good].min()),
        float(ratios[good].max()),
        float(mesh_y[top]),
    )


def _beyond(span: float, rng: np.random.Generator) -> float:
    return span / 2 + rng.choice([-1, 1]) * span * rng.uniform(0.6, 1.1)


def measured(
    score: Function,
    rates: int,
    sizes: int,
    runs: Runs,
    rng: np.random.Generator,
    benchmark: str = "arc",
    items: int = ITEMS,
) -> Cells:
    """Cells as the analysis reads them from a run: `rates` x `sizes` octaves, items shared.

    `items` scales the items' share of the noise, which is stated for `ITEMS` of them.
    """
    cell, seed = runs.of(rates, sizes)
    x, y = np.divmod(cell, sizes)
    trials = np.column_stack([RATE + x, BATCH + y, seed])
    table, long = tables(score, trials, cell, rng, benchmark, items, runs)
    return surfaces(table, long)[0]


def tables(
    score: Function,
    trials: np.ndarray,
    cell: np.ndarray,
    rng: np.random.Generator,
    benchmark: str = "arc",
    items: int = ITEMS,
    runs: Runs | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and items of trials (log2 learning rate, log2 batch size, seed), `cell` the number of
    each one's cell."""
    common, flips = (0.0, 0.0) if runs is None else runs[2:]
    noise = POINT * rng.uniform(0.8, 1.3)
    x, y, seed = trials.T
    own = noise * np.sqrt(ITEM_SHARE * ITEMS)
    difficulty = own * np.sqrt(CORRELATION / (1 - CORRELATION)) * rng.standard_normal(items)
    answers = difficulty + own * rng.standard_normal((cell.max() + 1, items))
    shift = noise * np.sqrt(1 - ITEM_SHARE) * rng.standard_normal(len(x))
    if common:
        alike = rng.standard_normal(int(seed.max()) + 1)[seed.astype(int)]
        shift += common * noise * np.sqrt(1 - ITEM_SHARE) * alike
    values = (score(x, y) + shift)[:, None] + answers[cell]
    if flips:
        values += flips * own * rng.standard_normal(values.shape)
    frame = pd.DataFrame(
        {
            "learning_rate": 2.0**x,
            "batch_size": np.round(2.0**y).astype(int),
            "seed": seed.astype(int),
            "benchmark": benchmark,
            "metric": "acc",
            "value": values.mean(axis=1),
            "stderr": values.std(axis=1, ddof=1) / np.sqrt(items),
            "n": items,
            "status": np.where(np.isnan(values[:, 0]), "diverged", "ok"),
        }
    )
    table = adopt(frame, "simulated").frame
    long = pd.DataFrame(
        {
            "key": np.repeat(table.key.to_numpy(), items),
            "benchmark": benchmark,
            "metric": "acc",
            "item": np.tile(np.arange(items), len(table)),
            "value": values.ravel(),
        }
    )
    return table, long.dropna()


class Laboratory:
    """Every cell that may be run, measured once; what a run has asked for is what it sees."""

    def __init__(self, score: Function, every: Sequence[Cell], rng: np.random.Generator) -> None:
        settings = {cell.setting: None for cell in every}
        places = {setting: place for place, setting in enumerate(settings)}
        number = np.array([places[cell.setting] for cell in every])
        trials = np.array([[*np.log2(cell.setting), cell.seed] for cell in every])
        self._table, long = tables(score, trials, number, rng)
        self._places = {cell: place for place, cell in enumerate(every)}
        self._items = dict(list(long.groupby("key")))

    def status(self, cell: Cell) -> str:
        return str(self._table.status.iloc[self._places[cell]])

    def value(self, cell: Cell) -> float:
        return float(self._table.value.iloc[self._places[cell]])

    def rows(self, ran: Sequence[Cell]) -> pd.DataFrame:
        """Their rows in the table of the results."""
        return self._table.iloc[[self._places[cell] for cell in ran]]

    def cells(self, ran: Sequence[Cell]) -> Cells | None:
        """What the analysis reads once these trials have ended; None of fewer than two cells."""
        table = self.rows(ran)
        items = [self._items[key] for key in table.key if key in self._items]
        parts = surfaces(table, pd.concat(items) if items else None)
        return parts[0] if parts else None
