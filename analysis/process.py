"""A posterior over surfaces: a peak of unknown shape and place plus a Gaussian process.

    score(cell) = m + A peak(x, y; theta) + r(x, y) + noise,   A > 0

`theta` is `analysis.peak`'s; r, a process with a squared-exponential kernel, is what no single peak
follows (model error); noise has the cells' joint covariance, with a further independent part of
unknown size where seeds were not repeated. m (flat prior), A (half-normal) and the covariance
(a mixture over r's size and reach and the unknown noise) are integrated out exactly, theta by a
sequential Monte Carlo sampler (Del Moral, Doucet and Jasra 2006, section 3.3.2.3: tempering with
Metropolis moves). Draws of r follow Matheron's rule on random Fourier features (Wilson et al. 2020,
"Efficiently sampling functions from Gaussian process posteriors", equations 11 to 14).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

from analysis.peak import QUADRATIC, Box, draw_prior, log_prior, peak

PRIOR_DRAWS = 1024
PARTICLES = 400
MOVES = 4
FEATURES = 96
NEGLIGIBLE = 1e-4
"""Settings with less than this share of the evidence are dropped after the prior draws."""

QUADRATIC_SHARE = 0.5
"""A priori chance of a quadratic."""

RESIDUALS = ((0.05, 0.4), (0.15, 0.4), (0.4, 0.4), (0.15, 0.25), (0.5, 0.25), (1.0, 0.25))
"""Size of r as a share of the scores' spread, and its reach as a share of the box's sides."""

UNKNOWN_NOISE = (0.02, 0.05, 0.12, 0.3, 0.6, 0.9)
"""Standard deviation of the unmeasured noise, as a share of the scores' spread."""

SHARED = (0.0, 2.0)
"""Variance of what cells of one batch size and seed have in common (they see the same batches), as
a share of a cell's own unmeasured variance."""


class Data(NamedTuple):
    """Points in log2 units, scores better when higher, and the covariance of their known noise.

    `unmeasured` tells that noise exists beyond `covariance` (no repeated seeds).
    """

    x: np.ndarray
    y: np.ndarray
    score: np.ndarray
    covariance: np.ndarray
    unmeasured: bool
    box: Box


class Mixture(NamedTuple):
    """Covariances of the cells, one per setting: r's size and reach, unmeasured noise, and what
    the likelihood needs of each: R with R'R = P, the inverse with the mean projected out."""

    size: np.ndarray
    reach: np.ndarray
    noise: np.ndarray
    shared: np.ndarray
    root: np.ndarray
    score: np.ndarray
    constant: np.ndarray


def unit(box: Box, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points in shares of the box's sides, points x 2."""
    u = (x - box.x_low) / (box.x_high - box.x_low)
    v = (y - box.y_low) / (box.y_high - box.y_low)
    return np.stack([u, v], axis=-1)


def kernel(left: np.ndarray, right: np.ndarray, reach: float) -> np.ndarray:
    """exp(-|p - q|^2 / 2 reach^2) in shares of the box's sides."""
    squared = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=-1)
    return np.exp(-0.5 * squared / reach**2)


def same_size(data: Data) -> np.ndarray:
    """1 where two cells have one batch size, cells x cells."""
    return (data.y[:, None] == data.y[None, :]).astype(float)


def spread_of(data: Data) -> float:
    """Standard deviation of the scores, the scale of every prior."""
    return float(max(data.score.std(), 1e-12))


