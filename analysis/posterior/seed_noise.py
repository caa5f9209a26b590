"""How much the score of one cell differs between seeds, cell by cell.

Near divergence seeds scatter more, so each cell has its own variance, shrunk towards that of its
kind by as much as the cells' own spread of variances warrants (empirical Bayes: Smyth 2004, "Linear
models and empirical Bayes methods for assessing differential expression", section 6.2). Cells
beside a diverged one are a kind of their own. What a seed does to all cells alike moves no optimum
and is taken out first.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

ENOUGH = 4
"""Degrees of freedom below which cells near divergence are not told from the rest."""


class SeedNoise(NamedTuple):
    """Standard deviations of one seed's score, in the metric's units: pooled, and one per cell;
    `freedom` is the degrees of freedom of the pooled one."""

    pooled: float
    cells: np.ndarray
    freedom: int


def seed_noise(rows: pd.DataFrame, cell: np.ndarray, near: np.ndarray) -> SeedNoise | None:
    """From the ok rows (columns seed, value), `cell` the number of each row's cell; `near` marks
    cells beside a diverged one. None where no cell was repeated."""
    if rows.empty:
        return None
    value = rows.value.to_numpy(dtype=float)
    counts = np.bincount(cell)
    centred = value - (np.bincount(cell, value) / counts)[cell]
    seed = pd.factorize(rows.seed)[0]
    rest = centred - (np.bincount(seed, centred) / np.bincount(seed))[seed]
    own = counts - 1.0
    freedom = len(rows) - len(counts) - int(seed.max())
    if freedom <= 0:
        return None
    squares = np.bincount(cell, rest**2) * own.sum() / freedom
    pooled = float(squares.sum() / own.sum())
    prior = np.full(len(counts), pooled)
    if own[near].sum() >= ENOUGH and own[~near].sum() >= ENOUGH:
        beside = float(squares[near].sum() / own[near].sum())
        away = float(squares[~near].sum() / own[~near].sum())
        if beside > away:
            prior = np.where(near, beside, away)
    weight = _prior_freedom(squares, own, prior)
    if np.isinf(weight):
        return SeedNoise(float(np.sqrt(pooled)), np.sqrt(prior), freedom)
    moderated = (weight * prior + squares) / (weight + own)
    return SeedNoise(float(np.sqrt(pooled)), np.sqrt(moderated), freedom)


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
