"""LR*(B), ratio, exponent and batch size of planted surfaces."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from analysis.fit.batch import Batch, direction
from analysis.fit.curves import Curves
from analysis.fit.exponent import exponent
from analysis.fit.rates import RateStatus, learning_rates
from analysis.fit.ratio import best_ratio, keep, rule_regret
from analysis.fit.surface import Fit, FitStatus, fit
from analysis.posterior.cells import surfaces
from tests.analysis.planted import RATES, table

SIX = (2, 4, 8, 16, 32, 64)
EIGHT = tuple(float(rate) for rate in 2.0 ** np.arange(-14, -5))


@cache
def along(gamma: float, noise: float = 0.005, slope: float = -0.01) -> Fit:
    """Best at log2 rate -10 + gamma (y - 3.5); `slope` per octave of batch."""

    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.6 - 0.02 * (x + 10 - gamma * (y - 3.5)) ** 2 + slope * (y - 3.5)

    return fit(surfaces(table(score, rates=EIGHT, sizes=SIX, noise=noise, seeds=2))[0])


def curves_of(result: Fit) -> Curves:
    assert result.curves is not None
    return result.curves


def test_best_rate_lies_inside_at_each_batch_size_though_the_best_batch_is_the_smallest() -> None:
    result = along(0.5)
    assert result.status is FitStatus.EDGE
    rates = learning_rates(curves_of(result), result.shaped)
    assert [rate.batch_size for rate in rates] == list(SIX)
    for rate in rates:
        truth = 2.0 ** (-10 + 0.5 * (np.log2(rate.batch_size) - 3.5))
        assert rate.status is RateStatus.INTERIOR
        assert rate.low <= truth <= rate.high
        assert rate.high / rate.low < 4


def test_probabilities_of_a_rate_never_exceed_one() -> None:
    for rate in learning_rates(curves_of(along(0.5)), True):
        assert 0 <= rate.p_interior + rate.p_lower + rate.p_higher <= 1 + 1e-9


def test_a_curve_that_levels_off_is_not_interior() -> None:
    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.6 - 0.3 * np.exp(-(x + 14) / 1.5) - 0.002 * y

    result = fit(surfaces(table(score, rates=EIGHT, sizes=SIX, noise=0.01, seeds=2))[0])
    rates = learning_rates(curves_of(result), result.shaped)
    assert all(rate.status is not RateStatus.INTERIOR for rate in rates)


@pytest.mark.parametrize(("sign", "side"), [(1, "higher"), (-1, "lower")])
def test_a_rising_curve_has_its_best_rate_at_an_end(sign: int, side: str) -> None:
    result = fit(surfaces(table(lambda x, y: 0.02 * sign * x, noise=0.002, sizes=SIX))[0])
    for rate in learning_rates(curves_of(result), result.shaped):
        assert rate.status is RateStatus.EDGE and rate.side == side


def test_cells_of_pure_noise_are_level_and_undecided() -> None:
    result = fit(surfaces(table(lambda x, y: 0 * x, noise=0.01, seeds=2, sizes=SIX))[0])
    curves = curves_of(result)
    for rate in learning_rates(curves, result.shaped):
        assert rate.status is RateStatus.LEVEL and rate.level_low < rate.level_high
    assert direction(curves, result.shaped).verdict is Batch.UNDECIDED


def test_divergence_above_bounds_the_best_rate() -> None:
    """A score that rises until training diverges has an inner best rate, below the wall."""
    frame = table(lambda x, y: 0.3 + 0.02 * x, rates=EIGHT, sizes=SIX, noise=0.002)
    wall = np.log2(frame.learning_rate) > -8.5
    frame.loc[wall, ["status", "reason"]] = ["diverged", "loss is nan"]
    result = fit(surfaces(frame)[0])
    for rate in learning_rates(curves_of(result), result.shaped):
        assert rate.status is RateStatus.INTERIOR
        assert 2**-9.6 <= rate.learning_rate <= 2**-8.4
        assert rate.low < 2**-8.9 and 2**-8.1 < rate.high <= 2**-8


def test_divergence_far_above_bounds_nothing() -> None:
    """Cells that diverged at 1000 say nothing of a score that still rises at 2^-7."""
    low = table(lambda x, y: 0.3 + 0.02 * x, rates=EIGHT, sizes=SIX, noise=0.002)
    far = table(lambda x, y: 0 * x, rates=(1e3,), sizes=SIX).assign(
        status="diverged", value=np.nan, reason="loss is nan"
    )
    result = fit(surfaces(pd.concat([low, far], ignore_index=True))[0])
    curves = curves_of(result)
    assert not curves.wall.any() and 2 ** curves.x[curves.measured[0]].max() <= max(EIGHT) * 1.01
    for rate in learning_rates(curves, result.shaped):
        assert rate.status is RateStatus.EDGE and rate.side == "higher"


def test_divergence_at_one_batch_size_bounds_no_other() -> None:
    """A grid of ratios of which the top corner alone diverged, where the score still rises."""
    parts = [
        table(
            lambda x, y: 0.3 + 0.02 * x,
            rates=tuple(size * float(ratio) for ratio in 2.0 ** np.arange(-14, -10)),
            sizes=(size,),
            noise=0.002,
        )
        for size in (4, 8, 16)
    ]
    frame = pd.concat(parts, ignore_index=True)
    corner = frame.learning_rate == frame.learning_rate.max()
    frame.loc[corner, ["status", "reason"]] = ["diverged", "loss is nan"]
    curves = curves_of(fit(surfaces(frame)[0]))
    *others, last = learning_rates(curves, True)
    assert all(one.status is RateStatus.EDGE and one.side == "higher" for one in others)
    assert last.status is RateStatus.INTERIOR and last.low < last.high


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_exponent_is_recovered_and_its_probabilities_agree(gamma: float) -> None:
    result = along(gamma)
    curves = curves_of(result)
    ratio = best_ratio(curves, result.shaped)
    slope = exponent(curves, ratio.keep["ratio"].constant)
    assert slope is not None and slope.low <= gamma <= slope.high
    assert slope.value == pytest.approx(gamma, abs=0.2)
    assert (slope.p_linear > 0.9) is (gamma == 1.0)
    assert (slope.p_root > 0.9) is (gamma == 0.5)
    cheapest = min(ratio.keep.values(), key=lambda rule: rule.expected)
    assert cheapest.exponent == gamma
    assert all(rule.expected <= rule.high for rule in ratio.keep.values())


def test_the_ratio_is_that_of_the_best_measured_batch_size() -> None:
    result = along(0.5)
    ratio = best_ratio(curves_of(result), result.shaped)
    truth = 2.0 ** (-10 + 0.5 * (1 - 3.5)) / 2
    assert ratio.status is RateStatus.INTERIOR
    assert ratio.low <= truth <= ratio.high


@pytest.mark.parametrize(
    ("slope", "verdict"), [(-0.03, Batch.SMALLER), (0.03, Batch.LARGER), (0.0, Batch.UNDECIDED)]
)
def test_direction_of_the_batch_size(slope: float, verdict: Batch) -> None:
    result = along(0.0, 0.004, slope)
    answer = direction(curves_of(result), result.shaped)
    assert answer.verdict is verdict
    assert sum(answer.p_best) == pytest.approx(1)
    assert answer.next_gain is not None and answer.next_gain_high is not None
    assert 0 <= answer.next_gain <= answer.next_gain_high


def test_batch_sizes_whose_best_losses_differ_by_nothing_of_importance_are_indifferent() -> None:
    def loss(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 2.4 + 0.02 * (x + 10) ** 2

    frame = table(loss, rates=EIGHT, sizes=SIX, noise=0.0005, seeds=2, metric="loss")
    result = fit(surfaces(frame)[0])
    answer = direction(curves_of(result), result.shaped)
    assert answer.verdict is Batch.INDIFFERENT and answer.p_indifferent > 0.95


def test_an_inner_best_batch_size_is_found() -> None:
    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.6 - 0.02 * (x + 10) ** 2 - 0.02 * (y - 3.5) ** 2

    result = fit(surfaces(table(score, sizes=SIX, noise=0.005, seeds=2))[0])
    answer = direction(curves_of(result), result.shaped)
    assert answer.verdict is Batch.INTERIOR and answer.best in (8, 16)


def test_a_rule_that_leaves_the_measured_rates_has_an_allowance_in_its_bound() -> None:
    narrow = tuple(float(rate) for rate in 2.0 ** np.arange(-11.5, -8, 0.5))
    frame = table(
        lambda x, y: 0.6 - 0.02 * (x + 10) ** 2, rates=narrow, sizes=SIX, noise=0.005, seeds=2
    )
    curves = curves_of(fit(surfaces(frame)[0]))
    inside, outside = (keep(curves, "fixed", 0.0), keep(curves, "ratio", 1.0))
    worst = rule_regret(curves, np.log2([outside.constant]), 1.0).max(axis=(1, 2))
    assert outside.high > np.quantile(worst, 0.975)
    worst = rule_regret(curves, np.log2([inside.constant]), 0.0).max(axis=(1, 2))
    assert inside.high == pytest.approx(np.quantile(worst, 0.975))


def test_one_batch_size_has_a_best_rate() -> None:
    frame = table(lambda x, y: -0.02 * (x + 9.5) ** 2, rates=EIGHT, sizes=(8,), noise=0.004)
    result = fit(surfaces(frame)[0])
    assert result.status is FitStatus.TOO_FEW
    (rate,) = learning_rates(curves_of(result), result.shaped)
    assert rate.status is RateStatus.INTERIOR and rate.low <= 2**-9.5 <= rate.high
    assert exponent(curves_of(result), 1e-4) is None
    assert direction(curves_of(result), result.shaped).verdict is Batch.UNDECIDED


def test_one_learning_rate_has_a_direction_of_batch_size() -> None:
    frame = table(lambda x, y: -0.05 * y, rates=RATES[:1], sizes=SIX, noise=0.004, seeds=2)
    result = fit(surfaces(frame)[0])
    assert direction(curves_of(result), result.shaped).verdict is Batch.SMALLER


def test_unequal_numbers_of_seeds_are_no_obstacle() -> None:
    frame = table(lambda x, y: 0.6 - 0.02 * (x + 10) ** 2, rates=EIGHT, noise=0.005, seeds=3)
    some = frame.loc[(frame.seed == 0) | (frame.learning_rate > 2**-11)]
    result = fit(surfaces(some)[0])
    for rate in learning_rates(curves_of(result), result.shaped):
        assert rate.status is RateStatus.INTERIOR and rate.low <= 2**-10 <= rate.high