def mixture(data: Data) -> Mixture:
    """Every combination of `RESIDUALS` and, where noise is unmeasured, `UNKNOWN_NOISE`."""
    spread = spread_of(data)
    extra = UNKNOWN_NOISE if data.unmeasured else (0.02,)
    shares = SHARED if data.unmeasured else SHARED[:1]
    settings = np.array([(s, one, e, f) for s, one in RESIDUALS for e in extra for f in shares])
    points = unit(data.box, data.x, data.y)
    reaches = {reach: kernel(points, points, reach) for reach in {one for _, one in RESIDUALS}}
    shape = np.stack([reaches[reach] for reach in settings[:, 1]])
    count = len(data.score)
    covariance = (
        data.covariance
        + (spread * settings[:, 0, None, None]) ** 2 * shape
        + (spread * settings[:, 2, None, None]) ** 2
        * (np.eye(count) + settings[:, 3, None, None] * same_size(data))
    )
    lower = np.linalg.cholesky(covariance)
    whitener = np.linalg.inv(lower)
    one = whitener.sum(axis=2)
    length = (one**2).sum(axis=1)
    direction = one / np.sqrt(length)[:, None]
    root = whitener - direction[:, :, None] * np.einsum("si,sij->sj", direction, whitener)[:, None]
    score = root @ data.score
    constant = (
        -np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
        - 0.5 * np.log(length)
        - 0.5 * (score**2).sum(axis=1)
        - np.log(len(settings))
    )
    sizes, noises = spread * settings[:, 0], spread * settings[:, 2]
    return Mixture(sizes, settings[:, 1], noises, settings[:, 3], root, score, constant)


def likelihoods(data: Data, mixed: Mixture, shape: np.ndarray) -> tuple[np.ndarray, ...]:
    """Log evidence settings x rows of each peak (rows x cells), A's mean and standard deviation.

    With a = f'Pf, b = f's and A ~ half-normal(t): log p = constant - log(1 + t^2 a) / 2 +
    b^2 / 2 (a + t^-2) + log 2 Phi(b / sqrt(a + t^-2)).
    """
    count = len(data.score)
    whitened = (mixed.root.reshape(-1, count) @ shape.T).reshape(len(mixed.root), count, -1)
    a = np.einsum("snp,snp->sp", whitened, whitened)
    b = np.einsum("snp,sn->sp", whitened, mixed.score)
    scale = (1.5 * spread_of(data)) ** 2
    precision = a + 1 / scale
    evidence = (
        mixed.constant[:, None]
        - 0.5 * np.log1p(scale * a)
        + 0.5 * b * b / precision
        + np.log(2)
        + log_ndtr(b / np.sqrt(precision))
    )
    return evidence, b / precision, 1 / np.sqrt(precision)


