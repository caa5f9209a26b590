"""Checks before anything starts: what the run needs is here, and is what it was."""

import shutil
from typing import NamedTuple

from sweep.execution.options import Options
from sweep.gridfile.schema import Grid
from sweep.plan.disk import disk
from sweep.plan.trials import Trial
from sweep.storage import run_folder
from sweep.storage.run_folder import RunFolder
from trainers import hub as fetching
from trainers import process
from trainers.data import sources
from trainers.evaluate import benchmarks
from trainers.hub import Commits, Needs
from trainers.models import load
from trainers.specs.spec import DataSpec, Model


class CannotStart(Exception):
    """The grid is right but cannot run here and now."""


class Ready(NamedTuple):
    """What was fetched, at which commits, and the fingerprints of all that trials read."""

    needed: Needs
    commits: Commits
    data: dict[str, str]


def check_resources(grid: Grid, planned: list[Trial], folder: RunFolder, options: Options) -> None:
    """Whether what is to be trained for sure fits on a node: the quick answer, before anything is
    fetched or written. What else there is to do, such as a score that is missing, shows later and
    is asked for then; a search that has begun may be over; a cluster that grows is given time.

    Raises:
        CannotStart: it does not fit, or there is no such cluster.
    """
    begun = grid.search is not None and folder.path.exists()
    if options.local or options.wait_minutes or begun:
        return
    stages = {
        trial.stage
        for trial in planned
        if not trial.waits
        and (options.only is None or trial.key in options.only)
        and not folder.trial(trial).trained()
        and (options.retry_failed or folder.trial(trial).failures() <= grid.resources.retries)
    }
    if not stages:
        return
    from sweep.execution import ray_cluster

    try:
        ray_cluster.check(
            options.address, [grid.trial_resources(stage) for stage in sorted(stages)]
        )
    except ray_cluster.CannotRun as error:
        raise CannotStart(str(error)) from error


def ready(grid: Grid) -> Ready:
    """Check the benchmarks, fetch from the hub, and take this process and its children offline.

    Raises:
        CannotStart: something is missing.
    """
    check_benchmarks(grid)
    needed = needs(grid)
    commits = fetch(needed)
    process.go_offline()
    return Ready(needed, commits, fingerprints(grid, commits))


def needs(grid: Grid) -> Needs:
    """What has to be fetched, or at least looked up, or converted. Asked before the driver itself
    goes offline."""
    try:
        return fetching.needs(_models(grid), _data(grid), grid.evaluate)
    except load.ModelUnavailable as error:
        raise CannotStart(str(error)) from error


def fetch(needed: Needs) -> Commits:
    try:
        return fetching.fetch(needed)
    except fetching.FetchFailed as error:
        raise CannotStart(str(error)) from error


def _models(grid: Grid) -> list[Model]:
    """Those that are trained, scored, or reward others."""
    cells = (cell for stage in grid.stages.values() for _, cell in stage.cells)
    judges = dict.fromkeys(getattr(cell, "reward_model", None) for cell in cells)
    return [grid.model, *grid.references, *(Model(name=judge) for judge in judges if judge)]


def _data(grid: Grid) -> list[DataSpec]:
    cells = (cell for stage in grid.stages.values() for _, cell in stage.cells)
    return list(dict.fromkeys(source for cell in cells for source in cell.sources))


def check_benchmarks(grid: Grid) -> None:
    found = [
        benchmarks.missing(benchmarks.find(b), grid.evaluate) for b in grid.evaluate.benchmarks
    ]
    problems = list(dict.fromkeys(problem for problem in found if problem))
    least = min(grid.trial_resources(stage).gpus_per_trial for stage in grid.scored_stages)
    if grid.evaluate.backend == "vllm" and least < 1:
        problems.append("evaluate.backend: vllm takes a whole GPU; set resources.gpus_per_trial: 1")
    if problems:
        raise CannotStart("\n".join(problems))


def fingerprints(grid: Grid, commits: Commits | None = None) -> dict[str, str]:
    """Content of all that trials read: data by a name that says which part of it is read, models
    (`model:<name>`), and the hub data of benchmarks (`benchmark:<data set>`).

    `commits` are those that were fetched; without them the hub is asked.
    """
    commits = commits or {}
    specs = {label(data): fetching.pinned(data, commits) for data in _data(grid)}
    found = {name: commit for name, commit in commits.items() if not name.startswith("data:")}
    try:
        for model in _models(grid):
            content = load.fingerprint(model.name)
            if content is not None:
                found[f"model:{model.name}"] = content
        return found | {name: sources.fingerprint(data) for name, data in specs.items()}
    except (sources.DataUnavailable, load.ModelUnavailable) as error:
        raise CannotStart(str(error)) from error


def label(data: DataSpec) -> str:
    at = f"@{data.revision}" if data.revision else ""
    part = f"[:{data.examples}]" if data.examples else ""
    return f"{data.name}{at}:{data.split}{part}"


def check_unchanged(folder: RunFolder, data: dict[str, str]) -> None:
    """Trials of one run saw one content under one name, or they cannot stand in one table."""
    earlier = (run_folder.read_json(folder.manifest) or {}).get("data", {})
    for name, fingerprint in data.items():
        if earlier.get(name, fingerprint) != fingerprint:
            raise CannotStart(
                f"{folder.path}: {name!r} has changed since the run began "
                f"({earlier[name]} then, {fingerprint} now); put the old one back, or give the "
                "grid another name"
            )


def check_code(folder: RunFolder, changed: list[str]) -> None:
    """Numbers of one table were made by one code, or somebody said that they need not be."""
    if changed:
        raise CannotStart(
            f"{folder.path}: what trains and scores is not what the run began with: "
            f"{'; '.join(changed)}. Put it back, give the grid another name, or say "
            "--changed-code to have both in one table"
        )


def check_disk(folder: RunFolder, grid: Grid, planned: list[Trial]) -> None:
    to_train = [trial for trial in planned if not folder.trial(trial).usable()]
    need = disk(grid, to_train).peak or 0
    place = next(parent for parent in (folder.path, *folder.path.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        raise CannotStart(
            f"{place}: weights and checkpoints of the planned trials take up to "
            f"{need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; make room, give stages "
            "`keep: best` or `keep: none`, or choose another place with --runs"
        )
