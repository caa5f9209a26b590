"""Checks before anything starts: there is room for what the run needs, and it is what it was."""

import shutil
from typing import Any

from sweep.gridfile.keys.schema import Grid
from sweep.gridfile.screening import screening_stage, too_short
from sweep.options import Options
from sweep.plan.disk import disk
from sweep.plan.trials import Trial
from sweep.plan.widen import at_most
from sweep.resolve.resolve import CannotStart
from sweep.storage.run_folder import RunFolder
from trainers import files
from trainers.cli import BAD_INPUT
from trainers.data import row_counts
from trainers.specs.data import DataSpec


class TooShort(CannotStart):
    """Runs of the grid are so short that they would train nothing."""

    code = BAD_INPUT


def stages_to_train(
    grid: Grid, planned: list[Trial], folder: RunFolder, options: Options
) -> list[str]:
    """Stages with a trial that is to be trained for sure. What else there is to do, such as a score
    that is missing, shows later; a search that has begun may be over."""
    if (grid.search or grid.decide) and folder.path.exists():
        return []
    return sorted(
        {
            trial.stage
            for trial in planned
            if not trial.waits
            and (options.only is None or trial.key in options.only)
            and not folder.trial(trial).trained()
            and (options.retry_failed or folder.trial(trial).failures() <= grid.resources.retries)
        }
    )


def check_resources(grid: Grid, stages: list[str], options: Options) -> int | None:
    """Whether a trial of each of the stages fits on a node: the quick answer, before anything is
    fetched or written. A cluster that grows is given time.

    Returns how many trials run at once, where that is known now.

    Raises:
        CannotStart: it does not fit, or there is no such cluster.
    """
    if options.local:
        for stage in grid.scored_stages:
            if (nodes := grid.trial_resources(stage).nodes_per_trial) > 1:
                raise CannotStart(
                    f"--local: resources.nodes_per_trial: {nodes} has a trial lie on several nodes "
                    "of a Ray cluster; leave --local out and give --address, or "
                    "--set resources.nodes_per_trial=1"
                )
    if options.local or options.wait_minutes or not stages:
        return 1 if options.local else None
    from sweep.execution.backends import ray_cluster

    try:
        at_once = ray_cluster.check(
            options.address, [grid.trial_resources(stage) for stage in stages]
        )
    except ray_cluster.CannotRun as error:
        raise CannotStart(str(error)) from error
    return min(at_once, grid.resources.max_concurrent or at_once)


def check_unchanged(folder: RunFolder, data: dict[str, str]) -> None:
    """Trials of one run saw one content under one name, or they cannot stand in one table. Data on
    which no trial was trained yet may be mended."""
    for name, before in seen(folder).items():
        if data.get(name, before) != before:
            raise CannotStart(
                f"{folder.path}: {name!r} has changed since the run began "
                f"({before} then, {data[name]} now); put the old one back, or give the "
                "grid another name"
            )


def seen(folder: RunFolder) -> dict[str, str]:
    """Name -> content of what a model that has been trained, or one that was scored, has seen."""
    earlier = (files.read_json(folder.manifest) or {}).get("data", {})
    trained = [path.parent for path in folder.path.glob("trials/*/train.json")]
    specs = [(files.read_json(path / "trial.json") or {}).get("spec") for path in trained]
    labels = {label for spec in specs if spec for label in _labels(spec)}
    return {
        name: content
        for name, content in earlier.items()
        if name in labels or (trained and name.startswith(("model:", "benchmark:")))
    }


def _labels(spec: dict[str, Any]) -> list[str]:
    mixture = spec["data"] if isinstance(spec["data"], list) else [spec["data"]]
    return [DataSpec.model_validate(source).label for source in mixture]


def check_code(folder: RunFolder, changed: list[str]) -> None:
    """Numbers of one table were made by one code, or somebody said that they need not be."""
    if changed:
        raise CannotStart(
            f"{folder.path}: what trains and scores is not what the run began with: "
            f"{'; '.join(changed)}. Put it back, give the grid another name, or say "
            "--changed-code to have both in one table"
        )


def check_screening(grid: Grid, folder: RunFolder) -> None:
    """Whether screening runs train at all, once the data have been counted.

    Raises:
        TooShort: they do not.
    """
    stage = screening_stage(grid)
    prepared = None if stage is None else row_counts.find(folder.data, stage.cells[0][1])
    if stage is not None and prepared is not None:
        counts = prepared.total
        if short := too_short(stage, counts.train, counts.tokens_per_example):
            raise TooShort(f"decide.fidelity: {short}")


def to_train(folder: RunFolder, grid: Grid, planned: list[Trial]) -> list[Trial]:
    """The planned trials whose training has not ended; of a run that chooses its cells as many as
    it still begins at most."""
    begun = {trial.key for trial in planned if folder.trial(trial).attempts()}
    asked = at_most(grid, planned, begun)
    return [trial for trial in asked if folder.trial(trial).training() is None]


def check_disk(
    folder: RunFolder, grid: Grid, planned: list[Trial], at_once: int | None = None
) -> None:
    need = disk(grid, to_train(folder, grid, planned), at_once).peak or 0
    place = next(parent for parent in (folder.path, *folder.path.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        raise CannotStart(
            f"{place}: weights and checkpoints of the planned trials take up to "
            f"{need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; make room, give stages "
            "`keep: best` or `keep: none`, or choose another place with --runs"
        )
