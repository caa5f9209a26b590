"""Write a grid file: `python -m sweep.new`. It asks what the options do not say.

    python -m sweep.new --kind sft --model HuggingFaceTB/SmolLM2-135M --data train.jsonl \
        --benchmarks arc,gsm8k --gpus 1 --hours 8 --out grids/mine.yaml

The axes are centred where published settings of models of that size lie, and sized to the hours.
"""

import math
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from sweep import grid_size
from sweep.grid_template import Wanted
from sweep.gridfile import load
from sweep.gridfile.keys.schema import Grid
from sweep.gridfile.load import GridError
from sweep.plan import starting_points
from trainers.cli import BAD_INPUT, refusing, stop
from trainers.data.rows import sources
from trainers.models import load as models

Answer = TypeVar("Answer", str, int, float)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@refusing
def main(
    kind: Annotated[
        str | None, typer.Option(help="sft, dpo, reward or rlvr: what is swept.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hub id, folder, .gguf file, or tiny.")] = None,
    data: Annotated[str | None, typer.Option(help="Hub id, or a file or folder of rows.")] = None,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Rows of the data to train on, where it has more.")
    ] = None,
    benchmarks: Annotated[
        str | None, typer.Option(help="Names with commas; empty: held-out data alone.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs at hand; 0: CPUs alone.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours until it should be done.")] = None,
    parameters: Annotated[
        float | None, typer.Option(help="Of the model, e.g. 1.7e9, where it is not known here.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the grid and its run folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
) -> None:
    """Write a grid file for a model, data, benchmarks, GPUs and hours."""
    kinds = ", ".join(starting_points.PUBLISHED)
    kind = kind or _ask(f"What is swept ({kinds})?", "sft")
    if kind not in starting_points.PUBLISHED:
        stop(BAD_INPUT, f"--kind {kind!r}: use one of {kinds}")
    model = model or _ask("Model (hub id, folder, .gguf file)?", "HuggingFaceTB/SmolLM2-135M")
    data = data or _ask("Data (hub id, file or folder)?", starting_points.PUBLISHED[kind].data)
    for problem in (models.problem(model), sources.problem(data)):
        if problem:
            stop(BAD_INPUT, problem)
    if benchmarks is None:
        benchmarks = _ask(
            "Benchmarks (names with commas)?", starting_points.PUBLISHED[kind].benchmarks
        )
    gpus = _ask("GPUs at hand?", 1) if gpus is None else gpus
    if gpus < 0:
        stop(BAD_INPUT, f"--gpus {gpus}: give 0 or more")
    hours = _ask("Hours?", 8.0) if hours is None else hours
    if not (math.isfinite(hours) and hours > 0):
        stop(BAD_INPUT, f"--hours {hours}: give a number of hours above 0")
    name = name or (out.stem if out else f"{kind}_lr_bs")
    out = out or Path("grids", f"{name}.yaml")
    if out.exists() and not force:
        stop(BAD_INPUT, f"{out}: is there already; give --out another name, or --force")
    wanted = Wanted(
        name=name,
        kind=kind,
        model=model,
        data=data,
        examples=examples,
        benchmarks=[one.strip() for one in benchmarks.split(",") if one.strip()],
        gpus=gpus,
        hours=hours,
        parameters=parameters,
        file=str(out),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}")

    def loaded(text: str) -> Grid:
        part.write_text(text, encoding="utf-8")
        return load.load(part)

    try:
        loaded(grid_size.text(wanted, loaded))
        part.replace(out)
    except GridError as error:
        stop(BAD_INPUT, str(error).replace(str(part), str(out)))
    finally:
        part.unlink(missing_ok=True)
    typer.echo(f"{out}: look at the plan with: python -m sweep.run {out} --dry-run")


def _ask(question: str, default: Answer) -> Answer:
    """Asked again until the answer is of the default's type."""
    try:
        return typer.prompt(question, default=default)
    except typer.Abort:
        stop(BAD_INPUT, f"{question} Nobody answers here; give it as an option (--help lists them)")


if __name__ == "__main__":
    app()
