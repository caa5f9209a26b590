"""How a run stands: `python -m sweep.status RUN_DIR`, from any terminal, while it runs or after.

`--json` is for programs.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sweep.schedule import spending
from sweep.storage.status_reader import Reader
from sweep.terminal import answer, progress
from trainers.cli import refusing
from trainers.files import Damaged

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@refusing
def main(
    run_dir: Annotated[Path, typer.Argument(help="A run folder, e.g. runs/quickstart.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how a run stands."""
    try:
        status = Reader(run_dir).read()
    except FileNotFoundError:
        Console(stderr=True).print(f"{run_dir}: no run folder (it has no plan.csv)", markup=False)
        raise typer.Exit(2) from None
    except Damaged as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(4) from None
    if as_json:
        record = {
            "name": status.name,
            "counts": status.counts,
            "seconds_left": status.seconds_left,
            "cost": spending.so_far(run_dir)._asdict(),
            "best": [best._asdict() for best in status.best],
            "trials": [trial._asdict() for trial in status.trials],
        }
        print(json.dumps(record, indent=1))
    else:
        console = Console()
        console.print(progress.status(status))
        console.print(f"cost so far: {spending.so_far(run_dir).words}", highlight=False)
        answer.show(console, run_dir)


if __name__ == "__main__":
    app()
