"""`decide.fidelity`: a stage of short trainings beside the one that decides, its screening runs.

It is a stage like any other to all that plans, runs, records and shows trials. `Stage.screens`
tells it apart: its models are scored on the held-out slice alone, keep no weights, and are part of
no answer.
"""

import math
from collections.abc import Iterator

from analysis.design.space import Space
from analysis.design.start import first_cells, screening_cells
from analysis.text import counted
from sweep.gridfile.keys.choosers import NO_PRIOR, Decide, Fidelity
from sweep.gridfile.keys.schema import ArmAxes, Grid, Stage
from trainers.data.rows import sources
from trainers.data.rows.stored_rows import DataUnavailable
from trainers.specs.kinds import StageSpec

SUFFIX = "_screening"
"""Of the name of a stage of screening runs, after that of the stage which they screen."""

LENGTHS = ("steps", "tokens", "warmup_steps", "warmup_tokens")
"""Keys of a spec that are shorter in a short run; what else shapes a schedule is a share of it."""


def with_screening(stages: dict[str, Stage], decide: Decide | None) -> dict[str, Stage]:
    """The stages, and before the one that decides its screening runs where there are any."""
    if decide is None or decide.fidelity is None:
        return stages
    both: dict[str, Stage] = {}
    for name, stage in stages.items():
        if stage.searched_axes:
            both[name + SUFFIX] = _screening(stage, decide.fidelity)
        both[name] = stage
    return both


def problems(fidelity: Fidelity, prior: str, stages: dict[str, Stage]) -> Iterator[str]:
    """What is wrong with it, for a grid whose one swept stage is right."""
    stage = next(stage for stage in stages.values() if stage.searched_axes)
    spec = stage.cells[0][1]
    if prior != NO_PRIOR:
        yield f"and `prior: {prior}` both say where the first cells lie; give one of them"
    if stage.name + SUFFIX in stages:
        yield f"calls its runs {stage.name + SUFFIX}, as a stage of the file is; rename that"
    space = own_space(stage)
    if len(screening_cells(space)) == len(first_cells(space)):
        yield (
            f"{len(space.learning_rates)} learning rates all run at the start, so there is nothing "
            "to choose; give more of them, or leave `fidelity` out"
        )
    if fidelity.tokens is not None and spec.tokens is None:
        unit = "steps" if spec.steps is not None else "epochs"
        yield f"tokens: {fidelity.tokens}, and the stage's length is in {unit}; give a `share`"
    elif fidelity.tokens is not None and fidelity.tokens >= (spec.tokens or 0):
        yield (
            f"tokens: {fidelity.tokens} is no shorter than the full length, {spec.tokens}; give "
            "fewer"
        )
    elif short := too_short(_screening(stage, fidelity)):
        yield short


def too_short(
    stage: Stage, rows: int | None = None, tokens_per_example: float | None = None
) -> str:
    """Why a run of a stage of screening runs would not train at its largest batch size; "" where it
    would, or as long as nobody knows. `rows` to train on are the local data's where None."""
    spec = max((spec for _, spec in stage.cells), key=lambda spec: spec.batch_size)
    if spec.tokens is not None:
        if tokens_per_example is None:
            return ""
        steps = math.floor(spec.tokens / (tokens_per_example * spec.batch_size))
    elif spec.steps is not None:
        steps = spec.steps
    else:
        rows = _rows(spec) if rows is None else rows
        if rows is None:
            return ""
        steps = math.floor((spec.epochs or 1.0) * rows / spec.rows_per_step)
    warmup = spec.warmup(max(steps, 1))
    if steps > warmup:
        return ""
    what = f"its whole length, {counted(steps, 'optimizer step')}, is warm-up"
    what = what if steps else "it is less than one step"
    return f"too short a run at batch size {spec.batch_size}: {what}; give a longer one"


def own_space(stage: Stage) -> Space:
    """Of the cells of a stage, nothing beyond its borders."""
    specs = [spec for _, spec in stage.cells]
    rates = sorted({spec.learning_rate for spec in specs})
    sizes = sorted({spec.batch_size for spec in specs})
    return Space(tuple(rates), tuple(sizes), tuple(dict.fromkeys(spec.seed for spec in specs)))


def screening_stage(grid: Grid) -> Stage | None:
    """That of a grid's screening runs."""
    return next((stage for stage in grid.stages.values() if stage.screens), None)


def share_of(grid: Grid, stage: Stage) -> float:
    """The share of the full length that a stage of screening runs has."""
    assert grid.decide is not None and grid.decide.fidelity is not None, "the grid screens"
    return _share(grid.decide.fidelity, grid.stages[stage.screens].cells[0][1])


def _share(fidelity: Fidelity, spec: StageSpec) -> float:
    """Of the full length."""
    if fidelity.share is not None:
        return fidelity.share
    assert fidelity.tokens is not None and spec.tokens is not None, "checked when it was loaded"
    return fidelity.tokens / spec.tokens


def _screening(stage: Stage, fidelity: Fidelity) -> Stage:
    arm, spec = stage.cells[0]
    short = _shortened(spec, _share(fidelity, spec))
    cells = [short.model_copy(update=cell._asdict()) for cell in screening_cells(own_space(stage))]
    return stage.model_copy(
        update={
            "name": stage.name + SUFFIX,
            "keep": "none",
            "arms": (ArmAxes(name=arm, axes={}),),
            "cells": tuple((arm, cell) for cell in cells),
            "screens": stage.name,
        }
    )


def _shortened(spec: StageSpec, share: float) -> StageSpec:
    """The same schedule, of a share of the length."""
    lengths = {name: getattr(spec, name) for name in LENGTHS}
    changes = {name: math.ceil(share * value) for name, value in lengths.items() if value}
    if spec.steps is None and spec.tokens is None:
        changes["epochs"] = share * (spec.epochs or 1.0)
    return spec.model_copy(update=changes)


def _rows(spec: StageSpec) -> int | None:
    """To train on, as far as the data lies here."""
    try:
        rows = sources.total(spec.sources)
    except DataUnavailable:
        return None
    return None if rows is None else max(rows - spec.heldout_examples(rows), 0)
