"""Draws of a family's shape weighted anew, so that its evidence hardly hangs on chance.

The families are weighed by their evidence, and the tempered sampler's own is off by a factor of up
to 2 on steep surfaces. So its particles become a proposal q, a mixture of t kernels round some of
them, whose draws are weighted by

    w = prior(theta) likelihood(theta) / q(theta),    evidence = mean of w

(a kernel estimate as importance density: West 1993, "Approximating posterior distributions by
mixtures", with its shrinking of the kernels' places towards their mean).
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import gammaln, logsumexp

from analysis.posterior.likelihood import log_sum
from analysis.posterior.peak import FREE, Box, Family, log_prior

DRAWS = 4096
KERNELS = 128
WIDTH, SHRINK = 0.6, 0.9
"""Of a kernel in shares of the particles' spread, and of its place towards their mean."""

FREEDOM = 6
"""Degrees of freedom of the kernels: their tails are heavier than the posterior's."""

ENOUGH, ROUNDS = 500.0, 3
"""With fewer effective draws the next proposal is made of these, so many times at most (population
Monte Carlo: Cappe et al. 2004)."""


def reweighted(
    points: np.ndarray,
    family: Family,
    box: Box,
    log_likelihood: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """As many equally weighted theta as `points` (rows x 9) has, and the log evidence."""
    evidence = -np.inf
    for _ in range(ROUNDS):
        drawn, proposed = _proposal(points, FREE[family], rng)
        weights = log_likelihood(drawn) + log_prior(box, drawn, family) - proposed
        total = float(logsumexp(weights))
        weights, evidence = np.exp(weights - total), total - float(np.log(DRAWS))
        points = drawn[systematic(weights, len(points), rng)]
        if 1 / (weights**2).sum() >= ENOUGH:
            break
    return points, evidence


def _proposal(
    points: np.ndarray, free: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws from t kernels round some of the points, rows x 9, and the log density of each; the
    sign is that of the kernel's point."""
    fitted, sign = points[:, :free], points[:, -1]
    middle = np.empty_like(fitted)
    for side in np.unique(sign):
        middle[sign == side] = fitted[sign == side].mean(axis=0)
    spread = np.cov((fitted - middle).T) + 1e-9 * np.eye(free)
    root = WIDTH * np.linalg.cholesky(spread)
    some = rng.permutation(len(points))[:KERNELS]
    places = middle[some] + SHRINK * (fitted[some] - middle[some])

    own = np.arange(DRAWS) % len(some)
    tail = np.sqrt(FREEDOM / rng.chisquare(FREEDOM, DRAWS))[:, None]
    drawn = points[some][own]
    drawn[:, :free] = places[own] + tail * rng.standard_normal((DRAWS, free)) @ root.T

    white = np.linalg.inv(root).T
    distance = cdist(drawn[:, :free] @ white, places @ white, "sqeuclidean")
    distance[drawn[:, -1:] != sign[some]] = np.inf
    near = log_sum(-(FREEDOM + free) / 2 * np.log1p(distance / FREEDOM), axis=1)
    constant = gammaln((FREEDOM + free) / 2) - gammaln(FREEDOM / 2) - np.log(len(some))
    volume = free / 2 * np.log(FREEDOM * np.pi) + np.log(np.diag(root)).sum()
    return drawn, near + constant - volume


def systematic(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` numbers of rows, each as often as its weight says, but for less than one."""
    places = (rng.random() + np.arange(count)) / count
    return np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1)
