"""The seven answers of planted grids: what they say, and that no two of them disagree."""

import json
from functools import cache

import numpy as np
import pytest

from analysis.advice.answers import Answers, Signal, answers, plain
from analysis.advice.contrast import CONTRADICTED, SUPPORTED, UNRESOLVED
from analysis.advice.published_rules import Verdict, step_law
from analysis.advice.setting import equal_weights
from analysis.fit.exponent import DEFINED
from analysis.fit.surface import Fit, fit
from analysis.posterior.cells import surfaces
from analysis.report.words import sentences, setting_sentences
from analysis.text import Unit, rounded
from tests.analysis.planted import table

SIX = (2, 4, 8, 16, 32, 64)
RATES = tuple(float(rate) for rate in 2.0 ** np.arange(-14, -5))


@cache
def planted(benchmark: str, best: float, gamma: float = 0.0) -> Fit:
    """Best at log2 rate best + gamma (y - 3.5), smaller batches a little better."""

    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.6 - 0.02 * (x - best - gamma * (y - 3.5)) ** 2 - 0.01 * y

    frame = table(score, rates=RATES, sizes=SIX, noise=0.005, seeds=2, benchmark=benchmark)
    return fit(surfaces(frame)[0])


@cache
def noise(benchmark: str, value: float, spread: float) -> Fit:
    frame = table(lambda x, y: value + 0 * x, noise=spread, seeds=2, benchmark=benchmark)
    return fit(surfaces(frame)[0])


def noise_on_the_grid(benchmark: str, value: float = 0.4, spread: float = 0.005) -> Fit:
    frame = table(
        lambda x, y: value + 0 * x, rates=RATES, sizes=SIX, noise=spread, benchmark=benchmark
    )  # fmt: skip
    return fit(surfaces(frame)[0])


def of(*fits: Fit) -> Answers:
    return answers(fits)


def test_higher_rates_for_reasoning_support_the_paper() -> None:
    result = of(planted("arc", -9.0), planted("hellaswag", -11.0))
    contrast = result.contrast
    assert contrast.verdict == SUPPORTED and contrast.p_higher and contrast.p_higher > 0.99
    assert contrast.low is not None and contrast.high is not None
    assert contrast.low <= 2 <= contrast.high and contrast.batch_sizes == SIX
    assert contrast.visible is not None and 0 < contrast.visible < 1
    assert {rule.name: rule.verdict for rule in result.rules}["higher_ratio_helps_reasoning"] == (
        Verdict.TRUE
    )
    swapped = of(planted("arc", -11.0), planted("hellaswag", -9.0))
    assert swapped.contrast.verdict == CONTRADICTED


def test_tops_beyond_the_same_end_cannot_be_compared() -> None:
    """Both types want more than the highest rate: the difference of what is cut off is not 0."""
    result = of(planted("arc", -3.0), planted("hellaswag", -4.0))
    contrast = result.contrast
    assert contrast.verdict == UNRESOLVED and contrast.octaves is None
    assert "same end of the measured ones" in contrast.missing
    one_sided = of(planted("arc", -3.0), planted("hellaswag", -9.0)).contrast
    assert one_sided.verdict == SUPPORTED
    assert one_sided.high is None and one_sided.visible is None, "how far beyond is not known"
    assert one_sided.low is not None and one_sided.low < 6
    assert "or more octaves" in sentences.contrast(one_sided)
    other_way = of(planted("arc", -9.0), planted("hellaswag", -3.0)).contrast
    assert other_way.low is None and other_way.high is not None
    assert other_way.verdict == CONTRADICTED


def test_a_slope_of_a_few_odd_draws_is_not_told() -> None:
    one = planted("arc", -6.85)
    assert one.curves is not None
    with_slope = (one.curves.falls.both.sum(axis=1) >= 2).mean()
    assert 0.01 < with_slope < DEFINED
    result = of(one)
    assert result.benchmarks["arc"].gamma is None
    verdicts = {rule.name: rule for rule in result.rules}
    assert verdicts["root_batch"].benchmarks[0].probability is None


def test_a_batch_size_that_one_benchmark_lacks_is_no_setting_of_the_type() -> None:
    frame = table(lambda x, y: 0.4 + 0 * x, rates=RATES, sizes=SIX, noise=0.01, benchmark="gsm8k")
    frame.loc[frame.batch_size == 2, ["status", "value"]] = ["failed", np.nan]
    result = of(planted("arc", -9.0), fit(surfaces(frame)[0]))
    assert result.task_types["reasoning"].batch_size > 2


