"""The run that decides: first cells, what is left out, where it goes beyond, when it stops."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from analysis.advice.answers import answers
from analysis.design.decide import EARLIEST, NO_CELL, Decision, Settings, decide
from analysis.design.space import Cell, Space, Tried, candidates, diverging
from analysis.design.start import Expected, had_another_start
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.tables.external.adopt import adopt
from analysis.text import rate

RATES = tuple(2.0**k for k in range(-14, -5))
SIZES = (4, 8, 16, 32)
SPACE = Space(
    RATES,
    SIZES,
    (0, 1, 2, 3, 4),
    lower=(2.0**-15, 2.0**-16),
    higher=(2.0**-5, 2.0**-4),
    smaller=(2,),
    larger=(64,),
)
Score = Callable[[float, float], float]


def inside(x: float, y: float) -> float:
    return 0.6 - 0.02 * (x + 10) ** 2 - 0.01 * (y - 3.5) ** 2


def beyond(x: float, y: float) -> float:
    return 0.6 - 0.01 * (x + 4.5) ** 2 - 0.01 * (y - 3.5) ** 2


def cliff(x: float, y: float) -> float:
    return np.nan if x > -9 else inside(x, y)


def measured(score: Score, cells: list[Cell], noise: float = 0.004, benchmark: str = "arc") -> list:
    rows = []
    for cell in cells:
        x, y = np.log2(cell.setting)
        rng = np.random.default_rng([round(10 * x) + 1000, round(y), cell.seed])
        value = score(x, y) + noise * rng.standard_normal()
        status = "diverged" if np.isnan(value) else "ok"
        rows.append((*cell, value, noise, benchmark, "acc", status))
    names = ["learning_rate", "batch_size", "seed", "value", "stderr", "benchmark", "metric"]
    frame = pd.DataFrame(rows, columns=[*names, "status"])
    return [fit(one) for one in surfaces(adopt(frame, "planted").frame)]


def run(
    score: Score,
    trials: int,
    octaves: float = 2.0,
    space: Space = SPACE,
    noise=0.004,
    expected: Expected | None = None,
):
    """Every decision until the stop, three cells at a time."""
    tried: list[Tried] = []
    while True:
        cells = [one.cell for one in tried]
        ok = any(one.status == "ok" for one in tried)
        fits = measured(score, cells, noise) if ok and len(cells) > 1 else []
        decision = decide(fits, tried, space, Settings(trials, octaves, expected), 3)
        if not decision.choices:
            return tried, decision
        for choice in decision.choices:
            assert choice.reason
            ended = np.isnan(score(*np.log2(choice.cell.setting)))
            tried.append(Tried(choice.cell, "diverged" if ended else "ok"))


@pytest.fixture(scope="module")
def decided() -> tuple[list[Tried], Decision]:
    return run(inside, 45)


def test_starts_with_three_batch_sizes_and_spread_rates():
    cells = [choice.cell for choice in decide([], [], SPACE, Settings(45, 3), 99).choices]
    assert len(cells) == len(set(cells)) == 12
    assert Counter(cell.batch_size for cell in cells) == {4: 4, 16: 4, 32: 4}
    assert len({cell.learning_rate for cell in cells}) >= 6


def test_never_runs_a_cell_twice_and_repeats_some(decided):
    cells = [one.cell for one in decided[0]]
    assert len(cells) == len(set(cells))
    repeats = len(cells) - len({cell.setting for cell in cells})
    assert repeats >= 4
    assert max(Counter(cell.setting for cell in cells).values()) <= 5


def test_stops_when_decided_and_not_before_enough_trials(decided):
    tried, last = decided
    assert EARLIEST <= len(tried) < 45
    assert last.stop == ("answered", "every question is decided within 2 octaves")
    assert not last.open_questions


WIDE = [
    cell for place, cell in enumerate(Cell(r, s, 0) for r in RATES for s in SIZES) if place % 3 < 2
]
ENDED = [*WIDE, Cell(2.0**-10, 8, 1), Cell(2.0**-10, 16, 1)]


@pytest.mark.parametrize(("scored", "words"), [(0, "too few"), (5, "5")])
def test_a_benchmark_that_is_asked_about_and_has_no_scores_is_not_decided(scored, words):
    fits = measured(inside, ENDED, 0.002)
    fits += measured(inside, ENDED[:scored], 0.002, "hellaswag") if scored else []
    tried = [Tried(cell, "ok") for cell in ENDED]
    settings = Settings(45, 3)
    stop = decide(fits, tried, SPACE, settings, 4).stop
    assert stop is not None and stop.by == "answered", "of ARC alone"
    settings = settings._replace(benchmarks=("arc", "hellaswag"))
    assert decide(fits, tried, SPACE, settings, 4).choices
    last = decide(fits, tried, SPACE, settings._replace(trials=len(tried)), 4)
    assert last.stop is not None and last.stop.by == "budget"
    words = f"a best learning rate ({words} of 26 trials have a score)"
    assert [(one.benchmark, one.words) for one in last.open_questions] == [("hellaswag", words)]


@pytest.mark.parametrize(
    ("score", "ok", "octaves"),
    [(lambda x, y: 0.5, 16, 3), (inside, 15, 4)],
    ids=["level", "inside"],
)
def test_failed_trials_decide_nothing(score, ok, octaves):
    ran, others = ENDED[:ok], [Cell(rate, size, 3) for rate in RATES[-3:] for size in SIZES]
    failed = [Tried(cell, "failed") for cell in [*others, *WIDE[ok:]]]
    tried = [Tried(cell, "ok") for cell in ran]
    fits = measured(score, ran)
    assert decide(fits, tried, SPACE, Settings(45, octaves), 4).choices
    assert len(tried + failed) >= (36 if score is not inside else EARLIEST)
    assert decide(fits, tried + failed, SPACE, Settings(45, octaves), 4).choices


def test_failed_replicates_measure_no_noise():
    tried = [Tried(cell, "ok") for cell in WIDE[::2]]
    tried += [Tried(cell._replace(seed=1), "failed") for cell in WIDE[:8:2]]
    fits = measured(inside, WIDE[::2])
    (first, *_) = decide(fits, tried, SPACE, Settings(45, 0.5), 1).choices
    assert first.reason == "a replicate: the noise between seeds is not known yet"


def test_same_results_give_the_same_cells(decided):
    tried = decided[0][:18]
    fits = measured(inside, [one.cell for one in tried])
    first, again = (decide(fits, tried, SPACE, Settings(45, 2), 4) for _ in range(2))
    assert first == again


def test_budget_that_is_spent_leaves_its_questions_open():
    tried, last = run(inside, 15, octaves=0.1)
    assert len(tried) == 15
    assert last.stop == ("budget", "the budget of 15 trials is spent")
    assert {one.benchmark for one in last.open_questions} == {"arc"}


def test_goes_beyond_a_border_that_may_hold_the_top():
    tried, _ = run(beyond, 30)
    assert max(one.cell.learning_rate for one in tried) > RATES[-1]
    assert min(one.cell.learning_rate for one in tried) >= RATES[0]


def test_stays_inside_where_nothing_may_be_added():
    space = Space(RATES, SIZES, (0, 1))
    tried, last = run(beyond, 30, space=space)
    assert all(one.cell.learning_rate in RATES for one in tried)
    assert max(Counter(one.cell.setting for one in tried).values()) <= 2
    assert last.stop


def test_few_trials_are_lost_where_training_diverges():
    tried, _ = run(cliff, 30)
    lost = [one for one in tried if one.status == "diverged"]
    start = [choice.cell for choice in decide([], [], SPACE, Settings(30, 2), 99).choices]
    assert sum(one.cell not in start for one in lost) <= 3


def test_higher_rate_and_ratio_than_one_that_diverged_diverges():
    tried = [Tried(Cell(2.0**-8, 8, 0), "diverged"), Tried(Cell(2.0**-12, 8, 0), "ok")]
    settings = [(2.0**-8, 4), (2.0**-7, 8), (2.0**-7, 16), (2.0**-8, 64), (2.0**-11, 8)]
    assert diverging(settings, tried).tolist() == [True, True, True, True, False]


def test_first_cell_that_diverges_leaves_lower_rates_to_try():
    start = [choice.cell for choice in decide([], [], SPACE, Settings(45, 3), 99).choices]
    tried = [Tried(start[0], "diverged")]
    left = [choice.cell for choice in decide([], tried, SPACE, Settings(45, 3), 99).choices]
    assert left
    assert all(
        cell.learning_rate < start[0].learning_rate
        or cell.learning_rate / cell.batch_size < start[0].learning_rate / start[0].batch_size
        for cell in left
    )


def test_failed_and_running_cells_are_no_candidates():
    tried = [Tried(Cell(RATES[0], 4, 0), "failed"), Tried(Cell(RATES[1], 4, 0), "running")]
    found = candidates(SPACE, tried, None, [])
    assert (RATES[0], 4) not in {cell.setting for cell in found}
    assert Cell(RATES[1], 4, 1) in found


def test_running_cells_count_as_if_measured(decided):
    tried = decided[0][:18]
    fits = measured(inside, [one.cell for one in tried])
    first = decide(fits, tried, SPACE, Settings(45, 2), 2).choices
    running = [*tried, Tried(first[0].cell, "running")]
    (second,) = decide(fits, running, SPACE, Settings(45, 2), 1).choices
    assert second.cell == first[1].cell


def test_grid_that_only_diverges_is_searched_below():
    tried, last = run(lambda x, y: np.nan, 45)
    assert last.stop == NO_CELL
    assert len(tried) < 30


@pytest.mark.parametrize(
    ("rates", "highest", "lower"), [(3, -10, ()), (5, -9, ()), (3, -11, (2.0**-13, 2.0**-14))]
)
def test_one_batch_size_goes_on_to_replicates(rates, highest, lower):
    """Of rates from 2^-12 on, of which those up to `highest` train."""
    space = Space(tuple(2.0 ** (k - 12) for k in range(rates)), (8,), (0, 1, 2, 3, 4), lower)
    tried, last = run(lambda x, y: np.nan if x > highest else inside(x, y), 9, 0.1, space)
    assert last.stop == ("budget", "the budget of 9 trials is spent")
    assert max(Counter(one.cell.setting for one in tried).values()) > 1


def test_batch_sizes_beyond_the_border_are_tried_where_two_cells_have_a_score():
    space = Space((2.0**-12, 2.0**-11, 2.0**-10), (8,), (0,), smaller=(4,), larger=(16,))
    tried, _ = run(lambda x, y: np.nan if x > -11 else inside(x, y), 9, space=space)
    assert {one.cell.batch_size for one in tried} == {4, 8, 16}


def test_an_expected_rate_draws_the_first_cells_to_it_at_each_batch_size():
    expected = Expected({4: 2.0**-12, 8: 2.0**-11, 16: 2.0**-10, 32: 2.0**-9}, "a paper")
    choices = decide([], [], SPACE, Settings(45, 3, expected), 99).choices
    assert len({choice.cell for choice in choices}) == 12
    for size, middle in ((4, -12), (16, -10), (32, -9)):
        rates = [np.log2(c.cell.learning_rate) for c in choices if c.cell.batch_size == size]
        assert len(rates) == 4
        assert max(abs(x - middle) for x in rates) <= 2.5
    size = choices[0].cell.batch_size
    here = f"{rate(expected.rates[size])} at batch size {size}"
    assert choices[0].reason == f"start: cells about the rates of a paper: {here}"


def test_expected_rates_far_outside_the_grid_leave_its_nearest_cells():
    expected = Expected(dict.fromkeys(SIZES, 1.0), "a paper")
    cells = [c.cell for c in decide([], [], SPACE, Settings(45, 3, expected), 99).choices]
    assert {cell.learning_rate for cell in cells} <= set(RATES[-4:])
    assert len(set(cells)) == 12


@pytest.mark.parametrize(
    ("tried_of", "screening", "again"),
    [(RATES, False, False), (RATES[:4], False, True), (RATES, True, True)],
    ids=["as many cells as a start has", "too few cells", "screening that was refused"],
)
def test_longer_axes_lay_no_second_start_where_fits_choose(tried_of, screening, again):
    ran = [Cell(rate, 8, 0) for rate in RATES if rate in tried_of]
    ran += [Cell(rate, 16, 0) for rate in tried_of[:3]]
    tried = [Tried(cell, "ok") for cell in ran]
    settings = Settings(45, 2, None, screening)
    chosen = decide(measured(inside, ran), tried, SPACE, settings, 3).choices
    assert all(choice.reason.startswith("start") == again for choice in chosen)


def test_a_start_of_which_a_cell_diverged_is_no_other_one():
    start = [choice.cell for choice in decide([], [], SPACE, Settings(45, 3), 99).choices]
    tried = [Tried(start[0], "diverged"), *(Tried(Cell(RATES[0], 8, k), "ok") for k in range(11))]
    assert not had_another_start(tried, SPACE)
    assert had_another_start([Tried(start[1], "diverged"), *tried[1:]], SPACE)
    assert not had_another_start([Tried(cell, "ok") for cell in start], SPACE)


def test_a_start_that_is_wrong_by_three_octaves_is_left_again():
    wrong = Expected(dict.fromkeys(SIZES, 2.0**-13), "a wrong paper")
    tried, _ = run(inside, 45, expected=wrong)
    (rates,) = [answers(measured(inside, [t.cell for t in tried])).benchmarks["arc"].rates]
    assert all(rate.low <= 2.0**-10 <= rate.high for rate in rates)
