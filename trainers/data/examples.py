"""Rows -> examples: tokens with labels, and what became of each row."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from trainers.data.forms import tokenize
from trainers.data.forms.layouts import COLUMNS, FORMS, Form
from trainers.data.forms.tokenize import IGNORED
from trainers.data.row_counts import KINDS
from trainers.data.rows.sources import Order
from trainers.data.rows.stored_rows import Damaged, Row, Rows
from trainers.data.rows.watched import ColumnsRead, Watched
from trainers.specs.training import TrainingSpec

CHUNK = 256
"""Rows that a process takes at a time; a part of the format, so that the bytes do not depend on
the number of processes."""

EMPTY = np.zeros(0, dtype=np.int32)

ODD = (ValueError, TypeError, LookupError, AttributeError)
"""What reading a row of another form raises."""


class Work(NamedTuple):
    """What every process needs to turn a piece of the order into examples."""

    spec: TrainingSpec
    tokenizer: PreTrainedTokenizerBase
    stored: list[Rows]
    order: Order
    heldout: frozenset[str] = frozenset()
    """`content` of the examples that are held out."""

    @property
    def form(self) -> Form:
        return FORMS[self.spec.FORM]

    @property
    def schema(self) -> pa.Schema:
        return self.form.columns.arrow_schema


class Example(NamedTuple):
    """One row of the order and what becomes of it."""

    source: int
    item: str
    """Hash of the row as it is stored, which names it in records."""
    fate: str
    """`train`, `heldout`, `dropped`, `duplicates`, `empty` or `unreadable`."""
    content: str = ""
    """Hash of the texts that the model reads: the same in rows that differ elsewhere."""
    ids: np.ndarray = EMPTY
    labels: np.ndarray = EMPTY
    truncated: bool = False
    folded: bool = False
    rendered: bool = False
    spaced: bool = False
    worded: bool = False
    extra: tuple = ()
    """What stands in the columns of its form alone."""
    problem: tuple[int, str] | None = None
    """The number of a row that cannot be read, from 1, and why."""
    row: Watched | None = None
    """As it was read."""


class Examples(NamedTuple):
    batch: pa.RecordBatch
    tally: np.ndarray
    """A row per source, a column for each of `KINDS`."""
    problems: list[tuple[int, int, str]]
    """Source, number and reason of the rows that cannot be read."""
    columns: list[ColumnsRead]
    """Of each source."""


class HeldOut(NamedTuple):
    examples: Examples
    contents: frozenset[str]
    """`Example.content` of each."""
    end: int
    """Where in the order the rest begins."""


def heldout_examples(work: Work) -> HeldOut:
    """The first distinct examples of the order."""
    examples: list[Example] = []
    seen: set[str] = set()
    left = work.spec.heldout_examples(len(work.order))
    for start in range(0, len(work.order), CHUNK):
        for example in _read(work, range(start, min(start + CHUNK, len(work.order)))):
            if left == 0:
                return HeldOut(_collected(work, examples), frozenset(seen), len(examples))
            if example.content in seen:
                example = example._replace(fate="duplicates")
            elif example.fate == "train":
                example = example._replace(fate="heldout")
                seen.add(example.content)
                left -= 1
            examples.append(example)
    return HeldOut(_collected(work, examples), frozenset(seen), len(examples))


def examples_of(work: Work, piece: range) -> Examples:
    """The examples of a piece of the order; none of them is held out."""
    return _collected(work, _read(work, piece))


def _read(work: Work, piece: range) -> list[Example]:
    """Tokenised, in order, and cut to length."""
    examples, texts, kept = [], [], []
    for source, index, row in _rows(work, piece):
        item = _item(row)
        watched = row if isinstance(row, Damaged) else Watched(row)
        try:
            read = work.form.texts(watched, work.spec, work.tokenizer)
            content = _content(read)
        except ODD as error:
            problem = index + 1, _reason(error)
            examples.append(Example(source, item, "unreadable", problem=problem))
            continue
        if isinstance(watched, Watched):
            watched.left_out = frozenset().union(*(text.left_out for text in read))
        blank = any(text.blank for text in read)
        copied = not blank and content in work.heldout
        example = Example(
            source,
            item,
            "empty" if blank else "duplicates" if copied else "train",
            content,
            folded=any(text.folded for text in read),
            rendered=any(text.rendered for text in read),
            spaced=any(text.spaced for text in read),
            worded=any(text.worded for text in read),
            row=watched if isinstance(watched, Watched) else None,
        )
        examples.append(example)
        if example.fate == "train":
            texts += read
            kept.append(row)
    encoded, rows = tokenize.encode(texts, work.tokenizer), iter(kept)
    return [
        _cut(example, next(rows), list(itertools.islice(encoded, work.form.width)), work)
        if example.fate == "train"
        else example
        for example in examples
    ]


def _cut(
    example: Example, row: Row, parts: list[tuple[np.ndarray, np.ndarray]], work: Work
) -> Example:
    """The example of a row, each of its texts cut to length."""
    most = work.spec.max_length
    labels = [labels[:most] for _, labels in parts]
    too_long = any(len(ids) > most for ids, _ in parts)
    ids = [ids[:most] for ids, _ in parts]
    # The first token is never predicted, so a label on it does not count.
    counts_somewhere = all(np.any(part[1:] != IGNORED) for part in labels)
    alike = len(ids) == 2 and np.array_equal(ids[0], ids[1])
    if not counts_somewhere or alike or (too_long and not work.form.may_be_cut):
        return example._replace(fate="dropped")
    return example._replace(
        ids=np.concatenate(ids),
        labels=np.concatenate(labels),
        truncated=too_long,
        extra=work.form.extra(row, work.spec, [len(part) for part in labels]),
    )


def _rows(work: Work, piece: range) -> Iterator[tuple[int, int, Row]]:
    """Each row with its source and its number there."""
    owners, indices = (column[piece.start : piece.stop].tolist() for column in work.order)
    numbers = {owner: [i for o, i in zip(owners, indices, strict=True) if o == owner]
               for owner in set(owners)}  # fmt: skip
    rows = {owner: iter(work.stored[owner].read(own)) for owner, own in numbers.items()}
    for owner, index in zip(owners, indices, strict=True):
        yield owner, index, next(rows[owner])


def _collected(work: Work, examples: list[Example]) -> Examples:
    tally = np.zeros((len(work.spec.sources), len(KINDS)), dtype=np.int64)
    column = {kind: number for number, kind in enumerate(KINDS)}
    for example in examples:
        counts = tally[example.source]
        counts[column["rows"]] += 1
        counts[column[example.fate]] += 1
        counts[column["truncated"]] += example.truncated
        if example.fate in ("train", "heldout"):
            counts[column["folded"]] += example.folded
            counts[column["rendered"]] += example.rendered
            counts[column["spaced"]] += example.spaced
            counts[column["worded"]] += example.worded
        if example.fate == "train":
            counts[column["tokens"]] += len(example.ids)
            counts[column["loss_tokens"]] += np.count_nonzero(example.labels[1:] != IGNORED)
    kept = [example for example in examples if example.fate in ("train", "heldout")]
    sizes = np.array([len(example.ids) for example in kept], dtype=np.int32)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    ids, labels = (
        pa.ListArray.from_arrays(starts, np.concatenate([EMPTY, *parts]))
        for parts in ([e.ids for e in kept], [e.labels for e in kept])
    )
    items = pa.array([example.item for example in kept], pa.string())
    arrays = [ids, labels, pa.array(sizes), items]
    for place, field in enumerate(list(work.schema)[len(COLUMNS) :]):
        arrays.append(pa.array([example.extra[place] for example in kept], field.type))
    problems = [(e.source, *e.problem) for e in examples if e.problem is not None]
    columns = [
        ColumnsRead.of(e.row for e in examples if e.source == source and e.row is not None)
        for source in range(len(work.spec.sources))
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=work.schema)
    return Examples(batch, tally, problems, columns)


def _item(row: Row) -> str:
    return _hashed(json.dumps(row, sort_keys=True, default=str))


def _content(read: Sequence[tokenize.Text]) -> str:
    """
    Raises:
        ValueError: a text holds half a character, as texts do that are cut within a surrogate pair.
    """
    try:
        return _hashed(json.dumps([text.text for text in read], ensure_ascii=False))
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(
            f"a text holds {half!r}, half of a character, which has no UTF-8; take it out"
        ) from error


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, ValueError) else f"{error!r} while reading it"
    return text.encode(errors="backslashreplace").decode()  # half a character cannot be recorded