def test_a_type_keeps_its_rates_where_one_benchmark_lacks_cells() -> None:
    """The highest rate has no score on GSM8K: the type's rates are those of the other cells."""
    whole = planted("arc", -9.0)
    score = lambda x, y: 0.6 - 0.02 * (x + 9) ** 2 - 0.01 * y  # noqa: E731
    frame = table(score, rates=RATES, sizes=SIX, noise=0.005, seeds=2, benchmark="gsm8k")
    frame.loc[frame.learning_rate == max(RATES), ["status", "value"]] = ["failed", np.nan]
    result = of(whole, fit(surfaces(frame)[0]))
    assert [rate.status for rate in result.type_rates["reasoning"]] == ["interior"] * len(SIX)
    assert result.type_cells == {"reasoning": (len(RATES) - 1) * len(SIX)}
    assert of(whole).type_cells == {}


def test_a_type_without_signal_leaves_the_contrast_unresolved_and_says_why() -> None:
    contrast = of(planted("arc", -9.0), noise("hellaswag", 0.4, 0.01)).contrast
    assert contrast.verdict == UNRESOLVED and contrast.octaves is None
    assert "HellaSwag" in contrast.missing and contrast.left_out == ("hellaswag",)


def test_there_is_always_a_setting() -> None:
    for result in (of(planted("arc", -9.0)), of(noise("arc", 0.4, 0.01))):
        setting = result.benchmarks["arc"].setting
        assert setting is not None and setting.unit == "metric"
        assert 0 <= setting.expected_regret <= setting.regret_high


def test_benchmarks_that_disagree_are_named_with_the_price_of_each() -> None:
    result = of(planted("arc", -8.0), planted("gsm8k", -12.0))
    setting = result.task_types["reasoning"]
    assert setting.disagree == ("ARC", "GSM8K") and setting.unit == "range"
    own = sorted(price.own[0] for price in setting.prices if price.own)
    assert np.log2(own) == pytest.approx([-12, -8], abs=0.3)
    for price in setting.prices:
        assert price.expected > price.own_expected + price.epsilon
    together = of(planted("arc", -9.0), planted("gsm8k", -9.0)).task_types["reasoning"]
    assert np.log2(together.learning_rate) == pytest.approx(-9, abs=0.3) and not together.disagree
    units = dict.fromkeys(("arc", "gsm8k"), Unit("acc", True))
    said = setting_sentences.setting(together, units)
    assert "of its own" in said and "gain" in said and "noise" not in said


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_claim_of_a_sufficient_ratio_is_that_of_the_table(gamma: float) -> None:
    result = of(planted("arc", -10.0, gamma), planted("gsm8k", -10.0, gamma))
    wanted = Verdict.TRUE if gamma == 1.0 else Verdict.FALSE
    for answer in result.benchmarks.values():
        assert answer.ratio_is_sufficient is wanted
        assert answer.gamma and answer.gamma.p_sufficient <= answer.gamma.p_linear


def test_constant_scores_and_scores_at_chance_are_called_that() -> None:
    frame = table(lambda x, y: 0 * x, benchmark="gsm8k").assign(value=0.0, stderr=0.0)
    constant = of(fit(surfaces(frame)[0])).benchmarks["gsm8k"]
    assert constant.signal is Signal.CONSTANT and constant.setting is not None
    chance = of(noise("arc", 0.25, 0.01)).benchmarks["arc"]
    assert chance.signal is Signal.CHANCE
    many = noise_on_the_grid("arc", 0.25)
    cells = many.cells.table
    assert (abs(cells.value - 0.25) > 2 * cells.stderr).any(), "of 54 cells one lies beyond 2"
    assert of(many).benchmarks["arc"].signal is Signal.CHANCE
    assert of(noise_on_the_grid("arc", 0.28)).benchmarks["arc"].signal is Signal.FLAT
    assert of(noise("arc", 0.5, 0.01)).benchmarks["arc"].signal is Signal.FLAT


def test_answers_are_plain_json() -> None:
    record = plain(of(planted("arc", -9.0), planted("hellaswag", -11.0)))
    again = json.loads(json.dumps(record))
    assert again["benchmarks"]["arc"]["rates"][0]["status"] == "interior"
    assert again["contrast"]["verdict"] == SUPPORTED


def test_one_batch_size_is_answered_as_far_as_it_goes() -> None:
    frame = table(lambda x, y: -0.02 * (x + 9) ** 2, rates=RATES, sizes=(8,), noise=0.004)
    result = of(fit(surfaces(frame)[0])).benchmarks["arc"]
    assert [rate.status for rate in result.rates] == ["interior"]
    assert result.gamma is None and result.ratio_is_sufficient is Verdict.UNDECIDED
    assert result.setting is not None and result.setting.batch_size == 8


