"""A grid with `decide` -> the same with every cell that may run: further seeds, and the settings
beyond its borders. And how many of them, or of those of a `search`, run at most."""

from collections.abc import Collection

from analysis.design.space import MOST_SEEDS, Space
from sweep.gridfile.keys.schema import Grid, Stage
from sweep.gridfile.screening import own_space
from sweep.plan.trials import Trial, trials
from trainers.data import row_counts
from trainers.data.rows import sources
from trainers.data.rows.stored_rows import DataUnavailable
from trainers.specs.kinds import StageSpec

OCTAVES_OF_RATE = 2
"""Octaves of learning rate that may be added beyond a border; of batch size it is one."""


def decided_stage(grid: Grid) -> Stage:
    """The one stage with a grid."""
    return next(stage for stage in grid.stages.values() if stage.searched_axes)


def space(grid: Grid) -> Space:
    """What a grid with `decide` may run. Batches beyond the border are whole, in whole groups of
    completions, and no larger than the data, as far as that is known."""
    assert grid.decide is not None, "the grid does not decide"
    stage = decided_stage(grid)
    own = own_space(stage)
    rates, sizes, seeds = own.learning_rates, own.batch_sizes, own.seeds
    more = range(max(seeds) + 1, max(seeds) + 1 + max(MOST_SEEDS - len(seeds), 0))
    known = own._replace(seeds=(*seeds, *more))
    if not grid.decide.extend:
        return known
    steps = [2.0**octave for octave in range(1, OCTAVES_OF_RATE + 1)]
    spec = stage.cells[0][1]
    whole, larger = sizes[0] % (2 * spec.examples_per_row) == 0, sizes[-1] * 2
    return known._replace(
        lower=tuple(float(f"{rates[0] / step:.4g}") for step in steps),
        higher=tuple(float(f"{rates[-1] * step:.4g}") for step in steps),
        smaller=(sizes[0] // 2,) if whole else (),
        larger=(larger,) if _fits(spec, larger) else (),
    )


def widened(grid: Grid) -> Grid:
    """The grid itself where it does not decide."""
    if grid.decide is None:
        return grid
    stage = decided_stage(grid)
    arm, spec = stage.cells[0]
    cells = tuple((arm, spec.model_copy(update=cell._asdict())) for cell in space(grid).every)
    return grid.model_copy(
        update={"stages": grid.stages | {stage.name: stage.model_copy(update={"cells": cells})}}
    )


def every(grid: Grid, planned: list[Trial]) -> list[Trial]:
    """All trials that may run: of a grid with `decide` more than those planned from its file."""
    return planned if grid.decide is None else trials(widened(grid))


def budget(grid: Grid) -> int | None:
    """Trials of the one stage with a grid that run at most, where the run chooses them; None where
    all run."""
    if grid.decide is not None:
        return grid.decide.trials
    if grid.search is None:
        return None
    return grid.search.trials * len(decided_stage(grid).axes.get("seed", (0,)))


def at_most(grid: Grid, planned: list[Trial], begun: Collection[str] = ()) -> list[Trial]:
    """Of the planned trials as many as run at most, where the run chooses its cells: those whose
    keys are `begun`, others up to the number, and what starts from them."""
    if (most := budget(grid)) is None:
        return planned
    cells = [trial for trial in planned if trial.stage == decided_stage(grid).name]
    left_out = {t.key for t in sorted(cells, key=lambda t: t.key not in begun)[most:]} - {*begun}
    for trial in planned:  # parents come before children
        if trial.parent in left_out:
            left_out.add(trial.key)
    return [trial for trial in planned if trial.key not in left_out]


def _fits(spec: StageSpec, batch_size: int) -> bool:
    try:
        rows = sources.total(spec.sources)
    except DataUnavailable:
        return False
    if rows is None:
        return True
    left = max(rows - spec.heldout_examples(rows), 0)
    return row_counts.too_few(spec.model_copy(update={"batch_size": batch_size}), left) is None
