"""How much the score of one cell differs between seeds, cell by cell.

Near divergence seeds scatter more, so each cell has its own variance, shrunk towards that of its
kind by as much as the cells' own spread of variances warrants (empirical Bayes: Smyth 2004, "Linear
models and empirical Bayes methods for assessing differential expression", section 6.2). Cells
beside a diverged one are a kind of their own. What a seed does to all cells alike moves no optimum
and is taken out first; where each run has a seed of its own there is nothing to take out. Between
cells of unlike seeds it is noise, which `analysis.posterior.cells` draws.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.special import digamma, polygamma
from scipy.stats import chi2

ENOUGH = 4
"""Degrees of freedom below which cells near divergence are not told from the rest."""


ROUNDS, CLOSE = 200, 1e-6
"""Of alternating means: at most so many, and the last effect, a share of the largest residual."""


class SeedNoise(NamedTuple):
    """Standard deviations of one seed's score, in the metric's units: pooled, and one per cell;
    `freedom` is the degrees of freedom of the pooled one. `shared` is that of what a seed does to
    all cells alike, which the others leave out, and `total` that of both together, of
    `total_freedom`.

    `items` is the share of the pooled variance that comes from the items: answers that a seed
    flips. The bootstrap over items has it already.
    """

    pooled: float
    cells: np.ndarray
    freedom: int
    shared: float
    total: float
    total_freedom: float
    items: float

    def variances(self, counts: np.ndarray, times: np.ndarray | float = 1.0) -> np.ndarray:
        """Of each cell's mean over `counts` seeds, beyond what the items have, where the true
        pooled variance is so many `times` the estimated one: (times x) cells."""
        return np.multiply.outer(np.maximum(times - self.items, 0.0), self.cells**2 / counts)

    def times(self, shares: np.ndarray) -> np.ndarray:
        """Quantiles of the true variance, in shares of the estimated one: d / chi-square(d)."""
        return self.freedom / chi2.isf(shares, self.freedom)


def seed_noise(
    rows: pd.DataFrame, cell: np.ndarray, near: np.ndarray, answers: np.ndarray | None = None
) -> SeedNoise | None:
    """From the ok rows (columns seed, value), `cell` the number of each row's cell; `near` marks
    cells beside a diverged one; `answers` (rows x items) where they are known. A run whose seed is
    not known has one of its own. None where no cell was repeated."""
    if rows.empty:
        return None
    value = rows.value.to_numpy(dtype=float)
    counts = np.bincount(cell)
    own = counts - 1.0
    seed = pd.factorize(rows.seed)[0]  # -1 where it is not known
    pairs = np.unique(np.column_stack([seed, cell])[(counts[cell] > 1) & (seed >= 0)], axis=0)
    cells_of = np.append(np.bincount(pairs[:, 0], minlength=seed.max() + 1), 0)
    shared = np.where(cells_of[seed] > 1, seed, -1)
    known = value[:, None] if answers is None else np.column_stack([value, answers])
    left, effects, runs, taken = _without_effects(known, cell, counts, shared)
    rest, freedom = left[:, 0], int(own.sum()) - taken
    if freedom <= 0:
        return None
    squares = np.bincount(cell, rest**2) * own.sum() / freedom
    pooled = float(squares.sum() / own.sum())
    spread = 0.0
    if len(effects) > 1:  # without what the runs' own noise makes them differ by
        spread = float(np.sqrt(max(0.0, effects.var(ddof=1) - pooled * (1 / runs).mean())))
    flips = 0.0
    if answers is not None and (moved := (left[:, 1:].mean(axis=1) ** 2).sum()) > 0:
        own_items = left[:, 1:].var(axis=1, ddof=1).sum() / answers.shape[1]
        flips = min(1.0, float(own_items / moved))
    within = value - (np.bincount(cell, value) / counts)[cell]
    total = float(within @ within / own.sum())
    parts = np.array([pooled, max(total - pooled, 0.0)])
    worth = float(parts**2 @ (1 / np.array([freedom, max(taken, 1)])))  # Satterthwaite
    total = max(total, pooled)
    whole = (np.sqrt(total), total**2 / worth if worth > 0 else freedom, flips)

    def noise(variances: np.ndarray) -> SeedNoise:
        return SeedNoise(float(np.sqrt(pooled)), np.sqrt(variances), freedom, spread, *whole)

    prior = np.full(len(counts), pooled)
    if own[near].sum() >= ENOUGH and own[~near].sum() >= ENOUGH:
        beside = float(squares[near].sum() / own[near].sum())
        away = float(squares[~near].sum() / own[~near].sum())
        if beside > away:
            prior = np.where(near, beside, away)
    weight = _prior_freedom(squares, own, prior)
    if np.isinf(weight):
        return noise(prior)
    return noise((weight * prior + squares) / (weight + own))


class _Effects(NamedTuple):
    """What is left of the values, the effect of each seed with its number of runs, and how many
    degrees of freedom they take."""

    rest: np.ndarray
    effects: np.ndarray
    runs: np.ndarray
    taken: int


def _without_effects(
    values: np.ndarray, cell: np.ndarray, counts: np.ndarray, seed: np.ndarray
) -> _Effects:
    """Residuals of each column of `values` ~ cell + seed by least squares (alternating means), and
    the effects of the first. `seed` is -1 where no other repeated cell has a row's seed.

    Of cells and seeds that hang together one effect is none, that of the cells' common level, but
    where one of the cells has a run with a seed of its own.
    """
    of_cell = _means(cell)
    rest = values - (of_cell @ values)[cell]
    some = (seed >= 0) & (counts[cell] > 1)
    if not some.any():
        return _Effects(rest, np.zeros(0), np.zeros(0), 0)
    number = np.unique(seed[some], return_inverse=True)[1]
    of_seed = _means(number)
    effects = np.zeros(number.max() + 1)
    for _ in range(ROUNDS):
        effect = of_seed @ rest[some]
        effects += effect[:, 0]
        rest[some] -= effect[number]
        rest -= (of_cell @ rest)[cell]
        if np.abs(effect).max() <= CLOSE * np.abs(rest).max():
            break
    seeds, size = int(number.max()) + 1, len(counts)
    ends = (cell[some], size + number)
    graph = coo_matrix((np.ones(len(number)), ends), shape=(size + seeds, size + seeds))
    part = connected_components(graph, directed=False)[1]
    alone = part[cell[~some & (counts[cell] > 1)]]
    taken = seeds - len(np.setdiff1d(part[size:], alone))
    return _Effects(rest, effects, np.bincount(number), taken)


def _means(group: np.ndarray) -> csr_matrix:
    """Matrix that takes rows to the mean of each group."""
    share = 1 / np.bincount(group)[group]
    return csr_matrix((share, (group, np.arange(len(group)))))


def _prior_freedom(squares: np.ndarray, freedom: np.ndarray, prior: np.ndarray) -> float:
    """Degrees of freedom that the cells' kind is worth; infinite where variances differ by no more
    than chance. With e = log(s^2 / s0^2) - digamma(d / 2) + log(d / 2), the excess of the variance
    of e over trigamma(d / 2) is trigamma(d0 / 2)."""
    told = (freedom > 0) & (squares > 0)
    if told.sum() < 3:
        return np.inf
    half = freedom[told] / 2
    logs = np.log(squares[told] / freedom[told] / prior[told]) - digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - polygamma(1, half).mean())
    if excess <= polygamma(1, 500.0):
        return np.inf
    return 2 * brentq(lambda d: polygamma(1, d) - excess, 1e-3, 500.0)  # type: ignore[operator]
