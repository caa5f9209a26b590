"""Per-item values whose mean is the score and whose scatter is its error."""

import numpy as np
import pytest

from trainers.evaluate.scores import contributions, mean_of_tasks, summarise

RANDOM = np.random.default_rng(0)


def stderr(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def summary(values, **settings):
    reported = {name: float(v.mean()) for name, v in values.items()}
    plain = {"primary": next(iter(values)), "lower_is_better": set(), "settings": {}}
    items = [f"i{number}" for number in range(len(next(iter(values.values()))))]
    return summarise(reported, values, items, **plain | settings)


def test_mean_of_contributions_is_the_ratio():
    a, b = RANDOM.random(50), RANDOM.integers(1, 30, 50).astype(float)
    assert contributions(a, b).mean() == pytest.approx(a.sum() / b.sum())


def test_scatter_of_contributions_is_the_delta_methods_error():
    """var(r) = (s_aa - 2 r s_ab + r^2 s_bb) / (n mean(b)^2), Cochran, Sampling Techniques, 6.4."""
    b = RANDOM.integers(1, 30, 200).astype(float)
    a = 2 * b + RANDOM.normal(size=200)
    r = a.sum() / b.sum()
    cov = np.cov(a, b)
    variance = (cov[0, 0] - 2 * r * cov[0, 1] + r**2 * cov[1, 1]) / (200 * b.mean() ** 2)
    assert stderr(contributions(a, b)) == pytest.approx(np.sqrt(variance))


def test_error_of_a_ratio_is_that_seen_in_repeated_draws():
    ratios, errors = [], []
    for _ in range(400):
        b = RANDOM.integers(1, 30, 200).astype(float)
        a = 2 * b + np.sqrt(b) * RANDOM.normal(size=200)
        ratios.append(a.sum() / b.sum())
        errors.append(stderr(contributions(a, b)))
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)


def test_contributions_of_equal_denominators_are_the_plain_values():
    a = RANDOM.random(20)
    assert contributions(a, np.full(20, 4.0)) == pytest.approx(a / 4)


def test_contributions_of_a_constant_ratio_do_not_scatter():
    b = np.array([1.0, 5.0, 9.0])
    assert contributions(3 * b, b) == pytest.approx([3, 3, 3])


def test_tasks_count_equally_whatever_their_number_of_items():
    easy, hard = np.ones(100), np.zeros(10)
    assert mean_of_tasks([easy, hard]).mean() == pytest.approx(0.5)


def test_scatter_of_a_mean_of_tasks_is_its_error():
    """var((m1 + m2) / 2) = (var1 / n1 + var2 / n2) / 4, for many items."""
    easy, hard = (RANDOM.random(4000) < 0.6).astype(float), RANDOM.random(500)
    expected = np.sqrt((easy.var() / 4000 + hard.var() / 500) / 4)
    assert stderr(mean_of_tasks([easy, hard])) == pytest.approx(expected, rel=1e-3)


def test_one_task_is_left_as_it_is():
    values = RANDOM.random(9)
    assert mean_of_tasks([values]) == pytest.approx(values)


def test_score_is_mean_and_standard_error_over_items():
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    (score,) = summary({"acc": values}).scores
    assert (score.metric, score.value, score.n, score.primary) == ("acc", 0.6, 5, True)
    assert score.stderr == pytest.approx(np.sqrt(0.6 * 0.4 / 4)), "lm-eval's formula for 0 and 1"
    assert score.higher_is_better


@pytest.mark.parametrize("hits", [0.0, 1.0])
def test_all_wrong_or_all_right_is_not_certain(hits):
    (score,) = summary({"acc": np.full(150, hits)}).scores
    assert score.value == hits
    assert score.stderr == pytest.approx(np.sqrt(1 / 152 * 151 / 152 / 152))
    (loss,) = summary({"loss": np.full(150, 0.5)}).scores
    assert loss.stderr == 0, "a rule for shares of answers alone"


def test_items_average_to_the_scores():
    found = summary({"acc": RANDOM.random(7), "loss": RANDOM.random(7)}, lower_is_better={"loss"})
    means = found.items.groupby("metric").value.mean()
    for score in found.scores:
        assert means[score.metric] == pytest.approx(score.value)
        assert score.higher_is_better is (score.metric == "acc")
    assert list(found.items.columns) == ["item", "metric", "value"]
    assert len(found.items) == 14


def test_one_item_has_no_error():
    assert summary({"acc": np.array([1.0])}).scores[0].stderr is None


def test_metric_without_items_keeps_its_value():
    found = summarise(
        {"bleu": 12.5}, {}, ["a", "b"], primary="bleu", lower_is_better=set(), settings={}
    )
    assert found.scores[0].value == 12.5
    assert found.scores[0].stderr is None
    assert found.items.empty


def test_unknown_primary_metric_is_refused_by_name():
    with pytest.raises(ValueError, match="'acc_norm' is not among acc, f1"):
        summary({"acc": np.ones(2), "f1": np.ones(2)}, primary="acc_norm")
