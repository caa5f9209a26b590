"""What to run next: the sentence and the grid file say the same."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from analysis.advice.answers import answers
from analysis.advice.next_grid import NextStep, next_step
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from tests.analysis.planted import RATES, SIZES, bowl, table

FILE = """\
name: mine
stages:
  all:
    kind: sft
    epochs: 2       # kept
    grid:
      learning_rate: [1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2]
      batch_size: {log2: [4, 32]}
evaluate: {benchmarks: [arc]}
"""


def asked(frame: pd.DataFrame, file: Path | None = None) -> NextStep:
    fits = [fit(cells) for cells in surfaces(frame)]
    return next_step(fits, answers(fits), frame, file)


def axes(step: NextStep) -> dict:
    return YAML(typ="safe").load(step.text)["stages"]["all"]["grid"]


def new_cells(frame: pd.DataFrame, grid: dict) -> int:
    """Cells of the grid file that the table does not have."""
    had = {
        (float(f"{rate:.4g}"), int(size), int(seed))
        for rate, size, seed in zip(frame.learning_rate, frame.batch_size, frame.seed, strict=True)
    }
    values = (grid["learning_rate"], grid["batch_size"], grid.get("seed", [0]))
    return len(set(product(*values)) - had)


def test_an_optimum_beyond_the_highest_rate_asks_for_higher_rates() -> None:
    found = asked(table(lambda x, y: 0.03 * x, noise=0.002))
    grid = axes(found)
    assert set(RATES) < set(grid["learning_rate"]) and max(grid["learning_rate"]) > 2 * RATES[-1]
    assert "beside the 20 there are" in found.sentence
    assert "learning rates 0.032 and 0.1, because reasoning still improves" in found.sentence


def test_far_below_a_rate_that_diverged_the_step_is_the_grids_own() -> None:
    """A cell that diverged at 1e6 says nothing of 62,500 and 250,000."""
    frame = pd.concat(
        [table(lambda x, y: 0.03 * x, noise=0.002), table(bowl, rates=(1e6,), sizes=(4,))],
        ignore_index=True,
    )
    last = frame.learning_rate == 1e6
    frame.loc[last, ["status", "value", "reason"]] = ["diverged", np.nan, "loss is nan"]
    added = set(axes(asked(frame))["learning_rate"]) - set(RATES) - {1e6}
    assert added and max(added) < 1


def test_where_every_cell_diverged_usual_rates_are_asked() -> None:
    frame = table(bowl, rates=(1e6, 4e6))
    frame = frame.assign(status="diverged", value=np.nan, reason="loss is nan")
    added = set(axes(asked(frame))["learning_rate"]) - {1e6, 4e6}
    assert len(added) == 3 and max(added) < 1e-2


@pytest.mark.parametrize(
    ("score", "cells"),
    [(lambda x, y: 0.03 * x, 8), (lambda x, y: -0.03 * x, 8), (lambda x, y: bowl(x, 3 * y), 5)],
    ids=["higher", "lower", "a border of the batch"],
)
def test_sentence_and_file_ask_for_the_same_cells(score, cells) -> None:
    frame = table(score, noise=0.002)
    step = asked(frame)
    assert new_cells(frame, axes(step)) == step.cells == cells
    assert f"{cells} new cells" in step.sentence


def test_a_flat_surface_asks_for_seeds() -> None:
    grid = axes(asked(table(lambda x, y: np.zeros_like(x), noise=0.01, seeds=2)))
    assert grid["seed"] == [0, 1, 2, 3] and set(grid["batch_size"]) == set(SIZES)


def test_a_benchmark_that_resolves_nothing_asks_for_nothing_beside_one_that_does() -> None:
    noisy = table(lambda x, y: 0 * x, benchmark="gsm8k", noise=0.01)
    step = asked(pd.concat([table(bowl, noise=0.002), noisy], ignore_index=True))
    assert step.text == "" and step.cells == 0


def test_two_learning_rates_are_completed() -> None:
    frame = table(bowl, rates=(1e-4, 1e-3), sizes=(4, 8))
    step = asked(frame)
    grid = axes(step)
    assert len(grid["learning_rate"]) >= 4 and grid["batch_size"] == [4, 8]
    assert new_cells(frame, grid) == step.cells


def test_a_decided_grid_asks_for_nothing() -> None:
    step = asked(table(bowl, noise=0.002))
    assert step.text == "" and step.cells == 0 and "Nothing has to be run" in step.sentence


def test_the_runs_own_file_is_printed_whole_with_new_axes(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(FILE)
    found = asked(table(lambda x, y: np.zeros_like(x), noise=0.01), path)
    assert "# kept" in found.text and "benchmarks: [arc]" in found.text
    assert set(axes(found)["learning_rate"]) == set(RATES)
    assert len(axes(found)["seed"]) == 3


def test_new_cells_are_those_of_every_arm_that_the_file_runs(tmp_path: Path) -> None:
    (path := tmp_path / "grid.yaml").write_text(FILE)
    frame = table(lambda x, y: 0.03 * x, noise=0.002)
    fits = [fit(cells) for cells in surfaces(frame)]
    alone, three, of_a_table = (
        next_step(fits, answers(fits), frame, file, arms)
        for file, arms in ((path, [""]), (path, ["", "b", "c"]), (None, ["", "b", "c"]))
    )
    assert three.cells == 3 * alone.cells
    where = "in each of 3 arms (variants of the grid), beside the 20"
    assert f"That is {alone.cells} new cells {where}" in three.sentence
    # values of a column are surfaces of their own: no file runs one's rates for the others
    assert of_a_table.cells == alone.cells
    assert of_a_table.sentence.endswith(f"{alone.cells} new cells beside the 20 there are.")


@pytest.mark.parametrize(
    ("chooser", "before", "after"),
    [
        ("decide: {trials: 21}", 21, 33),
        ("decide: {}", 45, 57),
        ("search: {trials: 30}", 30, 42),
        ("decide: {trials: 5}", 5, 8 + 12),
        ("search: {trials: 5}", 5, 8 + 12),
    ],
)
@pytest.mark.parametrize("flat", [True, False])
def test_a_run_that_chooses_its_cells_gets_more_trials_and_no_seeds(
    tmp_path: Path, chooser: str, before: int, after: int, flat: bool
) -> None:
    text = FILE.replace(
        "[1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2]", "{log: [1.0e-4, 1.0e-2], count: 5}"
    )
    (path := tmp_path / "grid.yaml").write_text(f"{text}{chooser}\n")
    here = table(lambda x, y: (0 if flat else 0.03) * x, noise=0.01 if flat else 0.002)
    ran = here[here.batch_size.isin([4, 32]) & (here.learning_rate > RATES[0])]
    step = asked(ran, path)
    name = chooser.split(":")[0]
    assert YAML(typ="safe").load(step.text)[name]["trials"] == after
    assert f"{name}.trials from {before} to {after}" in step.sentence
    assert step.cells == 12 and "new cell" not in step.sentence.split("chooses")[0]
    grid = axes(step)
    assert "seed" not in grid and grid["batch_size"] == {"log2": [4, 32]}
    if flat:
        assert grid["learning_rate"] == {"log": [1e-4, 1e-2], "count": 5}
        assert "noise still hides" in step.sentence
    else:
        rates = set(grid["learning_rate"])
        assert {1e-4, 3.162e-4, 3.162e-3} < rates, "those that have not run stay"
        assert max(rates) > RATES[-1]


def test_more_trials_are_of_no_use_where_the_run_has_stopped_by_itself(tmp_path: Path) -> None:
    (path := tmp_path / "grid.yaml").write_text(f"{FILE}decide: {{}}\n")
    steps = []
    for score, noise in ((lambda x, y: 0 * x, 0.01), (lambda x, y: 0.03 * x, 0.002)):
        frame = table(score, noise=noise)
        fits = [fit(cells) for cells in surfaces(frame)]
        steps.append(next_step(fits, answers(fits), frame, path, stopped="arc is level"))
    level, rising = steps
    assert (level.text, level.cells) == ("", 0) and "further cell: arc is level." in level.sentence
    assert "from 45 to 57" in rising.sentence, "longer axes hold cells to choose"


def test_cells_are_counted_over_the_axes_that_the_file_gets(tmp_path: Path) -> None:
    (path := tmp_path / "grid.yaml").write_text(FILE.replace("grid:", "grid:\n      seed: [0, 1]"))
    frame = table(lambda x, y: 0.03 * x, seeds=2, noise=0.002)
    frame = frame.drop(frame.index[(frame.seed == 1) & (frame.learning_rate == RATES[0])])
    step = asked(frame, path)
    assert step.cells == new_cells(frame, axes(step)) == 2 * len(SIZES) * 2 + len(SIZES)


def test_a_new_rate_is_run_with_the_seeds_of_all_cells() -> None:
    """Two of the cells have more of them, which are no reason to run the others again."""
    frame = table(lambda x, y: 0.03 * x, rates=RATES[:3], sizes=(4, 8), seeds=3, noise=0.002)
    repeated = (frame.learning_rate == RATES[1]) & (frame.batch_size == 4)
    step = asked(frame[(frame.seed == 0) | repeated])
    assert step.axes["seed"] == [0] and step.cells == 4
    apart = asked(frame.assign(seed=range(len(frame))))
    assert apart.axes["seed"] == [0, 1, 2] and apart.cells == 12


def test_seeds_that_some_cells_have_come_before_new_ones() -> None:
    frame = table(lambda x, y: 0 * x, rates=RATES, sizes=(4,), seeds=3, noise=0.01)
    frame = frame[(frame.seed == 0) | (frame.learning_rate == RATES[1])]
    step = asked(frame)
    assert step.axes["seed"] == [0, 1, 2] and step.cells == new_cells(frame, axes(step)) == 8
    assert "Add seeds 1 and 2" in step.sentence


def test_new_cells_start_from_each_of_the_parents() -> None:
    frame = table(lambda x, y: 0.03 * x, sizes=(4, 8), noise=0.002)
    parts = [frame.assign(parent=parent, key=frame.key + parent) for parent in "PQ"]
    both = asked(pd.concat(parts, ignore_index=True))
    assert both.cells == 2 * asked(frame).cells and "beside the 20 there are" in both.sentence


def test_what_starts_from_each_new_cell_is_counted_too() -> None:
    frame = table(lambda x, y: 0.03 * x, sizes=(4, 8), noise=0.002)
    first = pd.DataFrame({"key": frame.key, "parent": "", "stage": "all"})
    later = [
        pd.DataFrame({"key": frame.key + pair, "parent": frame.key, "stage": "dpo"})
        for pair in ("a", "b")
    ]
    fits = [fit(cells) for cells in surfaces(frame)]
    step = next_step(fits, answers(fits), frame, None, plan=pd.concat([first, *later]))
    assert step.cells == 4
    assert "4 new cells beside the 10 there are, and 8 of dpo, which starts from each" in (
        step.sentence
    )
    best = pd.concat([first, later[0][:1]])  # of one alone, as with `parent: best`
    assert "dpo" not in next_step(fits, answers(fits), frame, None, plan=best).sentence


ARMS = """\
name: mine
stages:
  all:
    kind: sft
    batch_size: 4
    arms:
      - {name: adamw, set: {}}
      - name: lion       # kept
        set: {optimizer: lion}
        grid: {learning_rate: [1.0e-5, 1.0e-4]}
    grid: {learning_rate: [1.0e-4, 1.0e-3]}
