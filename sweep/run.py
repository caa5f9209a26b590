"""Run a grid: `python -m sweep.run grids/quickstart.yaml`.

Running the same command again runs only what is not done. Exit codes: 0 every planned cell is done
(ok or diverged), 2 the grid or command line is wrong, 3 some cells failed, 4 the grid cannot run
here and now, 5 a limit of the grid was reached, 130 interrupted.
"""

import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from sweep import choice, config, plan, show
from sweep.config import GridError
from sweep.grid import Grid
from sweep.price import Calibration
from sweep.store import RunFolder

BAD_INPUT, SOME_FAILED, CANNOT_RUN, LIMIT_REACHED, INTERRUPTED = 2, 3, 4, 5, 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()
errors = Console(stderr=True)


@app.command()
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
        bool, typer.Option("--retry-failed", help="Try again what failed as often as allowed.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
) -> None:
    """Plan and run a sweep, score every trial, and write the report."""
    try:
        grid = config.load(grid_file, overrides)
    except GridError as error:
        _stop(BAD_INPUT, str(error))
    if local and address:
        _stop(BAD_INPUT, "--local runs without Ray, so --address has no meaning; give one of them")
    try:
        planned = plan.trials(grid, choice.known(grid, RunFolder(runs / grid.name)))
    except ValueError as error:
        _stop(BAD_INPUT, f"{grid_file}: {error}")
    try:
        chosen = plan.line_of(planned, only) if only is not None else None
    except ValueError as error:
        _stop(BAD_INPUT, f"--only: {error}; the keys are in plan.csv of the run folder")
    if dry_run or calibrate:
        folder = RunFolder(runs / grid.name)
        show.plan(console, grid, planned, _measured(grid, folder.path, calibrate), folder.data)
        return
    from sweep import drive
    from sweep.preflight import CannotStart

    options = drive.Options(local, address, chosen, retry_failed)
    # Default handling even where a script started us in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        states = drive.drive(grid, planned, runs / grid.name, options, console)
    except CannotStart as error:
        _stop(CANNOT_RUN, str(error))
    except KeyboardInterrupt:
        _stop(INTERRUPTED, "interrupted; the same command goes on from here")
    if states["failed"]:
        raise typer.Exit(SOME_FAILED)
    if states["planned"] and only is None:
        raise typer.Exit(LIMIT_REACHED)


def _measured(grid: Grid, run_dir: Path, anew: bool) -> Calibration | None:
    from sweep import calibration
    from sweep.preflight import CannotStart

    try:
        return calibration.measure(grid, run_dir) if anew else calibration.read(run_dir)
    except CannotStart as error:
        _stop(CANNOT_RUN, str(error))


def _stop(code: int, message: str) -> NoReturn:
    errors.print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
