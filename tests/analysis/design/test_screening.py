"""Short runs before the start: which cells, what they say, and when that is dropped."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from analysis.design import screening
from analysis.design.decide import Settings, decide
from analysis.design.space import Cell, Tried
from analysis.design.start import Expected, first_cells, screening_cells
from analysis.fit.rates import RateAt, RateStatus
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.tables.external.adopt import adopt
from tests.analysis.design.test_decide import RATES, SIZES, SPACE, inside

SCREENED = screening_cells(SPACE)


def table(score, cells: list[Cell], noise: float = 0.002, diverged=()) -> pd.DataFrame:
    rows = []
    for cell in cells:
        x, y = np.log2(cell.setting)
        rng = np.random.default_rng([round(10 * x) + 1000, round(y), 7])
        value = score(x, y) + noise * rng.standard_normal()
        status = "diverged" if cell in diverged else "ok"
        rows.append((*cell, value, noise, "arc", "acc", status))
    names = ["learning_rate", "batch_size", "seed", "value", "stderr", "benchmark", "metric"]
    return adopt(pd.DataFrame(rows, columns=[*names, "status"]), "planted").frame


def expected_of(score) -> Expected | None:
    fits = [fit(cells) for cells in surfaces(table(score, SCREENED))]
    return screening.expected(fits, SPACE, SCREENED, "short runs")


def high(x: float, y: float) -> float:
    """The best rates of `inside`, three octaves higher."""
    return inside(x - 3, y)


def test_twice_the_cells_of_the_start_are_screened():
    start = first_cells(SPACE)
    assert len(SCREENED) == len(set(SCREENED)) == 2 * len(start)
    assert Counter(cell.batch_size for cell in SCREENED) == {4: 8, 16: 8, 32: 8}
    assert {cell.learning_rate for cell in SCREENED} == set(RATES)


def test_start_lies_where_short_runs_are_best_and_was_screened():
    expected = expected_of(inside)
    assert expected is not None
    assert set(expected.rates) == set(SIZES)
    assert all(abs(np.log2(rate) + 10) < 1 for rate in expected.rates.values())
    start = first_cells(SPACE, expected)
    assert len(set(start)) == 12
    assert set(start) <= set(SCREENED)
    assert all(abs(np.log2(cell.learning_rate) + 10) <= 3 for cell in start)


def at(batch_size: int, exponent: float, status: RateStatus) -> RateAt:
    rate = 2.0**exponent
    return RateAt(batch_size, rate, rate / 2, rate * 2, status, "", rate, rate, 0.5, 0.1, 0.4)


INTERIOR, EDGE, LEVEL = RateStatus.INTERIOR, RateStatus.EDGE, RateStatus.LEVEL


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([(4, -12, INTERIOR), (16, -8, EDGE)], [-12, -10, -8, -7.5]),
        ([(4, -12, EDGE), (4, -10, INTERIOR), (16, -8, INTERIOR)], [-10, -9, -8, -7.5]),
        ([(4, -12, INTERIOR), (4, -10, INTERIOR)], [-11, -10.5, -10, -9.5]),
        ([(4, -12, LEVEL), (16, -8, INTERIOR)], [-9, -8.5, -8, -7.5]),
        ([(4, -12, LEVEL), (32, -12, LEVEL)], [-12, -12, -12, -12]),
    ],
    ids=["edge", "interior before edge", "beyond by root B", "level says nothing", "all level"],
)
def test_rates_are_expected_where_each_batch_size_has_them(rates, expected):
    centres = screening.centres([at(*one) for one in rates], [4, 8, 16, 32])
    assert np.log2(list(centres.values())) == pytest.approx(expected)


def test_short_runs_that_are_level_say_nothing():
    assert expected_of(lambda x, y: 0.5) is None


def test_rankings_that_agree_and_that_do_not():
    short = table(inside, SCREENED)
    agreed = screening.agreement(short, table(inside, SCREENED, 0.004), SCREENED)
    assert agreed is not None
    assert agreed.cells == 24
    assert 0 < agreed.low < agreed.rho < agreed.high < 1
    turned = screening.agreement(short, table(lambda x, y: -inside(x, y), SCREENED), SCREENED)
    assert turned is not None
    assert turned.high < 0
    assert not turned.stands


def test_ranks_are_within_a_batch_size():
    """Short runs prefer small batches, and that says nothing of their rates."""
    start = first_cells(SPACE)
    short = table(lambda x, y: inside(x, y) - 0.5 * y, start)
    full = table(lambda x, y: inside(x, y) + 0.5 * y, start)
    agreed = screening.agreement(short, full, start)
    assert agreed is not None
    assert agreed.rho > 0.9


def test_run_that_diverged_ranks_last():
    start = first_cells(SPACE)
    best = max(start, key=lambda cell: inside(*np.log2(cell.setting)))
    whole = screening.agreement(table(inside, start), table(inside, start), start)
    broken = screening.agreement(table(inside, start), table(inside, start, diverged=[best]), start)
    assert whole is not None
    assert broken is not None
    assert broken.cells == 12
    assert broken.rho < whole.rho


def test_scores_that_short_runs_lack_take_no_cell_out():
    """As where a benchmark is broken in some of the full runs."""
    start = first_cells(SPACE)
    full = table(inside, start)
    other = full.assign(benchmark="ifeval").iloc[:4]
    agreed = screening.agreement(table(inside, start), pd.concat([full, other]), start)
    assert agreed == screening.agreement(table(inside, start), full, start)
    assert agreed is not None
    assert (agreed.cells, agreed.scores) == (12, ("arc",))
    assert screening.agreement(table(inside, start), other, start) is None


def test_cells_that_diverged_when_they_were_short_come_last_and_rising():
    wall = [cell for cell in SCREENED if cell.learning_rate > 2.0**-10]
    fits = [fit(cells) for cells in surfaces(table(inside, SCREENED, diverged=wall))]
    expected = screening.expected(fits, SPACE, SCREENED, "short runs")
    assert expected is not None
    assert expected.diverged == frozenset(wall)
    start = first_cells(SPACE, expected)
    assert set(start) == set(first_cells(SPACE, expected._replace(diverged=frozenset())))
    last = [cell.learning_rate for cell in start if cell in wall]
    assert last and last == sorted(last)
    assert all(cell in wall for cell in start[-len(last) :])


def test_too_few_cells_are_not_compared():
    few = SCREENED[:5]
    assert screening.agreement(table(inside, few), table(inside, few), few) is None


@pytest.mark.parametrize(("short", "stands"), [(inside, True), (high, False)])
def test_expectation_is_dropped_where_the_start_ranks_otherwise(short, stands):
    expected = expected_of(short)
    assert expected is not None
    start = first_cells(SPACE, expected)
    rows = table(short, SCREENED), table(inside, start)
    some = [Tried(cell, "ok") for cell in start[:-1]]
    kept, agreed = screening.standing(expected, some, SPACE, None, *rows)
    assert (kept, agreed) == (expected, None), "the start has not ended"
    running = [*some, Tried(start[-1], "running")]
    assert screening.standing(expected, running, SPACE, None, *rows) == (expected, None)
    ended = [*some, Tried(start[-1], "ok")]
    kept, agreed = screening.standing(expected, ended, SPACE, None, *rows)
    assert agreed is not None
    assert agreed.stands == stands
    assert kept == (expected if stands else None)
    fits = [fit(cells) for cells in surfaces(rows[1])]
    chosen = decide(fits, ended, SPACE, Settings(45, 2, kept, screening=True), 3).choices
    assert ("start: cells spread over the grid" in chosen[0].reason) is not stands


def test_order_of_the_cells_does_not_matter():
    start = first_cells(SPACE)
    short, full = table(inside, start, 0.01), table(high, start, 0.01)
    agreed = screening.agreement(short, full, start)
    assert (
        screening.agreement(short.iloc[::-1], full.sample(frac=1, random_state=1), start) == agreed
    )
