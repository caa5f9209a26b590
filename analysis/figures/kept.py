"""Which figures of a folder are drawn already: one is drawn again where its numbers changed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import matplotlib

from analysis.figures import draw, fonts, style
from analysis.figures.chart import Chart, Multiples, plain

RECORD = ".drawn.json"
"""Beside the folder: name of a figure -> hash of what it was drawn from."""

FORMATS = ("png", "pdf", "svg", "csv")


def drawn(path: Path, chart: Chart | Multiples, table: bytes) -> str | None:
    """The SVG of a figure to stand in a page, where PATH's files hold it already; else None."""
    files = [path.with_name(f"{path.name}.{suffix}") for suffix in FORMATS]
    if _read(path.parent).get(path.name) != _mark(chart, table) or not all(map(Path.exists, files)):
        return None
    return style.embedded(path.with_name(f"{path.name}.svg").read_text(encoding="utf-8"))


def keep(path: Path, chart: Chart | Multiples, table: bytes) -> None:
    """Remember what PATH's files were drawn from."""
    record = _read(path.parent) | {path.name: _mark(chart, table)}
    text = json.dumps(record, indent=0, sort_keys=True)
    path.parent.with_name(RECORD).write_text(text, encoding="utf-8")


def _read(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads(folder.with_name(RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _mark(chart: Chart | Multiples, table: bytes) -> str:
    """Of the numbers, and of the code that draws them."""
    digest = hashlib.sha256(json.dumps(plain(chart)).encode())
    digest.update(table)
    digest.update(matplotlib.__version__.encode())
    for module in (draw, style, fonts):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]
