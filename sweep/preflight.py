"""Checks before anything starts: what the run needs is here, and is what it was."""

import shutil
from pathlib import Path

from sweep import store
from sweep.config import Grid
from sweep.plan import Trial, cost
from sweep.store import RunFolder
from trainers import benchmarks, sources
from trainers.spec import DataSpec


class CannotStart(Exception):
    """The grid is right but cannot run here and now."""


def needs_hub(grid: Grid) -> bool:
    if grid.model.name != "tiny" and not Path(grid.model.name).exists():
        return True
    data = [cell.data.name for stage in grid.stages.values() for _, cell in stage.cells]
    if any(name not in sources.WORLD and not sources.is_local(name) for name in data):
        return True
    stock = [
        task
        for name in grid.evaluate.benchmarks
        for task in benchmarks.find(name).tasks
        if not Path(task).is_absolute()
    ]
    return bool(stock) and grid.evaluate.data_dir is None


def check_benchmarks(grid: Grid) -> None:
    found = [
        benchmarks.missing(benchmarks.find(b), grid.evaluate) for b in grid.evaluate.benchmarks
    ]
    problems = [problem for problem in found if problem]
    if problems:
        raise CannotStart("\n".join(problems))


def fingerprints(grid: Grid) -> dict[str, str]:
    """Content of every data source of the grid, by a name that says which part of it is read."""
    specs = {
        label(cell.data): cell.data for stage in grid.stages.values() for _, cell in stage.cells
    }
    try:
        return {name: sources.fingerprint(spec) for name, spec in specs.items()}
    except sources.DataUnavailable as error:
        raise CannotStart(str(error)) from error


def label(data: DataSpec) -> str:
    at = f"@{data.revision}" if data.revision else ""
    part = f"[:{data.examples}]" if data.examples else ""
    return f"{data.name}{at}:{data.split}{part}"


def check_unchanged(folder: RunFolder, data: dict[str, str]) -> None:
    """Trials of one run saw one content under one name, or they cannot stand in one table."""
    earlier = (store.read_json(folder.manifest) or {}).get("data", {})
    for name, fingerprint in data.items():
        if earlier.get(name, fingerprint) != fingerprint:
            raise CannotStart(
                f"{folder.path}: data {name!r} has changed since the run began "
                f"({earlier[name]} then, {fingerprint} now); put the old data back, or give the "
                "grid another name"
            )


def check_disk(folder: RunFolder, planned: list[Trial]) -> None:
    need = sum(cost(trial).disk_bytes or 0 for trial in planned if not folder.trial(trial).usable())
    place = next(parent for parent in (folder.path, *folder.path.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        raise CannotStart(
            f"{place}: the weights of the planned trials take {need / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free; make room, or choose another place with --runs"
        )
