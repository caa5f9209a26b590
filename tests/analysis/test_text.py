"""Numbers are rounded to what they are worth."""

import pytest

from analysis.text import Unit, rounded, with_interval


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (1.1234e-4, 7.91e-5, 1.567e-4, "1.1e-4 (7.9e-5 to 1.6e-4)"),
        (1.1234e-4, 3e-5, 4.444e-4, "1e-4 (3e-5 to 4e-4)"),
        (1.1234e-4, 1.11e-4, 1.13e-4, "1.12e-4 (1.11e-4 to 1.13e-4)"),
        (0.0123, 0.0101, 0.0151, "0.012 (0.01 to 0.015)"),
    ],
)
def test_a_rate_has_the_digits_that_its_interval_supports(value, low, high, text) -> None:
    assert with_interval(value, low, high) == text


def test_rounding_keeps_the_order() -> None:
    low, middle, high = (float(rounded(1.49e-4, 1.0e-4, 6.0e-4)[place]) for place in (1, 0, 2))
    assert low <= middle <= high


def test_shares_are_written_in_points_and_losses_in_their_own_units() -> None:
    points, loss = Unit("acc", True), Unit("loss", False)
    assert points.amount(0.0083) == "0.8 points" and points.amount(0.12) == "12 points"
    assert points.amount(0.0001) == "less than 0.1 points" and loss.amount(0.0) == "nothing"
    assert loss.amount(0.00049) == "0.00049 of loss"
    assert points.signed(0.55, 0.073) == "+55 ± 7 points"
    assert points.signed(0.0752, 0.0121) == "+7.5 ± 1.2 points"
    assert loss.signed(-0.1234, 0.03) == "-0.123 ± 0.030"
