"""No sentence against another one, or against the number that it stands on."""

import numpy as np
import pandas as pd
import pytest

from analysis.advice.answers import Answers, BenchmarkAnswer, Signal, answers
from analysis.advice.next_grid import next_step
from analysis.advice.published_rules import Verdict
from analysis.fit.batch import Batch
from analysis.fit.optimum import tolerance
from analysis.fit.surface import fit
from analysis.fit.unit import unit_of
from analysis.posterior.cells import surfaces
from analysis.report.evidence import NOTHING_TO_DESCRIBE, descriptions
from analysis.report.words import sentences, setting_sentences
from analysis.text import Unit
from tests.analysis.planted import Score, bowl, table

WIDE = tuple(2.0**x for x in range(-15, -7))


def answered(frame: pd.DataFrame) -> Answers:
    return answers([fit(cells) for cells in surfaces(frame)])


def only(frame: pd.DataFrame) -> BenchmarkAnswer:
    (answer,) = answered(frame).benchmarks.values()
    return answer


def flat(benchmark: str, seeds: int = 2) -> pd.DataFrame:
    return table(lambda x, y: 0.4 + 0 * x, noise=0.02, seeds=seeds, benchmark=benchmark)


def rate_alone(best: float) -> Score:
    """The batch size does nothing."""
    return lambda x, y: 0.6 - 0.02 * (x - best) ** 2 + 0 * y


def test_a_ratio_that_costs_nothing_is_not_refused() -> None:
    """The rate grows as B^0.45 over two octaves, and the top is level."""
    answer = only(
        table(
            lambda x, y: 0.6 - 0.01 * (x + 12 - 0.45 * (y - 3)) ** 2,
            rates=WIDE, sizes=(4, 8, 16), seeds=8, noise=0.015,
        )
    )  # fmt: skip
    assert answer.gamma and answer.gamma.high < 1 and answer.ratio
    assert answer.ratio.keep["ratio"].high < answer.ratio.epsilon
    assert answer.ratio_is_sufficient is Verdict.UNDECIDED
    assert sentences.gamma(answer).endswith("serves all the same: it loses too little to matter.")


def test_one_rate_is_told_to_serve_where_it_does() -> None:
    said = sentences.gamma(
        only(table(rate_alone(-11.0), rates=WIDE, sizes=(4, 8, 16, 32, 64), seeds=4, noise=0.005))
    )
    assert "stays much the same, as B^" in said and "-0.00" not in said
    assert said.endswith("One ratio does not serve all batch sizes: one learning rate does.")


def test_a_rate_that_falls_does_not_grow() -> None:
    answer = only(
        table(
            lambda x, y: 0.6 - 0.02 * (x + 11 + 0.6 * (y - 4)) ** 2,
            rates=WIDE, sizes=(4, 8, 16, 32, 64), noise=0.005,
        )
    )  # fmt: skip
    assert ": falls as B^-0.6" in sentences.gamma(answer)


@pytest.mark.parametrize("best", [-13.0, -11.0, -9.0])
def test_where_the_rates_lie_decides_no_rule(best: float) -> None:
    rules = answered(table(rate_alone(best), rates=WIDE, sizes=(4, 16, 64), noise=0.01)).rules
    (rule,) = (rule for rule in rules if rule.name == "larger_batch_lower_rate")
    assert rule.verdict is Verdict.UNDECIDED


def test_a_larger_batch_at_a_lower_rate_is_told_where_it_is_better() -> None:
    frame = table(
        lambda x, y: 0.5 + 0.02 * y - 0.02 * (x + 11 + 0.5 * (y - 4)) ** 2,
        rates=WIDE, sizes=(4, 16, 64), noise=0.005,
    )  # fmt: skip
    (rule,) = (rule for rule in answered(frame).rules if rule.name == "larger_batch_lower_rate")
    assert rule.verdict is Verdict.TRUE


def five_cells(**scores: tuple[float, ...]) -> pd.DataFrame:
    """One learning rate, one seed."""
    tables = [
        table(lambda x, y: 0 * y, rates=(2e-4,), sizes=(4, 8, 16, 32, 64), benchmark=name).assign(
            value=values, stderr=0.0155, n=1000
        )
        for name, values in scores.items()
    ]
    return pd.concat(tables)


LEVEL_OFF = (0.592, 0.614, 0.599, 0.528, 0.418)


