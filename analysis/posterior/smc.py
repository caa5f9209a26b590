"""A posterior over surfaces: a peak of unknown shape and place plus a Gaussian process.

    score(cell) = m + A peak(x, y; theta) + r(x, y) + noise,   A > 0

`theta` is `analysis.posterior.peak`'s; r, a process with a squared-exponential kernel, is what no
single peak follows (model error); noise has the joint covariance that the items give, and a part
between seeds of a size as uncertain as their repeats leave it. m (flat prior), A (half-normal) and
the covariance (a mixture over r's size and reach and that noise) are integrated out exactly, theta
by a sequential Monte Carlo sampler (Del Moral, Doucet and Jasra 2006, section 3.3.2.3: tempering
with Metropolis moves) whose particles are weighted anew (`importance.py`). Draws of r follow
Matheron's rule on random Fourier features (Wilson et al. 2020, "Efficiently sampling functions from
Gaussian process posteriors", equations 11 to 14).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr, ndtri

from analysis.posterior.importance import reweighted, systematic
from analysis.posterior.likelihood import (
    Data,
    Settings,
    kept,
    kernel,
    likelihoods,
    log_sum,
    mixture,
    spread_of,
    standardised,
    unit,
)
from analysis.posterior.peak import FREE, Box, Family, draw_prior, log_prior, peak, tops

PRIOR_DRAWS = 4096
PARTICLES = 1600
JUMPS = (1.0, 0.5)
"""Of the Metropolis moves at each temperature, in shares of what is best for a normal posterior."""

FEATURES = 96
NEGLIGIBLE = 1e-4
"""Settings with less than this share of the evidence are dropped after the prior draws."""

SHARES = {Family.QUADRATIC: 0.3, Family.PEAK: 0.25, Family.LEVEL: 0.45}
"""A priori chance of each family, chosen on simulated surfaces: with more quadratics, intervals of
cliffs hold their top less often; with fewer curves that level off, those pass for peaks."""


def averaged(
    data: Data, mixed: list[Settings], rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """theta of all families, each by its posterior share, and the log evidence of all together.

    A surface is a quadratic, a peak of any shape, or levels off: the second always fits more
    closely and asks for wider intervals, which a surface that the first describes does not need
    (Bayesian model averaging: Hoeting et al. 1999).
    """
    samples = [sample(data, mixed, family, rng) for family in SHARES]
    known = np.array([evidence for _, evidence in samples]) + np.log(list(SHARES.values()))
    total = float(np.logaddexp.reduce(known))
    ends = np.round(PARTICLES * np.cumsum(np.exp(known - total))).astype(int)
    counts = np.diff(ends, prepend=0)
    parts = [
        points[rng.permutation(PARTICLES)[:count]]
        for (points, _), count in zip(samples, counts, strict=True)
    ]
    return np.vstack(parts)[rng.permutation(PARTICLES)], total


def sample(
    data: Data, mixed: list[Settings], family: Family, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """`PARTICLES` equally weighted theta from the posterior of one family, rows x 9, and its log
    evidence."""

    def log_likelihood(parameters: np.ndarray) -> np.ndarray:
        shape = standardised(parameters, data)[0]
        return log_sum(likelihoods(data, mixed, shape)[0], axis=0)

    points, free = draw_prior(data.box, PRIOR_DRAWS, family, rng), FREE[family]
    shape = standardised(points, data)[0]
    each = likelihoods(data, mixed, shape)[0]
    known = log_sum(each, axis=0)
    share = np.exp(each - known + known - known.max()).sum(axis=1)
    mixed = kept(mixed, share > NEGLIGIBLE * share.sum())
    power = 0.0
    while power < 1:
        step = _step(known, 1 - power, min(PARTICLES / 2, len(points) / 8))
        weights = np.exp(step * (known - known.max()))
        weights /= weights.sum()
        power += step
        covariance = np.cov(points[:, :free].T, aweights=weights)
        chosen = systematic(weights, PARTICLES, rng)
        points, known = points[chosen], known[chosen]
        factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(covariance)))
        prior = log_prior(data.box, points, family)
        for jump in JUMPS:
            size = jump * 2.38 / np.sqrt(free)
            wanted = points.copy()
            wanted[:, :free] += size * rng.standard_normal((len(points), free)) @ factor.T
            prior_wanted = log_prior(data.box, wanted, family)
            known_wanted = log_likelihood(wanted)
            gain = power * (known_wanted - known) + prior_wanted - prior
            taken = np.log(rng.random(len(points))) < gain
            points[taken], known[taken] = wanted[taken], known_wanted[taken]
            prior[taken] = prior_wanted[taken]
    return reweighted(points, family, data.box, log_likelihood, rng)


def _step(known: np.ndarray, most: float, wanted: float) -> float:
    """The largest tempering step that keeps the effective number of particles at `wanted`."""

    def effective(step: float) -> float:
        weights = np.exp(step * (known - known.max()))
        return float(weights.sum() ** 2 / (weights**2).sum())

    if effective(most) >= wanted:
        return most
    low, high = 0.0, most
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) >= wanted else (low, middle)
    return max(low, 1e-6)


@dataclass(frozen=True)
class Surfaces:
    """Joint draws of a whole surface, each a function that can be read at any point.

    `parameters` (draws x 9) is each draw's peak. Heights are in units of `Data.score`. `evidence`
    is the log density of the scores given the whole model, up to a constant of the cells' number.
    """

    box: Box
    evidence: float
    parameters: np.ndarray
    level: np.ndarray
    amplitude: np.ndarray
    reach: np.ndarray
    size: np.ndarray
    frequencies: np.ndarray
    phases: np.ndarray
    loads: np.ndarray
    cells: np.ndarray
    pulls: np.ndarray

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of every draw at the points (one-dimensional, log2 units): draws x points."""
        height = peak(self.parameters, x, y)
        height *= self.amplitude[:, None]
        height += self.level[:, None]
        points = unit(self.box, x, y)
        for reach in np.unique(self.reach):
            here = self.reach == reach
            waves = wave(points, self.frequencies / reach, self.phases)
            near = kernel(points, self.cells, reach)
            height[here] += self.loads[here] @ waves.T + self.pulls[here] @ near.T
        return height

    @cached_property
    def tops(self) -> np.ndarray:
        """Each draw's peak, which may lie outside the box: draws x 2, log2 units."""
        return tops(self.parameters)


