import numpy as np

from analysis.rivals import compare

X, Y = (axis.ravel() for axis in np.meshgrid(np.arange(-13.0, -7), np.arange(2.0, 7)))
NOISE = 0.01 * np.random.default_rng(0).standard_normal(len(X))
WEIGHTS = np.ones(len(X))


def test_a_ratio_truth_is_not_refused_and_beats_the_rate() -> None:
    found = compare(X, Y, -0.03 * (X - Y + 14) ** 2 + NOISE, WEIGHTS)
    assert found.p is not None and found.p > 0.05
    assert found.ratio.aicc < found.learning_rate.aicc and found.ratio_decides


def test_a_rate_truth_is_not_called_a_ratio_effect() -> None:
    found = compare(X, Y, -0.03 * (X + 10) ** 2 + NOISE, WEIGHTS)
    assert found.p is not None and found.p < 1e-6
    assert found.learning_rate.aicc < found.ratio.aicc and not found.ratio_decides


def test_few_cells_give_no_test() -> None:
    assert compare(X[:8], Y[:8], X[:8], WEIGHTS[:8]).p is None
