"""What a grid names, as any process on any node finds it, and always the same.

A trial's key hashes the names as declared. What runs has hub names at the commits that were fetched
when the run was started, so that no process looks at the hub again, and local names as absolute
paths: Ray gives each trial a working directory of its own.
"""

from pathlib import Path
from typing import Any

from sweep.grid import Grid
from sweep.trial import Job
from sweep.wanted import Wanted
from trainers import fetch, sources
from trainers.fetch import Commits
from trainers.spec import DataSpec, Model, TrainingSpec


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


def _model(model: Model, commits: Commits) -> Model:
    local = model.name != "tiny" and Path(model.name).exists()
    name = str(Path(model.name).absolute()) if local else model.name
    return fetch.pinned_model(model, commits).model_copy(update={"name": name})


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
    data = fetch.pinned(data, commits)
    if not sources.is_local(data.name):
        return data
    return data.model_copy(update={"name": str(Path(data.name).absolute())})
