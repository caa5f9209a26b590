"""One setting for a mix of benchmarks, on planted surfaces."""

from functools import cache

import numpy as np
import pytest

from analysis.advice.task_mix import compromise, equal_weights
from analysis.figures.draw import draw
from analysis.figures.mix import mix_costs
from analysis.fit.cells import surfaces
from analysis.fit.surface import Fit, fit
from tests.analysis.planted import bowl, table

SIX = (2, 4, 8, 16, 32, 64)


@cache
def peaked(benchmark: str, best: float) -> Fit:
    """A bowl of 0.02 a squared octave of rate, best at log2 learning rate `best`."""

    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return bowl(x - best - 10, y)

    return fit(surfaces(table(score, benchmark=benchmark, noise=0.002, seeds=2))[0])


@cache
def level(benchmark: str) -> Fit:
    frame = table(lambda x, y: np.full_like(x, 0.3), benchmark=benchmark, noise=0.01, seeds=2)
    return fit(surfaces(frame)[0])


def two() -> list[Fit]:
    return [peaked("arc", -9.0), peaked("hellaswag", -11.0)]


def test_the_mix_lies_between_and_moves_with_the_weights() -> None:
    equal, leaning = compromise(two()), compromise(two(), {"arc": 9, "hellaswag": 1})
    assert equal and leaning and equal.log2_ratio and leaning.log2_ratio
    assert equal.decided and equal.log2_ratio == pytest.approx(-13.5, abs=0.5)
    assert equal.low and equal.high and equal.low <= 2**-13.5 <= equal.high
    assert leaning.log2_ratio > equal.log2_ratio + 0.4
    prices = {one.benchmark: one.expected for one in equal.prices}
    leant = {one.benchmark: one.expected for one in leaning.prices}
    assert leant["arc"] < prices["arc"] and leant["hellaswag"] > prices["hellaswag"] > 0


def test_the_price_is_what_the_truth_loses_there() -> None:
    """Half way between tops two octaves apart each gives up 0.02 an octave squared."""
    found = compromise(two())
    assert found and found.cell in ((1e-3, 8), (1e-3, 16))
    for price in found.prices:
        assert price.expected == pytest.approx(0.02, abs=0.008)
        assert price.expected <= price.high < 0.06


def test_one_training_serves_all_so_tops_at_one_ratio_are_not_free() -> None:
    """Both tops have ratio 2^-13.5, one at small batches and one at large ones."""

    def at(x0: float, y0: float):
        return lambda x, y: 0.6 - 0.02 * (x - x0) ** 2 - 0.02 * (y - y0) ** 2

    fits = [
        fit(surfaces(table(at(*top), benchmark=name, noise=0.002, seeds=2, sizes=SIX))[0])
        for name, top in (("arc", (-11.0, 2.5)), ("hellaswag", (-9.0, 4.5)))
    ]
    found = compromise(fits)
    assert found and found.log2_ratio == pytest.approx(-13.5, abs=0.75)
    assert all(price.expected > 0.02 for price in found.prices)


def test_the_front_holds_the_ratios_between_the_optima() -> None:
    found = compromise(two())
    assert found and found.front is not None
    front = found.front.log2_ratio[found.front.pareto]
    assert -15 < front.min() < -13.6 and -13.2 < front.max() < -12
    assert found.front.pareto[found.front.mixed.idxmin()]
    assert draw(mix_costs(found)).axes[0].get_lines()


def test_with_an_undecided_benchmark_nothing_is_recommended_but_the_rest_is_told() -> None:
    found = compromise([*two(), level("gsm8k")])
    assert found and not found.decided and found.undecided == ("gsm8k",)
    assert "undecided, because GSM8K: cells do not differ" in found.sentence
    assert "Without it" in found.sentence and found.log2_ratio == pytest.approx(-13.5, abs=1)
    assert found.weights == pytest.approx({"arc": 0.25, "hellaswag": 0.5, "gsm8k": 0.25})
    fewer = compromise([peaked("arc", -9.0), level("gsm8k")])
    assert fewer and fewer.ratio is None and fewer.front is None and not fewer.decided
    with pytest.raises(ValueError, match="nothing to draw"):
        mix_costs(fewer)


def test_an_undecided_benchmark_without_a_weight_does_not_matter() -> None:
    found = compromise([*two(), level("gsm8k")], {"arc": 1, "hellaswag": 1})
    assert found and found.decided and set(found.weights) == {"arc", "hellaswag"}


def test_one_benchmark_is_no_mix() -> None:
    assert compromise([peaked("arc", -9.0)]) is None
    assert compromise(two(), {"arc": 1.0}) is None
    assert compromise([]) is None


def test_weights_are_equal_between_types_and_within_them() -> None:
    names = ["arc", "gsm8k", "ifeval", "piqa", "heldout_loss"]
    assert equal_weights(names) == {"arc": 0.25, "gsm8k": 0.25, "ifeval": 0.5}
    assert equal_weights(["piqa", "bbh", "heldout_loss"]) == {"piqa": 0.5, "bbh": 0.5}
    assert equal_weights(["heldout_loss"]) == {"heldout_loss": 1}