def test_one_learning_rate_is_no_best_one_and_has_no_ratio() -> None:
    frame = table(lambda x, y: -0.05 * y, rates=RATES[:1], sizes=SIX, noise=0.004, seeds=2)
    grid = of(fit(surfaces(frame)[0]))
    result = grid.benchmarks["arc"]
    assert result.rates == () and result.ratio is None and result.gamma is None
    assert result.no_rates == "one learning rate was measured"
    assert result.direction is not None and result.direction.verdict == "smaller"
    assert {rule.verdict for rule in grid.rules} == {Verdict.UNDECIDED}
    assert grid.type_rates == {}


def test_step_law_s_setting_needs_the_sizes_of_model_and_data() -> None:
    frame = table(lambda x, y: 0 * x)
    assert step_law(frame) is None
    known = frame.assign(model_parameters=1e9, tokens=1e11, examples=1e11 / 2048)
    rate, size = step_law(known) or (0.0, 0.0)
    assert rate == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307)
    assert size == pytest.approx(0.58 * 1e11**0.571 / 2048)


def test_the_setting_is_a_row_of_the_table_of_learning_rates() -> None:
    result = of(planted("arc", -9.3), planted("hellaswag", -10.7))
    assert result.mix is not None and not result.mix.measured
    for setting, rates in (
        (result.benchmarks["arc"].setting, result.benchmarks["arc"].rates),
        (result.task_types["pattern"], result.type_rates["pattern"]),
    ):
        assert setting is not None and setting.observed is None
        (row,) = (one for one in rates if one.batch_size == setting.batch_size)
        assert row.low <= setting.learning_rate <= row.high
        shown = rounded(row.learning_rate, row.low, row.high)[0]
        assert setting.learning_rate == float(shown)


def test_a_flat_benchmark_has_a_price_in_a_mix_but_no_weight() -> None:
    flat = noise_on_the_grid("hellaswag")
    assert not flat.shaped
    clear, mix = planted("arc", -9.0), of(planted("arc", -9.0), flat).mix
    own = of(clear).benchmarks["arc"].setting
    assert mix is not None and own is not None
    assert {price.benchmark: price.weight for price in mix.prices} == {"arc": 1, "hellaswag": 0}
    assert (mix.batch_size, mix.learning_rate) == (own.batch_size, own.learning_rate)
    assert mix.regret_high < 0.1
    said = setting_sentences.setting(mix, {})
    assert said.endswith(
        "ARC alone decides, as the cells of HellaSwag are not known to differ beyond noise."
    )


def test_weights_move_the_setting_of_a_mix() -> None:
    fits = (planted("arc", -9.0), planted("hellaswag", -11.0))
    leaning = answers(fits, {"arc": 9, "hellaswag": 1}).mix
    equal = of(*fits).mix
    assert leaning and equal and leaning.learning_rate > equal.learning_rate
    assert [round(price.weight, 2) for price in leaning.prices] == [0.9, 0.1]
    assert answers(fits, {"arc": 1.0}).mix is None
    three = answers((*fits, planted("gsm8k", -9.0)), {"arc": 1, "gsm8k": 1})
    assert three.mix and three.mix.label == "All benchmarks but HellaSwag"


def test_weights_are_equal_between_types_and_within_them() -> None:
    names = ["arc", "gsm8k", "ifeval", "piqa", "heldout_loss"]
    assert equal_weights(names) == {"arc": 0.25, "gsm8k": 0.25, "ifeval": 0.5}
    assert equal_weights(["piqa", "bbh", "heldout_loss"]) == {"piqa": 0.5, "bbh": 0.5}
    assert equal_weights(["heldout_loss"]) == {"heldout_loss": 1}


def test_the_setting_is_no_rate_beyond_those_that_trained() -> None:
    """Below a wall the best rate lies between the last that trains and the first that does not."""
    frame = table(lambda x, y: 0.6 + 0.02 * x, rates=RATES, sizes=SIX, noise=0.002)
    wall = frame.learning_rate > 2**-8.5
    frame.loc[wall, ["status", "reason"]] = ["diverged", "loss is nan"]
    setting = of(fit(surfaces(frame)[0])).benchmarks["arc"].setting
    assert setting is not None and setting.learning_rate <= 2**-9 and setting.measured


def test_one_scored_cell_is_too_few_and_is_named() -> None:
    frame = table(lambda x, y: 2.5 + 0 * x, rates=RATES, sizes=SIX, metric="loss")
    lost = (frame.learning_rate != RATES[3]) | (frame.batch_size != 8)
    frame.loc[lost, ["status", "value"]] = ["failed", np.nan]
    result = of(fit(surfaces(frame)[0]))
    answer = result.benchmarks["arc"]
    assert answer.signal is Signal.TOO_FEW and result.settings == []
    assert sentences.batch_size(answer, Unit("loss", False)).endswith(
        "too few scored cells to say."
    )
    said = setting_sentences.headline([], scored=["4.9e-4 x 8"])
    assert said == "One cell has a score: 4.9e-4 x 8."
