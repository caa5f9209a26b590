"""The end of a run in a terminal: the answer, as on the first screen of the report.

Read from report/recommendations.json, so a program that reads that file sees the same.
"""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sweep.storage.status_reader import RunStatus, TrialStatus
from trainers.files import read_json

RECOMMENDATIONS = Path("report") / "recommendations.json"


def show(console: Console, run_dir: Path) -> None:
    """Print the answer of a run folder; nothing where it has no report yet."""
    record = read_json(run_dir / RECOMMENDATIONS)
    if record is not None:
        console.print(answer(record, console.width))


def as_it_stands(run_dir: Path, run: RunStatus) -> dict[str, Any] | None:
    """The answer of all scores there are: the report's, where no trial has ended since it was
    written, else computed anew, in seconds. None before there is anything to go by."""
    ended = [trial for trial in run.trials if trial.state in ("ok", "diverged")]
    path = run_dir / RECOMMENDATIONS
    if path.exists() and not any(_is_newer(run_dir, trial, path) for trial in ended):
        return read_json(path)
    if not any(len(scores) > 1 for scores in run.scores.values()):
        return None
    from analysis.report import build

    return build.answers_so_far(run_dir)


def _is_newer(run_dir: Path, trial: TrialStatus, than: Path) -> bool:
    attempts = run_dir / "trials" / trial.folder / "attempts.jsonl"
    return attempts.exists() and attempts.stat().st_mtime > than.stat().st_mtime


WIDE = 100
"""Columns from which an interval stands beside its rate, not below."""


def answer(record: dict[str, Any], width: int) -> RenderableType:
    """Of each third axis its sentences; of each grid the sentence, the learning rates by batch size
    and what to do next; for a terminal of `width` columns."""
    stages = record.get("stages", {})
    axes = [_axis(axis) for axis in record.get("setting_axes", [])]
    return Group(*axes, *(_stage(name, stage["summary"], width) for name, stage in stages.items()))


def _axis(axis: dict[str, Any]) -> RenderableType:
    """What a third axis says of each benchmark."""
    held = f", {axis['held']}" if axis["held"] else ""
    lines = [Text(f"{axis['stage']} across {axis['setting']}{held}", style="bold")]
    sentences = [text for one in axis["benchmarks"].values() for text in one["sentences"]]
    return Group(*lines, *(Text(f"- {text}") for text in sentences), Text())


def _stage(name: str, summary: dict[str, Any], width: int) -> RenderableType:
    rates = summary["learning_rates"]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in rates["columns"]:
        table.add_column(column, justify="right" if column == "batch size" else "left")
    for size, *texts in rates["rows"]:
        break_line = "\n" if len(texts) > 2 and width < WIDE else " "
        table.add_row(str(size), *(_rate(text, break_line) for text in texts))
    lines = [Text.assemble((f"{name}: ", "bold"), (summary["headline"], "bold green")), Text()]
    if rates["rows"]:
        lines += [Text("best learning rate at each batch size (95 % interval)"), table]
    lines += [Text(f"- {text}") for text in summary["settings"]]
    lines.append(Text.assemble(("next: ", "bold"), summary["next_step"]["sentence"]))
    return Group(*lines, Text())


def _rate(text: str, separator: str) -> Text:
    """The rate bright, its interval dim; what is open or at an edge in yellow."""
    value, bracket, interval = text.partition(" (")
    if bracket:
        return Text.assemble((value, "bold"), separator, (f"({interval}", "dim"))
    return Text(text, style="" if text == "-" else "yellow")
