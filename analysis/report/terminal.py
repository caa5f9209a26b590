"""The answer in a terminal, as on the first screen of the page.

Made from recommendations.json, so a program that reads that file sees the same.
"""

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.text import title

RECOMMENDATIONS = "recommendations.json"
"""Beside index.html."""

WIDE = 100
"""Columns from which an interval stands beside its rate, not below."""


def answer(record: dict[str, Any], width: int) -> RenderableType:
    """Of each third axis its sentences; of each grid the sentence, the learning rates by batch size
    and what to do next; for a terminal of `width` columns. Of several runs that of each, then
    what their comparison says."""
    if runs := record.get("runs"):
        each = [
            Group(Text(name, style="bold underline"), _run(run, width))
            for name, run in runs.items()
        ]
        return Group(*each, Text(record["comparison"]["headline"], style="bold green"), Text())
    return _run(record, width)


def _run(record: dict[str, Any], width: int) -> RenderableType:
    stages = record.get("stages", {})
    axes = [_axis(axis) for axis in record.get("setting_axes", [])]
    return Group(*axes, *(_stage(stage, width) for stage in stages.values()))


def _axis(axis: dict[str, Any]) -> RenderableType:
    """What a third axis says of each benchmark."""
    held = f", {axis['held']}" if axis["held"] else ""
    lines = [Text(f"{title(axis['stage'])} across {axis['setting']}{held}", style="bold")]
    sentences = [text for one in axis["benchmarks"].values() for text in one["sentences"]]
    sentences += axis.get("notes", [])
    return Group(*lines, *(Text(f"- {text}") for text in sentences), Text())


def _stage(stage: dict[str, Any], width: int) -> RenderableType:
    name, summary = title(stage["stage"], stage["arm"]), stage["summary"]
    rates = summary["learning_rates"]
    sized = all(size is not None for size, *_ in rates["rows"])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in rates["columns"][0 if sized else 1 :]:
        table.add_column(column, justify="right" if column == "batch size" else "left")
    for size, *texts in rates["rows"]:
        break_line = "\n" if len(texts) > 2 and width < WIDE else " "
        shown = [_rate(text, break_line) for text in texts]
        table.add_row(*([str(size)] if sized else []), *shown)
    lines = [Text.assemble((f"{name}: ", "bold"), (summary["headline"], "bold green")), Text()]
    if rates["rows"]:
        where = " at each batch size" if sized else ""
        lines += [Text(f"best learning rate{where} (95 % interval)"), table]
    lines += [Text(f"- {text}") for text in rates.get("notes", [])]
    lines += [Text(f"- {text}") for text in summary["settings"]]
    lines.append(Text.assemble(("next: ", "bold"), summary["next_step"]["sentence"]))
    return Group(*lines, Text())


def _rate(text: str, separator: str) -> Text:
    """The rate bright, its interval dim; what is open or at an edge in yellow."""
    value, bracket, interval = text.partition(" (")
    if bracket:
        return Text.assemble((value, "bold"), separator, (f"({interval}", "dim"))
    return Text(text, style="" if text == "-" else "yellow")
