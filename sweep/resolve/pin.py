"""What a grid names, as any process on any node finds it, and always the same.

A trial's key hashes the names as declared. What runs has hub names at the commits that were fetched
when the run was started, so that no process looks at the hub again, and local names as absolute
paths: Ray gives each trial a working directory of its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep.execution.trial import Job
from sweep.gridfile.schema import Grid
from sweep.plan.evaluations import Wanted
from trainers import hub
from trainers.data import sources
from trainers.hub import Commits
from trainers.specs.spec import DataSpec, Model, TrainingSpec


def grid(declared: Grid, commits: Commits) -> Grid:
    """The grid with its model and all its cells pinned."""
    stages = {
        name: stage.model_copy(
            update={"cells": tuple((arm, _spec(cell, commits)) for arm, cell in stage.cells)}
        )
        for name, stage in declared.stages.items()
    }
    return declared.model_copy(update={"model": _model(declared.model, commits), "stages": stages})


def pinned(job: Job, commits: Commits) -> Job:
    trial = job.trial
    update = {
        "model": _model(trial.model, commits),
        "spec": trial.spec and _spec(trial.spec, commits),
    }
    wanted = tuple(_wanted(want, commits) for want in job.wanted)
    return job._replace(trial=trial.model_copy(update=update), wanted=wanted)


def moved(job: Job, to: Callable[[str], str]) -> Job:
    """The job with each local name in it (data, models, items, task files) as `to` has it."""

    def spec(one: Any) -> Any:
        mixture = tuple(s.model_copy(update={"name": to(s.name)}) for s in one.sources)
        update: dict[str, Any] = {"data": mixture if isinstance(one.data, tuple) else mixture[0]}
        if judge := getattr(one, "reward_model", None):
            update["reward_model"] = to(judge)
        return one.model_copy(update=update)

    trial, evaluate = job.trial, job.evaluate
    model = trial.model.model_copy(update={"name": to(trial.model.name)})
    wanted = tuple(
        want.model_copy(
            update={"task": to(want.task), "heldout": want.heldout and spec(want.heldout)}
        )
        for want in job.wanted
    )
    if evaluate.data_dir is not None:
        evaluate = evaluate.model_copy(update={"data_dir": to(evaluate.data_dir)})
    trial = trial.model_copy(update={"model": model, "spec": trial.spec and spec(trial.spec)})
    return job._replace(trial=trial, evaluate=evaluate, wanted=wanted)


def _model(model: Model, commits: Commits) -> Model:
    local = model.name != "tiny" and Path(model.name).exists()
    name = str(Path(model.name).absolute()) if local else model.name
    return hub.pinned_model(model, commits).model_copy(update={"name": name})


def _wanted(want: Wanted, commits: Commits) -> Wanted:
    if want.heldout is None:
        return want
    return want.model_copy(update={"heldout": _spec(want.heldout, commits)})


def _spec(spec: TrainingSpec, commits: Commits) -> TrainingSpec:
    mixture = tuple(_source(source, commits) for source in spec.sources)
    data = mixture if isinstance(spec.data, tuple) else mixture[0]
    update: dict[str, Any] = {"data": data}
    if judge := getattr(spec, "reward_model", None):
        update["reward_model"] = str(Path(judge).absolute())
    return spec.model_copy(update=update)


def _source(data: DataSpec, commits: Commits) -> DataSpec:
    data = hub.pinned(data, commits)
    if not sources.is_local(data.name):
        return data
    return data.model_copy(update={"name": str(Path(data.name).absolute())})
