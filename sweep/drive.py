"""From a plan to a run folder with a report: check, run what is not done, write what was found."""

import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from rich.console import Console

from sweep import local as local_runner
from sweep import preflight, show, store
from sweep.config import Grid
from sweep.frontier import Frontier
from sweep.plan import Trial
from sweep.preflight import CannotStart
from sweep.store import RunFolder, RunHeld
from sweep.trial import Job, Outcome
from sweep.wanted import WantedByStage, wanted

PACKAGES = (
    "torch", "transformers", "trl", "accelerate", "datasets", "lm_eval", "ray", "tokenizers",
    "numpy",
)  # fmt: skip


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
    if not preflight.needs_hub(grid):
        os.environ.setdefault(
            "HF_HUB_OFFLINE", "1"
        )  # a local file can lose a minute to hub retries
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    preflight.check_benchmarks(grid)
    data = preflight.fingerprints(grid)
    wants = wanted(grid, data)
    try:
        with folder.lock():
            preflight.check_unchanged(folder, data)
            preflight.check_disk(folder, planned)
            folder.write_plan(grid, planned)
            _write_manifest(folder, grid, data, wants)
            _run(grid, planned, folder, wants, local, address, console)
            return _finish(planned, folder, wants, console)
    except RunHeld as error:
        raise CannotStart(str(error)) from error


def _write_manifest(
    folder: RunFolder, grid: Grid, data: dict[str, str], wants: WantedByStage
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
            stage: {"evaluations": [want.model_dump(exclude={"heldout", "task"}) for want in mine]}
            for stage, mine in wants.items()
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
    wants: WantedByStage,
    local: bool,
    address: str | None,
    console: Console,
) -> None:
    marks = {stage: [want.fingerprint for want in mine] for stage, mine in wants.items()}
    pending = [t for t in planned if not folder.trial(t).done(marks[t.stage])]
    done = len(planned) - len(pending)
    console.print(
        f"{grid.name}: {done} of {len(planned)} models done, {len(pending)} to go", highlight=False
    )
    if not pending:
        return
    by_key = {trial.key: trial for trial in planned}
    jobs = {trial.key: _job(trial, by_key, folder, wants, grid) for trial in pending}
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
    wants: WantedByStage,
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
        wanted=wants[trial.stage],
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


def _finish(planned: list[Trial], folder: RunFolder, wants: WantedByStage, console: Console) -> int:
    from analysis import report

    page = report.write(folder.path)
    statuses = Counter(_status(folder, trial, wants) for trial in planned)
    console.print(
        "  ".join(f"{count} {status}" for status, count in statuses.items()), highlight=False
    )
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return 3 if statuses["failed"] else 0


def _status(folder: RunFolder, trial: Trial, wants: WantedByStage) -> str:
    here = folder.trial(trial)
    if here.done([want.fingerprint for want in wants[trial.stage]]):
        return (here.training() or {})["status"]
    return "failed"
