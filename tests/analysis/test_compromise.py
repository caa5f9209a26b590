import numpy as np
import pytest
from planted import bowl, table

from analysis.cells import surfaces
from analysis.compromise import compromise
from analysis.surface import Fit, fit


def peaked(benchmark: str, best: float) -> Fit:
    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return bowl(x - best - 10, y)

    return fit(surfaces(table(score, benchmark=benchmark, noise=0.002, seeds=2))[0])


def test_the_mix_lies_between_and_moves_with_the_weights() -> None:
    fits = [peaked("arc", -9.0), peaked("hellaswag", -11.0)]
    equal = compromise(fits)
    leaning = compromise(fits, {"arc": 9, "hellaswag": 1})
    assert equal and leaning
    assert -14.5 < equal.log2_ratio < -12.5 < leaning.log2_ratio + 0.5
    assert leaning.log2_ratio > equal.log2_ratio
    assert leaning.price["arc"] < equal.price["arc"]
    assert leaning.price["hellaswag"] > equal.price["hellaswag"] > 0


def test_the_front_holds_the_ratios_between_the_optima() -> None:
    found = compromise([peaked("arc", -9.0), peaked("hellaswag", -11.0)])
    assert found
    front = found.front.log2_ratio[found.front.pareto]
    assert front.min() > -16 and front.max() < -11
    assert found.front.pareto[found.front.mixed.idxmin()]


def test_weights_of_nothing_give_no_compromise() -> None:
    assert compromise([peaked("arc", -9.0)], {"gsm8k": 1.0}) is None
    assert compromise([]) is None


def test_weights_are_shares() -> None:
    found = compromise([peaked("arc", -10.0)], {"arc": 3})
    assert found and found.weights == pytest.approx({"arc": 1.0})
