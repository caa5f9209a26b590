"""From a plan to a run folder with a report: check, run what is not done, write what was found."""

import os
import platform
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from sweep import local as local_runner
from sweep import show, store
from sweep.config import BASE, Grid
from sweep.frontier import Frontier
from sweep.plan import Trial, cost
from sweep.store import RunFolder, RunHeld
from sweep.trial import Job, Outcome, Wanted
from trainers import benchmarks, sources
from trainers.benchmarks import HELDOUT
from trainers.spec import DataSpec

PACKAGES = (
    "torch", "transformers", "trl", "accelerate", "datasets", "lm_eval", "ray", "tokenizers", "numpy",
)  # fmt: skip


class CannotStart(Exception):
    """The grid is right but cannot run here and now."""


def drive(
    grid: Grid,
    planned: list[Trial],
    path: Path,
    *,
    local: bool,
    address: str | None,
    console: Console,
) -> int:
    """Run what is not done and write the report; returns the exit code of the command.

    Raises:
        CannotStart: something that the run needs is missing; nothing was started.
    """
    folder = RunFolder(path)
    if not _needs_hub(grid):
        os.environ.setdefault(
            "HF_HUB_OFFLINE", "1"
        )  # a local file can lose a minute to hub retries
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    _check_benchmarks(grid)
    data = _fingerprints(grid)
    wanted = _wanted(grid, data)
    try:
        with folder.lock():
            _check_unchanged(folder, data)
            _check_disk(folder, planned)
            folder.write_plan(grid, planned)
            _write_manifest(folder, grid, data, wanted)
            _run(grid, planned, folder, wanted, local, address, console)
            return _finish(planned, folder, wanted, console)
    except RunHeld as error:
        raise CannotStart(str(error)) from error


def _needs_hub(grid: Grid) -> bool:
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


def _check_benchmarks(grid: Grid) -> None:
    found = [
        benchmarks.missing(benchmarks.find(b), grid.evaluate) for b in grid.evaluate.benchmarks
    ]
    problems = [problem for problem in found if problem]
    if problems:
        raise CannotStart("\n".join(problems))


def _fingerprints(grid: Grid) -> dict[str, str]:
    """Content of every data source of the grid, by a name that says which part of it is read."""
    specs = {
        _label(cell.data): cell.data for stage in grid.stages.values() for _, cell in stage.cells
    }
    try:
        return {label: sources.fingerprint(spec) for label, spec in specs.items()}
    except sources.DataUnavailable as error:
        raise CannotStart(str(error)) from error


def _label(data: DataSpec) -> str:
    at = f"@{data.revision}" if data.revision else ""
    part = f"[:{data.examples}]" if data.examples else ""
    return f"{data.name}{at}:{data.split}{part}"


def _wanted(grid: Grid, data: dict[str, str]) -> dict[str, tuple[Wanted, ...]]:
    """Evaluations of each stage's models: the benchmarks, and held-out losses.

    A model is scored on the held-out slice of its own stage and, as the `before` of the stages that start from
    it, on theirs (`heldout_loss@sft`). One slice serves all cells of a stage: that of its first cell.
    """
    common = []
    for name in grid.evaluate.benchmarks:
        benchmark = benchmarks.find(name)
        common.append(
            Wanted(
                benchmark=benchmark.name,
                task=name if name in benchmarks.BENCHMARKS else benchmark.tasks[0],
                fingerprint=benchmarks.fingerprint(benchmark, grid.evaluate),
                metric=benchmark.metric or "",
                higher_is_better=True,
            )
        )
    wanted = {}
    for name in (BASE, *grid.stages):
        slices = {
            f"{HELDOUT}@{n}": n for n, stage in grid.stages.items() if stage.start_from == name
        }
        slices |= {HELDOUT: name} if name != BASE else {}
        wanted[name] = (*common, *_heldouts(grid, data, slices))
    return wanted


def _heldouts(grid: Grid, data: dict[str, str], slices: dict[str, str]) -> list[Wanted]:
    found = []
    for benchmark, stage in slices.items():
        spec = grid.stages[stage].cells[0][1]
        if spec.heldout == 0:
            continue
        mark = store.short_hash(
            grid.model.model_dump(), data[_label(spec.data)], spec.heldout, spec.max_length,
            spec.loss_on, grid.evaluate.dtype, benchmark,
        )  # fmt: skip
        found.append(
            Wanted(
                benchmark=benchmark,
                task=benchmark,
                fingerprint=mark,
                metric="loss",
                higher_is_better=False,
                heldout=spec,
            )
        )
    return found


def _check_unchanged(folder: RunFolder, data: dict[str, str]) -> None:
    """Trials of one run saw one content under one name, or they cannot stand in one table."""
    earlier = (store.read_json(folder.manifest) or {}).get("data", {})
    for label, fingerprint in data.items():
        if earlier.get(label, fingerprint) != fingerprint:
            raise CannotStart(
                f"{folder.path}: data {label!r} has changed since the run began ({earlier[label]} then, "
                f"{fingerprint} now); put the old data back, or give the grid another name"
            )


