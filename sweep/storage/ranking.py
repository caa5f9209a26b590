"""Which trial of a stage is best by a benchmark: the one place that says so.

`parent: best`, `keep: best`, the export, the status and the search all ask here, so they agree.
Seeds of one setting, of its own or of a model that it starts from, are one cell: ranked by their
mean, in the direction of the task's own metric.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.tables.records.score_record import primary_metric, problem, recorded_as
from analysis.text import counted
from sweep.plan.trials import Trial
from sweep.storage.run_folder import TrialFolder
from trainers import files
from trainers.files import Damaged
from trainers.specs.identity import NOT_IN_IDENTITY

Record = dict[str, Any]
"""Content of a trial.json."""

LEVEL = 1e-9
"""Scores nearer than this are equal but for rounding."""

_NO_SETTING = frozenset({"seed", *NOT_IN_IDENTITY})


class Scored(NamedTuple):
    """A planned trial of one stage and its primary score by one benchmark."""

    key: str
    setting: str
    """The same for trials that differ in their seed alone, or in that of what they start from."""
    seeds: tuple[int, ...]
    """Its own, then those of what it starts from."""
    value: float | None = None
    """None where there is no finite score (yet)."""
    stderr: float | None = None
    """Standard error of `value` over items."""
    higher_is_better: bool = True


class Cell(NamedTuple):
    """Seeds of one setting, ranked together."""

    keys: tuple[str, ...]
    """Of the trials with a score, the lowest seed first."""
    value: float
    """Mean over the seeds that have a score."""
    stderr: float | None
    """Standard error over items; None where there are several seeds, whose scatter it lacks."""
    seeds: int
    complete: bool
    """Whether every planned seed has a score."""
    higher_is_better: bool

    @property
    def key(self) -> str:
        """Of the lowest seed, which stands for the cell: the better of two seeds would be better by
        chance."""
        return self.keys[0]

    def with_weights(self, there: Callable[[str], bool]) -> str | None:
        """Key of its first seed whose weights are still there; None where none has any."""
        return next(filter(there, self.keys), None)

    @property
    def merit(self) -> float:
        """The value, signed so that more is better."""
        return self.value if self.higher_is_better else -self.value


def rank(trials: Iterable[Scored]) -> list[Cell]:
    """Cells with a score, best first; those that lack a seed come after all complete ones.

    Cells of equal merit are in the order of their keys, so that every caller has the same first.
    """
    settings: dict[str, list[Scored]] = defaultdict(list)
    for trial in trials:
        settings[trial.setting].append(trial)
    cells = [cell for group in settings.values() if (cell := _cell(group)) is not None]
    return sorted(cells, key=lambda cell: (not cell.complete, -cell.merit, cell.key))


def doubt(cells: Sequence[Cell]) -> str:
    """How little tells the first of ranked cells, all complete, from the others, in words; empty
    where nothing else is as good."""
    first, *others = cells
    gaps = [first.merit - cell.merit for cell in others]
    level = sum(gap < LEVEL for gap in gaps)
    near = sum(LEVEL <= gap <= (first.stderr or 0) for gap in gaps)
    told = ""
    if level:
        of_all = f"; all {len(cells)} cells are level"
        told += of_all if level == len(others) else f"; {_others(level, 'is', 'are')} level with it"
        told += ", and the key alone decides"
    if near:
        told += f"; {_others(near, 'lies', 'lie')} within its standard error ({first.stderr:.2g})"
    return told


def _others(count: int, one: str, several: str) -> str:
    return f"{counted(count, 'other cell')} {one if count == 1 else several}"


def looks_better(cells: Sequence[Cell]) -> Cell | None:
    """Of ranked cells: the best that lacks the score of a seed, where it looks better than the
    first of all."""
    open_ = next((cell for cell in cells if not cell.complete), None)
    return open_ if open_ is not None and open_.merit > cells[0].merit else None


def _cell(group: list[Scored]) -> Cell | None:
    scored = sorted(
        (trial for trial in group if trial.value is not None),
        key=lambda trial: (trial.seeds, trial.key),
    )
    values = [trial.value for trial in group if trial.value is not None]
    if not scored:
        return None
    first = scored[0]
    return Cell(
        keys=tuple(trial.key for trial in scored),
        value=float(np.mean(values)),
        stderr=first.stderr if len(scored) == 1 else None,
        seeds=len(scored),
        complete=len(scored) == len(group),
        higher_is_better=first.higher_is_better,
    )


def unscored(trial: Trial, planned: Mapping[str, Trial]) -> Scored:
    """A planned trial before its score is looked at; `planned` has those that it starts from."""
    return of_record(_record(trial), lambda key: _record(planned[key]) if key in planned else None)


def _record(trial: Trial) -> Record:
    spec = None if trial.spec is None else trial.spec.model_dump(mode="json")
    return {"key": trial.key, "arm": trial.arm, "parent": trial.parent, "spec": spec}


def of_record(record: Record, known: Callable[[str], Record | None]) -> Scored:
    """The same of the content of a trial.json; `known` gives that of another key, where it is
    known."""
    line: dict[str | None, Any] = {}
    seeds = []
    key, at = record["key"], record
    while key not in line and at is not None and (spec := at.get("spec")):
        decisive = {name: value for name, value in spec.items() if name not in _NO_SETTING}
        line[key] = [at.get("arm"), decisive]
        seeds.append(spec.get("seed", 0))
        key = at.get("parent")
        at = None if key is None else known(key)
    setting = json.dumps([*line.values(), key], sort_keys=True)
    return Scored(record["key"], setting, tuple(seeds))


def with_score(trial: Scored, folder: TrialFolder, evaluation: dict[str, Any]) -> Scored:
    """A trial with its primary score; `evaluation` is a record as the manifest has it."""
    score = primary_score(folder, evaluation)
    return trial._replace(
        value=score.get("value"),
        stderr=score.get("stderr"),
        higher_is_better=score.get("higher_is_better", evaluation["higher_is_better"]),
    )


def scored(
    trial: Trial, planned: Mapping[str, Trial], folder: TrialFolder, evaluation: dict[str, Any]
) -> Scored:
    """A planned trial with its score."""
    return with_score(unscored(trial, planned), folder, evaluation)


def primary_score(folder: TrialFolder, evaluation: dict[str, Any]) -> dict[str, Any]:
    """The score that the evaluation goes by; empty where there is none, or no finite one, or the
    record is of an earlier version and lacks its metric.

    Raises:
        Damaged: the record holds what no benchmark gives.
    """
    path = folder.scores(evaluation["fingerprint"])
    record = files.read_json(path) or {"scores": []}
    with files.shaped(path):
        for score in record["scores"]:
            if told := problem(score):
                raise Damaged(f"{path}: {told}")
        if recorded_as(record, evaluation) != evaluation["benchmark"]:
            return {}
        metric = primary_metric(record["scores"], evaluation.get("metric"))
        for score in record["scores"]:
            value = score["value"]
            if score.get("metric") == metric and value is not None and math.isfinite(value):
                return score
    return {}


def lacks_metric(folder: TrialFolder, evaluation: dict[str, Any]) -> bool:
    """Whether an earlier version has scored the model without the metric that now counts."""
    path = folder.scores(evaluation["fingerprint"])
    record = files.read_json(path)
    with files.shaped(path):
        return record is not None and recorded_as(record, evaluation) != evaluation["benchmark"]
