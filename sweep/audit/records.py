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
        for place, turn in enumerate(said):
            if held.roles in ("all", turn.role) or turn.role == "text":
                places.append((number, place))
                texts.append(turn.text)
    return overlap.find(held.items, texts, places)


def count_languages(_nothing: None, conversations: Numbered) -> tongues.Tally:
    tally = tongues.Tally()
    for _number, said in conversations:
        tally.add([turn.text for turn in said if turn.role != "system"])
    return tally


def nothing_read(record: dict[str, Any]) -> list[str]:
    """Where an audit read nothing, and so says nothing: a line for each, empty where none."""
    if "rule" not in record:
        return [
            f"{data['name']}: no text was read in {sum(data['conversations'].values()):,} "
            "conversations, so nothing is known of its languages"
            for data in record["data"]
            if not sum(data["characters"].values())
        ]
    rule = record["rule"]
    lines = [
        f"{data['name']}: no token was read in {data['rows']:,} rows ({rule['turns']} turns), "
        "so nothing is known of its contamination; use --turns all (turns: all) or other data"
        for data in record["data"]
        if not data["tokens"]
    ]
    return lines + [
        f"{benchmark['name']}: all {benchmark['items']:,} items are shorter than "
        f"{rule['n']} tokens, so none can be found; use a smaller --n (n)"
        for benchmark in record["benchmarks"]
        if benchmark["too_short"] == benchmark["items"]
    ]


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
        for benchmark, first in _with_first(benchmarks):
            hit = best.share[first : first + len(benchmark.items)] > rule.threshold
            short = index.too_short[first : first + len(benchmark.items)]
            known = counts["tokens"] > 0 and not short.all()
            table.append({"data": name, **_row(benchmark, hit, known)})
            for place in np.flatnonzero(hit).tolist():
                item = benchmark.items[place]
                pair = _pair(item, first + place, best, rule)
                pairs.append({"data": name, "benchmark": benchmark.benchmark, **pair})
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
                "too_short": int(index.too_short[first : first + len(benchmark.items)].sum()),
            }
            for benchmark, first in _with_first(benchmarks)
        ],
        "table": table,
        "cores": cores,
    }
    lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    files.write_text(out / CONTAMINATED, "".join(lines))
    files.write_json(out / CONTAMINATION, record)
    return record


def _with_first(benchmarks: Sequence[Items]) -> Iterator[tuple[Items, int]]:
    """Each benchmark with the number of its first item among those of all."""
    first = 0
    for benchmark in benchmarks:
        yield benchmark, first
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