def _check_disk(folder: RunFolder, planned: list[Trial]) -> None:
    need = sum(cost(trial).disk_bytes or 0 for trial in planned if not folder.trial(trial).usable())
    place = next(parent for parent in (folder.path, *folder.path.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        raise CannotStart(
            f"{place}: the weights of the planned trials take {need / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            "are free; make room, or choose another place with --runs"
        )


def _write_manifest(
    folder: RunFolder, grid: Grid, data: dict[str, str], wanted: dict[str, tuple[Wanted, ...]]
) -> None:
    earlier = store.read_json(folder.manifest) or {}
    record = {
        "name": grid.name,
        "created": earlier.get("created", store.now()),
        "updated": store.now(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
        },
        "data": earlier.get("data", {}) | data,
        "stages": {
            stage: {"evaluations": [want.model_dump(exclude={"heldout", "task"}) for want in wants]}
            for stage, wants in wanted.items()
        },
    }
    store.write_json(folder.manifest, record)


def _git_commit() -> str | None:
    here = Path(__file__).parent
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=here,
        capture_output=True,
        text=True,
    )
    return run.stdout.strip() or None


def _run(
    grid: Grid,
    planned: list[Trial],
    folder: RunFolder,
    wanted: dict[str, tuple[Wanted, ...]],
    local: bool,
    address: str | None,
    console: Console,
) -> None:
    marks = {stage: [want.fingerprint for want in wants] for stage, wants in wanted.items()}
    pending = [t for t in planned if not folder.trial(t).done(marks[t.stage])]
    done = len(planned) - len(pending)
    console.print(
        f"{grid.name}: {done} of {len(planned)} models done, {len(pending)} to go", highlight=False
    )
    if not pending:
        return
    by_key = {trial.key: trial for trial in planned}
    jobs = {trial.key: _job(trial, by_key, folder, wanted, grid) for trial in pending}
    frontier = Frontier(pending, usable=lambda key: folder.trial(by_key[key]).usable())
    outcomes: list[Outcome] = []

    def report(ended: Outcome) -> None:
        outcomes.append(_with_reason(ended, folder, by_key))
        show.outcome(console, done + len(outcomes), len(planned), by_key[ended.key], outcomes[-1])

    started = time.monotonic()
    at_once = _start(grid, frontier, jobs, report, local, address, console)
    for key, parent in frontier.blocked.items():
        reason = f"its start {by_key[parent].readable} ({parent}) has no usable weights"
        folder.trial(by_key[key]).log_attempt("failed", phase="train", reason=reason)
        report(Outcome(key, "failed", reason, 0.0, 0.0))
    show.times(console, time.monotonic() - started, outcomes, at_once)


def _start(
    grid: Grid,
    frontier: Frontier,
    jobs: dict[str, Job],
    report: Callable[[Outcome], None],
    local: bool,
    address: str | None,
    console: Console,
) -> int:
    """Run the frontier; returns how many trials ran at once."""
    if local:
        local_runner.run(frontier, jobs, grid.resources.retries, report)
        return 1
    from sweep import cluster

    try:
        with cluster.connected(address, grid.resources) as dashboard:
            at_once = cluster.concurrency(grid.resources)
            console.print(
                f"Ray dashboard: {dashboard}   trials at once: {at_once}", highlight=False
            )
            cluster.run(frontier, jobs, grid.resources, report)
            return at_once
    except cluster.CannotRun as error:
        raise CannotStart(str(error)) from error


def _job(
    trial: Trial,
    by_key: dict[str, Trial],
    folder: RunFolder,
    wanted: dict[str, tuple[Wanted, ...]],
    grid: Grid,
) -> Job:
    parent = by_key[trial.parent] if trial.parent else None
    evaluate = grid.evaluate
    if evaluate.data_dir is not None:
        evaluate = evaluate.model_copy(update={"data_dir": str(Path(evaluate.data_dir).absolute())})
    return Job(
        trial=trial,
        folder=str(folder.trial(trial).path),
        parent_folder=str(folder.trial(parent).path) if parent else None,
        data=str(folder.data),
        wanted=wanted[trial.stage],
        evaluate=evaluate,
        threads=max(1, int(grid.resources.cpus_per_trial)),
    )


def _with_reason(ended: Outcome, folder: RunFolder, by_key: dict[str, Trial]) -> Outcome:
    """Where the process died without a word, the attempts say as much as is known."""
    if ended.status != "failed" or ended.reason:
        return ended
    events = folder.trial(by_key[ended.key]).attempts()
    reason = events[-1].get("reason") if events else None
    return ended._replace(reason=reason or "the worker died; see attempts.jsonl")


def _finish(
    planned: list[Trial], folder: RunFolder, wanted: dict[str, tuple[Wanted, ...]], console: Console
) -> int:
    from analysis import report

    page = report.write(folder.path)
    statuses = Counter(_status(folder, trial, wanted) for trial in planned)
    console.print(
        "  ".join(f"{count} {status}" for status, count in statuses.items()), highlight=False
    )
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return 3 if statuses["failed"] else 0


def _status(folder: RunFolder, trial: Trial, wanted: dict[str, tuple[Wanted, ...]]) -> str:
    here = folder.trial(trial)
    if here.done([want.fingerprint for want in wanted[trial.stage]]):
        return (here.training() or {})["status"]
    return "failed"
