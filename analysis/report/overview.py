"""What stands first on the page: what was run, the table of scores, and the gain of training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.answers import BenchmarkAnswer, Signal
from analysis.benchmarks import ON_DATA_OF, task
from analysis.compare.score_difference import Scored, ScoreDifference, best_keys, score_difference
from analysis.figures.interpolate import colour_range
from analysis.fit.surface import Fit
from analysis.fit.unit import unit_of
from analysis.posterior.cells import Cells
from analysis.report.words.sentences import NO_SIGNAL
from analysis.tables.recipe import recipe
from analysis.text import counted, decimal_places, listed, number, rate


class Score(NamedTuple):
    """One cell of the table: `text` of its score, or its status where it has none; `shade` from 0
    (worst) to 1 (best) of the scores shown, None without a score."""

    text: str
    error: str
    shade: float | None
    best: bool
    status: str


class ScoreTable(NamedTuple):
    """Scores of one benchmark: a row per learning rate, a column per batch size."""

    benchmark: str
    label: str
    metric: str
    better: str
    sizes: list[int]
    rows: list[tuple[str, list[Score | None]]]


class Gain(NamedTuple):
    """Best cell of one benchmark against the model before training.

    `difference` is None where the model before training has no score; its gain is that of the cell
    as measured, `gain` without the `luck` of the best of many (`Fit.luck`). `note`: whether the
    scores say anything at all.
    """

    benchmark: str
    label: str
    metric: str
    best: str
    cell: str
    before: str
    gain: str
    items: int | None
    note: str
    difference: ScoreDifference | None
    luck: float | None = None


class Overview(NamedTuple):
    """`facts`: cells, axes, seeds, diverged and failed cells, in words."""

    facts: str
    tables: list[ScoreTable]
    gains: list[Gain]
    unscored: list[str]

    @property
    def worse_than_before(self) -> list[str]:
        """Benchmarks whose best cell is worse than the model before training, beyond noise."""
        known = [(gain.label, gain.difference.interval) for gain in self.gains if gain.difference]
        return [label for label, interval in known if interval and interval[1] < 0]


def overview(
    fits: Sequence[Fit],
    answers: Mapping[str, BenchmarkAnswer],
    frame: pd.DataFrame,
    items: pd.DataFrame | None,
) -> Overview:
    """Of the surfaces of one grid; `frame` is the whole table, with the model before training."""
    grids = [fit.cells for fit in fits]
    first = grids[0]
    rows = frame.loc[(frame.stage == first.stage) & (frame.arm == first.arm)]
    start = before_training(frame, rows)
    return Overview(
        facts=_facts(rows, grids),
        tables=[score_table(cells) for cells in grids],
        gains=[_gain(fit, answers, frame, rows, items, start) for fit in fits],
        unscored=_unscored(rows, grids),
    )


def score_table(cells: Cells) -> ScoreTable:
    """The scores as measured, mean over seeds, with their standard errors."""
    table = cells.table
    values = table.value.to_numpy(dtype=float)
    low, high = colour_range(values[cells.ok], cells.higher_is_better)
    places = _decimals(table.total_stderr[cells.ok], high - low)
    by_cell: dict[tuple[float, int], Score] = {}
    for row, cell in enumerate(table.to_dict("records")):
        if cell["status"] == "ok":
            stderr = cell["total_stderr"]
            error = "" if pd.isna(stderr) else f"{stderr:.{places}f}"
            shade = float(np.clip((cell["value"] - low) / (high - low), 0, 1))
            shade = shade if cells.higher_is_better else 1 - shade
            score = Score(f"{cell['value']:.{places}f}", error, shade, row == cells.best, "ok")
        else:
            score = Score(cell["status"], "", None, False, cell["status"])
        by_cell[(cell["learning_rate"], cell["batch_size"])] = score
    sizes = sorted(int(size) for size in table.batch_size.unique())
    rates = sorted(table.learning_rate.unique())
    return ScoreTable(
        cells.benchmark,
        task(cells.benchmark).label,
        cells.metric,
        "higher" if cells.higher_is_better else "lower",
        sizes,
        [(rate(r), [by_cell.get((r, size)) for size in sizes]) for r in rates],
    )


def before_training(frame: pd.DataFrame, here: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Benchmark -> (key, name of the benchmark there) of the model that one grid, the rows `here`
    of `frame`, starts from: its one parent, else the row of its own stage outside the grid (of
    learning rate 0 in a table), else the base of its model. Empty where its trials start from
    several, or rows that may be it differ.

    The loss that counts is the one on this stage's data (`heldout_loss@sft`), not on the data that
    the parent was trained on: where it was not measured, as for pairs, there is none.
    """
    scored = frame.loc[frame.primary.fillna(False).astype(bool) & (frame.status == "ok")]
    parents = [key for key in here.parent.unique() if key]
    if len(parents) > 1:
        return {}
    stage = str(here.stage.iloc[0]) if len(here) else ""
    rows = scored.loc[scored.key.isin(parents)]
    if rows.empty:
        own = (scored.stage == stage) & scored.learning_rate.isna()
        rows = scored.loc[own if own.any() else scored.stage == "base"]
        trained = frame.model[frame.learning_rate.notna()]
        if rows.model.nunique() > 1 or rows.model.isin(trained).any():
            rows = rows.loc[rows.model.isin(here.model)]
        if rows.model.nunique() > 1 or (rows.groupby("benchmark").value.nunique() > 1).any():
            return {}
    names = {
        name: key
        for name, key in zip(rows.benchmark, rows.key, strict=True)
        if ON_DATA_OF in name or task(name).task_type != "loss"
    }
    own = {
        name.partition(ON_DATA_OF)[0]: (key, name)
        for name, key in names.items()
        if name.endswith(f"{ON_DATA_OF}{stage}")
    }
    return {name: (key, name) for name, key in names.items() if ON_DATA_OF not in name} | own


