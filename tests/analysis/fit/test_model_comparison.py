import numpy as np

from analysis.fit.model_comparison import compare
from analysis.report.evidence import sentence

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


def test_gamma_is_recovered_with_its_interval() -> None:
    for gamma in (0.0, 0.5, 1.0):
        found = compare(X, Y, -0.03 * (X - gamma * Y + 12) ** 2 + NOISE, WEIGHTS)
        assert found.gamma_low is not None and found.gamma_high is not None
        assert found.gamma_low - 0.051 <= gamma <= found.gamma_high + 0.051
        assert found.gamma_high - found.gamma_low < 0.3


def test_a_rate_truth_is_predicted_at_new_batch_sizes_by_the_rate_and_not_the_ratio() -> None:
    members = compare(X, Y, -0.03 * (X + 10) ** 2 + NOISE, WEIGHTS).members
    rate, ratio = members["learning_rate"], members["ratio"]
    assert rate.out_of_sample is not None and ratio.out_of_sample is not None
    assert rate.out_of_sample < ratio.out_of_sample / 3
    assert rate.share > 0.95 > ratio.share


def test_without_shape_gamma_is_not_bounded() -> None:
    found = compare(X, Y, NOISE, WEIGHTS)
    assert found.gamma_low is None and "do not bound gamma" in sentence(found)
    assert found.members["constant"].p is not None and found.members["constant"].p > 0.01
    assert "noise leaves hardly anything for the ratio to explain." in sentence(found)
