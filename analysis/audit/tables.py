"""The records of an audit -> its tables beside the paper's, and its page.

A folder of records has contamination.json with contaminated.jsonl, languages.json, or both.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from analysis.audit import published as paper
from analysis.audit.languages import CODE, MATHEMATICS, NO_LANGUAGE, UNDETERMINED
from analysis.tables.records.run_folder import load

FOLDER = "audit"
"""Of the records, in a run folder."""

CONTAMINATION, CONTAMINATED, LANGUAGES = (
    "contamination.json",
    "contaminated.jsonl",
    "languages.json",
)

PAIRS_SHOWN = 20
"""Matching pairs per data set and benchmark on the page; the records have all."""


TOKENS = {
    "tulu": "at spaces and the punctuation of Tulu 3's index, without case",
    "words": "at all that is no letter and no digit, without case",
    "none": "at spaces and compared as written",
}
"""What a normalisation does, in the words of the page."""


class BenchmarkRow(NamedTuple):
    """A benchmark of ours or of the paper. `ours` is in the order of the data, and after several of
    them has the items that any of them contains; empty where the audit did not look for it."""

    name: str
    items: int | None
    public: int | None
    too_short: int | None
    ours: list[dict[str, Any]]
    paper: tuple[float | None, ...]
    compared: list[str]
    """Fields of an item; empty in records that do not say."""


class LanguageRow(NamedTuple):
    """`shares` has for each data set the share of the conversations in one of the paper's twenty
    languages, of all conversations, and of all characters, as fractions or None."""

    name: str
    paper: tuple[float | None, ...]
    shares: list[tuple[float | None, float, float]]


class Pairs(NamedTuple):
    """Contaminated items of one benchmark and one data set: the first of them, and how many."""

    data: str
    benchmark: str
    shown: list[dict[str, Any]]
    total: int


class Audit(NamedTuple):
    """What the page of a folder of records shows. `contamination` and `languages` are the records;
    of an audit that was not made its record is None, and the rest is empty. `contaminated_items`
    counts an item once; `unknown` says where nothing was read."""

    contamination: dict[str, Any] | None = None
    benchmarks: Sequence[BenchmarkRow] = ()
    pairs: Sequence[Pairs] = ()
    contaminated_items: int = 0
    unknown: Sequence[str] = ()
    languages: dict[str, Any] | None = None
    language_rows: Sequence[LanguageRow] = ()


def read(folder: Path) -> Audit | None:
    """None where there are no records.

    Raises:
        ResultsError: a record is not JSON.
    """
    audit = Audit()
    if (folder / CONTAMINATION).exists():
        record = load(folder / CONTAMINATION)
        pairs = contaminated(folder)
        items = len({pair["item"] for pair in pairs})
        audit = Audit(record, benchmark_rows(record), _grouped(pairs), items, nothing_read(record))
    if (folder / LANGUAGES).exists():
        record = load(folder / LANGUAGES)
        audit = audit._replace(languages=record, language_rows=language_rows(record))
    return None if audit == Audit() else audit


def contaminated(folder: Path) -> list[dict[str, Any]]:
    """The contaminated items, each with the training document that covers most of it."""
    path = folder / CONTAMINATED
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def unreadable(record: dict[str, Any]) -> list[str]:
    """A line for each data set of which some rows cannot be read."""
    return [
        f"{data['name']}: {data['unreadable']:,} rows cannot be read and are left out"
        for data in record["data"]
        if data["unreadable"]
    ]


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
        f"{benchmark['name']}: of all {benchmark['items']:,} items too much is shorter "
        f"than {rule['n']} tokens, so none can be found; use a smaller --n (n)"
        for benchmark in record["benchmarks"]
        if benchmark["too_short"] == benchmark["items"]
    ]


def too_short(record: dict[str, Any]) -> list[str]:
    """A line for each benchmark of which some items, not all, are too short to be found."""
    return [
        f"{benchmark['name']}: {benchmark['too_short']:,} of {benchmark['items']:,} items are too "
        f"short for {record['rule']['n']}-grams and cannot be found"
        for benchmark in record["benchmarks"]
        if 0 < benchmark["too_short"] < benchmark["items"]
    ]


def benchmark_rows(record: dict[str, Any]) -> list[BenchmarkRow]:
    """The benchmarks that were audited, in order, then the rest of the paper's table."""
    none: tuple[None, ...] = (None,) * len(paper.STAGES)
    together = record.get("together", []) if len(record["data"]) > 1 else []
    rows = [
        BenchmarkRow(
            benchmark["name"],
            benchmark["items"],
            benchmark["public"],
            benchmark["too_short"],
            [row for row in [*record["table"], *together] if row["benchmark"] == benchmark["name"]],
            paper.CONTAMINATION.get(benchmark["name"], none),
            benchmark.get("compared", []),
        )
        for benchmark in record["benchmarks"]
    ]
    names = {row.name for row in rows}
    rest = [name for name in paper.CONTAMINATION if name not in names]
    return rows + [
        BenchmarkRow(name, None, None, None, [], paper.CONTAMINATION[name], []) for name in rest
    ]


def language_rows(record: dict[str, Any]) -> list[LanguageRow]:
    """The paper's twenty, the other languages that were found, and what is no language."""
    counted = [(data["conversations"], data["characters"]) for data in record["data"]]
    codes = {code for counts in counted for part in counts for code in part}
    others = codes - set(paper.LANGUAGES) - set(NO_LANGUAGE)
    often = sorted(others, key=lambda code: (-sum(c.get(code, 0) for c, _ in counted), code))
    none: tuple[None, ...] = (None,) * len(paper.STAGES)
    names = {code: (name, shares) for code, (name, shares) in paper.LANGUAGES.items()}
    names |= {code: (f"other: {code}", none) for code in often}
    names |= {kind: (kind, none) for kind in (CODE, MATHEMATICS, UNDETERMINED)}
    return [
        LanguageRow(name, shares, [_shares(code, *counts) for counts in counted])
        for code, (name, shares) in names.items()
    ]


def _shares(
    code: str, conversations: dict[str, int], characters: dict[str, int]
) -> tuple[float | None, float, float]:
    twenty = sum(conversations.get(known, 0) for known in paper.LANGUAGES)
    mine = conversations.get(code, 0)
    return (
        mine / max(twenty, 1) if code in paper.LANGUAGES else None,
        mine / max(sum(conversations.values()), 1),
        characters.get(code, 0) / max(sum(characters.values()), 1),
    )


def _grouped(pairs: Sequence[dict[str, Any]]) -> list[Pairs]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for pair in pairs:
        groups.setdefault((pair["data"], pair["benchmark"]), []).append(pair)
    return [
        Pairs(data, benchmark, members[:PAIRS_SHOWN], len(members))
        for (data, benchmark), members in groups.items()
    ]


def percent(share: float | None) -> str:
    """As the paper's tables write it: two decimals; what is not zero never shows as zero."""
    if share is None:
        return "-"
    return "< 0.01" if 0 < share < 0.00005 else f"{100 * share:.2f}"


def share_parts(row: dict[str, Any]) -> tuple[str, str]:
    """`0.15` and `2 of 1319`, the latter with the interval of the former where the items are a
    sample of the benchmark."""
    counts = f"{row['contaminated']} of {row['items']}"
    if "low" in row:
        counts += f", {percent(row['low'])} to {percent(row['high'])} %"
    return percent(row["share"]), counts
