"""What a grid can see before it runs."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from analysis.design import power
from analysis.design.power import Layout, bounds, expected, visible
from analysis.fit import rates


def layout(rates: int, sizes: int, seeds: float = 1, step: float = 1.0) -> Layout:
    x, y = np.meshgrid(step * np.arange(rates), np.arange(sizes))
    return Layout(tuple(x.ravel()), tuple(y.ravel()), seeds)


def test_a_plan_asks_more_of_an_interval_than_the_report():
    assert power.WIDEST < rates.WIDEST


def test_bound_is_the_scatter_of_least_squares_fits():
    """At one batch size, where s = a - R (1 - exp(-c (x - x0)^2 / R))."""
    lost, noise, x = 0.1, 0.002, np.arange(-4, 5, dtype=float)
    c = lost * np.log(2) / power.HALF_AT**2

    def score(x, a, x0, c):
        return a - lost * (1 - np.exp(-c * (x - x0) ** 2 / lost))

    rng = np.random.default_rng(0)
    found = [
        curve_fit(score, x, score(x, 0.4, 0, c) + noise * rng.standard_normal(9), (0.4, 0, c))[0][1]
        for _ in range(400)
    ]
    stated = bounds(Layout(tuple(x), (0.0,) * 9, 1), lost, noise)[0]
    assert stated == pytest.approx(np.std(found), rel=0.12)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((layout(7, 4, 3), 0.4, 1000), (layout(7, 4, 1), 0.4, 1000)),
        ((layout(7, 4), 0.4, 1000), (layout(7, 4), 0.4, 100)),
        ((layout(7, 4), 0.6, 1000), (layout(7, 4), 0.35, 1000)),
        ((layout(7, 4), 0.4, 1000), (layout(4, 4), 0.4, 1000)),
    ],
    ids=["seeds", "items", "level", "a rate axis that is wide"],
)
def test_more_of_what_helps_narrows_the_interval(better, worse):
    first, second = (expected(grid, "arc", level, 0.25, n) for grid, level, n in (better, worse))
    assert first.error < second.error


def test_score_of_guessing_cannot_answer():
    found = expected(layout(10, 6, 3), "arc", 0.255, 0.25, 1000)
    assert not found.answers
    assert "chance" in found.why


def test_gsm8k_at_135m_cannot_answer_and_hellaswag_can():
    grid = layout(10, 6, 2)
    assert not expected(grid, "gsm8k", power.USUAL["gsm8k"], 0.0, 1319).answers
    assert expected(grid, "hellaswag", power.USUAL["hellaswag"], 0.25, 10042).answers


def test_smallest_difference_is_seen_with_the_stated_power():
    first = [expected(layout(7, 4), "arc", 0.4, 0.25, 1000)]
    smallest = visible(first, first)
    error = power.contrast_error(first, first)
    assert smallest is not None and error is not None
    assert power.NORMAL.cdf(smallest / error - 1.96) == pytest.approx(power.POWER, abs=1e-3)


def test_no_difference_is_promised_where_a_type_cannot_answer():
    able = expected(layout(10, 6, 2), "hellaswag", 0.41, 0.25, 10042)
    unable = expected(layout(10, 6, 2), "gsm8k", 0.014, 0.0, 1319)
    assert visible([unable], [able]) is None
    assert visible([able, unable], [able]) == visible([able], [able])
