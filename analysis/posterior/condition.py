"""One surface's cells -> draws of its scores everywhere in the grid, in the metric's own units.

Losses near divergence are many times the best one, which no smooth surface follows. Where the worst
excess over the best is large, cells also enter as z = -t log(1 + excess / t) with t the excess of a
typical good cell, noise scaled by the slope (a warped process: Snelson, Rasmussen and Ghahramani
2004); the form whose evidence, in the metric's units, is the higher is kept.
"""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.posterior.cells import Cells
from analysis.posterior.item_noise import covariance
from analysis.posterior.likelihood import LEAST_NOISE, Data, spread_of, unit
from analysis.posterior.peak import Box, box_of
from analysis.posterior.smc import FEATURES, PARTICLES, Surfaces, posterior, wave

HEAVY = 4.0
"""Worst excess over the median one from which cells are also tried transformed."""

FAR = 8.0
"""Cells with an excess of more than this many median ones are out of the fit."""

MIN_KEPT = 12

SIZES = (np.arange(6) + 0.5) / 6
"""Quantiles of the measured variance between seeds, alike a priori."""

LOSS_ERROR = 0.003
ERROR_REACH = 0.35
"""Losses of one run per cell: the whole surface of one seed is off by a smooth error of this share
of the loss, with this reach in shares of the grid's sides, which such a grid cannot show, for all
its runs have one start and one order of the data. Chosen on Step Law's surfaces by how far their
optima lie from their common law."""


class SharedError(NamedTuple):
    """Draws of the error that all cells of one seed share, by random features."""

    frequencies: np.ndarray
    phases: np.ndarray
    loads: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Draws x points, points in shares of the box's sides."""
        return self.loads @ wave(points, self.frequencies, self.phases).T


@dataclass(frozen=True)
class Posterior:
    """Draws of one surface; `scale` is t, None where scores enter as they are.

    `used` marks the ok cells that were fitted. Scores are sign * value: better when higher.
    """

    data: Data
    surfaces: Surfaces
    best: float
    scale: float | None
    used: np.ndarray
    shared: SharedError | None

    @property
    def box(self) -> Box:
        return self.data.box

    def scores(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Score of each draw at each point, draws x points, better when higher."""
        height = self.surfaces.at(x, y)
        if self.scale is not None:
            height = -self.scale * np.expm1(np.clip(-height / self.scale, None, 30))
        if self.shared is not None:
            height = height + self.shared.at(unit(self.box, x, y))
        return self.best + height


def condition(cells: Cells, sampler: int = 0) -> Posterior:
    """The posterior given the ok cells; the same cells give the same draws. `sampler` is a seed of
    the sampler, to see what depends on it."""
    ok = cells.table.loc[cells.ok]
    x, y = ok.x.to_numpy(), ok.y.to_numpy()
    score = cells.sign * ok.value.to_numpy()
    best = float(score.max())
    excess = best - score
    typical = float(np.median(excess))
    used = excess <= max(FAR * typical, np.sort(excess)[min(MIN_KEPT, len(excess)) - 1])
    items = covariance(cells.shared_noise[:, used])
    unmeasured = not cells.seeds_known
    name = f"{cells.stage}/{cells.arm}/{cells.benchmark}/{cells.metric}"
    seed = zlib.crc32(name.encode()) + 1000 * sampler

    shared = None
    if unmeasured and cells.is_loss:
        shared = _shared_error(LOSS_ERROR * abs(best), np.random.default_rng(seed + 1))

    def fitted(scale: float | None) -> Posterior:
        slope = 1.0 if scale is None else 1 / (1 + excess[used] / scale)
        height = -excess[used] if scale is None else -scale * np.log1p(excess[used] / scale)
        scaled = items * np.outer(slope, slope) if scale else items
        data = Data(x[used], y[used], height, scaled, box_of(x, y))
        if not unmeasured:
            data = _measured(data, cells, used, slope)
        drawn = posterior(data, np.random.default_rng(seed))
        return Posterior(data, drawn, best, scale, used, shared)

    plain = fitted(None)
    if excess[used].max() <= HEAVY * typical or typical <= 0:
        return plain
    warped = fitted(typical)
    slope = np.log1p(excess[used] / typical).sum()
    return warped if warped.surfaces.evidence - slope > plain.surfaces.evidence else plain


def _measured(data: Data, cells: Cells, used: np.ndarray, slope: np.ndarray | float) -> Data:
    """With the noise between seeds, in sizes as uncertain as the repeats leave them: a pair of runs
    that happen to agree must not pass for no noise."""
    assert cells.seeds is not None, "told by the caller"
    variances = cells.seed_variances(cells.seeds.times(SIZES))[:, used] * np.square(slope)
    largest = variances[-1]
    scale = variances.mean(axis=1)
    least = (LEAST_NOISE * spread_of(data)) ** 2 * np.eye(len(largest))
    return data._replace(
        covariance=data.covariance + least,
        seeds=largest / largest.mean(),
        sizes=np.sqrt(scale),
    )


def _shared_error(size: float, rng: np.random.Generator) -> SharedError:
    return SharedError(
        rng.standard_normal((FEATURES, 2)) / ERROR_REACH,
        2 * np.pi * rng.random(FEATURES),
        size * rng.standard_normal((PARTICLES, FEATURES)),
    )
