"""The evidence of a peak against the same integrals done densely, one setting at a time."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import halfnorm

from analysis.posterior.likelihood import (
    RESIDUALS,
    Data,
    kernel,
    likelihoods,
    mixture,
    spread_of,
    standardised,
    unit,
)
from analysis.posterior.peak import Family, box_of, draw_prior


def planted(measured: bool) -> Data:
    rng = np.random.default_rng(5)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(-13.0, -8), np.arange(2.0, 6)))
    score = -0.1 * (x + 10) ** 2 - 0.05 * (y - 3.5) ** 2 + 0.2 * rng.standard_normal(len(x))
    mixed = rng.standard_normal((len(x), 40))
    data = Data(x, y, score, 0.001 * mixed @ mixed.T, box_of(x, y))
    if not measured:
        return data
    return data._replace(seeds=rng.uniform(0.5, 2, len(x)), sizes=np.array([0.1, 0.2]))


def densely(data: Data, covariance: np.ndarray, shape: np.ndarray) -> float:
    """log of the integral over the level (flat) and the amplitude (half-normal) of the density."""
    scale = 1.5 * spread_of(data)
    amplitude = np.linspace(0, 8 * scale, 20001)
    inverse = np.linalg.inv(covariance)
    ones = np.ones(len(data.score))
    length = ones @ inverse @ ones
    rest = data.score - amplitude[:, None] * shape
    middle = rest @ inverse @ ones / length
    squares = np.einsum("an,nm,am->a", rest, inverse, rest) - length * middle**2
    density = -0.5 * squares + halfnorm.logpdf(amplitude, scale=scale)
    steps = np.gradient(amplitude)
    steps[[0, -1]] /= 2
    total = float(np.asarray(logsumexp(density, b=steps)))
    return total - 0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * np.log(length)


@pytest.mark.parametrize("measured", [False, True])
def test_settings_that_share_a_whitening_have_the_evidence_of_their_own_covariance(
    measured: bool,
) -> None:
    data = planted(measured)
    parameters = draw_prior(data.box, 4, Family.PEAK, np.random.default_rng(1))
    shape = standardised(parameters, data)[0]
    settings = mixture(data)
    found = likelihoods(data, settings, shape)[0]
    points = unit(data.box, data.x, data.y)
    prior = 1 / np.array([size for size, _ in RESIDUALS]) ** 2
    prior /= prior.sum() * len(found) / len(RESIDUALS)
    row = 0
    for number, its in enumerate(settings):
        for noise in its.noise:
            covariance = data.covariance + its.size**2 * kernel(points, points, its.reach)
            covariance += noise**2 * its.own
            wanted = [densely(data, covariance, one) for one in shape]
            share = np.log(prior[number % len(RESIDUALS)])
            assert found[row] == pytest.approx(np.array(wanted) + share, abs=1e-3)
            row += 1
    assert row == len(found)


def test_a_top_far_outside_has_a_finite_evidence() -> None:
    data = planted(measured=True)
    parameters = draw_prior(data.box, 4, Family.PEAK, np.random.default_rng(2))
    parameters[:, 0] += 1e4
    shape = standardised(parameters, data)[0]
    assert np.isfinite(likelihoods(data, mixture(data), shape)[0]).all()
