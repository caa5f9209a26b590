"""What a grid names, as any process on any node finds it, and always the same.

A trial's key hashes the names as declared. What runs has hub names at the commits that were fetched
when the run was started, so that no process looks at the hub again, and local names as absolute
paths: Ray gives each trial a working directory of its own.
"""

from pathlib import Path

from sweep.gridfile.keys.schema import Grid
from trainers import hub
from trainers.data.rows import sources
from trainers.hub import Commits
from trainers.specs.data import DataSpec, Model
from trainers.specs.file_names import with_files
from trainers.specs.training import TrainingSpec


def grid(declared: Grid, commits: Commits) -> Grid:
    """The grid with its model and all its cells pinned."""
    stages = {
        name: stage.model_copy(
            update={"cells": tuple((arm, spec(cell, commits)) for arm, cell in stage.cells)}
        )
        for name, stage in declared.stages.items()
    }
    return declared.model_copy(update={"model": model(declared.model, commits), "stages": stages})


def model(declared: Model, commits: Commits) -> Model:
    local = declared.name != "tiny" and Path(declared.name).exists()
    name = str(Path(declared.name).absolute()) if local else declared.name
    return hub.pinned_model(declared, commits).model_copy(update={"name": name})


def spec(declared: TrainingSpec, commits: Commits) -> TrainingSpec:
    pinned = declared.with_sources(lambda source: _source(source, commits))
    return with_files(pinned, lambda path: str(Path(path).absolute()))


def _source(data: DataSpec, commits: Commits) -> DataSpec:
    data = hub.pinned(data, commits)
    if not sources.is_local(data.name):
        return data
    return data.model_copy(update={"name": str(Path(data.name).absolute())})
