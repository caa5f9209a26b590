"""The data of a stage -> tokens with labels, made once per run, memory-mapped by every trial."""

import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from trainers import files
from trainers.data import row_counts as counts
from trainers.data import sources, tokenize
from trainers.data.layouts import COLUMNS, FORMS, Form
from trainers.data.row_counts import KINDS, Counts, Preparation
from trainers.data.sources import Order, Row, Rows
from trainers.data.tokenize import IGNORED
from trainers.specs.spec import DataSpec, TrainingSpec

FORMAT = 3
"""Raised when the same rows would give other tokens or another order, or lie otherwise on disk."""

TRAIN, HELDOUT = "train.arrow", "heldout.arrow"

CHUNK = 256
"""Rows that a process takes at a time; a part of the format, so that the bytes do not depend on
the number of processes."""

Progress = Callable[[int, int], None]
"""Told the rows done and the rows in all."""


class Prepared(NamedTuple):
    """Both parts in their fixed order, memory-mapped, with the columns of the stage's
    form (trainers/data/layouts.py)."""

    train: Dataset
    heldout: Dataset
    preparation: Preparation
    key: str
    """Names the content."""

    @property
    def counts(self) -> dict[str, int]:
        """The fields of `trainers.data.row_counts.Counts`, over all data sets."""
        return self.preparation.total.model_dump()

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each training example, int32, without reading any."""
        return lengths(self.train)


def lengths(part: Dataset) -> np.ndarray:
    """Tokens of each example of a part that was opened whole: no selection, no shuffle."""
    return part.data.column("length").to_numpy()


def prepare(
    spec: TrainingSpec,
    tokenizer: PreTrainedTokenizerBase,
    cache: Path,
    processes: int = 1,
    progress: Progress = lambda done, rows: None,
) -> Prepared:
    """Tokenise the data of `spec` into `cache`, or open what was left there.

    The first `spec.heldout` distinct examples of the fixed order (`sources.order`) are held out,
    and no row that is the same as one of them is trained on. Rows are left out that are empty or
    of which no token is left that counts; `preparation` has the numbers.

    Several processes are forked from this one, which should do nothing else. However many there
    are, the files are the same to the byte.

    Raises:
        DataUnavailable: the data cannot be had.
        ValueError: a row has none of the known forms, nothing is left to train on, or what was left
            in `cache` is damaged.
    """
    folder = cache / _key(spec, tokenizer)
    cache.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _write(spec, tokenizer, folder, processes, progress)
    found = counts.read(folder)
    if found.total.train == 0:
        names = ", ".join(repr(source.name) for source in spec.sources)
        raise ValueError(f"data {names}: no example is left to train on ({found.total.line()})")
    parts = (TRAIN, found.total.train), (HELDOUT, found.total.heldout)
    train, heldout = (_open(folder / name, rows) for name, rows in parts)
    return Prepared(train, heldout, found, folder.name)


def _key(spec: TrainingSpec, tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    parts = [
        FORMAT, [(_declared(source), sources.fingerprint(source)) for source in spec.sources],
        spec.data_seed, spec.FORM, [getattr(spec, name) for name in spec.DATA_FIELDS],
        str(tokenizer.chat_template), tokenizer.eos_token, str(vocabulary),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _declared(source: DataSpec) -> dict[str, Any]:
    """Of local data the file's own name alone: it may lie elsewhere on another node."""
    facts = source.model_dump()
    return facts | {"name": Path(source.name).name} if sources.is_local(source.name) else facts


def _write(
    spec: TrainingSpec,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    processes: int,
    progress: Progress,
) -> None:
    """Written aside, where what a killed process left is removed, and renamed."""
    for left in folder.parent.glob(f"{folder.name}.*.part"):
        shutil.rmtree(left)
    aside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    aside.mkdir()
    try:
        stored = [sources.stored_rows(source) for source in spec.sources]
        order = sources.order(spec.sources, [len(rows) for rows in stored], spec.data_seed)
        found = _write_parts(_Work(spec, tokenizer, stored, order), aside, processes, progress)
        counts.write(aside, Preparation(asked=counts.asked(spec), sources=found))
    except BaseException:
        shutil.rmtree(aside)
        raise
    aside.rename(folder)