evaluate: {benchmarks: [arc]}
"""


def arms_of(frame: pd.DataFrame, arm: str, file: Path) -> tuple[NextStep, dict]:
    """The step of one arm, and its stage in the file."""
    fits = [fit(cells) for cells in surfaces(frame.assign(arm=arm))]
    step = next_step(fits, answers(fits), frame, file, ["adamw", "lion"])
    return step, YAML(typ="safe").load(step.text)["stages"]["all"]


def test_axes_of_an_arm_grow_where_they_stand(tmp_path: Path) -> None:
    (path := tmp_path / "grid.yaml").write_text(ARMS)
    frame = table(bowl, rates=(1e-5, 1e-4), sizes=(4,))
    step, stage = arms_of(frame, "lion", path)
    assert "# kept" in step.text and " in each of" not in step.sentence
    assert stage["grid"]["learning_rate"] == [1e-4, 1e-3] and stage["batch_size"] == 4
    (lion,) = [arm for arm in stage["arms"] if arm["name"] == "lion"]
    assert lion["set"] == {"optimizer": "lion"}
    assert len(lion["grid"]["learning_rate"]) == 2 + step.cells > 2
    assert list(lion["grid"]) == ["learning_rate"]


def test_arm_beside_those_with_axes_of_their_own_gets_its_own(tmp_path: Path) -> None:
    (path := tmp_path / "grid.yaml").write_text(ARMS)
    step, stage = arms_of(table(bowl, rates=(1e-4, 1e-3), sizes=(4,)), "adamw", path)
    assert len(stage["arms"][0]["grid"]["learning_rate"]) == 2 + step.cells
    assert stage["grid"]["learning_rate"] == [1e-4, 1e-3]


def test_arms_over_one_grid_all_get_the_new_cells(tmp_path: Path) -> None:
    (path := tmp_path / "grid.yaml").write_text(
        ARMS.replace("        grid: {", "        x-grid: {")
    )
    step, stage = arms_of(table(bowl, rates=(1e-4, 1e-3), sizes=(4,)), "lion", path)
    assert step.cells == 2 * (len(stage["grid"]["learning_rate"]) - 2)
    assert "in each of 2 arms" in step.sentence and stage["batch_size"] == 4
