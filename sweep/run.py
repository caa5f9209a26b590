"""Run a grid: `python -m sweep.run grids/quickstart.yaml`.

Running the same command again runs only what is not done. Exit codes: 0 every planned cell is done
(ok or diverged), 2 the grid or command line is wrong, 3 some cells failed, 4 the grid cannot run
here and now, 5 a limit of the grid was reached, 130 interrupted.
"""

import errno
import math
import os
import re
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from sweep.execution import preemption
from sweep.gridfile import load
from sweep.gridfile.keys.schema import Grid
from sweep.gridfile.load import GridError
from sweep.options import Options
from sweep.plan import trials
from sweep.plan.trials import Trial
from sweep.plan.widen import widened
from sweep.price import calibration_file
from sweep.price.calibration import Calibration
from sweep.schedule import selection
from sweep.storage.run_folder import RunFolder
from sweep.storage.run_log import RunConsole, outlive_terminal
from sweep.terminal.plan import show_plan
from trainers.cli import (
    BAD_INPUT,
    CANNOT_RUN,
    INTERRUPTED,
    LIMIT_REACHED,
    SOME_FAILED,
    refusing,
    stop,
)
from trainers.files import Damaged

NO_PATHS = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)
"""Errors of a name that no folder can have, whatever is mended on the machine."""

ADDRESS = re.compile(r"auto|(\[[\da-fA-F:.]+\]|[\w.-]+):\d{1,5}")

MANY_TRIALS = 1000
"""Above this `--yes` is required: a wrong count costs days."""

STOPPED = "interrupted; the same command continues from here"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = RunConsole()


@app.command()
@refusing
def main(
    grid_file: Annotated[
        Path, typer.Argument(metavar="GRID", help="A grid file, e.g. grids/quickstart.yaml.")
    ],
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key, e.g. stages.sft.epochs=1."
        ),
    ] = [],  # noqa: B006  (typer reads the default)
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Time a few real steps and items, then print the plan."),
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Run the trials in this process, without Ray.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join, e.g. auto; without it one starts here.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Run this trial alone, with what it starts from."),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Also run trials that have used up their retries."),
    ] = False,
    changed_code: Annotated[
        bool,
        typer.Option(
            "--changed-code", help="Go on though trainers/ or a library has changed since."
        ),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(metavar="MINUTES", min=0, help="Give a cluster time to grow a fitting node."),
    ] = 0.0,
    dashboard_host: Annotated[
        str, typer.Option(metavar="HOST", help="Where the dashboard of a local cluster listens.")
    ] = "127.0.0.1",
    extend: Annotated[
        bool,
        typer.Option("--extend", help="Then run what the report asks for next, within `limits`."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help=f"Run more than {MANY_TRIALS:,} trials.")
    ] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page of the run in a browser.")
    ] = False,
    runs: Annotated[
        str,
        typer.Option(
            metavar="PLACE", help="Folder of the run folders, or a URL such as s3://BUCKET/PREFIX."
        ),
    ] = "runs",
) -> None:
    """Plan and run a sweep, score every trial, and write the report."""
    try:
        grid = load.load(grid_file, overrides)
    except GridError as error:
        stop(BAD_INPUT, str(error))
    for note in grid.notes:
        typer.echo(note, err=True)
    if not math.isfinite(wait):
        stop(BAD_INPUT, f"--wait {wait}: give a number of minutes")
    if local and address:
        stop(BAD_INPUT, "--local runs without Ray, so --address has no meaning; give one of them")
    if address is not None:
        _check_address(address)
    if extend and (grid.search or grid.decide):
        stop(BAD_INPUT, "--extend is for plain grids; `search` and `decide` choose their own cells")
    if extend and only is not None:
        stop(BAD_INPUT, "--extend runs further cells and --only one; give one of them")
    path, url = _place(runs, grid.name)
    folder = RunFolder(path)
    try:
        whole = grid if dry_run or calibrate else widened(grid)
        known = _known(grid, folder, url if only is not None else None)
        planned = folder.kept(trials.trials(whole, known))
    except Damaged as error:
        stop(CANNOT_RUN, str(error))
    except ValueError as error:
        stop(BAD_INPUT, f"{grid_file}: {error}")
    try:
        chosen = trials.line_of(planned, only) if only is not None else None
    except ValueError as error:
        stop(BAD_INPUT, f"--only: {error}; the keys are in plan.csv of the run folder")
    if dry_run or calibrate:
        show_plan(
            console, grid, planned, _measured(grid, folder.calibration, calibrate), folder.data
        )
        return
    try:
        problem = folder.problem(url)
    except Damaged as error:
        stop(CANNOT_RUN, str(error))
    if problem:
        stop(BAD_INPUT, problem)
    if not yes and (count := _to_run(grid, planned, chosen)) > MANY_TRIALS:
        stop(
            BAD_INPUT,
            f"{grid_file}: {count:,} trials, more than {MANY_TRIALS:,}; look at them with "
            "--dry-run, and give --yes to run them",
        )
    from sweep import drive
    from sweep import extend as extension
    from sweep.resolve.resolve import CannotStart

    options = Options(
        local, address, chosen, retry_failed, changed_code, wait, dashboard_host, url, open_page
    )
    if url is not None:
        _reach(url)
    outlive_terminal()
    # A shell script that starts this in the background ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        driver = extension if extend else drive
        states = driver.drive(grid, planned, path, options, console)
    except CannotStart as error:
        stop(error.code, str(error))
    except KeyboardInterrupt:
        stop(INTERRUPTED, STOPPED)
    if states["failed"]:
        raise typer.Exit(SOME_FAILED)
    if states["planned"]:
        raise typer.Exit(LIMIT_REACHED)