def scores_before(frame: pd.DataFrame, here: pd.DataFrame) -> dict[str, float]:
    """Primary score by benchmark of the model that one grid starts from."""
    primary = frame.loc[frame.primary.fillna(False).astype(bool)]
    values = {
        (key, name): value
        for key, name, value in zip(primary.key, primary.benchmark, primary.value, strict=True)
    }
    return {name: float(values[place]) for name, place in before_training(frame, here).items()}


def _gain(
    fit: Fit,
    answers: Mapping[str, BenchmarkAnswer],
    frame: pd.DataFrame,
    rows: pd.DataFrame,
    items: pd.DataFrame | None,
    start: Mapping[str, tuple[str, str]],
) -> Gain:
    cells, parent = fit.cells, start.get(fit.cells.benchmark)
    known = task(cells.benchmark)
    note = _note(answers[cells.benchmark], known.chance)
    if cells.best is None:
        nothing = dict.fromkeys(("best", "cell", "before", "gain"), "-")
        return Gain(
            cells.benchmark, known.label, cells.metric, **nothing, items=None, note=note,
            difference=None,
        )  # fmt: skip
    best = cells.table.iloc[cells.best]
    low, high = colour_range(cells.table.value[cells.ok].to_numpy(), cells.higher_is_better)
    places = _decimals(cells.table.total_stderr[cells.ok], high - low)
    difference = None
    if parent is not None:
        keys = best_keys(rows, best.learning_rate, int(best.batch_size))
        difference = score_difference(
            Scored(frame, items, (parent[0],)),
            Scored(frame, items, keys, cells.seeds),
            cells.benchmark,
            cells.metric,
            cells.higher_is_better,
            first_benchmark=parent[1],
        )
    gain = "-"
    if difference is not None:
        # the difference is positive where training helped, the score rises or falls with it
        sign = 1 if unit_of(cells).points else cells.sign
        earned = difference.gain - (fit.luck or 0.0)
        gain = unit_of(cells).signed(sign * earned, difference.stderr)
    return Gain(
        benchmark=cells.benchmark,
        label=known.label,
        metric=cells.metric,
        best=f"{best.value:.{places}f}",
        cell=cells.cell_name(best.learning_rate, int(best.batch_size)),
        before="-" if difference is None else f"{difference.first:.{places}f}",
        gain=gain,
        items=int(best.n) if np.isfinite(best.n) and np.isfinite(best.stderr) else None,
        note=note,
        difference=difference,
        luck=fit.luck,
    )