def standardised(parameters: np.ndarray, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Peaks at the cells with unit standard deviation, rows x cells, and the divisors."""
    shape = peak(parameters, data.x, data.y)
    divisor = np.maximum(shape.std(axis=1), 1e-9)
    return shape / divisor[:, None], divisor


def averaged(data: Data, mixed: Mixture, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """theta of both families, each by its posterior share, and the log evidence of both together.

    A surface is a quadratic or a peak of any shape: the second always fits more closely and asks
    for wider intervals, which a surface that the first describes does not need (Bayesian model
    averaging: Hoeting et al. 1999).
    """
    found = [sample(data, mixed, quadratic, rng) for quadratic in (True, False)]
    known = np.array([evidence for _, evidence in found])
    known += np.log([QUADRATIC_SHARE, 1 - QUADRATIC_SHARE])
    total = float(np.logaddexp.reduce(known))
    first = int(np.round(PARTICLES * np.exp(known[0] - total)))
    parts = [
        points[rng.permutation(PARTICLES)[:count]]
        for (points, _), count in zip(found, (first, PARTICLES - first), strict=True)
    ]
    return np.vstack(parts)[rng.permutation(PARTICLES)], total


def sample(
    data: Data, mixed: Mixture, quadratic: bool, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """`PARTICLES` equally weighted theta from the posterior of one family, rows x 8, and its log
    evidence."""

    def log_likelihood(parameters: np.ndarray) -> np.ndarray:
        shape = standardised(parameters, data)[0]
        return np.asarray(logsumexp(likelihoods(data, mixed, shape)[0], axis=0))

    points = draw_prior(data.box, PRIOR_DRAWS, quadratic, rng)
    free = points.shape[1] - (len(QUADRATIC) if quadratic else 0)
    shape = standardised(points, data)[0]
    each = likelihoods(data, mixed, shape)[0]
    known = np.asarray(logsumexp(each, axis=0))
    share = np.exp(each - known + known - known.max()).sum(axis=1)
    mixed = Mixture(*(part[share > NEGLIGIBLE * share.sum()] for part in mixed))
    power = evidence = 0.0
    while power < 1:
        step = _step(known, 1 - power, min(PARTICLES / 2, len(points) / 8))
        weights = np.exp(step * (known - known.max()))
        evidence += float(np.log(weights.mean()) + step * known.max())
        weights /= weights.sum()
        power += step
        covariance = np.cov(points[:, :free].T, aweights=weights)
        chosen = _systematic(weights, PARTICLES, rng)
        points, known = points[chosen], known[chosen]
        factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(covariance)))
        prior = log_prior(data.box, points)
        for move in range(MOVES):
            jump = (1.0, 0.5, 0.25)[move % 3] * 2.38 / np.sqrt(free)
            wanted = points.copy()
            wanted[:, :free] += jump * rng.standard_normal((len(points), free)) @ factor.T
            prior_wanted = log_prior(data.box, wanted)
            known_wanted = log_likelihood(wanted)
            gain = power * (known_wanted - known) + prior_wanted - prior
            taken = np.log(rng.random(len(points))) < gain
            points[taken], known[taken] = wanted[taken], known_wanted[taken]
            prior[taken] = prior_wanted[taken]
    return points, evidence


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


def _systematic(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    places = (rng.random() + np.arange(count)) / count
    return np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1)


@dataclass(frozen=True)
class Surfaces:
    """Joint draws of a whole surface, each a function that can be read at any point.

    `parameters` (draws x 8) is each draw's peak. Heights are in units of `Data.score`. `evidence`
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
        height = self.level[:, None] + self.amplitude[:, None] * peak(self.parameters, x, y)
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
        return self.parameters[:, :2]


def posterior(data: Data, rng: np.random.Generator) -> Surfaces:
    """Draws of the surface, `PARTICLES` of them, given the cells."""
    mixed = mixture(data)
    points, evidence = averaged(data, mixed, rng)
    shape, divisor = standardised(points, data)
    known, centre, spread = likelihoods(data, mixed, shape)
    share = np.exp(known - known.max(axis=0))
    share = np.cumsum(share / share.sum(axis=0), axis=0)
    setting = np.minimum((rng.random(len(points)) > share).sum(axis=0), len(mixed.size) - 1)
    rows = np.arange(len(points))
    amplitude = _positive_normal(centre[setting, rows], spread[setting, rows], rng)
    fitted = amplitude[:, None] * shape
    cells = unit(data.box, data.x, data.y)
    frequencies = rng.standard_normal((FEATURES, 2))
    phases = 2 * np.pi * rng.random(FEATURES)
    size = mixed.size[setting]
    loads = size[:, None] * rng.standard_normal((len(points), FEATURES))
    count = len(data.score)
    root = np.linalg.cholesky(data.covariance + 1e-12 * np.eye(count) * spread_of(data) ** 2)
    level = np.empty(len(points))
    pulls = np.empty((len(points), count))
    for one in np.unique(setting):
        here = np.flatnonzero(setting == one)
        reach = float(mixed.reach[one])
        shaped = mixed.size[one] ** 2 * kernel(cells, cells, reach)
        unmeasured = np.eye(count) + mixed.shared[one] * same_size(data)
        total = shaped + data.covariance + mixed.noise[one] ** 2 * unmeasured
        inverse = np.linalg.inv(total)
        residual = data.score - fitted[here]
        length = inverse.sum()
        middle = residual @ inverse.sum(axis=1) / length
        level[here] = middle + rng.standard_normal(len(here)) / np.sqrt(length)
        prior = loads[here] @ wave(cells, frequencies / reach, phases).T
        error = rng.standard_normal((len(here), count)) @ root.T
        own = np.linalg.cholesky(unmeasured)
        error += mixed.noise[one] * rng.standard_normal((len(here), count)) @ own.T
        missing = residual - level[here][:, None] - prior - error
        pulls[here] = mixed.size[one] ** 2 * missing @ inverse
    return Surfaces(
        box=data.box,
        evidence=evidence,
        parameters=points,
        level=level,
        amplitude=amplitude / divisor,
        reach=mixed.reach[setting],
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
