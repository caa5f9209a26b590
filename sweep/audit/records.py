"""The two audits of named data sets -> records in a folder, which the report reads."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis.audit import contamination as overlap
from analysis.audit import languages as tongues
from analysis.audit import passages
from analysis.audit.tables import CONTAMINATED, CONTAMINATION, LANGUAGES
from sweep.audit import scan
from sweep.audit.conversations import Numbered, Work, parts
from sweep.gridfile.keys.schema import Audit
from trainers import files
from trainers.tasks.items import Item, Items

AROUND = 240
"""Characters of a training document that are kept on each side of an overlap."""


class Held(NamedTuple):
    """What a process that looks for overlaps holds."""

    items: overlap.Index
    roles: str


def count_overlaps(held: Held, conversations: Numbered) -> overlap.Found:
    places, texts = [], []
    for number, said in conversations:
        for turn, place in said.items():
            if held.roles in ("all", turn.role) or turn.role == "text":
                places.append((number, place))
                texts.append(turn.text)
    return overlap.find(held.items, texts, places)


def count_languages(_nothing: None, conversations: Numbered) -> tongues.Tally:
    tally = tongues.Tally()
    for _number, said in conversations:
        tally.add([turn.text for turn in said if turn.role not in ("system", "developer")])
    return tally


def contamination(
    data: dict[str, scan.Reading],
    benchmarks: Sequence[Items],
    asked: Audit,
    out: Path,
    cores: int,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Look for the benchmarks' items in each data set; writes the records and returns the table.

    Raises:
        DataUnavailable: data cannot be had, or too many of its rows cannot be read.
    """
    rule = overlap.Rule(asked.n, asked.threshold, asked.normalisation)
    index = overlap.Index(
        [item.fields for benchmark in benchmarks for item in benchmark.items], rule
    )
    read, table, pairs = [], [], []
    anywhere = np.zeros(index.items, dtype=bool)
    for name, reading in data.items():
        begun = time.monotonic()
        best = overlap.Best(index.items, rule.threshold)
        rows = unreadable = 0
        work = Work(count_overlaps, Held(index, asked.turns))
        for part in parts(name, reading, work, cores):
            best.add(part.result)
            rows += part.rows
            unreadable += len(part.unreadable)
        counts = dict(zip(("documents", "tokens"), best.read.tolist(), strict=True))
        counts |= {"rows": rows, "unreadable": unreadable}
        read.append({"name": name, **counts, "seconds": _since(begun)})
        anywhere |= best.share > rule.threshold
        for benchmark, items in _with_items(benchmarks):
            first, hit = items.start, best.share[items] > rule.threshold
            known = counts["tokens"] > 0 and not index.too_short[items].all()
            table.append({"data": name, **_row(benchmark, hit, known)})
            for place in np.flatnonzero(hit).tolist():
                item = benchmark.items[place]
                pair = _pair(item, first + place, best, rule)
                pairs.append({"data": name, "benchmark": benchmark.benchmark, **pair})
    total = sum(counts["tokens"] for counts in read)
    record: dict[str, Any] = {
        **facts,
        "rule": {**rule._asdict(), "turns": asked.turns},
        "data": read,
        "benchmarks": [
            {
                "name": benchmark.benchmark,
                "source": benchmark.source,
                "items": len(benchmark.items),
                "public": benchmark.public,
                "compared": list(benchmark.compared),
                "too_short": int(index.too_short[items].sum()),
            }
            for benchmark, items in _with_items(benchmarks)
        ],
        "table": table,
        "together": [
            _row(benchmark, anywhere[items], not index.too_short[items].all() and total > 0)
            for benchmark, items in _with_items(benchmarks)
        ],
        "cores": cores,
    }
    lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    files.write_text(out / CONTAMINATED, "".join(lines))
    files.write_json(out / CONTAMINATION, record)
    return record


def _with_items(benchmarks: Sequence[Items]) -> Iterator[tuple[Items, slice]]:
    """Each benchmark with the place of its items among those of all."""
    first = 0
    for benchmark in benchmarks:
        yield benchmark, slice(first, first + len(benchmark.items))
        first += len(benchmark.items)


def _row(benchmark: Items, hit: np.ndarray, known: bool) -> dict[str, Any]:
    """A share with its counts, and its interval where the items are a sample of the benchmark's;
    without a share where nothing could be found."""
    hits, items = int(hit.sum()), len(hit)
    row: dict[str, Any] = {
        "benchmark": benchmark.benchmark,
        "contaminated": hits,
        "items": items,
        "share": None,
    }
    if not known:
        return row
    if benchmark.public is not None and items < benchmark.public:
        row |= dict(zip(("low", "high"), overlap.interval(hits, items), strict=True))
    return row | {"share": hits / items}


def _pair(item: Item, number: int, best: overlap.Best, rule: overlap.Rule) -> dict[str, Any]:
    left, right = passages.side_by_side(item.fields, best.texts[number], rule)
    row, turn = best.place[number].tolist()
    return {
        "item": item.name,
        "share": round(float(best.share[number]), 4),
        "row": row + 1,
        "turn": turn + 1,
        "documents": int(best.documents[number]),
        "item_text": left,
        "document_text": passages.clipped(right, AROUND),
    }


def languages(
    data: dict[str, scan.Reading], out: Path, cores: int, facts: dict[str, Any]
) -> dict[str, Any]:
    """Count the languages of each data set; writes the record and returns it.

    Raises:
        DataUnavailable: data cannot be had, or too many of its rows cannot be read.
    """
    rows = []
    for name, reading in data.items():
        begun = time.monotonic()
        tally = tongues.Tally()
        unreadable = 0
        for part in parts(name, reading, Work(count_languages, None), cores):
            tally.merge(part.result)
            unreadable += len(part.unreadable)
        counts = {
            "unreadable": unreadable,
            "conversations": dict(tally.conversations.most_common()),
            "characters": dict(tally.characters.most_common()),
        }
        rows.append({"name": name, **counts, "seconds": _since(begun)})
    record = {**facts, "data": rows, "cores": cores}
    files.write_json(out / LANGUAGES, record)
    return record


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 2)
