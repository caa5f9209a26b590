"""What became of the rows of a stage's data: counts.json beside the tokens. Loads no torch."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from trainers.data.rows import sources
from trainers.specs.data import DataSpec
from trainers.specs.fields import Strict
from trainers.specs.training import TrainingSpec

FILE = "counts.json"

KEPT_REASONS, SHOWN_REASONS = 100, 5
"""Reasons why rows of a data set cannot be read."""

SHOWN = 10
"""Of the columns, or files, that are not read."""


CONVERSATIONS_AS_TEXT = (
    "texts that are conversations, of which the questions count too (give such rows as "
    "`messages`, or say `loss_on: all`)"
)

SPACED_ANSWERS = (
    "with an answer that begins with white space, as TRL joins it to its prompt (here it is a turn "
    "of the chat template)"
)

IN_WORDS = (
    r"truths in words, which the grader math finds in \boxed{} alone (give them a "
    "`reward: path.py:function` of your own)"
)


class Counts(Strict):
    """Of one data set, or of a whole mixture. Every row is in exactly one of `train`, `heldout`,
    `dropped`, `duplicates`, `empty` and `unreadable`."""

    rows: int
    """Rows of one epoch, the held-out ones too."""
    train: int
    heldout: int
    truncated: int
    """Of those kept, the ones that were longer than `max_length`."""
    dropped: int
    """No token is left that counts in the loss; or the two texts of a pair are the same up to
    `max_length`; or a prompt is longer than that."""
    duplicates: int
    """The model reads in it the same as in a row that is held out."""
    empty: int
    """All that should count in the loss is blank; or the two answers of a pair are the same, or one
    is blank."""
    tokens: int
    """Of the examples to train on."""
    loss_tokens: int
    """Those of them that count in the loss."""
    unreadable: int = 0
    """In no known form, or refused by the chat template."""
    folded: int = 0
    """Of those kept, the ones whose system turn stands at the beginning of the first user turn,
    since the chat template writes no system turn."""
    rendered: int = 0
    """Of those kept, the texts that hold the tokens of the chat template, or marks of turns of
    another one: conversations of which what the user says counts too."""
    spaced: int = 0
    """Of those kept, the ones with an answer that begins with white space, within its turn."""
    worded: int = 0
    """Of those kept, the prompts whose truth the grader `math` compares though it has words."""

    @property
    def tokens_per_example(self) -> float:
        return self.tokens / max(self.train, 1)

    @property
    def unreadable_share(self) -> float:
        return self.unreadable / max(self.rows, 1)

    def line(self) -> str:
        """In words, for the start of a run and its plan."""
        kept = max(self.train + self.heldout, 1)
        left_out = [
            f"{number:,} {what}"
            for number, what in (
                (self.dropped, "without a token that counts"),
                (self.duplicates, "like a held-out one"),
                (self.empty, "empty"),
                (self.unreadable, "that cannot be read"),
            )
            if number
        ]
        return (
            f"{self.rows:,} rows: {self.train:,} to train on ({self.tokens_per_example:,.0f} tokens"
            f" each, {self.loss_tokens / max(self.tokens, 1):.0%} of them count), "
            f"{self.heldout:,} held out, {self.truncated:,} truncated "
            f"({self.truncated / kept:.1%}); left out: {', '.join(left_out) or 'none'}"
            + (f"; {self.folded:,} with the system turn in the first user turn" * bool(self.folded))
            + (f"; {self.rendered:,} {CONVERSATIONS_AS_TEXT}" * bool(self.rendered))
            + (f"; {self.spaced:,} {SPACED_ANSWERS}" * bool(self.spaced))
            + (f"; {self.worded:,} {IN_WORDS}" * bool(self.worded))
        )


KINDS = tuple(Counts.model_fields)


class Unreadable(Strict):
    """Why rows of one data set cannot be read: the most frequent reasons."""

    reasons: dict[str, int]
    """Rows for each reason."""
    first: dict[str, int]
    """The number of the first row for each reason, from 1."""
    others: int
    """Rows for whose reasons there is no place."""

    def lines(self) -> list[str]:
        """One for each reason, by the number of its first row."""
        shown = sorted(self.first.items(), key=lambda reason: reason[1])[:SHOWN_REASONS]
        left = self.others + sum(self.reasons.values())
        left -= sum(self.reasons[reason] for reason, _ in shown)
        lines = [f"row {row:,}{_more(self.reasons[reason] - 1)}: {reason}" for reason, row in shown]
        return lines + ([f"{left:,} rows for other reasons"] if left else [])

    def refusal(self, counts: Counts, allowed: float) -> str:
        """Why none of the data is used."""
        what = (
            f"{counts.unreadable:,} of {counts.rows:,} rows cannot be read "
            f"({counts.unreadable_share:.1%}, and `max_unreadable` allows {allowed:.1%}):"
        )
        return "\n  ".join([what, *self.lines()])


def _rows(rows: int) -> str:
    return f"{rows:,} row" + "s" * (rows != 1)


def _more(rows: int) -> str:
    return f" and {rows:,} more" if rows else ""


class Reasons:
    """Collects why rows cannot be read, by source."""

    def __init__(self, names: list[str]):
        self._names = names
        self._by_source: list[dict[str, list[int]]] = [{} for _ in names]
        """The number of the first row, and how many, for each reason."""
        self._others = [0] * len(names)

    def add(self, problems: list[tuple[int, int, str]]) -> None:
        for source, row, reason in problems:
            known = self._by_source[source]
            if reason in known:
                first, rows = known[reason]
                known[reason] = [min(first, row), rows + 1]
            elif len(known) < KEPT_REASONS:
                known[reason] = [row, 1]
            else:
                self._others[source] += 1

    def by_name(self) -> dict[str, Unreadable]:
        return {
            name: Unreadable(
                reasons={reason: rows for reason, (_, rows) in known.items()},
                first={reason: first for reason, (first, _) in known.items()},
                others=others,
            )
            for name, known, others in zip(self._names, self._by_source, self._others, strict=True)
            if known
        }


class Preparation(Strict):
    """What was asked for, and what became of each of its data sets."""

    asked: dict[str, Any]
    sources: dict[str, Counts]
    unreadable: dict[str, Unreadable] = Field(default_factory=dict)
    unread_columns: dict[str, list[str]] = Field(default_factory=dict)
    """Columns of each data set that no example is made of."""
    left_out: dict[str, dict[str, int]] = Field(default_factory=dict)
    """What of the messages of each data set no example is made of, and in how many rows."""
    left_aside: dict[str, list[str]] = Field(default_factory=dict)
    """Files in the folder of each data set that are of another kind than those which are read."""
    template_faults: list[str] = Field(default_factory=list)
    """What the chat template does not write and a model needs to answer."""
    template_date: str | None = None
    """The date that the chat template prints into every prompt, whatever today is."""

    @property
    def total(self) -> Counts:
        sources = self.sources.values()
        return Counts(**{kind: sum(getattr(counts, kind) for counts in sources) for kind in KINDS})

    def lines(self) -> list[str]:
        """One for each data set, and what is not or cannot be read of it."""
        lines = []
        for place, counts in self.sources.items():
            name = place.rpartition("/")[2] if place.startswith("/") else place
            lines.append(f"data {name}: {counts.line()}")
            if columns := self.unread_columns.get(place):
                lines.append(f"data {name}: columns that are not read: {_listed(columns)}")
            if parts := self.left_out.get(place):
                listed = ", ".join(f"{part} ({_rows(rows)})" for part, rows in parts.items())
                lines.append(f"data {name}: left out of the text: {listed}")
            if files := self.left_aside.get(place):
                lines.append(
                    f"data {name}: files that are not read, as there are .jsonl or .parquet files: "
                    f"{_listed(files)}; convert them, or name each in a list of `data`"
                )
            if place in self.unreadable:
                lines += [f"data {name}: {line}" for line in self.unreadable[place].lines()]
        lines += [f"chat template: {fault}" for fault in self.template_faults]
        if self.template_date:
            lines.append(f"chat template: it prints the date, which is {self.template_date} always")
        return lines


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def too_few(spec: TrainingSpec, rows: int) -> str | None:
    """Why so many rows to train on are too few, or None. An optimizer step takes a whole batch, or
    the ratio of learning rate and batch size would be another than the grid's."""
    if rows == 0:
        return "no example is left to train on"
    if rows >= spec.rows_per_step:
        return None
    examples = rows * spec.examples_per_row
    return (
        f"batch_size {spec.batch_size:,} is more than the {examples:,} {spec.UNIT} that are left "
        f"to train on; use at most {examples:,}, or hold out fewer (`heldout`)"
    )


