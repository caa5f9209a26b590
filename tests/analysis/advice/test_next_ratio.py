"""The next step of grids whose learning rates are not crossed with their batch sizes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from analysis.advice.answers import answers
from analysis.advice.next_grid import NextStep, next_step
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from tests.analysis.planted import SIZES, Score, table

RATIOS = (1e-6, 3e-6, 9e-6)
FILE = """\
name: mine
stages:
  all:
    kind: sft
    grid: {ratio: [1.0e-6, 3.0e-6, 9.0e-6], batch_size: {log2: [4, 32]}}
"""


def rising(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.5 + 0.03 * (x - y + 17)


def of_ratios(ratios: tuple[float, ...], score: Score = rising) -> pd.DataFrame:
    rates = np.unique(np.multiply.outer(ratios, SIZES).round(12)).tolist()
    frame = table(score, rates=tuple(rates), noise=0.002)
    ran = np.isclose((frame.learning_rate / frame.batch_size).to_numpy()[:, None], ratios)
    return frame.loc[ran.any(axis=1)]


def asked(frame: pd.DataFrame, file: Path | None = None) -> NextStep:
    fits = [fit(cells) for cells in surfaces(frame)]
    return next_step(fits, answers(fits), frame, file)


@pytest.mark.parametrize("chooser", [None, "", "search: {trials: 12}\n"])
def test_a_grid_of_ratios_grows_in_ratio(tmp_path: Path, chooser: str | None) -> None:
    path = None if chooser is None else tmp_path / "grid.yaml"
    if path is not None:
        path.write_text(FILE + str(chooser))
    step = asked(of_ratios(RATIOS), path)
    grid = YAML(typ="safe").load(step.text)["stages"]["all"]["grid"]
    assert grid["ratio"] == [*RATIOS, 2.7e-5, 8.1e-5] and "learning_rate" not in grid
    assert "Add LR/BS ratios 2.7e-5 and 8.1e-5" in step.sentence
    assert step.cells == (12 if chooser else 2 * len(SIZES))


def test_one_ratio_asks_for_others_and_for_no_seed() -> None:
    step = asked(of_ratios((1e-5,), lambda x, y: 0.5 - 0.02 * (y - 3) ** 2))
    assert len(step.axes["ratio"]) >= 3 and step.axes["seed"] == [0]
    assert step.cells == (len(step.axes["ratio"]) - 1) * len(SIZES)


@pytest.mark.parametrize("flat", [True, False])
def test_cells_of_a_random_search_are_not_crossed(flat: bool) -> None:
    rng = np.random.default_rng(1)
    rates, sizes = rng.permutation(np.geomspace(1e-5, 1e-4, 16)), tuple(range(8, 24))
    noise = 0.01 if flat else 0.001
    score = lambda x, y: 0.6 + (0 if flat else 0.03) * x  # noqa: E731
    frame = table(score, rates=tuple(rates.tolist()), sizes=sizes, noise=noise)
    own = dict(zip(sizes, rates, strict=True))
    step = asked(frame.loc[frame.learning_rate == frame.batch_size.map(own)])
    if flat:
        assert step.text == "" and step.cells == 32
        assert "Run each of the 16 cells again with seeds 1 and 2" in step.sentence
        return
    assert step.axes["learning_rate"] == pytest.approx([2e-4, 4e-4])
    (size,) = step.axes["batch_size"]
    assert step.cells == 2 and f"The rates are for batch size {size}." in step.sentence


def test_cells_that_failed_are_run_again_before_others() -> None:
    frame = table(lambda x, y: 0.5 + 0 * x, noise=0.01)
    lost = frame.index[1:]
    frame.loc[lost, ["status", "value"]] = ["failed", np.nan]
    step = asked(frame)
    assert step.cells == 0 and "Find out why 19 cells failed" in step.sentence


def random_cells(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    exponents, sizes = rng.uniform(-4, -2.6, count), rng.integers(2, 8, count)
    frame = pd.concat(
        table(lambda x, y: 0 * x, rates=(10**exponent,), sizes=(2**size,))
        for exponent, size in zip(exponents, sizes, strict=True)
    )
    off = np.log2(frame.learning_rate / frame.batch_size) - np.log2(5e-5)
    value = 0.6 - 0.02 * off**2 + 0.002 * rng.standard_normal(count)
    return frame.assign(value=value, stderr=0.002, key=[f"k{row}" for row in range(count)])


def test_rates_of_a_random_search_are_asked_where_they_are_missing() -> None:
    frame = random_cells(24)
    fits = [fit(cells) for cells in surfaces(frame)]
    found = answers(fits)
    edges = [at for at in found.columns[0][1] if at.side == "higher"]
    asks = {at.batch_size: at.learning_rate for at in edges}
    text = next_step(fits, found, frame, None).text
    grid = YAML(typ="safe").load(text)["stages"]["all"]["grid"]
    assert grid["batch_size"] == [max(asks)] == [128]
    assert min(grid["learning_rate"]) >= float(f"{asks[128]:.2g}") * 0.98
    assert max(grid["learning_rate"]) < 8 * asks[128]


def test_random_search_of_which_every_cell_diverged_gets_lower_rates() -> None:
    frame = random_cells(8).assign(status="diverged", value=np.nan, reason="loss is nan")
    step = asked(frame)
    grid = YAML(typ="safe").load(step.text)["stages"]["all"]["grid"]
    assert max(grid["learning_rate"]) < frame.learning_rate.min()
    assert grid["batch_size"][0] in set(frame.batch_size) and step.cells == 3
