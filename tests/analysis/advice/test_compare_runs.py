"""The difference of two runs' optima, on planted surfaces."""

import numpy as np
import pytest

from analysis.advice import compare_runs
from analysis.fit.cells import surfaces
from analysis.fit.surface import Fit, fit
from tests.analysis.planted import bowl, table


def moved(octaves: float) -> list[Fit]:
    """A bowl whose best learning rate, hence ratio, is higher by so many octaves."""
    frame = table(lambda x, y: bowl(x - octaves, y), noise=0.002, seeds=2)
    return [fit(cells) for cells in surfaces(frame)]


@pytest.fixture(scope="module")
def here() -> list[Fit]:
    return moved(0)


def test_a_planted_difference_is_found_with_its_sign(here: list[Fit]) -> None:
    (found,) = compare_runs.differences({"small": here, "large": moved(1.5)})
    assert found.ratio is not None and found.learning_rate and found.probability is not None
    middle, low, high = found.ratio
    assert low < 1.5 < high and low > 0 and middle == pytest.approx(1.5, abs=0.4)
    assert found.learning_rate[0] == pytest.approx(1.5, abs=0.4)
    assert found.probability > 0.99
    assert "large" in found.sentence and "octaves above that of small" in found.sentence
    assert "differ on ARC" in compare_runs.headline([found])


def test_the_same_surface_is_no_difference(here: list[Fit]) -> None:
    (found,) = compare_runs.differences({"a": here, "b": moved(0)})
    assert found.ratio is not None and found.ratio[1] < 0 < found.ratio[2]
    assert "no difference beyond the uncertainty on ARC" in compare_runs.headline([found])


def test_an_undecided_run_is_named_with_its_reason(here: list[Fit]) -> None:
    flat = table(lambda x, y: np.zeros_like(x), noise=0.01, seeds=2)
    other = [fit(cells) for cells in surfaces(flat)]
    (found,) = compare_runs.differences({"a": here, "b": other})
    assert found.ratio is None and found.probability is None
    assert "b is undecided (" in found.sentence and "a is undecided" not in found.sentence


def test_every_pair_of_three_runs_and_nothing_without_a_common_benchmark(here: list[Fit]) -> None:
    found = compare_runs.differences({"a": here, "b": here, "c": here})
    assert len(found) == 3
    assert "ARC (a to b), ARC (a to c) and ARC (b to c)" in compare_runs.headline(found)
    other = [fit(cells) for cells in surfaces(table(bowl, benchmark="gsm8k", noise=0.002))]
    assert compare_runs.differences({"a": here, "b": other}) == []
    assert "nothing to compare" in compare_runs.headline([])