def _note(answer: BenchmarkAnswer, chance: float | None) -> str:
    match answer.signal:
        case Signal.CHANCE:
            return f"at chance ({number(chance or 0.0)}): no cell learned it"
        case Signal.CONSTANT:
            return "the same in every cell"
        case Signal.CLEAR:
            return "" if chance is None else f"chance is {number(chance)}"
    return NO_SIGNAL[answer.signal]


def _decimals(stderr: pd.Series, spread: float) -> int:
    """Decimal places of scores; without standard errors a thirtieth of their spread stands for
    them."""
    return decimal_places(float(stderr.median()) if stderr.notna().any() else spread / 30)


def _facts(rows: pd.DataFrame, grids: Sequence[Cells]) -> str:
    """20 cells (5 learning rates x 4 batch sizes), 2 seeds each; 1 diverged and none failed; 1
    trial failed in a cell that has other seeds."""
    first = grids[0]
    statuses = _worst_status(grids)
    seeds = rows.drop_duplicates("key").groupby(["learning_rate", "batch_size"]).key.nunique()
    each = (
        f"{seeds.min()} to {seeds.max()} seeds"
        if seeds.min() < seeds.max()
        else counted(int(seeds.max()), "seed")
    )
    table, bad = first.table, rows.loc[rows.status != "ok"].drop_duplicates("key")
    lost = {name: list(statuses.values()).count(name) for name in ("diverged", "failed")}
    without = listed([f"{count or 'none'} {status}" for status, count in lost.items()])
    axes_of_bad = zip(bad.learning_rate, bad.batch_size, strict=True)
    beside = sum(statuses.get(cell) == "ok" for cell in axes_of_bad)
    if beside:
        cells = "a cell that has" if beside == 1 else "cells that have"
        without += f"; {counted(beside, 'trial')} failed in {cells} other seeds"
    axes = counted(table.learning_rate.nunique(), "learning rate")
    axes += (
        f" x {counted(table.batch_size.nunique(), 'batch size')}"
        if first.sized
        else ", batch size not known"
    )
    return f"{counted(len(statuses), 'cell')} ({axes}), {each} each; {without}.{recipe(rows).told}"


def _worst_status(grids: Sequence[Cells]) -> dict[tuple[float, int], str]:
    order = ("ok", "failed", "diverged")
    worst: dict[tuple[float, int], str] = {}
    for cells in grids:
        axes = zip(cells.table.learning_rate, cells.table.batch_size, strict=True)
        for cell, status in zip(axes, cells.table.status, strict=True):
            worst[cell] = max(worst.get(cell, "ok"), status, key=order.index)
    return worst


def _unscored(rows: pd.DataFrame, grids: Sequence[Cells]) -> list[str]:
    """Why cells, or seeds of them, have no score: one line per reason, with its cells."""
    statuses, grid = _worst_status(grids), grids[0]
    bad = rows.loc[(rows.status != "ok") & (rows.reason != "")]
    lines = []
    for (status, reason), part in bad.groupby(["status", "reason"], sort=False):
        cells = part.drop_duplicates(["learning_rate", "batch_size"])
        axes = zip(cells.learning_rate, cells.batch_size, strict=True)
        names = [
            f"{'a seed of ' if statuses.get(cell) == 'ok' else ''}{grid.cell_name(*cell)}"
            for cell in axes
        ]
        shown = listed(names[:4] + ([f"{len(names) - 4} more"] if len(names) > 4 else []))
        lines.append(f"{shown} {status}: {reason}")
    return lines
