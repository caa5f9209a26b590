"""Weighting anew gives an evidence that is known, whatever the particles were."""

import numpy as np
import pytest
from scipy.stats import norm

from analysis.posterior.importance import reweighted
from analysis.posterior.peak import Box, Family, draw_prior

BOX = Box(-13, -8, 2, 7)
MEASURED, ERROR = -9.0, 0.4
"""Of the place along x, whose prior is normal about the middle of the box."""

SPREAD = 0.38 * 5


def log_likelihood(parameters: np.ndarray) -> np.ndarray:
    return norm.logpdf(MEASURED, parameters[:, 0], ERROR)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("stuck", [False, True])
def test_evidence_and_place_of_a_normal_measurement(family: Family, stuck: bool) -> None:
    rng = np.random.default_rng(5)
    points = draw_prior(BOX, 2048, family, rng)
    chosen = points[np.abs(points[:, 0] - MEASURED) < ERROR]
    if stuck:  # on one side of the top, as a sampler that has not moved enough
        chosen = chosen[chosen[:, 0] < MEASURED]
    drawn, evidence = reweighted(chosen, family, BOX, log_likelihood, rng)
    truth = norm.logpdf(MEASURED, -10.5, np.hypot(SPREAD, ERROR))
    assert evidence == pytest.approx(truth, abs=0.1)
    share = SPREAD**2 / (SPREAD**2 + ERROR**2)
    assert drawn[:, 0].mean() == pytest.approx(-10.5 + share * (MEASURED + 10.5), abs=0.08)
    assert drawn[:, 0].std() == pytest.approx(np.sqrt(share) * ERROR, rel=0.2)
    assert len(drawn) == len(chosen)
    if family is Family.LEVEL:
        assert set(drawn[:, -1]) == {-1, 1}
