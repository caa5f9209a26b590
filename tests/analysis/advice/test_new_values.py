"""Which values the axes of a grid get."""

import numpy as np
import pytest

from analysis.advice import grid_file
from analysis.advice.new_values import Reasons, new_rates, new_sizes
from analysis.posterior.cells import surfaces
from tests.analysis.planted import bowl, table

FILE = """\
name: mine
stages:
  all:
    kind: sft
    grid: {learning_rate: [1.0e-4, 3.0e-4], batch_size: {log2: [4, 32]}}
evaluate: {benchmarks: [arc]}
"""


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ("kind: sft", [4]),
        ("kind: rlvr", []),  # groups of 8
        ("kind: rlvr\n    group_size: 4", [4]),
        ("kind: rlvr\n    group_size: 2\n    arms: [{name: a, set: {group_size: 8}}]", []),
    ],
)
def test_no_batch_with_a_part_of_a_group_is_asked_for(settings, sizes, tmp_path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(FILE.replace("kind: sft", settings))
    reasons = Reasons([], [], ["arc"], [], [])
    assert new_sizes([8, 32], reasons, grid_file.read("all", "", path).group)[0] == sizes


@pytest.mark.parametrize(("wall", "between"), [(2e-3, [1.41e-3]), (1.4e-3, [])])
def test_rates_below_one_that_diverged_lie_half_an_octave_apart(wall, between) -> None:
    frame = table(bowl, rates=(2.5e-4, 1e-3, wall), noise=0.002)
    frame.loc[frame.learning_rate == wall, ["status", "value"]] = ["diverged", np.nan]
    cells = surfaces(frame)
    ok = cells[0].table.loc[cells[0].ok]
    added, why = new_rates(cells, ok, Reasons(["arc"], [], [], [], []), 2.0)
    assert [rate for rate in added if rate > 1e-3] == between
    assert ("less than an octave below 1.4e-3, which diverged" in why) == (not between)
