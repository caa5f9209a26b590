"""The cells that may be run, and which of them would probably diverge."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

MOST_SEEDS = 5
"""Replicates of one cell."""


class Cell(NamedTuple):
    """One training: a learning rate, a batch size, and a seed."""

    learning_rate: float
    batch_size: int
    seed: int

    @property
    def setting(self) -> tuple[float, int]:
        return self.learning_rate, self.batch_size


class Tried(NamedTuple):
    """A cell that was begun: `ok`, `diverged`, `failed`, or `running`."""

    cell: Cell
    status: str


class Space(NamedTuple):
    """What may be run. `learning_rates` and `batch_sizes` are the grid's, rising; the four others
    may be added beyond its borders, the nearest to the border first. `seeds` in order of use."""

    learning_rates: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    lower: tuple[float, ...] = ()
    higher: tuple[float, ...] = ()
    smaller: tuple[int, ...] = ()
    larger: tuple[int, ...] = ()

    @property
    def every(self) -> Iterator[Cell]:
        """All cells, those beyond the borders too."""
        for rate in (*reversed(self.lower), *self.learning_rates, *self.higher):
            for size in (*reversed(self.smaller), *self.batch_sizes, *self.larger):
                for seed in self.seeds:
                    yield Cell(rate, size, seed)


def candidates(
    space: Space,
    tried: Sequence[Tried],
    allowed: Collection[Cell] | None,
    open_sides: Collection[str],
) -> list[Cell]:
    """The next replicate of every setting that may run: of the grid, and of the borders named in
    `open_sides` (fields of `Space`). Left out: what was tried, what failed, what would probably
    diverge, and cells that are not `allowed`."""
    rates = space.learning_rates
    rates = (*(space.lower if "lower" in open_sides else ()), *rates)
    rates = (*rates, *(space.higher if "higher" in open_sides else ()))
    sizes = space.batch_sizes
    sizes = (*(space.smaller if "smaller" in open_sides else ()), *sizes)
    sizes = (*sizes, *(space.larger if "larger" in open_sides else ()))
    begun = {trial.cell for trial in tried}
    failed = {trial.cell.setting for trial in tried if trial.status == "failed"}
    settings = [(rate, size) for rate in sorted(rates) for size in sorted(sizes)]
    bad = diverging(settings, tried)
    next_replicates = []
    for setting, diverges in zip(settings, bad, strict=True):
        if diverges or setting in failed:
            continue
        cells = [Cell(*setting, seed) for seed in space.seeds[:MOST_SEEDS]]
        fresh = [c for c in cells if c not in begun and (allowed is None or c in allowed)]
        next_replicates += fresh[:1]
    return next_replicates


def diverging(settings: Sequence[tuple[float, int]], tried: Sequence[Tried]) -> np.ndarray:
    """Whether training would probably diverge at each setting.

    The highest rate that trains rises with the batch size by at most its ratio: a setting diverges
    where one that diverged has no higher rate and no higher ratio. Once some cell has trained, a
    setting is also as its nearest neighbour in octaves.
    """
    points = _log2(settings)
    ended = [trial for trial in tried if trial.status in ("ok", "diverged")]
    if not len(settings) or not any(trial.status == "diverged" for trial in ended):
        return np.zeros(len(settings), dtype=bool)
    known = _log2([trial.cell.setting for trial in ended])
    worst = np.array([trial.status == "diverged" for trial in ended])
    above = points[:, None, 0] - known[None, worst, 0]
    ratio = above - (points[:, None, 1] - known[None, worst, 1])
    surely = np.asarray(((above >= -1e-9) & (ratio >= -1e-9)).any(axis=1))
    apart = ((points[:, None] - known[None]) ** 2).sum(axis=2)
    nearest = apart == apart.min(axis=1, keepdims=True)
    return surely if worst.all() else np.asarray(surely | (nearest & worst).any(axis=1))


def _log2(settings: Sequence[tuple[float, int]]) -> np.ndarray:
    return np.log2(np.array(settings, dtype=float)).reshape(-1, 2)