def posterior(data: Data, rng: np.random.Generator) -> Surfaces:
    """Draws of the surface, `PARTICLES` of them, given the cells."""
    mixed = mixture(data)
    points, evidence = averaged(data, mixed, rng)
    shape, divisor = standardised(points, data)
    known, centre, spread = likelihoods(data, mixed, shape)
    share = np.exp(known - known.max(axis=0))
    share = np.cumsum(share / share.sum(axis=0), axis=0)
    settings = [(its, one) for its in mixed for one in range(len(its.noise))]
    setting = np.minimum((rng.random(len(points)) > share).sum(axis=0), len(settings) - 1)
    rows = np.arange(len(points))
    amplitude = _positive_normal(centre[setting, rows], spread[setting, rows], rng)
    fitted = amplitude[:, None] * shape
    cells = unit(data.box, data.x, data.y)
    frequencies = rng.standard_normal((FEATURES, 2))
    phases = 2 * np.pi * rng.random(FEATURES)
    size = np.array([its.size for its, _ in settings])[setting]
    loads = size[:, None] * rng.standard_normal((len(points), FEATURES))
    count = len(data.score)
    root = np.linalg.cholesky(data.covariance + 1e-12 * np.eye(count) * spread_of(data) ** 2)
    level = np.empty(len(points))
    pulls = np.empty((len(points), count))
    for one in np.unique(setting):
        here = np.flatnonzero(setting == one)
        its, place = settings[one]
        noise, whitener = its.noise[place], its.whitener
        inverse = (whitener.T * its.weights[place]) @ whitener
        residual = data.score - fitted[here]
        length = inverse.sum()
        middle = residual @ inverse.sum(axis=1) / length
        level[here] = middle + rng.standard_normal(len(here)) / np.sqrt(length)
        prior = loads[here] @ wave(cells, frequencies / its.reach, phases).T
        error = rng.standard_normal((len(here), count)) @ root.T
        own = np.linalg.cholesky(its.own)
        error += noise * rng.standard_normal((len(here), count)) @ own.T
        missing = residual - level[here][:, None] - prior - error
        pulls[here] = its.size**2 * missing @ inverse
    return Surfaces(
        box=data.box,
        evidence=evidence,
        parameters=points,
        level=level,
        amplitude=amplitude / divisor,
        reach=np.array([its.reach for its, _ in settings])[setting],
        size=size,
        frequencies=frequencies,
        phases=phases,
        loads=loads,
        cells=cells,
        pulls=pulls,
    )


def wave(points: np.ndarray, frequencies: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Random Fourier features, points x features: a normal load on each makes a process draw
    (Rahimi and Recht 2007)."""
    return np.sqrt(2 / len(phases)) * np.cos(points @ frequencies.T + phases)


def _positive_normal(
    centre: np.ndarray, spread: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Normal draws given that they are positive, by the inverse of the distribution."""
    lowest = ndtr(-centre / spread)
    uniform = lowest + (1 - lowest) * rng.random(len(centre))
    return np.maximum(centre + spread * ndtri(np.minimum(uniform, 1 - 1e-12)), 1e-12)
