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
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.special import digamma, polygamma

ENOUGH = 4
"""Degrees of freedom below which cells near divergence are not told from the rest."""


ROUNDS, CLOSE = 200, 1e-6
"""Of alternating means: at most so many, and the last effect, a share of the largest residual."""


class SeedNoise(NamedTuple):
    """Standard deviations of one seed's score, in the metric's units: pooled, and one per cell;
    `freedom` is the degrees of freedom of the pooled one. `shared` is that of what a seed does to
    all cells alike, which the others leave out."""

    pooled: float
    cells: np.ndarray
    freedom: int
    shared: float


def seed_noise(rows: pd.DataFrame, cell: np.ndarray, near: np.ndarray) -> SeedNoise | None:
    """From the ok rows (columns seed, value), `cell` the number of each row's cell; `near` marks
    cells beside a diverged one. A run whose seed is not known has one of its own. None where no
    cell was repeated."""
    if rows.empty:
        return None
    value = rows.value.to_numpy(dtype=float)
    counts = np.bincount(cell)
    own = counts - 1.0
    seed = pd.factorize(rows.seed)[0]  # -1 where it is not known
    pairs = np.unique(np.column_stack([seed, cell])[(counts[cell] > 1) & (seed >= 0)], axis=0)
    cells_of = np.append(np.bincount(pairs[:, 0], minlength=seed.max() + 1), 0)
    shared = np.where(cells_of[seed] > 1, seed, -1)
    rest, effects, runs, taken = _without_effects(value, cell, counts, shared)
    freedom = int(own.sum()) - taken
    if freedom <= 0:
        return None
    squares = np.bincount(cell, rest**2) * own.sum() / freedom
    pooled = float(squares.sum() / own.sum())
    spread = 0.0
    if len(effects) > 1:  # without what the runs' own noise makes them differ by
        spread = float(np.sqrt(max(0.0, effects.var(ddof=1) - pooled * (1 / runs).mean())))
    prior = np.full(len(counts), pooled)
    if own[near].sum() >= ENOUGH and own[~near].sum() >= ENOUGH:
        beside = float(squares[near].sum() / own[near].sum())
        away = float(squares[~near].sum() / own[~near].sum())
        if beside > away:
            prior = np.where(near, beside, away)
    weight = _prior_freedom(squares, own, prior)
    if np.isinf(weight):
        return SeedNoise(float(np.sqrt(pooled)), np.sqrt(prior), freedom, spread)
    moderated = (weight * prior + squares) / (weight + own)
    return SeedNoise(float(np.sqrt(pooled)), np.sqrt(moderated), freedom, spread)


class _Effects(NamedTuple):
    """What is left of the values, the effect of each seed with its number of runs, and how many
    degrees of freedom they take."""

    rest: np.ndarray
    effects: np.ndarray
    runs: np.ndarray
    taken: int


def _without_effects(
    value: np.ndarray, cell: np.ndarray, counts: np.ndarray, seed: np.ndarray
) -> _Effects:
    """Residuals of value ~ cell + seed by least squares (alternating means). `seed` is -1
    where no other repeated cell has a row's seed.

    Of cells and seeds that hang together one effect is none, that of the cells' common level, but
    where one of the cells has a run with a seed of its own.
    """
    rest = value - (np.bincount(cell, value) / counts)[cell]
    some = (seed >= 0) & (counts[cell] > 1)
    if not some.any():
        return _Effects(rest, np.zeros(0), np.zeros(0), 0)
    number = np.unique(seed[some], return_inverse=True)[1]
    effects = np.zeros(number.max() + 1)
    for _ in range(ROUNDS):
        effect = np.bincount(number, rest[some]) / np.bincount(number)
        effects += effect
        rest[some] -= effect[number]
        rest -= (np.bincount(cell, rest) / counts)[cell]
        if np.abs(effect).max() <= CLOSE * np.abs(rest).max():
            break
    seeds, size = int(number.max()) + 1, len(counts)
    ends = (cell[some], size + number)
    graph = coo_matrix((np.ones(len(number)), ends), shape=(size + seeds, size + seeds))
    part = connected_components(graph, directed=False)[1]
    alone = part[cell[~some & (counts[cell] > 1)]]
    taken = seeds - len(np.setdiff1d(part[size:], alone))
    return _Effects(rest, effects, np.bincount(number), taken)


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
