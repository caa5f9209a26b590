"""What is said of a choice that is a matter of chance, or that one cell holds up."""

import pytest

from sweep.schedule.selection import awaited
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


def test_a_cell_that_failed_for_good_is_named_with_the_way_on_without_it(run):
    best, *others, last = run.of("sft")
    run.end(best, 0.9)
    for trial in others:
        run.end(trial, 0.1)
    (line,) = awaited(run.grid, run.planned, run.folder, run.wants)
    assert line.endswith("have their scores; 1 of 6 lack theirs"), "it may still run"
    run.folder.trial(last).log_attempt("failed", phase="train", reason="out of memory")
    (line,) = awaited(run.grid, run.planned, run.folder, run.wants)
    assert line.startswith("dpo starts from the best of sft by world_choice once all of its models")
    assert f"1 of 6 lack theirs and failed: {last.readable} ({last.key})" in line
    key = line.partition("`parent: '")[2].partition("'`")[0]
    assert key in {trial.key for trial in run.of("sft") if trial.key != last.key}
    run.end(last, 0.1)
    assert awaited(run.grid, run.planned, run.folder, run.wants) == []