def asked(spec: TrainingSpec) -> dict[str, Any]:
    """The part of a spec that decides its examples, by names that hold wherever it is asked."""
    return {
        "data": [name(source) for source in spec.sources],
        **spec.data_settings,
        "data_seed": spec.data_seed,
    }


def name(data: DataSpec) -> str:
    """For eyes, and to find the same data set again: which part of what is read."""
    config = f"({data.config})" if data.config else ""
    at = f"@{data.revision}" if data.revision else ""
    split = "" if data.split == "train" and sources.is_local(data.name) else f":{data.split}"
    whole = str(Path(data.name).absolute()) if sources.is_local(data.name) else data.name
    place = f"{whole}{config}{at}{split}"
    part = f"[:{data.examples}]" if data.examples else ""
    weight = f" x {data.weight:g}" if data.weight != 1 else ""
    return f"{place}{part}{weight}"


def write(folder: Path, preparation: Preparation) -> None:
    (folder / FILE).write_text(preparation.model_dump_json(indent=1), encoding="utf-8")


def read(folder: Path) -> Preparation:
    """
    Raises:
        ValueError: it is damaged.
    """
    try:
        return Preparation.model_validate_json((folder / FILE).read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{folder / FILE}: damaged; delete {folder}, and the same command prepares the data "
            "again"
        ) from error


def find(cache: Path, spec: TrainingSpec) -> Preparation | None:
    """What was last prepared for such a spec, or None; reads no data and no tokenizer."""
    records = sorted(cache.glob(f"*/{FILE}"), key=lambda file: file.stat().st_mtime_ns)
    for file in reversed(records):
        try:
            preparation = read(file.parent)
        except ValueError:  # damaged; who opens the data is told
            continue
        if preparation.asked == asked(spec):
            return preparation
    return None
