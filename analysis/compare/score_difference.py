"""How far apart two models score, paired by the items that both answered."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from analysis.posterior.seed_noise import SeedNoise
from analysis.text import decimal_places

NORMAL = 1.96

MIN_ITEMS = 20
"""Fewer shared items give no error of their own."""


class Scored(NamedTuple):
    """One model, or the same setting trained with several seeds: their rows in `frame`
    (`tables.load.read`) and `items` (`records.run_table.items`, None for a table), and their keys.
    `seeds`: the noise between seeds in its grid. What a seed does to all cells of a grid counts,
    since it does not cancel between models that are not of one grid."""

    frame: pd.DataFrame
    items: pd.DataFrame | None
    keys: tuple[str, ...]
    seeds: SeedNoise | None = None

    def variance(self, runs: int) -> float:
        """Of a mean over so many runs, from their seeds, beyond what the items have."""
        if self.seeds is None:
            return 0.0
        return (self.seeds.total**2 - self.seeds.items * self.seeds.pooled**2) / runs


class ScoreDifference(NamedTuple):
    """second minus first, in the metric's units, positive when the second is better.

    stderr: over shared items where there are any (`items` says how many, 0 where the two are taken
    for independent), with the seeds' share where it is known; None where no error is known. Where
    either has answered others too, as `answered` says, both scores are those on the shared ones.
    by_seeds: a score has no error of its own, and the noise between seeds stands for it.
    reach: half of the 95 % interval in standard errors; more than 1.96 where few repeated runs tell
    the noise between seeds (Student's t, degrees of freedom by Satterthwaite).
    """

    first: float
    second: float
    gain: float
    stderr: float | None
    items: int
    by_seeds: bool = False
    reach: float = NORMAL
    answered: tuple[int, int] = (0, 0)

    @property
    def texts(self) -> tuple[str, str]:
        """Both scores, with the decimal places that tell them apart."""
        places = decimal_places(self.stderr or abs(self.gain))
        return f"{self.first:.{places}f}", f"{self.second:.{places}f}"

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %."""
        if self.stderr is None:
            return None
        return self.gain - self.reach * self.stderr, self.gain + self.reach * self.stderr


def score_difference(
    first: Scored,
    second: Scored,
    benchmark: str,
    metric: str,
    higher_is_better: bool,
    first_benchmark: str = "",
) -> ScoreDifference | None:
    """None where either has no score. `first_benchmark` where the first has another name for it
    (`heldout_loss@sft` is the loss on this stage's data). A standard error that is missing is the
    median of that benchmark's others."""
    names = (first_benchmark or benchmark, benchmark)
    values, errors, counts = [], [], []
    for scored, name in zip((first, second), names, strict=True):
        every = scored.frame.loc[
            (scored.frame.benchmark == name)
            & (scored.frame.metric == metric)
            & (scored.frame.status == "ok")
        ]
        rows = every.loc[every.key.isin(scored.keys)]
        if rows.empty:
            return None
        values.append(float(rows.value.mean()))
        counts.append(rows.key.nunique())
        known = rows.stderr.mean() if rows.stderr.notna().any() else every.stderr.median()
        errors.append(float(known))
    sign = 1 if higher_is_better else -1
    tables = [
        _by_item(scored, name, metric) for scored, name in zip((first, second), names, strict=True)
    ]
    answered = (len(tables[0]), len(tables[1]))
    shared = pd.concat(tables, axis=1, join="inner") if all(answered) else pd.DataFrame()
    if len(shared) >= MIN_ITEMS:
        apart = (shared.iloc[:, 1] - shared.iloc[:, 0]).to_numpy(dtype=float)
        variance = float(apart.var(ddof=1) / len(apart))
        count = len(shared)
        if count < max(answered):
            values = [float(mean) for mean in shared.mean()]
    else:
        variance, count = float(np.square(errors).sum()), 0
    between = [one.variance(runs) for one, runs in zip((first, second), counts, strict=True)]
    by_seeds = bool(np.isnan(variance) and all(between))
    if by_seeds:
        variance = float(np.nansum(np.square(errors)))
    variance += sum(between)
    stderr = float(np.sqrt(variance)) if np.isfinite(variance) and variance > 0 else None
    gain = sign * (values[1] - values[0])
    freedom = [one.seeds.total_freedom if one.seeds else np.inf for one in (first, second)]
    reach = NORMAL if stderr is None else reach_of(variance, between, freedom)
    return ScoreDifference(values[0], values[1], gain, stderr, count, by_seeds, reach, answered)


def reach_of(variance: float, parts: Sequence[float], freedom: Sequence[float]) -> float:
    """Half of a 95 % interval in standard errors, `parts` of the variance being known with so many
    degrees of freedom and the rest exactly (Satterthwaite 1946)."""
    unsure = sum(part**2 / its for part, its in zip(parts, freedom, strict=True))
    return float(t.ppf(0.975, variance**2 / unsure)) if unsure > 0 else NORMAL


def _by_item(scored: Scored, benchmark: str, metric: str) -> pd.Series:
    """Mean over the keys of each item's value."""
    items = scored.items
    if items is None or items.empty:
        return pd.Series(dtype="float64")
    here = items.loc[
        items.key.isin(scored.keys) & (items.benchmark == benchmark) & (items.metric == metric)
    ]
    return here.groupby("item").value.mean()


def best_keys(frame: pd.DataFrame, learning_rate: float, batch_size: int) -> tuple[str, ...]:
    """Keys of the trials of one cell, over seeds; `frame` holds one grid."""
    here = np.isclose(frame.learning_rate.to_numpy(float), learning_rate, rtol=1e-6)
    here &= (frame.batch_size.fillna(0) == batch_size).to_numpy(bool)
    return tuple(dict.fromkeys(frame.key[here]))
