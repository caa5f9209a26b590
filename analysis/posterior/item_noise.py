"""The noise that the items of a benchmark leave in the scores of all cells together.

Cells are scored on the same items, so their noise is correlated: a bootstrap draws items once for
all cells.
"""

import numpy as np
import pandas as pd
from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage

DRAWS = 1000
MIN_ITEMS, MIN_SHARED = 20, 0.9
"""Items that all runs answered, at least, and as a share of all."""


def answers_of(items: pd.DataFrame, keys: pd.Series) -> np.ndarray | None:
    """Runs x items, in the order of `keys`; None unless the runs share their items."""
    wanted = items[items.key.isin(keys)]
    if wanted.empty or wanted.key.nunique() < keys.nunique():
        return None
    table = wanted.value.groupby([wanted.key, wanted.item]).mean().unstack()
    shared = table.dropna(axis=1)
    if shared.shape[1] < max(MIN_ITEMS, MIN_SHARED * table.shape[1]):
        return None
    return shared.loc[list(keys)].to_numpy()


def item_draws(
    answers: np.ndarray, value: np.ndarray, stderr: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Bootstrap errors of the cells' means, draws x cells, from items drawn once for all cells;
    `answers` are items x cells.

    Where a score is not the plain mean of its items (ARC averages two tests, a loss weighs tokens)
    the draws keep the items' correlation and take the size of the reported standard error.
    """
    count = len(answers)
    centred = answers - answers.mean(axis=0)
    times = np.empty((DRAWS, centred.shape[1]))
    for start in range(0, DRAWS, 100):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=100)
        times[start : start + 100] = drawn @ centred / count
    off = np.abs(answers.mean(axis=0) - value) > 0.25 * stderr
    spread = times.std(axis=0)
    scale = np.where(off & (spread > 0), stderr / np.where(spread > 0, spread, 1), 1)
    return times * scale


def apart(noise: np.ndarray) -> np.ndarray:
    """Without what moves all cells alike, which shifts no optimum."""
    return noise - noise.mean(axis=1, keepdims=True) if noise.size else noise


def shrunk(times: np.ndarray, answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The draws of all cells together, shrunk towards independent cells once what is common to all
    is taken out, by as much as the items' own scatter asks for; each cell keeps its own variance.

    A hundred items cannot show how sixty cells vary together, and a fit that believes they do
    trusts differences that are noise (Ledoit and Wolf 2004, "A well-conditioned estimator for
    large-dimensional covariance matrices").
    """
    own_answers = apart(answers - answers.mean(axis=0))
    scaled = own_answers / _spread(own_answers)
    share = max(0.0, float(ledoit_wolf_shrinkage(scaled, assume_centered=True)))  # rounding
    own = apart(times)
    alone = own.std(axis=0) * rng.standard_normal(own.shape)
    return np.sqrt(1 - share) * own + np.sqrt(share) * alone


def covariance(draws: np.ndarray) -> np.ndarray:
    """Of the cells, from draws x cells: a thousand draws of sixty cells scatter too, so their
    correlations are shrunk towards none. Variances stay as they are."""
    spread = _spread(draws)
    return ledoit_wolf(draws / spread)[0] * np.outer(spread, spread)


def _spread(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0)
    return np.where(spread > 0, spread, 1.0)