def _check_address(address: str) -> None:
    place = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if place.startswith("ray://"):
        given = address if place == address else f"{address} (RAY_ADDRESS={place})"
        stop(
            BAD_INPUT,
            f"--address {given}: Ray Client cannot run a sweep; run this command by `ray job "
            "submit`, or on a node of the cluster with --address auto or HOST:PORT",
        )
    if not ADDRESS.fullmatch(address):
        stop(BAD_INPUT, f"--address {address}: give auto or HOST:PORT")


def _place(runs: str, name: str) -> tuple[Path, str | None]:
    """The run folder, and the URL that it mirrors, if any."""
    if not runs.strip():
        stop(BAD_INPUT, "--runs: is empty; give a folder, or a URL such as s3://BUCKET/PREFIX")
    if "://" not in runs:
        return _folder(runs, name), None
    from sweep.storage.remote import object_store

    try:
        object_store.opened(runs)
    except object_store.BadUrl as error:
        stop(BAD_INPUT, f"--runs {error}")
    return Path("runs", name), f"{runs.rstrip('/')}/{name}"


def _folder(runs: str, name: str) -> Path:
    path = Path(runs, name)
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in NO_PATHS:
            raise
        stop(BAD_INPUT, f"--runs {runs}: {error.strerror}; give a folder")
    except ValueError as error:  # a null byte
        stop(BAD_INPUT, f"--runs {runs!r}: {error}; give a folder")
    return path


def _known(grid: Grid, folder: RunFolder, url: str | None) -> dict[str, str]:
    """The parents that were chosen. For `--only`, which names a trial by its key, those that the
    store has: the mirror of another machine is empty before it is held."""
    if url is None:
        return selection.known(grid, folder)
    from sweep.execution import remote_run
    from sweep.storage.remote import object_store

    try:
        with remote_run.records(url, "choices") as stored:
            return selection.known(grid, stored)
    except object_store.Unreachable as error:
        stop(CANNOT_RUN, str(error))


def _reach(url: str) -> None:
    from sweep.execution import remote_run
    from sweep.storage.remote import object_store

    try:
        remote_run.reached(url)
    except object_store.Unreachable as error:
        stop(CANNOT_RUN, str(error))


def _to_run(grid: Grid, planned: list[Trial], chosen: frozenset[str] | None) -> int:
    """The most trials that the command may start; a search, and `decide`, limit themselves."""
    if grid.search is not None or grid.decide is not None:
        return 0
    most = len(planned if chosen is None else chosen)
    return min(most, grid.limits.max_trials or most)


def _interrupt(received: int, _: Any) -> None:
    """The first signal ends the run in order, after a checkpoint of running trials on SIGTERM; the
    second ends it at once: records survive that, and Ray's processes end with this one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    if received == signal.SIGTERM and preemption.notice():
        return
    raise KeyboardInterrupt


def _leave(*_: Any) -> None:
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(INTERRUPTED)


def _measured(grid: Grid, path: Path, anew: bool) -> Calibration | None:
    from sweep.execution.calibration.calibrate import measure
    from sweep.resolve.resolve import CannotStart

    try:
        if anew:
            return measure(grid, path)
        return calibration_file.read(path, grid, lambda line: typer.echo(line, err=True))
    except CannotStart as error:
        stop(error.code, str(error))
    except Damaged as error:
        stop(CANNOT_RUN, str(error))


if __name__ == "__main__":
    app()
