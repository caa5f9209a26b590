"""The omnibus test says nothing where there is nothing, and sees a weak bowl among many cells."""

import numpy as np
import pytest

from analysis.fit.flatness import flatness
from analysis.posterior.cells import Cells, surfaces
from tests.analysis.planted import table

SIX = (2, 4, 8, 16, 32, 64)
RATES = tuple(float(rate) for rate in 2.0 ** np.arange(-14, -8))


def few_repeats(depth: float, number: int) -> Cells:
    """6 x 6 cells of a bowl with this depth per square octave, four of them with a second seed."""
    noise = 0.01 * np.random.default_rng(number).standard_normal(2 * len(RATES) * len(SIX))
    frame = table(
        lambda x, y: 0.5 - depth * (x + 11.5) ** 2 + noise, rates=RATES, sizes=SIX, seeds=2
    )
    repeated = (frame.learning_rate < 2**-12.5) & (frame.batch_size < 8)
    return surfaces(frame.loc[(frame.seed == 0) | repeated])[0]


@pytest.mark.slow
def test_few_repeated_cells_make_no_shape_of_noise() -> None:
    called = [flatness(few_repeats(0.0, number))[0] <= 0.05 for number in range(60)]
    assert np.mean(called) <= 0.1


@pytest.mark.slow
def test_a_weak_bowl_is_seen_by_what_a_quadratic_explains() -> None:
    called = [flatness(few_repeats(0.008, number))[0] <= 0.05 for number in range(20)]
    assert np.mean(called) >= 0.8


@pytest.mark.parametrize("repeated", [1, 2])
def test_a_clear_bowl_stays_clear_where_a_cell_or_two_are_repeated(repeated: int) -> None:
    """A variance of one degree of freedom tells nothing from noise, the cells' order does."""
    noise = 0.01 * np.random.default_rng(3).standard_normal(2 * len(RATES) * len(SIX))
    frame = table(
        lambda x, y: 0.5 - 0.0035 * ((x + 11.5) ** 2 + (y - 3.5) ** 2) + noise,
        rates=RATES, sizes=SIX, seeds=2,
    )  # fmt: skip
    twice = (frame.seed == 1) & (frame.index < 2 * repeated)
    cells = surfaces(frame.loc[(frame.seed == 0) | twice])[0]
    assert cells.seeds is not None and cells.seeds.freedom == 1
    assert flatness(cells)[0] < 0.01


@pytest.mark.parametrize("stderr", [False, True])
def test_one_repeat_that_agrees_by_rounding_leaves_a_clear_surface_clear(stderr: bool) -> None:
    frame = table(
        lambda x, y: (0.5 - 0.01 * (x + 11.5) ** 2).round(3), rates=RATES, sizes=SIX, seeds=2,
        stderr=stderr,
    )  # fmt: skip
    cells = surfaces(frame.loc[(frame.seed == 0) | (frame.index < 2)])[0]
    assert cells.seed_sd == 0
    assert flatness(cells)[0] < 0.01


def test_three_repeats_that_agree_but_for_rounding_tell_no_noise() -> None:
    frame = table(lambda x, y: 0.45 + 0 * x, rates=RATES, sizes=SIX, seeds=3, stderr=False)
    frame["value"] += 0.01 * frame.seed  # what a seed does to all cells is taken off, in floats
    cells = surfaces(frame)[0]
    assert not cells.seeds_known
    assert flatness(cells)[0] > 0.05
