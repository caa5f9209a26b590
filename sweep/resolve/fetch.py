"""What a grid names, fetched once at a commit and fingerprinted, before any trial."""

from typing import NamedTuple

from sweep.gridfile.schema import Grid
from trainers import hub, process
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
        return hub.needs(_models(grid), _data(grid), grid.evaluate)
    except load.ModelUnavailable as error:
        raise CannotStart(str(error)) from error


def fetch(needed: Needs) -> Commits:
    try:
        return hub.fetch(needed)
    except hub.FetchFailed as error:
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
    named = [name for name in grid.evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    found = [benchmarks.missing(benchmarks.find(name), grid.evaluate) for name in named]
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
    specs = {data.label: hub.pinned(data, commits) for data in _data(grid)}
    found = {name: commit for name, commit in commits.items() if not name.startswith("data:")}
    try:
        for model in _models(grid):
            content = load.fingerprint(model.name)
            if content is not None:
                found[f"model:{model.name}"] = content
        return found | {name: sources.fingerprint(data) for name, data in specs.items()}
    except (sources.DataUnavailable, load.ModelUnavailable) as error:
        raise CannotStart(str(error)) from error
