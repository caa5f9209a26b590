"""What is asked of the benchmarks, whether it is answered, and which borders may hold a top."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.advice.answers import Answers, BenchmarkAnswer, Signal
from analysis.advice.contrast import UNRESOLVED
from analysis.design.space import Space
from analysis.fit.rates import RateAt, RateStatus
from analysis.fit.ratio import BestRatio
from analysis.fit.surface import Fit

OPEN = 0.2
"""Share of draws that still rise at an end from which cells beyond it are candidates."""

FLAT_FROM = 36
"""Results of a benchmark from which cells that differ by no more than noise are taken for level."""

LEVEL_P = 0.3
"""Where the omnibus test's p is below this, more trials may still show a shape."""


LEVEL = "level"
"""The answer where the scores do not depend on the setting."""


class Asked(NamedTuple):
    """One question: whose it is, in words, and whether its answer is there."""

    benchmark: str
    words: str
    decided: bool
    answer: str


def asked(
    given: Answers, octaves: float, results: Mapping[str, int], closed: Sequence[str]
) -> list[Asked]:
    """Every question: LR*(B) at each measured batch size and the ratio within them, of each
    benchmark, and the contrast of the task types. An interval of at most `octaves` decides; so does
    a top at a border that is `closed` ("lower" or "higher"), and a benchmark that is level after as
    many trials as `results` has of it, scored or diverged."""
    questions = []
    for name, benchmark in given.benchmarks.items():
        questions += _of_benchmark(benchmark, octaves, results[name], closed)
    between = given.contrast
    if between.octaves is not None:
        # a side without a bound gets none from cells that answer nothing else
        narrow = all(one.decided for one in questions)
        if between.low is not None and between.high is not None:
            narrow = between.high - between.low <= octaves
        told = between.verdict != UNRESOLVED
        words = "the contrast of task types"
        questions.append(Asked("", words, narrow or told, between.verdict))
    return questions


def _of_benchmark(
    benchmark: BenchmarkAnswer, octaves: float, results: int, closed: Sequence[str]
) -> list[Asked]:
    silent = benchmark.signal in (Signal.CONSTANT, Signal.CHANCE)
    silent |= (
        benchmark.signal is Signal.FLAT
        and results >= FLAT_FROM
        and (benchmark.p_flat or 0) > LEVEL_P
    )
    questions = []
    placed: list[tuple[str, RateAt | BestRatio]] = [
        (f"best learning rate at batch size {its.batch_size}", its) for its in benchmark.rates
    ]
    if not placed:
        words = "a best learning rate"
        questions.append(Asked(benchmark.benchmark, words, silent, benchmark.no_rates))
    if benchmark.ratio is not None:
        placed.append(("the ratio", benchmark.ratio))
    for words, its in placed:
        width = float(np.log2(its.high / its.low))
        interior = its.status is RateStatus.INTERIOR
        edge = its.status is RateStatus.EDGE and its.side in closed
        decided = silent or edge or (interior and width <= octaves)
        answer = LEVEL if silent else f"{its.status} within {width:.1f} octaves"
        questions.append(Asked(benchmark.benchmark, words, decided, answer))
    return questions


def open_sides(fits: Sequence[Fit], given: Answers, space: Space) -> list[str]:
    """Borders beyond which a top may lie: fields of `Space` that hold something to add.

    Of the rates where more than `OPEN` of the draws still rise at an end that is the lowest or the
    highest rate of the grid or beyond it; of the batch sizes where the best is the smallest or the
    largest in more than half of them.
    """
    sides = dict[str, None]()
    for fit in fits:
        one, curves = given.benchmarks[fit.cells.benchmark], fit.curves
        if curves is None or one.direction is None:
            continue
        if max((its.p_lower for its in one.rates), default=0.0) > OPEN:
            sides["lower"] = None
        if max((its.p_higher for its in one.rates), default=0.0) > OPEN and not curves.wall.any():
            sides["higher"] = None
        if fit.shaped and one.direction.p_smaller > 0.5:
            sides["smaller"] = None
        if fit.shaped and one.direction.p_larger > 0.5:
            sides["larger"] = None
    return [side for side in sides if getattr(space, side)]
