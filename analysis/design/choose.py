"""What a candidate would tell, from the draws of the fits.

Draws of a surface tie the score f at a candidate to each quantity q that is asked, so that one more
score with noise n takes cov(q, f)^2 / (var f + n^2) from the variance of q (linear update of an
ensemble). After each choice the draws are updated as if its score had come as expected (square-root
filter without perturbed observations: Whitaker and Hamill 2002, "Ensemble data assimilation without
perturbed observations", equation 13), so that the next choice and running cells count.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.benchmarks import task
from analysis.design.space import Cell
from analysis.fit.surface import Fit

MESH = 33
"""Learning rates at which the tops are read."""

UNMEASURED = 0.4
"""Of the scores' spread: noise of one score where neither seeds nor items tell it."""

SIGNS = {"reasoning": 1.0, "pattern": -1.0}
"""Of a task type in the contrast."""


class Ensemble(NamedTuple):
    """One benchmark's draws, centred: `score` (draws x candidates) and `asked` (draws x questions,
    octaves); `contrast` (draws) is its part of the contrast; `noise` the variance of one score."""

    score: np.ndarray
    asked: np.ndarray
    contrast: np.ndarray
    noise: float


def ensemble(
    fit: Fit, cells: Sequence[Cell], rates: tuple[float, float], sizes: Sequence[int], weight: float
) -> Ensemble:
    """Tops are read over `rates` (lowest, highest) at each of `sizes`: log2 of the best rate at
    each, and log2 of the ratio where the score is best. `weight` is the benchmark's in the
    contrast."""
    assert fit.curves is not None, "two scored cells or more"
    posterior = fit.curves.posterior
    x = np.linspace(float(np.log2(rates[0])), float(np.log2(rates[1])), MESH)
    y = np.log2(np.array(sizes, dtype=float))
    grid_x, grid_y = np.meshgrid(x, y)
    height = posterior.scores(grid_x.ravel(), grid_y.ravel()).reshape(-1, len(y), MESH)
    tops = x[height.argmax(axis=2)]
    best = height.max(axis=2).argmax(axis=1)
    ratio = tops[np.arange(len(tops)), best] - y[best]
    settings = np.log2(np.array([cell.setting for cell in cells], dtype=float)).reshape(-1, 2)
    return Ensemble(
        score=_centred(posterior.scores(settings[:, 0], settings[:, 1])),
        asked=_centred(np.column_stack([tops, ratio])),
        contrast=_centred(weight * tops.mean(axis=1)),
        noise=_noise(fit) ** 2,
    )


def contrast_weights(fits: Sequence[Fit]) -> list[float]:
    """Each benchmark's weight in the contrast of the types; 0 without benchmarks of both."""
    kinds = [task(fit.cells.benchmark).task_type for fit in fits]
    if not set(SIGNS) <= set(kinds):
        return [0.0] * len(fits)
    return [SIGNS.get(kind, 0.0) / max(kinds.count(kind), 1) for kind in kinds]


def gains(of: Sequence[Ensemble], wanted: Sequence[np.ndarray], contrast: bool) -> np.ndarray:
    """Octaves by which each candidate is expected to shorten the standard deviations of what is
    asked, summed: of the `wanted` questions of each benchmark, and of the `contrast`."""
    total = np.zeros(of[0].score.shape[1])
    less, spread = np.zeros_like(total), 0.0
    for its, which in zip(of, wanted, strict=True):
        draws = len(its.score)
        precision = (its.score**2).mean(axis=0) + its.noise
        taken = (its.asked[:, which].T @ its.score / draws) ** 2 / precision
        variance = (its.asked[:, which] ** 2).mean(axis=0)[:, None]
        total += (np.sqrt(variance) - np.sqrt(np.maximum(variance - taken, 0))).sum(axis=0)
        less += (its.contrast @ its.score / draws) ** 2 / precision
        spread += float((its.contrast**2).mean())
    if contrast:
        total += np.sqrt(spread) - np.sqrt(np.maximum(spread - less, 0))
    return total


def updated(of: Sequence[Ensemble], candidate: int) -> list[Ensemble]:
    """The ensembles once the candidate has been measured."""
    return [_updated(its, candidate) for its in of]


def _updated(its: Ensemble, candidate: int) -> Ensemble:
    at = its.score[:, candidate]
    variance = float((at**2).mean())
    root = np.sqrt(its.noise / (variance + its.noise))
    step = at[:, None] / (variance + its.noise) / (1 + root)

    def after(values: np.ndarray) -> np.ndarray:
        return values - step * (at @ values / len(at))

    contrast = after(its.contrast[:, None])[:, 0]
    return its._replace(score=after(its.score), asked=after(its.asked), contrast=contrast)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=0)


def _noise(fit: Fit) -> float:
    """Standard deviation of one run's score beside the others."""
    cells = fit.cells
    ok = cells.table.loc[cells.ok]
    items = float(cells.own_noise.std()) if cells.own_noise.size else 0.0
    if cells.seed_sd is not None and cells.seeds_known:
        return max(cells.seed_sd, items, 1e-12)
    return max(items, UNMEASURED * float(ok.value.std()), 1e-12)
