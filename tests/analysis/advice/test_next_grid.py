"""The grid file that an undecided report prints."""

from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from analysis.advice.next_grid import NextGrid, next_grid
from analysis.fit.cells import surfaces
from analysis.fit.surface import fit
from tests.analysis.planted import RATES, SIZES, bowl, table

FILE = """\
name: mine
stages:
  all:
    kind: sft
    epochs: 2       # kept
    grid:
      learning_rate: {log: [1.0e-4, 1.0e-2], count: 5}
      batch_size: {log2: [4, 32]}
evaluate: {benchmarks: [arc]}
"""


def asked(frame: pd.DataFrame, file: Path | None = None) -> NextGrid | None:
    return next_grid([fit(cells) for cells in surfaces(frame)], frame, file)


def axes(found: NextGrid | None) -> dict:
    assert found is not None
    return YAML(typ="safe").load(found.text)["stages"]["all"]["grid"]


def test_an_optimum_beyond_the_highest_rate_asks_for_higher_rates() -> None:
    found = asked(table(lambda x, y: 0.03 * x, noise=0.002))
    grid = axes(found)
    assert set(RATES) < set(grid["learning_rate"]) and max(grid["learning_rate"]) > 2 * RATES[-1]
    assert found is not None and "beside the 20 there are" in found.sentence
    assert "New: learning rates 0.032 and 0.1" in found.sentence


def test_below_a_wall_of_diverged_cells_rates_are_asked_between() -> None:
    frame = table(lambda x, y: 0.03 * x, noise=0.002)
    wall = frame.learning_rate == 1e-2
    frame.loc[wall, ["status", "value"]] = ["diverged", np.nan]
    rates = axes(asked(frame))["learning_rate"]
    assert max(rates) == 1e-2 and len([rate for rate in rates if 3e-3 < rate < 1e-2]) == 2


def test_a_flat_surface_asks_for_seeds() -> None:
    grid = axes(asked(table(lambda x, y: np.zeros_like(x), noise=0.01, seeds=2)))
    assert grid["seed"] == [0, 1, 2, 3] and set(grid["batch_size"]) == set(SIZES)


def test_a_few_cells_are_completed_to_a_grid() -> None:
    grid = axes(asked(table(bowl, rates=(1e-4, 1e-3), sizes=(4, 8))))
    assert len(grid["learning_rate"]) == 5 and len(grid["batch_size"]) == 5


def test_an_identified_grid_asks_for_nothing() -> None:
    assert asked(table(bowl, noise=0.002)) is None


def test_the_runs_own_file_is_printed_whole_with_new_axes(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(FILE)
    found = asked(table(lambda x, y: np.zeros_like(x), noise=0.01), path)
    assert found is not None and "# kept" in found.text and "benchmarks: [arc]" in found.text
    assert set(axes(found)["learning_rate"]) == set(RATES)
    assert len(axes(found)["seed"]) == 3
