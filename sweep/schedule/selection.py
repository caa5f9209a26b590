"""Which model a stage with `parent: best` starts from: chosen once, and recorded.

The record, choices/<stage>.json, is what counts afterwards: a restart starts from the same model,
also where a cell that was added to the grid since is better (`surpassed` says so), and where the
stage or its start has another name since.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweep.gridfile.keys.schema import BASE, Best, Grid
from sweep.plan.evaluations import Wanted, WantedByStage, best_by, named
from sweep.plan.trials import Trial, by_stage, stage_order
from sweep.plan.widen import widened
from sweep.storage import ranking
from sweep.storage.ranking import Cell
from sweep.storage.run_folder import RunFolder
from trainers import files

NAMED = 3
"""More models than these are not named."""


class Resolved(NamedTuple):
    """What a look at the run folder came to."""

    made: list[str]
    """A line for each choice that was made now."""
    impossible: dict[str, str]
    """Stages for which none can be made, and why."""


def known(grid: Grid, folder: RunFolder) -> dict[str, str]:
    """Stage -> key of its parent, where it was chosen by the rule that the grid has now."""
    return {name: choice.parent for name, choice in _choices(grid, folder).items()}


class _Choice(NamedTuple):
    """A record, and the content that tells whether it still counts."""

    path: Path
    record: dict[str, Any]
    start: str
    best: str | None
    parent: str


def _read(path: Path) -> _Choice:
    """
    Raises:
        Damaged: it holds what was never written there.
    """
    record = files.read_json(path) or {}
    with files.shaped(path):
        rule = record["rule"]
        return _Choice(path, record, rule["start_from"], rule["best"], record["parent"])


def _choices(grid: Grid, folder: RunFolder) -> dict[str, _Choice]:
    """The choice of each stage for which one was made by the rule that the grid has now. One that
    was made before the stage or its start was renamed lies where it did, and counts for the trials
    that were planned by it."""
    recorded = [_read(path) for path in sorted(folder.choices.glob("*.json"))]
    chosen: dict[str, _Choice] = {}
    for name in stage_order(grid) if recorded else ():
        rule, start = grid.stages[name].parent, grid.stages[name].start_from
        if not isinstance(rule, Best):
            continue
        alike = [choice for choice in recorded if choice.best == rule.best]
        own = [one for one in alike if (one.path.stem, one.start) == (name, start)]
        before = (
            one
            for one in alike
            if (one.path.stem == name or one.path.stem not in grid.stages)
            and (one.start == start or one.start not in grid.stages)
            and _has_trials(grid, folder, name, chosen | {name: one})
        )
        if choice := next(iter(own), None) or next(before, None):
            chosen[name] = choice
    return chosen


def _has_trials(grid: Grid, folder: RunFolder, stage: str, chosen: dict[str, _Choice]) -> bool:
    """Whether the run folder has a trial of the stage as it would be by these choices."""
    there = {path.name.rpartition("-")[2] for path in folder.path.glob("trials/*-*")}
    parents = {name: choice.parent for name, choice in chosen.items()}
    planned = by_stage(widened(grid), parents)[stage]
    return any(trial.key in there for trial in planned if not trial.waits)


def stages_of(grid: Grid, folder: RunFolder) -> dict[str, list[Trial]]:
    """The trials of each stage, the cells among them that `decide` may add."""
    return by_stage(widened(grid), known(grid, folder))


def resolve(grid: Grid, planned: list[Trial], folder: RunFolder, wants: WantedByStage) -> Resolved:
    """Choose for each stage that waits, where all that it may start from have their scores."""
    made, impossible = [], {}
    by_key = {trial.key: trial for trial in planned}
    for name, candidates in _open(grid, planned, folder).items():
        start, want = grid.stages[name].start_from, _want(grid, name, wants)
        if _lacking(candidates, folder, want):
            continue
        if unranked := [
            trial for trial in candidates if ranking.lacks_metric(folder.trial(trial), want.record)
        ]:
            record = folder.trial(unranked[0]).scores(want.fingerprint)
            impossible[name] = (
                f"{name}: {len(unranked)} of {len(candidates)} models of {start} were scored by an "
                f"earlier version, without {want.metric}; delete {folder.to_delete(record)} and "
                "the like to score them anew, or give a model's key as `parent`"
            )
            continue
        cells = [cell for cell in rank(candidates, by_key, folder, want) if cell.complete]
        if not cells:
            impossible[name] = f"{name}: no cell of {start} has ended without diverging"
            continue
        best = cells[0]
        left = best.with_weights(lambda key: folder.trial(by_key[key]).has_weights())
        parent = by_key[left or best.key]
        files.write_json(
            folder.choice(name),
            {
                "rule": _rule(grid, name),
                "benchmark": want.benchmark,
                "parent": parent.key,
                "trial": parent.readable,
                "value": best.value,
                "higher_is_better": best.higher_is_better,
                "seeds": best.seeds,
                "candidates": {cell.key: cell.value for cell in cells},
                "time": files.now(),
            },
        )
        seeds = f"mean of {best.seeds} seeds" if best.seeds > 1 else "one seed each"
        better = "higher" if best.higher_is_better else "lower"
        made.append(
            f"{name} starts from {parent.readable} ({parent.key}): {want.benchmark} "
            f"{best.value:.4g}, the best of {len(cells)} cells ({better} is better), {seeds}"
            f"{ranking.doubt(cells)}"
        )
    return Resolved(made, impossible)


def awaited(grid: Grid, planned: list[Trial], folder: RunFolder, wants: WantedByStage) -> list[str]:
    """A line for each choice that is still to be made: which models lack their scores, and the way
    on where these have failed."""
    lines = []
    by_key = {trial.key: trial for trial in planned}
    for name, candidates in _open(grid, planned, folder).items():
        start, want = grid.stages[name].start_from, _want(grid, name, wants)
        if not (lacking := _lacking(candidates, folder, want)):
            continue
        line = (
            f"{name} starts from the best of {start} by {want.benchmark} once all of its models "
            f"have their scores; {len(lacking)} of {len(candidates)} lack theirs"
        )
        if all(folder.trial(trial).failed() for trial in lacking):
            names = [f"{trial.readable} ({trial.key})" for trial in lacking[:NAMED]]
            more = " ..." if len(lacking) > NAMED else ""
            line += f" and failed: {', '.join(names)}{more}"
            ranked = rank(candidates, by_key, folder, want)
            if ranked and ranked[0].complete:
                line += f"; `parent: '{ranked[0].key}'`, the best so far, goes on without them"
        lines.append(line)
    return lines


def _open(grid: Grid, planned: list[Trial], folder: RunFolder) -> dict[str, list[Trial]]:
    """Stages whose choice is still to be made, with what they choose among."""
    waiting = [trial.stage for trial in planned if trial.waits and trial.parent is None]
    stages = stages_of(grid, folder) if waiting else {}
    by_key = {trial.key: trial for trial in planned}
    starts = {name: grid.stages[name].start_from for name in dict.fromkeys(waiting)}
    return {name: [by_key[one.key] for one in stages[start]] for name, start in starts.items()}


def _lacking(candidates: list[Trial], folder: RunFolder, want: Wanted) -> list[Trial]:
    marks = [want.fingerprint]
    return [one for one in candidates if one.waits or not folder.trial(one).done(marks)]


def surpassed(
    grid: Grid, planned: list[Trial], folder: RunFolder, wants: WantedByStage
) -> list[str]:
    """A line for each recorded choice that would be another one today."""
    lines = []
    chosen = _choices(grid, folder)
    stages = stages_of(grid, folder) if chosen else {}
    by_key = {trial.key: trial for trial in planned}
    for name, choice in chosen.items():
        parent, record = choice.parent, choice.record
        start, want = grid.stages[name].start_from, _want(grid, name, wants)
        candidates = [by_key[trial.key] for trial in stages[start]]
        cells = [cell for cell in rank(candidates, by_key, folder, want) if cell.complete]
        if not cells or parent in cells[0].keys:
            continue
        best = cells[0]
        now = next((cell.value for cell in cells if parent in cell.keys), record["value"])
        if best.merit > (now if best.higher_is_better else -now):
            lines.append(
                f"{name} starts from {record['trial']} ({parent}), as was chosen: {want.benchmark} "
                f"{now:.4g}; {by_key[best.key].readable} ({best.key}) now has {best.value:.4g}; "
                f"delete {folder.to_delete(choice.path)} to choose anew"
            )
    return lines


def rank(
    trials: Iterable[Trial], planned: Mapping[str, Trial], folder: RunFolder, want: Wanted
) -> list[Cell]:
    """Cells of one stage's trials by an evaluation, best first (sweep/storage/ranking.py)."""
    evaluation = want.record
    return ranking.rank(
        ranking.scored(trial, planned, folder.trial(trial), evaluation) for trial in trials
    )


def _want(grid: Grid, stage: str, wants: WantedByStage) -> Wanted:
    rule, evaluations = grid.stages[stage].parent, wants[grid.stages[stage].start_from]
    assert isinstance(rule, Best)
    return best_by(evaluations) if rule.best is None else named(evaluations, rule.best)


def _rule(grid: Grid, stage: str) -> dict[str, Any]:
    rule = grid.stages[stage].parent
    assert isinstance(rule, Best) and grid.stages[stage].start_from != BASE
    return {"start_from": grid.stages[stage].start_from, "best": rule.best}
