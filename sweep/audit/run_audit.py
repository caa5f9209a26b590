"""The audits of a grid: run once, before any trial, into the run folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.audit import tables
from sweep.audit import records
from sweep.audit.scan import Reading
from sweep.gridfile.keys.schema import Grid
from sweep.resolve.resolve import CannotStart, ResolvedGrid
from sweep.storage.run_folder import RunFolder
from trainers import files, hub
from trainers.data.rows import sources
from trainers.data.rows.sources import DataUnavailable
from trainers.processes import devices
from trainers.specs.data import DataSpec
from trainers.specs.training import TrainingSpec
from trainers.tasks import benchmarks, task_files
from trainers.tasks import items as audit_items
from trainers.tasks.task_files import EvaluationUnavailable

FORMAT = 3
"""Raised when the same audit would find something else, or write it down otherwise."""


def run(resolved: ResolvedGrid, folder: RunFolder, say: Callable[[str], None]) -> None:
    """Audit the training data of all stages; what is there from the same audit stays.

    Raises:
        CannotStart: items or data are not to be had.
    """
    grid = resolved.grid
    audit = grid.audit
    if not (audit.contamination or audit.languages):
        return
    out = folder.path / tables.FOLDER
    data = readings(resolved)
    seen = {"stages": seen_by(grid), "format": FORMAT}
    content = {name: sources.fingerprint(reading.data) for name, reading in data.items()}
    try:
        if audit.contamination:
            asked = [audit.model_dump(exclude={"languages"}), _items_content(grid)]
            facts = {**seen, "fingerprint": files.short_hash(content, asked, FORMAT)}
            if _anew(out / tables.CONTAMINATION, facts):
                say(f"audit: looking for {len(audit.contamination)} benchmarks in the data")
                items = audit_items.read(
                    audit_items.Request(
                        benchmarks=tuple(audit.contamination),
                        evaluate=grid.evaluate,
                        offline=resolved.needed.offline,
                    )
                )
                record = records.contamination(data, items, audit, out, devices.cores(), facts)
                _tell(record, say)
        if audit.languages:
            facts = {**seen, "fingerprint": files.short_hash(content, FORMAT)}
            if _anew(out / tables.LANGUAGES, facts):
                say("audit: counting the languages of the data")
                _tell(records.languages(data, out, devices.cores(), facts), say)
    except (DataUnavailable, EvaluationUnavailable) as error:
        raise CannotStart(f"audit: {error}") from error


def _tell(record: dict[str, Any], say: Callable[[str], None]) -> None:
    """Say what the audit could not read; the sweep goes on."""
    for line in tables.unreadable(record):
        say(f"audit: {line}")
    for line in tables.nothing_read(record):
        say(f"audit: {line}")


def _anew(path: Path, facts: dict[str, Any]) -> bool:
    earlier = files.read_json(path) or {}
    return {key: earlier.get(key) for key in facts} != facts


def readings(resolved: ResolvedGrid) -> dict[str, Reading]:
    """What the stages read, by name, at the commits that were fetched."""
    stages = resolved.grid.stages.values()
    cells = [cell for stage in stages for _, cell in stage.cells]
    return {
        _name(data, cell): Reading(hub.pinned(data, resolved.commits), cell.data_seed)
        for cell in cells
        for data in cell.sources
    }


def _name(data: DataSpec, cell: TrainingSpec) -> str:
    """As the manifest has it, with what else decides what is read of it."""
    weight = f" x {data.weight:g}" if data.weight < 1 else ""
    seed = f" seed {cell.data_seed}" if cell.data_seed and (weight or data.examples) else ""
    named = data.columns.model_dump(exclude_none=True) if data.columns else {}
    columns = f" columns {', '.join(f'{k}={v}' for k, v in named.items())}" if named else ""
    return f"{data.label}{weight}{seed}{columns}"


def seen_by(grid: Grid) -> dict[str, dict[str, list[str]]]:
    """Stage -> arm -> data that its cells train on."""
    seen: dict[str, dict[str, list[str]]] = {}
    for name, stage in grid.stages.items():
        arms = seen.setdefault(name, {})
        for arm, cell in stage.cells:
            labels = [*arms.get(arm, ()), *(_name(data, cell) for data in cell.sources)]
            arms[arm] = list(dict.fromkeys(labels))
    return seen


def _items_content(grid: Grid) -> list[Any]:
    """What decides the items: the task of a benchmark, the bytes of a local file, a hub name."""
    return [_item_content(grid, given) for given in grid.audit.contamination]


def _item_content(grid: Grid, given: str) -> Any:
    if paths := audit_items.local_files(given):
        return [given, files.content_hash(*paths)]
    names = {*benchmarks.BENCHMARKS, *grid.evaluate.benchmarks}
    if given in names or task_files.is_path(given):
        benchmark = benchmarks.find(given)
        mark = benchmarks.fingerprint(benchmark, grid.evaluate)
        label = audit_items.label_of_tasks(given, grid.audit.contamination, grid.evaluate)
        return mark if label == benchmark.name else [mark, label]
    return given