def test_cells_ten_errors_apart_are_not_said_to_differ_by_noise_alone() -> None:
    answer = only(five_cells(arc=LEVEL_OFF))
    assert answer.signal is Signal.UNREPEATED
    assert "no seed is repeated" in sentences.batch_size(answer, Unit("acc", True))
    level = only(five_cells(arc=(0.4, 0.41, 0.39, 0.4, 0.405)))
    assert level.signal is Signal.FLAT


def test_benchmarks_whose_cells_are_not_told_from_noise_do_not_disagree() -> None:
    frame = five_cells(arc=LEVEL_OFF, gsm8k=(0.402, 0.494, 0.605, 0.606, 0.591))
    setting = answered(frame).task_types["reasoning"]
    units = {cells.benchmark: unit_of(cells) for cells in surfaces(frame)}
    assert not setting.disagree
    assert "disagree" not in setting_sentences.setting(setting, units)


def test_batch_sizes_at_one_rate_each_are_not_ranked() -> None:
    sizes = (4, 8, 16, 32, 64, 128, 256)
    frame = pd.concat(
        table(bowl, rates=(1e-5 * size,), sizes=(size,), seeds=4, noise=0.001) for size in sizes
    )
    answer = only(frame.assign(key=[f"row-{row}" for row in range(len(frame))]))
    assert answer.no_rates and answer.direction is not None
    assert answer.direction.verdict is Batch.UNDECIDED


def test_a_batch_size_whose_best_rate_was_not_run_is_not_ruled_out() -> None:
    """All reach the same top; that of the largest lies an octave above the rates."""
    answer = only(
        table(
            lambda x, y: 0.6 - 0.02 * (x + 10 - 1.5 * (y - 4)) ** 2,
            rates=WIDE, sizes=(4, 8, 16, 32, 64), noise=0.01,
        )
    )  # fmt: skip
    assert answer.rates[-1].side == "higher" and answer.direction is not None
    assert answer.direction.p_best[-1] > 0.1


def test_equal_scores_have_a_tolerance_above_rounding_and_nothing_to_describe() -> None:
    frame = table(lambda x, y: 0.4 + 0 * x, rates=WIDE, stderr=False)
    frame["value"] += 1e-17 * np.arange(len(frame))
    fits = [fit(cells) for cells in surfaces(frame)]
    assert tolerance(fits[0].cells) > 1e-6
    noisy = [fit(cells) for cells in surfaces(flat("arc"))]
    assert {one["sentence"] for one in descriptions(noisy)} == {NOTHING_TO_DESCRIBE}


def test_no_loss_is_above_the_whole_range_or_the_score() -> None:
    """One ratio: what lies beside it is not known, and its draws go far."""
    sizes, scores = [], (0.418, 0.515, 0.578, 0.603, 0.578, 0.521, 0.422)
    for place, score in enumerate(scores):
        one = table(bowl, rates=(1e-5 * 2 ** (place + 2),), sizes=(2 ** (place + 2),), stderr=False)
        sizes += [one.assign(value=value, benchmark=name, key=f"row-{place}")
                  for name, value in (("mmlu", score), ("boolq", score - 0.1))]  # fmt: skip
    of_grid = answered(pd.concat(sizes))
    assert of_grid.mix is not None and of_grid.mix.regret_high <= 1
    (mmlu,) = (price for price in of_grid.mix.prices if price.benchmark == "mmlu")
    assert mmlu.high < 0.42, "the best cell has 0.603, and no score is above 1"


def test_where_every_cell_failed_the_cause_is_to_be_found() -> None:
    frame = table(bowl).assign(status="failed", value=np.nan, reason="out of memory")
    fits = [fit(cells) for cells in surfaces(frame)]
    step = next_step(fits, answers(fits), frame, None)
    assert step.sentence.startswith("Find out why 20 cells failed") and step.cells == 0


def test_between_two_rates_far_apart_the_middle_is_run() -> None:
    frame = table(bowl, rates=(1e-4, 1e-2), sizes=(8, 32), noise=0.01)
    fits = [fit(cells) for cells in surfaces(frame)]
    assert 1e-3 in next_step(fits, answers(fits), frame, None).axes["learning_rate"]


def test_names_keep_their_capitals_inside_a_sentence() -> None:
    (setting,) = answered(table(bowl, noise=0.001, benchmark="ifeval")).settings
    named = setting_sentences.headline([setting._replace(label="MMLU-Pro")])
    assert named.endswith("for MMLU-Pro.")
    assert setting_sentences.headline([setting]).endswith("for pattern recognition.")
