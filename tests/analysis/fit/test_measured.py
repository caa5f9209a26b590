"""Grids whose rates are not crossed with their batch sizes: what is compared there, and how far."""

import numpy as np
import pytest

from analysis.advice.answers import BenchmarkAnswer, answers
from analysis.advice.published_rules import Verdict
from analysis.advice.rule_odds import near, rises_then_falls
from analysis.fit.measured import no_rates, reach, upper_hull
from analysis.fit.rates import RateStatus
from analysis.fit.surface import Fit, fit
from analysis.posterior.cells import Cells, surfaces
from tests.analysis.planted import Score, table

SIZES = (8, 16, 32, 64, 128)


def cells(score: Score, ratios: np.ndarray, noise: float = 0.004) -> Cells:
    """Of a grid of ratios."""
    rates = np.unique(np.multiply.outer(ratios, SIZES)).tolist()
    frame = table(score, rates=tuple(rates), sizes=SIZES, noise=noise)
    ran = np.isclose((frame.learning_rate / frame.batch_size).to_numpy()[:, None], ratios)
    return surfaces(frame.loc[ran.any(axis=1)])[0]


def answer(found: Fit) -> BenchmarkAnswer:
    return answers([found]).benchmarks["arc"]


def test_along_one_ratio_no_rate_is_compared_with_another() -> None:
    """One ratio is optimal at every batch size, of which 32 is the best."""
    found = fit(cells(lambda x, y: 0.45 - 0.03 * (y - 5) ** 2, np.array([1e-5])))
    given = answers([found])
    result = given.benchmarks["arc"]
    assert result.no_rates == "each batch size was measured at one learning rate"
    assert result.rates == () and result.ratio is None and result.gamma is None
    assert result.ratio_is_sufficient is Verdict.UNDECIDED and result.setting is not None
    for rule in given.rules:
        assert rule.verdict is Verdict.UNDECIDED
        assert all(one.probability is None and one.regret is None for one in rule.benchmarks)


def test_a_random_search_with_one_rate_at_each_batch_size_is_compared() -> None:
    rates = np.random.default_rng(2).permutation(np.geomspace(1e-4, 1e-2, 20)).tolist()
    sizes = tuple(range(8, 28))
    frame = table(lambda x, y: x, rates=tuple(rates), sizes=sizes)
    own = dict(zip(sizes, rates, strict=True))
    random = surfaces(frame.loc[frame.learning_rate == frame.batch_size.map(own)])[0]
    assert no_rates(random) == ""
    low, high = reach(random, np.unique(random.table.y))
    assert (high - low > 3).all(), "a batch size with one rate borrows from those near it"


def test_rates_that_are_crossed_have_one_reach() -> None:
    crossed = surfaces(table(lambda x, y: x, sizes=SIZES))[0]
    low, high = reach(crossed, np.unique(crossed.table.y))
    assert (low <= crossed.table.x.min()).all() and (high >= crossed.table.x.max()).all()


def test_rates_and_ratios_far_beyond_those_of_a_batch_size_are_at_an_edge() -> None:
    """The best ratio is 8 times the highest; the smallest batch ran no rate near its best, though
    the largest did."""
    score = lambda x, y: 0.7 - 0.01 * (x - y + 15) ** 2  # noqa: E731
    result = answer(fit(cells(score, 2.0 ** np.arange(-23, -17))))
    for rate in result.rates:
        assert rate.status is RateStatus.EDGE and rate.side == "higher"
        assert rate.learning_rate <= 2 * 2.0**-18 * rate.batch_size * 1.01
    assert result.ratio is not None and result.ratio.status is RateStatus.EDGE
    assert result.ratio.ratio == pytest.approx(2.0**-18)


def test_a_share_loses_no_more_than_it_has() -> None:
    """Over 6 octaves of batch size one ratio leaves the rates that were measured by 3."""
    peak = lambda x, y: 0.4 - 0.1 * (x + 10) ** 2  # noqa: E731
    rates = (2.0**-11, 2.0**-10, 2.0**-9)
    shares = fit(surfaces(table(peak, rates=rates, sizes=(2, 4, *SIZES), noise=0.002))[0])
    result = answer(shares)
    assert result.ratio is not None
    assert max(kept.high for kept in result.ratio.keep.values()) <= 0.42


def test_a_rule_is_not_refused_by_what_is_not_known() -> None:
    level = fit(surfaces(table(lambda x, y: 0.4 + 0 * x, sizes=SIZES, noise=0.01))[0]).curves
    rising = fit(surfaces(table(lambda x, y: 0.03 * x, sizes=SIZES, noise=0.002))[0]).curves
    assert level is not None and rising is not None
    odds = near(level, 0.28, 0.01)
    assert odds is not None and odds.holds <= 0.1 and odds.against < 0.9
    assert rises_then_falls(rising) is None, "every best rate lies beyond the highest one"


def test_reach_of_a_thousand_batch_sizes_is_the_hull_of_their_cells() -> None:
    rng = np.random.default_rng(0)
    y = np.sort(rng.uniform(0, 10, 1000))
    top = rng.normal(size=1000) - (y - 5) ** 2
    edge = upper_hull(y, top)
    assert (edge >= top - 1e-9).all() and np.diff(np.diff(edge) / np.diff(y)).max() < 1e-6
    corners = edge <= top + 1e-9
    np.testing.assert_allclose(np.interp(y, y[corners], top[corners]), edge)
