"""What the training data holds of the benchmarks, and in which languages it is.

    python -m sweep.audit contamination allenai/tulu-3-sft-mixture --benchmarks gsm8k,mmlu
    python -m sweep.audit languages conversations.jsonl

In a sweep, `audit:` in the grid file runs both before any trial. Exit codes: 0 done, 2 the command
line is wrong, 3 nothing was read of some data, 4 data or items are missing, 130 interrupted.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.audit import tables
from sweep.audit import records
from sweep.audit.scan import Reading
from sweep.gridfile.keys.schema import Audit
from trainers.cli import BAD_INPUT, CANNOT_RUN, INTERRUPTED, SOME_FAILED, refusing, stop
from trainers.data.rows import sources
from trainers.data.rows.sources import DataUnavailable
from trainers.processes import devices
from trainers.specs.data import DataSpec
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import items as audit_items
from trainers.tasks.benchmarks import BENCHMARKS
from trainers.tasks.task_files import EvaluationUnavailable

BESIDE = 2
"""Data sets in one table of languages, which has to fit a terminal of 80 columns."""

SHOWN = 3
"""Matching pairs that the terminal shows; the page has more."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(markup=False, emoji=False)

Data = Annotated[
    list[str],
    typer.Argument(metavar="DATA...", help="Local data files or folders, or hub data sets."),
]
Split = Annotated[str, typer.Option(help="Split of hub data sets.")]
Examples = Annotated[
    int | None, typer.Option(min=1, help="A seeded random part of each data set alone.")
]
Out = Annotated[Path, typer.Option(help="Folder of the records and the page.")]
Cores = Annotated[int | None, typer.Option(min=1, help="Processes; all cores when empty.")]


@app.callback()
def main() -> None:
    """What the training data holds of the benchmarks, and in which languages it is."""


@app.command()
@refusing
def contamination(
    data: Data,
    benchmarks: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Benchmarks by name, local files or folders of items (with the fields to compare: "
            "PATH:field+field), or NAME=PATH.",
        ),
    ],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the benchmarks' items as local files.")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Tokens of an n-gram.")] = 8,
    threshold: Annotated[
        float, typer.Option(help="Contaminated above this share of an item's tokens.")
    ] = 0.5,
    turns: Annotated[str, typer.Option(help="user, assistant or all.")] = "user",
    normalisation: Annotated[str, typer.Option(help="tulu, words or none.")] = "tulu",
    split: Split = "train",
    examples: Examples = None,
    out: Out = Path("audit"),
    cores: Cores = None,
) -> None:
    """Share of each benchmark's items that one training document covers for more than half."""
    names = [name.strip() for name in benchmarks.split(",") if name.strip()]
    specs = _data(data, split, examples)
    problems = [problem for name in names if (problem := audit_items.problem(name))]
    if not names:
        problems.append("--benchmarks: name at least one benchmark")
    labels = [audit_items.label(name) for name in names]
    problems += [f"--benchmarks: {audit_items.twice(name)}" for name in _twice(labels)]
    if data_dir is not None and not data_dir.is_dir():
        problems.append(f"--data-dir: no folder {str(data_dir)!r}")
    asked = {"contamination": names, "n": n, "threshold": threshold, "turns": turns}
    audit = Audit()
    try:
        audit = Audit.model_validate({**asked, "normalisation": normalisation})
    except ValidationError as error:
        problems += [f"--{e['loc'][0]}: {e['input']!r}: {e['msg']}" for e in error.errors()]
    if problems:
        stop(BAD_INPUT, "\n".join(problems))
    folder = str(data_dir) if data_dir else None
    evaluate = EvaluateSpec(benchmarks=list(BENCHMARKS), data_dir=folder)
    try:
        with console.status("reading the benchmarks"):
            request = audit_items.Request(benchmarks=tuple(names), evaluate=evaluate)
            items = audit_items.read(request)
        with console.status("reading the data"):
            record = records.contamination(specs, items, audit, out, cores or devices.cores(), {})
    except (DataUnavailable, EvaluationUnavailable) as error:
        stop(CANNOT_RUN, str(error))
    except KeyboardInterrupt:
        stop(INTERRUPTED, "interrupted")
    show_contamination(record)
    show_pairs(out)
    _end(out, record)


@app.command()
@refusing
def languages(
    data: Data,
    split: Split = "train",
    examples: Examples = None,
    out: Out = Path("audit"),
    cores: Cores = None,
) -> None:
    """Share of each language, code and mathematics set apart."""
    specs = _data(data, split, examples)
    try:
        with console.status("reading the data"):
            record = records.languages(specs, out, cores or devices.cores(), {})
    except DataUnavailable as error:
        stop(CANNOT_RUN, str(error))
    except KeyboardInterrupt:
        stop(INTERRUPTED, "interrupted")
    show_languages(record)
    _end(out, record)


