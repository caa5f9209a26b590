"""Screening runs: short ones of the cells about the start, and what they say of it.

They say where the best learning rate may lie at each batch size (`expected`) and nothing else: no
fit of the full runs sees them. That holds as long as the start's learning rates, once run in full,
rank as they did when they were short (`standing`).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.answers import Signal, answers
from analysis.design.space import Cell, Space, Tried
from analysis.design.start import Expected, first_cells, start_left
from analysis.fit.rates import RateAt, RateStatus
from analysis.fit.surface import Fit

ROOT_RULE = 0.5
"""The rate follows the root of the batch size where Adam's gradients are mostly noise (Malladi et
al. 2022, arXiv 2205.10287)."""

NORMAL_95 = 1.96

CLOSEST = 0.99
"""Stands for a rho of 1, which has no interval."""

SETTING = ["learning_rate", "batch_size", "seed"]


class Agreement(NamedTuple):
    """Spearman's rho of the learning rates within their batch sizes, short runs against full ones,
    with its 95 % interval; `cells` have all of the `scores`, by benchmark, at both lengths."""

    rho: float
    low: float
    high: float
    cells: int
    scores: tuple[str, ...]

    @property
    def stands(self) -> bool:
        """Whether the rankings are known to agree at all."""
        return self.low > 0


def expected(
    fits: Sequence[Fit], space: Space, screened: Sequence[Cell], source: str
) -> Expected | None:
    """What the `fits` of the `screened` cells, one of each score, say of the start; None where they
    do not differ beyond noise."""
    given = answers(fits).benchmarks.values() if fits else ()
    rates = [rate for its in given if its.signal is Signal.CLEAR for rate in its.rates]
    if not rates:
        return None
    tables = [fit.cells.table for fit in fits]
    ends = pd.concat([table.loc[table.status == "diverged"] for table in tables])
    settings = set(zip(ends.learning_rate, ends.batch_size, strict=True))
    diverged = frozenset(cell for cell in screened if cell.setting in settings)
    return Expected(centres(rates, space.batch_sizes), source, tuple(screened), diverged)


def centres(rates: Sequence[RateAt], batch_sizes: Sequence[int]) -> dict[int, float]:
    """The middle over the scores of LR*(B) at each of the `batch_sizes`: of interior ones where its
    batch size has any, else of those at an end. Level ones count where all are level. Between batch
    sizes by log2, beyond those measured by `ROOT_RULE`."""
    rates = [rate for rate in rates if rate.status is not RateStatus.LEVEL] or rates
    middles = {}
    for size in sorted({rate.batch_size for rate in rates}):
        here = [rate for rate in rates if rate.batch_size == size]
        here = [rate for rate in here if rate.status is RateStatus.INTERIOR] or here
        middles[size] = np.median([np.log2(rate.learning_rate) for rate in here])
    known, wanted = np.log2(list(middles)), np.log2(batch_sizes)
    beyond = wanted - np.clip(wanted, known[0], known[-1])
    centre = np.interp(wanted, known, list(middles.values())) + ROOT_RULE * beyond
    return {size: float(2.0**x) for size, x in zip(batch_sizes, centre, strict=True)}


def standing(
    expected: Expected,
    tried: Sequence[Tried],
    space: Space,
    allowed: Collection[Cell] | None,
    short: pd.DataFrame,
    full: pd.DataFrame,
) -> tuple[Expected | None, Agreement | None]:
    """The expectation while it stands, and how the rankings agree once the start has ended; None
    where too few cells have both. `short` and `full` are rows of the results, of the same scores.
    The cells compared are those of the start, so the answer is the same ever after."""
    start = first_cells(space, expected)
    runs = {trial.cell for trial in tried if trial.status == "running"}
    if runs & set(start) or start_left(tried, space, allowed, expected):
        return expected, None
    agreed = agreement(short, full, start)
    return (expected if agreed is not None and agreed.stands else None), agreed


def agreement(short: pd.DataFrame, full: pd.DataFrame, cells: Collection[Cell]) -> Agreement | None:
    """None where too few of the `cells` have a result at both lengths, of the scores that both
    lengths have.

    Ranks are taken within each batch size, for that is what an expected rate is used for; a run
    that diverged ranks last. The interval is Fisher's with the variance of Bonett and Wright 2000
    (Psychometrika 65, 23-28), less a degree of freedom for each batch size beyond the first.
    """
    merits = [_merits(frame, cells) for frame in (short, full)]
    scores = merits[0].columns.intersection(merits[1].columns)
    if not len(scores):
        return None
    merits = [merit[scores].dropna() for merit in merits]
    both = merits[0].index.intersection(merits[1].index)
    groups = both.get_level_values("batch_size").nunique()
    freedom = len(both) - groups - 2
    if freedom < 1:
        return None
    ranks = [_within_sizes(merit.loc[both]) for merit in merits]
    spread = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    rho = float((ranks[0] * ranks[1]).sum()) / spread if spread else 0.0
    rho = float(np.clip(rho, -CLOSEST, CLOSEST))
    middle = np.arctanh(rho)
    half = NORMAL_95 * np.sqrt((1 + rho**2 / 2) / freedom)
    low, high = np.tanh([middle - half, middle + half])
    return Agreement(rho, float(low), float(high), len(both), tuple(scores))


def _merits(frame: pd.DataFrame, cells: Collection[Cell]) -> pd.DataFrame:
    """Cells x benchmarks: primary scores, higher is better, NaN where a cell lacks one."""
    rows = frame.loc[frame.primary.fillna(False).astype(bool)]
    rows = rows.loc[rows.status.isin(["ok", "diverged"])]
    sign = np.where(rows.higher_is_better.fillna(True).astype(bool), 1.0, -1.0)
    merit = (sign * rows.value).where(rows.status == "ok", -np.inf)
    table = rows.assign(merit=merit).pivot_table(
        index=SETTING, columns="benchmark", values="merit", aggfunc="first", observed=True
    )
    return table.loc[[setting in cells for setting in table.index]]


def _within_sizes(merits: pd.DataFrame) -> pd.Series:
    """Of each cell its rank in its batch size, less the mean there; over the benchmarks by their
    mean rank."""
    of = merits.groupby(level="batch_size").rank().mean(axis=1)
    ranks = of.groupby(level="batch_size").rank()
    return ranks - ranks.groupby(level="batch_size").transform("mean")
