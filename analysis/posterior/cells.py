"""The cells of one surface (stage, arm, benchmark, metric) and their joint noise.

Cells are scored on the same items, so their noise is correlated (`item_noise`). Seeds add noise of
their own; what a seed does to every cell alike moves no optimum, so only the rest counts where
cells of one grid are compared (`seed_noise`). It is unknown where no cell was repeated.
"""

import re
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.posterior.item_noise import DRAWS, answers_of, apart, item_draws, shrunk
from analysis.posterior.seed_noise import SeedNoise, seed_noise
from analysis.text import counted, rate

ROUNDING = 1e-9
"""Of a score, that is no difference between seeds."""

SURFACE = ["stage", "arm", "benchmark", "metric"]
READ = [
    "key", "parent", "learning_rate", "batch_size", "lr_bs_ratio", "seed", "status", "reason",
    "value", "stderr", "n",
]  # fmt: skip


RATES = frozenset(
    ("error", "errors", "err", "eer", "mer", "wer", "cer", "ter", "wil", "rate", "toxicity")
)
"""Words by which a score that is better when lower is a share of wrong answers ..."""

LOSSES = frozenset(("loss", "losses", "squared", "square", "absolute", "log"))
"""... unless one of these makes it a loss: the mean squared error."""


@dataclass(frozen=True)
class Cells:
    """One row of `table` per (learning_rate, batch_size), sorted by both.

    `table` columns: learning_rate, batch_size, x (log2 learning rate), y (log2 batch size), status,
    reason, value (mean over seeds; empty unless ok), stderr (beside other cells of the grid),
    total_stderr (beside anything else: with what a seed does to all cells), n, seeds,
    diverged_seeds. A cell with any diverged seed is diverged: the mean of its survivors would
    flatter it.
    `seeds` is the noise between seeds, of the ok cells, None where no cell was repeated.
    `noise` holds joint draws of the error of each value, `DRAWS` x cells, 0 for cells not ok;
    `sized` is False where nobody knows the one batch size, for which 1 stands.
    `shared_noise` those of the ok cells without what moves all alike, which shifts no optimum, and
    without each cell's own seeds; `own_noise` with the seeds, for fits of all cells together.
    """

    stage: str
    arm: str
    benchmark: str
    metric: str
    higher_is_better: bool
    table: pd.DataFrame
    noise: np.ndarray
    shared_noise: np.ndarray
    own_noise: np.ndarray
    noise_source: str
    paired: bool
    seeds: SeedNoise | None
    sized: bool = True

    @property
    def seed_sd(self) -> float | None:
        """Pooled standard deviation between seeds of one cell, None where no cell was repeated."""
        return None if self.seeds is None else self.seeds.pooled

    @property
    def seeds_known(self) -> bool:
        """Whether repeats tell the noise between seeds; those that agree but for rounding tell as
        little as none."""
        largest = float(self.table.value[self.ok].abs().max()) if self.ok.any() else 0.0
        return self.seed_sd is not None and self.seed_sd > ROUNDING * largest

    def seed_variances(self, times: np.ndarray | float = 1.0) -> np.ndarray:
        """Of the ok cells' values, from their seeds (`SeedNoise.variances`); 0 where unknown."""
        counts = self.table.seeds[self.ok].to_numpy(dtype=float)
        if self.seeds is None:
            return np.zeros((*np.shape(times), len(counts)))
        return self.seeds.variances(counts, times)

    @property
    def ok(self) -> np.ndarray:
        return (self.table.status == "ok").to_numpy()

    @property
    def sign(self) -> int:
        """+1 or -1, so that sign * value is better when higher."""
        return 1 if self.higher_is_better else -1

    @property
    def is_loss(self) -> bool:
        """Whether a relative difference is what counts: lower is better, and by its name it is no
        share of wrong answers."""
        words = set(re.findall("[a-z]+", f"{self.benchmark} {self.metric}".lower()))
        return not self.higher_is_better and (not words & RATES or bool(words & LOSSES))

    @property
    def is_share(self) -> bool:
        """Whether scores, or rates of errors, lie between 0 and 1."""
        values = self.table.value[self.ok]
        return not self.is_loss and len(values) > 0 and bool(values.between(0, 1).all())

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest possible sign * value."""
        if not self.is_share:
            return -np.inf, np.inf
        return (0.0, 1.0) if self.higher_is_better else (-1.0, 0.0)

    @property
    def best(self) -> int | None:
        """Row of the best ok cell, None where there is none."""
        return int(np.nanargmax(self.sign * self.table.value)) if self.ok.any() else None

    def cell_name(self, learning_rate: float, batch_size: int) -> str:
        """1.6e-5 x 32; the learning rate alone where the batch size is not known."""
        return f"{rate(learning_rate)} x {batch_size}" if self.sized else rate(learning_rate)

    def difference(self, row: int, other: int) -> tuple[float, float]:
        """value[row] - value[other] and its standard error, over shared items where known."""
        value = self.table.value.to_numpy()
        stderr = float((self.noise[:, row] - self.noise[:, other]).std())
        return float(value[row] - value[other]), stderr


def surfaces(frame: pd.DataFrame, items: pd.DataFrame | None = None) -> list[Cells]:
    """Every primary surface of two cells or more, in the table's order.

    `items` (as `run_table.items` gives) makes the noise of cells joint; without them cells are
    taken for independent, which overstates the noise of differences.
    """
    primary = frame.primary.fillna(False).astype(bool)
    grid = frame.loc[primary & frame.learning_rate.notna() & frame.batch_size.notna()]
    parts = {} if items is None else dict(list(items.groupby(["benchmark", "metric"])))
    return [
        _cells(dict(zip(SURFACE, name, strict=True)), rows, parts.get((name[2], name[3])))
        for name, rows in grid.groupby(SURFACE, sort=False)
        if rows.groupby(["learning_rate", "batch_size"]).ngroups > 1
    ]


def _cells(name: dict[str, str], rows: pd.DataFrame, items: pd.DataFrame | None) -> Cells:
    higher = rows.higher_is_better.dropna()
    rows = rows[READ].assign(seed=_chains(rows))
    cell = rows.groupby(["learning_rate", "batch_size"], sort=True).ngroup().to_numpy()
    table = _table(rows, cell)
    rng = np.random.default_rng(zlib.crc32("/".join(name.values()).encode()))
    ok = (table.status == "ok").to_numpy()
    kept = (rows.status == "ok").to_numpy() & ok[cell]
    place = (np.cumsum(ok) - 1)[cell[kept]]  # among the ok cells
    good = table.loc[ok]
    runs = None if items is None else answers_of(items, rows.key[kept])
    seeds = seed_noise(rows.loc[kept], place, _near_divergence(table), runs)
    noise = np.zeros((DRAWS, len(table)))
    together = None
    if runs is not None:
        answers = np.asarray(pd.DataFrame(runs).groupby(place).mean()).T
        value, stderr = (good[name].to_numpy(dtype=float) for name in ("value", "stderr"))
        noise[:, ok] = item_draws(answers, value, stderr, rng)
        together = shrunk(noise[:, ok], answers, rng)
        source = f"{len(answers)} shared items, resampled together for all cells"
    elif (known := good.stderr.notna()).any():
        stderr = good.stderr.fillna(good.stderr.median()).to_numpy()
        noise[:, ok] = rng.standard_normal((DRAWS, ok.sum())) * stderr
        source = "each cell's standard error, cells taken for independent"
        if not known.all():
            source += f" ({counted(int((~known).sum()), 'cell')} without one: the median)"
    else:
        source = "no standard errors"
    together = noise[:, ok] if together is None else together
    between = np.zeros_like(together)
    common = np.zeros(len(good))
    if seeds is None:
        source += "; seed noise unknown (no repeated seeds)"
    else:
        counts = good.seeds.to_numpy(dtype=float)
        unlike = _unlike_seeds(rows.seed[kept], place, rng) * seeds.shared
        between = rng.standard_normal((DRAWS, ok.sum())) * np.sqrt(seeds.variances(counts))
        noise[:, ok] += unlike + between
        together = together + unlike
        common = np.maximum(seeds.total**2 - seeds.pooled**2, 0) / counts
        low, high = seeds.cells.min(), seeds.cells.max()
        source += f"; seeds with a standard deviation of {seeds.pooled:.3g}"
        if high > 1.1 * low:
            source += f" ({low:.2g} to {high:.2g} by cell)"
    stderr = _stderr(table, noise)
    total = stderr.copy()
    total[ok] = np.sqrt(stderr[ok] ** 2 + common)
    return Cells(
        **name,
        higher_is_better=bool(higher.iloc[0]) if len(higher) else True,
        table=table.assign(stderr=stderr, total_stderr=total),
        noise=noise,
        shared_noise=apart(together),
        own_noise=apart(together + between),
        noise_source=source,
        paired=runs is not None,
        seeds=seeds,
        sized=bool(rows.lr_bs_ratio.notna().any()),
    )


def _chains(rows: pd.DataFrame) -> pd.Series:
    """A number for each seed and model that it starts from, for the parents of one grid differ in
    their seeds alone; empty where the seed is not known."""
    return rows.groupby(["parent", "seed"]).ngroup()


def _unlike_seeds(seed: pd.Series, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws of what cells differ by because their seeds are not the same, draws x cells, in units
    of what a seed does to all cells alike; 0 where all cells have the same seeds."""
    number, names = pd.factorize(seed)
    known = number >= 0
    runs = np.zeros((place.max() + 1, len(names)))
    np.add.at(runs, (place[known], number[known]), 1)
    runs /= np.bincount(place)[:, None]
    if np.ptp(runs, axis=0).max(initial=0) == 0:
        return np.zeros((1, len(runs)))
    return rng.standard_normal((DRAWS, len(names))) @ (runs - runs.mean(axis=0)).T