def _end(out: Path, record: dict[str, Any]) -> None:
    """Write the page; exit code 3 where nothing was read, and so nothing is known."""
    from analysis.report import build

    for line in tables.unreadable(record):
        _say(line)
    _say(f"page: {build.write_audit(out)}")
    if lines := tables.nothing_read(record):
        stop(SOME_FAILED, "\n".join(lines))


def _data(names: list[str], split: str, examples: int | None) -> dict[str, Reading]:
    """Data sets by name, those with one name told apart by more of their path."""
    problems = [problem for name in names if (problem := sources.problem(name))]
    problems += [f"{name!r} stands twice" for name in _twice(names)]
    if problems:
        stop(BAD_INPUT, "\n".join(problems))
    short = [Path(name).stem if sources.is_local(name) else name for name in names]
    records = {}
    for name, label in zip(names, short, strict=True):
        spec = DataSpec(name=name, split=split, examples=examples)
        records[label if short.count(label) == 1 else name] = Reading(spec)
    return records


def _twice(names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def show_contamination(record: dict[str, Any]) -> None:
    """Per benchmark a row for each data set that holds some of its items or of which nothing is
    known, and one for the rest."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("benchmark", overflow="fold")
    table.add_column("items", justify="right")
    table.add_column("data", overflow="fold")
    table.add_column("%", justify="right")
    table.add_column("contaminated")
    for benchmark in record["benchmarks"]:
        rows = [row for row in record["table"] if row["benchmark"] == benchmark["name"]]
        shown = [(row["data"], row) for row in rows if row["contaminated"]]
        shown += [(row["data"], row) for row in rows if row["share"] is None]
        clean = [row for row in rows if not row["contaminated"] and row["share"] is not None]
        if clean:
            name = f"{len(clean)} data sets" if len(clean) > 1 else clean[0]["data"]
            shown.append((name, clean[0]))
        about = benchmark["name"], f"{benchmark['items']:,}"
        for name, row in shown:
            table.add_row(*about, name, *tables.share_parts(row))
            about = "", ""
    console.print(table)
    rule = record["rule"]
    _say(
        f"percent of items of which one document ({rule['turns']} turns) covers more than "
        f"{rule['threshold']:.0%} of the tokens with {rule['n']}-grams; {record['cores']} cores"
    )
    compared = [f"{b['name']} ({', '.join(b['compared'])})" for b in record["benchmarks"]]
    _say(f"compared of each item: {', '.join(compared)}")
    short = [
        f"{benchmark['name']} {benchmark['too_short']:,}"
        for benchmark in record["benchmarks"]
        if benchmark["too_short"]
    ]
    if short:
        _say(f"items too short to be found by this rule: {', '.join(short)}")
    for data in record["data"]:
        _say(
            f"{data['name']}: {data['rows']:,} rows, {data['tokens']:,} tokens in "
            f"{data['seconds']:.1f} s"
        )


def show_pairs(out: Path) -> None:
    pairs = tables.contaminated(out)
    for pair in pairs[:SHOWN]:
        grid = Table(box=box.SIMPLE_HEAD, show_edge=False, expand=True)
        grid.add_column(f"{pair['benchmark']} {pair['item']}, {pair['share']:.0%}", ratio=1)
        grid.add_column(f"{pair['data']}, row {pair['row']}, turn {pair['turn']}", ratio=1)
        grid.add_row(_marked(pair["item_text"]), _marked(pair["document_text"]))
        console.print(grid)
    if len(pairs) > SHOWN:
        _say(f"... and {len(pairs) - SHOWN} more in {out / tables.CONTAMINATED}")


def _marked(segments: list[tuple[str, bool]]) -> Text:
    return Text.assemble(*((text, "bold yellow" if marked else "") for text, marked in segments))


def show_languages(record: dict[str, Any]) -> None:
    """A row per language or kind that was found, two columns per data set: of conversations, of
    characters. More data sets than fit beside each other are in further tables."""
    rows = tables.language_rows(record)
    for first in range(0, len(record["data"]), BESIDE):
        some = slice(first, first + BESIDE)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        table.add_column("language")
        for data in record["data"][some]:
            table.add_column(f"{data['name']}\nconversations", justify="right", overflow="fold")
            table.add_column("characters", justify="right")
        for row in rows:
            cells = [share for shares in row.shares[some] for share in shares[1:]]
            if any(cells):
                table.add_row(row.name, *map(tables.percent, cells))
        console.print(table)
    for data in record["data"]:
        count = sum(data["conversations"].values())
        _say(f"{data['name']}: {count:,} conversations in {data['seconds']:.1f} s")


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app()