class _Work(NamedTuple):
    """What every process needs to turn a piece of the order into examples."""

    spec: TrainingSpec
    tokenizer: PreTrainedTokenizerBase
    stored: list[Rows]
    order: Order
    apart: frozenset[str] = frozenset()
    """Items that are held out."""

    @property
    def form(self) -> Form:
        return FORMS[self.spec.FORM]

    @property
    def schema(self) -> pa.Schema:
        return self.form.columns.arrow_schema


def _write_parts(
    work: _Work, folder: Path, processes: int, progress: Progress
) -> dict[str, Counts]:
    """Piece by piece, so that the whole of the data is never in memory; counts by source."""
    heldout, start = _hold_out(work)
    _save(folder / HELDOUT, [heldout.batch], work.schema)
    work = work._replace(apart=frozenset(heldout.batch["item"].to_pylist()))
    rows = len(work.order)
    pieces = [range(at, min(at + CHUNK, rows)) for at in range(start, rows, CHUNK)]
    total = heldout.tally.copy()

    def batches() -> Iterator[pa.RecordBatch]:
        for examples in _mapped(work, pieces, processes):
            total[...] += examples.tally
            progress(int(total[:, KINDS.index("rows")].sum()), rows)
            yield examples.batch

    _save(folder / TRAIN, batches(), work.schema)
    return {
        counts.name(source): Counts(**dict(zip(KINDS, map(int, row), strict=True)))
        for source, row in zip(work.spec.sources, total, strict=True)
    }


class _Examples(NamedTuple):
    batch: pa.RecordBatch
    tally: np.ndarray
    """A row per source, a column for each of `KINDS`."""


def _hold_out(work: _Work) -> tuple[_Examples, int]:
    """The first distinct examples of the order, and the place at which the rest begins."""
    found: list[_Row] = []
    seen: set[str] = set()
    left = work.spec.heldout
    for start in range(0, len(work.order), CHUNK):
        for row in _rows(work, range(start, min(start + CHUNK, len(work.order)))):
            if left == 0:
                return _examples(work, found), len(found)
            if row.item in seen:
                row = row._replace(fate="duplicates")
            elif row.fate == "train":
                row = row._replace(fate="heldout")
                seen.add(row.item)
                left -= 1
            found.append(row)
    return _examples(work, found), len(found)


def _mapped(work: _Work, pieces: list[range], processes: int) -> Iterator[_Examples]:
    """The examples of each piece, in order; only a few wait to be written at any time."""
    if min(processes, len(pieces)) < 2:
        for piece in pieces:
            yield _examples(work, _rows(work, piece))
        return
    waiting: deque[Future[_Examples]] = deque()
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(processes, len(pieces)), fork, _begin, (work,)) as pool:
        for piece in pieces:
            waiting.append(pool.submit(_examples_of, piece))
            if len(waiting) > 3 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_here: list[_Work] = []
"""The work of a forked process."""


def _begin(work: _Work) -> None:
    _here[:] = [work]


def _examples_of(piece: range) -> _Examples:
    return _examples(_here[0], _rows(_here[0], piece))


class _Row(NamedTuple):
    """One row of the order and what becomes of it."""

    source: int
    item: str
    fate: str
    """`train`, `heldout`, `dropped`, `duplicates` or `empty`."""
    ids: np.ndarray
    labels: np.ndarray
    truncated: bool = False
    extra: tuple = ()
    """What stands in the columns of its form alone."""


NONE = np.zeros(0, dtype=np.int32)