def _table(rows: pd.DataFrame, cell: np.ndarray) -> pd.DataFrame:
    """`Cells.table` of the rows, `cell` being the number of each row's cell."""
    first = np.unique(cell, return_index=True)[1]
    count = len(first)
    good, diverged = ((rows.status == one).to_numpy() for one in ("ok", "diverged"))
    seeds = np.bincount(cell[good], minlength=count)
    diverged_seeds = np.bincount(cell[diverged], minlength=count)
    status = np.select([diverged_seeds > 0, seeds > 0], ["diverged", "ok"], "failed")
    told = np.flatnonzero(rows.status.to_numpy() == status[cell])
    reason = rows.reason.to_numpy()[told[np.unique(cell[told], return_index=True)[1]]]

    def mean(column: str) -> np.ndarray:
        values = rows[column].to_numpy(dtype=float, na_value=np.nan)
        known = good & ~np.isnan(values)
        sums = np.bincount(cell[known], values[known], minlength=count)
        numbers = np.bincount(cell[known], minlength=count)
        told = (status == "ok") & (numbers > 0)
        return np.where(told, sums / np.maximum(numbers, 1), np.nan)

    learning_rate = rows.learning_rate.to_numpy(dtype=float)[first]
    batch_size = rows.batch_size.to_numpy(dtype=int)[first]
    return pd.DataFrame(
        {
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "x": np.log2(learning_rate),
            "y": np.log2(batch_size),
            "status": status,
            "reason": np.where(status == "ok", "", reason.astype(str)),
            "value": mean("value"),
            # seeds answer the same items: averaging them does not shrink the items' share of noise
            "stderr": mean("stderr"),
            "n": rows.n[good].astype("float64").groupby(cell[good]).max().reindex(range(count)),
            "seeds": seeds,
            "diverged_seeds": diverged_seeds,
        }
    )


def _near_divergence(table: pd.DataFrame) -> np.ndarray:
    """Whether an ok cell lies within one step of the grid of a diverged one, over ok cells."""
    steps = np.column_stack([np.unique(table[a], return_inverse=True)[1] for a in ("x", "y")])
    diverged = steps[(table.status == "diverged").to_numpy()]
    ok = steps[(table.status == "ok").to_numpy()]
    apart = np.abs(ok[:, None, :] - diverged[None, :, :]).max(axis=2)
    return (apart <= 1).any(axis=1)


def _stderr(table: pd.DataFrame, noise: np.ndarray) -> pd.Series:
    """Standard error with the seeds' share, never 0: no misses in n items is not certainty.

    The floor is that of (hits + 1) / (n + 2), for scores between 0 and 1.
    """
    spread = pd.Series(noise.std(axis=0), index=table.index)
    stderr = spread.where(spread > 0, table.stderr)
    share = (table.value * table.n + 1) / (table.n + 2)
    floor = np.sqrt((share * (1 - share)).clip(lower=0) / (table.n + 2))
    return stderr.where(~(stderr == 0) | ~table.value.between(0, 1), floor).where(
        table.status == "ok"
    )
