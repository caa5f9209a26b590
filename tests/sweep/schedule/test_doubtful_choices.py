"""What is said of a choice that is a matter of chance, or that one cell holds up."""

import pytest

from sweep.storage.ranking import Cell, doubt
from tests.sweep.schedule.test_selection import Run


@pytest.fixture
def run(load, tmp_path, pipeline):
    return Run(load(pipeline, "stages.sft.grid.learning_rate=[1, 2, 4]"), tmp_path / "run")


def ranked(*values: float, stderr: float | None = None) -> list[Cell]:
    return [Cell((str(value),), value, stderr, 1, True, True) for value in values]


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (ranked(0.5), ""),
        (ranked(0.5, 0.49), ""),
        (ranked(0.5, 0.5, 0.4), "; 1 other cell is level with it, and the key alone decides"),
        (ranked(0, 0, 0, stderr=0.02), "; all 3 cells are level, and the key alone decides"),
        (
            ranked(0.5, 0.49, 0.4, stderr=0.02),
            "; 1 other cell lies within its standard error (0.02)",
        ),
    ],
)
def test_a_choice_says_which_cells_are_as_good(cells, told):
    assert doubt(cells) == told


def test_a_parent_chosen_among_zeros_is_not_called_the_best_alone(run):
    for trial in run.of("sft"):
        run.end(trial, 0.0)
    (line,) = run.resolve().made
    assert line.endswith("mean of 2 seeds; all 3 cells are level, and the key alone decides")
