"""What is said of one grid: who has a column, and under which batch size each rate stands."""

import numpy as np
import pandas as pd

from analysis.advice.advise import advise
from analysis.advice.published_rules import OnBenchmark, Rule, Verdict
from analysis.compare.source import Source
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.report.answered import Answered, answer
from analysis.report.words import sentences
from analysis.tables.external.adopt import adopt
from analysis.text import Unit
from tests.analysis.planted import table

RATES = (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3)


def said(frame: pd.DataFrame) -> Answered:
    """Of a table of one grid."""
    (advice,) = advise([fit(cells) for cells in surfaces(frame)], None, frame)
    return answer(advice, Source("table", frame, None, None, {}), frame)


def together(**tables: pd.DataFrame) -> pd.DataFrame:
    """One table of several benchmarks, by their names."""
    return pd.concat(
        [one.assign(benchmark=name, metric=name) for name, one in tables.items()],
        ignore_index=True,
    )


def test_every_rate_stands_under_its_batch_size_where_a_benchmark_lacks_one():
    peak = table(lambda x, y: -0.03 * (x + 15 - y) ** 2, rates=RATES[:3], sizes=(4, 8), noise=0.004)
    grid = said(together(arc=peak, gsm8k=peak[peak.batch_size > 4]))
    assert [row.batch_size for row in grid.benchmark_rates] == [4, 8]
    assert [rate.batch_size for rate in grid.answers.benchmarks["gsm8k"].rates] == [8]
    assert [row.texts[1] == "-" for row in grid.benchmark_rates] == [True, False]


def test_a_benchmark_of_no_type_has_its_place_beside_the_types():
    """Its best rate lies beyond the highest, which the loss beside it does not ask for."""
    frame = adopt(
        pd.DataFrame(
            [
                (rate, size, 2 + 0.05 * (x - size / 64) ** 2, 0.3 + 0.04 * x + size / 6400)
                for x, rate in enumerate(RATES, -2)
                for size in (8, 16)
            ],
            columns=["learning_rate", "batch_size", "heldout_loss", "mmlu"],
        ),
        "a loss and a benchmark of one's own",
    ).frame
    grid = said(frame)
    assert grid.rate_columns == ["Held-out loss", "mmlu"]
    assert all(len(row.texts) == 2 for row in grid.rate_rows)
    assert "for held-out loss and" in grid.headline and "for mmlu" in grid.headline
    assert [text.partition(":")[0] for text in grid.shared_settings] == ["Held-out loss", "mmlu"]
    assert "because mmlu still improves up to the highest one" in grid.next_step.sentence
    assert np.isclose(grid.answers.settings[1].learning_rate, RATES[-1])


def test_cells_too_few_to_tell_are_not_called_alike():
    few = table(lambda x, y: 0.03 * x, rates=(1e-4, 1e-3), sizes=(8, 32), noise=0.002)
    grid = said(few)
    (benchmark,) = grid.answers.benchmarks.values()
    assert benchmark.signal == "too few" and benchmark.p_flat is None
    lines = [*grid.rates, *grid.ratio, *grid.batch_size, grid.overview.gains[0].note]
    assert all("too few cells to tell" in line for line in lines)
    told = [*lines, grid.contrast, *(text for _, text in grid.rules)]
    assert not any("do not differ" in line or "is better than" in line for line in told)


def test_few_cells_of_several_seeds_are_told_from_noise():
    few = table(lambda x, y: 0.03 * x, rates=(1e-4, 1e-3), sizes=(8, 32), seeds=3, noise=0.002)
    grid = said(few)
    assert grid.answers.benchmarks["arc"].signal == "clear"
    assert all("at the upper edge" in row.texts[0] for row in grid.rate_rows)
    noise = said(table(lambda x, y: 0 * x, rates=(1e-4, 1e-3), sizes=(8, 32), seeds=3, noise=0.01))
    assert noise.answers.benchmarks["arc"].signal == "flat"


def test_no_bound_of_a_rate_lies_beyond_the_rates():
    grid = said(table(lambda x, y: 0.05 * x, rates=RATES, sizes=(8,), noise=0.002))
    (row,) = grid.rate_rows
    shown = float(row.texts[0].removeprefix("above ").removesuffix(", at the upper edge"))
    assert shown <= RATES[-1]


def test_a_batch_size_that_has_no_score_is_not_called_one_that_was_not_run():
    frame = table(lambda x, y: 0.08 * y - 0.03 * (x + 11.3) ** 2, rates=RATES, noise=0.002)
    lost = frame.batch_size == max(frame.batch_size)
    frame.loc[lost, ["status", "value", "reason"]] = ["failed", np.nan, "out of memory"]
    grid = said(frame)
    assert grid.batch_size[0].endswith("Batch size 32 has no score.")
    assert "64" not in grid.next_step.sentence


def test_a_seed_that_failed_is_told_beside_cells_that_have_scores():
    frame = table(lambda x, y: 0.03 * x, rates=RATES[:2], sizes=(8, 16), seeds=2, noise=0.002)
    frame.loc[0, ["status", "value", "reason"]] = ["failed", np.nan, "out of memory"]
    told = said(frame).overview
    assert "none diverged and none failed; 1 trial failed in a cell that has other" in told.facts
    assert told.unscored == ["a seed of 1e-4 x 8 failed: out of memory"]


def test_a_rule_is_true_for_every_benchmark_only_where_all_were_asked():
    asked = (
        OnBenchmark(name, name, Verdict.TRUE, 0.95, None, None) for name in ("arc", "hellaswag")
    )
    rule = Rule("root_batch", "it grows", "a paper", Verdict.TRUE, "", tuple(asked))
    units = dict.fromkeys(("arc", "hellaswag"), Unit("score", True))
    assert sentences.rule(rule, units) == "It grows: true for every benchmark."
    more = units | {"mmlu": Unit("score", True)}
    assert sentences.rule(rule, more) == "It grows: true for arc and hellaswag."
