"""Which model a stage with `parent: best` starts from: chosen once, and recorded.

The record, choices/<stage>.json, is what counts afterwards: a restart starts from the same model,
also where a cell that was added to the grid since would have been better.
"""

import json
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from sweep.gridfile.schema import BASE, Best, Grid
from sweep.plan.evaluations import Wanted, WantedByStage, best_by
from sweep.plan.trials import Trial
from sweep.storage.run_folder import RunFolder
from trainers import files
from trainers.specs.spec import identity


class Resolved(NamedTuple):
    """What a look at the run folder came to."""

    made: list[str]
    """A line for each choice that was made now."""
    impossible: dict[str, str]
    """Stages for which none can be made, and why."""


def known(grid: Grid, folder: RunFolder) -> dict[str, str]:
    """Stage -> key of its parent, where it was chosen by the rule that the grid has now."""
    found = {}
    for name, stage in grid.stages.items():
        record = files.read_json(folder.choice(name))
        if isinstance(stage.parent, Best) and record and record["rule"] == _rule(grid, name):
            found[name] = record["parent"]
    return found


def resolve(grid: Grid, planned: list[Trial], folder: RunFolder, wants: WantedByStage) -> Resolved:
    """Choose for each stage that waits, where all that it may start from have their scores."""
    made, impossible = [], {}
    waiting = [trial.stage for trial in planned if trial.waits and trial.parent is None]
    for name in dict.fromkeys(waiting):
        start = grid.stages[name].start_from
        candidates = [trial for trial in planned if trial.stage == start]
        want = _want(grid, name, wants)
        marks = [want.fingerprint]
        if any(trial.waits or not folder.trial(trial).done(marks) for trial in candidates):
            continue
        cells = _cells(candidates, folder, want)
        if not cells:
            impossible[name] = f"{name}: no cell of {start} has ended without diverging"
            continue
        best = max(cells, key=lambda cell: cell.merit)
        files.write_json(
            folder.choice(name),
            {
                "rule": _rule(grid, name),
                "benchmark": want.benchmark,
                "parent": best.first.key,
                "trial": best.first.readable,
                "value": best.value,
                "seeds": best.seeds,
                "candidates": {cell.first.key: cell.value for cell in cells},
                "time": files.now(),
            },
        )
        seeds = f"mean of {best.seeds} seeds" if best.seeds > 1 else "one seed each"
        made.append(
            f"{name} starts from {best.first.readable} ({best.first.key}): {want.benchmark} "
            f"{best.value:.4g}, the best of {len(cells)} cells, {seeds}"
        )
    return Resolved(made, impossible)


class _Cell(NamedTuple):
    first: Trial
    """Of the lowest seed: the better one of two seeds would be better by chance."""
    value: float
    merit: float
    """The value, the higher the better."""
    seeds: int


def _cells(candidates: list[Trial], folder: RunFolder, want: Wanted) -> list[_Cell]:
    """Seeds of one setting together; a setting that diverged with one of them is left out."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in candidates:
        spec = {} if trial.spec is None else identity(trial.spec) | {"seed": None}
        groups[json.dumps([trial.arm, trial.parent, spec], sort_keys=True)].append(trial)
    found = []
    for group in groups.values():
        values = [_value(folder, trial, want) for trial in group]
        numbers = [value for value in values if value is not None]
        if len(numbers) == len(group):
            value = float(np.mean(numbers))
            merit = value if want.higher_is_better else -value
            first = min(group, key=lambda trial: trial.spec.seed if trial.spec else 0)
            found.append(_Cell(first, value, merit, len(group)))
    return found


def _value(folder: RunFolder, trial: Trial, want: Wanted) -> float | None:
    record: dict[str, Any] = files.read_json(folder.trial(trial).scores(want.fingerprint)) or {}
    scores = record.get("scores", [])
    return next((score["value"] for score in scores if score["primary"]), None)


def _want(grid: Grid, stage: str, wants: WantedByStage) -> Wanted:
    rule, mine = grid.stages[stage].parent, wants[grid.stages[stage].start_from]
    assert isinstance(rule, Best)
    if rule.best is None:
        return best_by(mine)
    return next(want for want in mine if rule.best in (want.benchmark, want.task))


def _rule(grid: Grid, stage: str) -> dict[str, Any]:
    rule = grid.stages[stage].parent
    assert isinstance(rule, Best) and grid.stages[stage].start_from != BASE
    return {"start_from": grid.stages[stage].start_from, "best": rule.best}
