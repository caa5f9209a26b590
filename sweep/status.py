"""How a run stands: `python -m sweep.status RUN_DIR`, from any terminal, while it runs or after.

`--serve` gives the run's page to a browser, `--json` is for programs.
"""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from analysis.report import terminal
from analysis.tables.errors import ResultsError
from analysis.tables.nearby import hint
from sweep.page import browser, serve
from sweep.schedule import spending
from sweep.storage.status.reader import Reader, RunStatus
from sweep.terminal import answer, progress
from trainers.cli import BAD_INPUT, CANNOT_RUN, refusing, stop
from trainers.files import Damaged, shaped

PAGE = Path("report") / "index.html"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@refusing
def main(
    run_dir: Annotated[Path, typer.Argument(help="A run folder, e.g. runs/quickstart.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    serve_page: Annotated[
        bool, typer.Option("--serve", help="Give the run's page to a browser, on localhost.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where --serve listens; 0 takes a free port.")
    ] = 0,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the run's page in a browser.")
    ] = False,
) -> None:
    """Show how a run stands."""
    try:
        status = Reader(run_dir).read()
    except (FileNotFoundError, NotADirectoryError):
        stop(BAD_INPUT, f"{run_dir}: no run folder (it has no plan.csv){hint(run_dir)}")
    except Damaged as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(4) from None
    if serve_page:
        _serve(run_dir, port)
    elif as_json:
        print(json.dumps(_record(run_dir, status), indent=1))
    else:
        try:
            _show(run_dir, status)
        except (Damaged, ResultsError) as error:
            stop(CANNOT_RUN, str(error))
        if open_page:
            browser.show(run_dir / PAGE, typer.echo)


def _show(run_dir: Path, status: RunStatus) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    spent, unread = _spent(run_dir)
    status.notes.extend(unread)
    console.print(progress.status(status, maps=True, spent=spent))
    with console.status("reading the scores"):
        record = answer.as_it_stands(run_dir, status)
    with shaped(run_dir / answer.RECOMMENDATIONS):
        shown = None if record is None else terminal.answer(record, console.width)
    if shown is not None:
        console.print("")
        console.print(shown)
    if (run_dir / PAGE).exists():
        console.print(f"page: {run_dir / PAGE}", soft_wrap=True)


def _spent(run_dir: Path) -> tuple[spending.Spent | None, list[str]]:
    """What the run has cost so far; None and why, where its records do not read."""
    try:
        return spending.so_far(run_dir), []
    except Damaged as error:
        return None, [str(error)]


def _record(run_dir: Path, status: RunStatus) -> dict[str, Any]:
    spent, unread = _spent(run_dir)
    return {
        "name": status.name,
        "counts": status.counts,
        "seconds_left": None if status.left is None else status.left.seconds,
        "left": None if status.left is None else status.left._asdict(),
        "cost": None if spent is None else spent.record,
        "notes": [*status.notes, *unread],
        "best": [best._asdict() for best in status.best],
        "trials": [trial._asdict() for trial in status.trials],
    }


def _serve(run_dir: Path, port: int) -> None:
    try:
        server = serve.Server(run_dir, port)
    except OSError as error:
        stop(CANNOT_RUN, f"--port {port}: {error.strerror}; give another, or 0 for a free one")
    typer.echo(f"{run_dir}: {server.url}")
    typer.echo(f"from another machine, first: {server.tunnel}")
    typer.echo("Ctrl-C ends this; the run goes on")
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()


if __name__ == "__main__":
    app()