def _rows(work: _Work, piece: range) -> list[_Row]:
    """Tokenised, in order, and cut to length; none is held out here."""
    found, texts, kept = [], [], []
    for source, index, row in _read(work, piece):
        item = _item(row)
        if item in work.apart:
            found.append(_Row(source, item, "duplicates", NONE, NONE))
            continue
        try:
            mine = work.form.texts(row, work.spec, work.tokenizer)
        except Exception as error:  # a template can raise anything
            name = work.spec.sources[source].name
            raise ValueError(f"data {name!r}, row {index + 1}: {error}") from error
        blank = any(text.blank for text in mine)
        found.append(_Row(source, item, "empty" if blank else "train", NONE, NONE))
        if not blank:
            texts += mine
            kept.append(row)
    encoded, rows = tokenize.encode(texts, work.tokenizer), iter(kept)
    return [
        _cut(row, next(rows), list(itertools.islice(encoded, work.form.width)), work)
        if row.fate == "train"
        else row
        for row in found
    ]


def _cut(row: _Row, read: Row, parts: list[tuple[np.ndarray, np.ndarray]], work: _Work) -> _Row:
    """The example of a row, each of its texts cut to length."""
    most = work.spec.max_length
    short = [labels[:most] for _, labels in parts]
    too_long = any(len(ids) > most for ids, _ in parts)
    # The first token is never predicted, so a label on it does not count.
    counts_somewhere = all(np.any(labels[1:] != IGNORED) for labels in short)
    if not counts_somewhere or (too_long and not work.form.may_be_cut):
        return row._replace(fate="dropped")
    return row._replace(
        ids=np.concatenate([ids[:most] for ids, _ in parts]),
        labels=np.concatenate(short),
        truncated=too_long,
        extra=work.form.extra(read, [len(labels) for labels in short]),
    )


def _read(work: _Work, piece: range) -> Iterator[tuple[int, int, Row]]:
    """Each row with its source and its number there."""
    owners, indices = (column[piece.start : piece.stop].tolist() for column in work.order)
    numbers = {owner: [i for o, i in zip(owners, indices, strict=True) if o == owner]
               for owner in set(owners)}  # fmt: skip
    rows = {owner: iter(work.stored[owner].read(mine)) for owner, mine in numbers.items()}
    for owner, index in zip(owners, indices, strict=True):
        yield owner, index, next(rows[owner])


def _examples(work: _Work, rows: list[_Row]) -> _Examples:
    tally = np.zeros((len(work.spec.sources), len(KINDS)), dtype=np.int64)
    column = {kind: number for number, kind in enumerate(KINDS)}
    for row in rows:
        mine = tally[row.source]
        mine[column["rows"]] += 1
        mine[column[row.fate]] += 1
        mine[column["truncated"]] += row.truncated
        if row.fate == "train":
            mine[column["tokens"]] += len(row.ids)
            mine[column["loss_tokens"]] += np.count_nonzero(row.labels[1:] != IGNORED)
    kept = [row for row in rows if row.fate in ("train", "heldout")]
    sizes = np.array([len(row.ids) for row in kept], dtype=np.int32)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    ids, labels = (
        pa.ListArray.from_arrays(starts, np.concatenate([NONE, *parts]))
        for parts in ([row.ids for row in kept], [row.labels for row in kept])
    )
    items = pa.array([row.item for row in kept], pa.string())
    arrays = [ids, labels, pa.array(sizes), items]
    for place, field in enumerate(list(work.schema)[len(COLUMNS) :]):
        arrays.append(pa.array([row.extra[place] for row in kept], field.type))
    return _Examples(pa.RecordBatch.from_arrays(arrays, schema=work.schema), tally)


def _save(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            if batch.num_rows:
                writer.write_batch(batch)
    files.fsync(path)


def _open(path: Path, rows: int) -> Dataset:
    """A stream that is cut off between two batches reads as if it ended there.

    Raises:
        ValueError: it does not hold as many rows as were written.
    """
    try:
        part = Dataset.from_file(str(path))
        found = f"{len(part):,} of {rows:,} rows" if len(part) != rows else ""
    except (pa.ArrowException, OSError) as error:
        found = str(error)
    if found:
        raise ValueError(
            f"{path}: damaged ({found}); delete {path.parent}, and the same command prepares the "
            "data again"
        )
    return part


def _item(row: Row) -> str:
    text = json.dumps(row, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
