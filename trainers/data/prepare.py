"""The data of a stage -> tokens with labels, made once per run, memory-mapped by every trial."""

import copy
import hashlib
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
from trainers.data import row_counts
from trainers.data.examples import CHUNK, Examples, Work, examples_of, heldout_examples
from trainers.data.row_counts import KINDS, Counts, Preparation, Reasons, Unreadable, too_few
from trainers.data.rows import sources
from trainers.data.rows.folders import left_aside
from trainers.models import chat_template
from trainers.specs.data import DataSpec
from trainers.specs.training import TrainingSpec

FORMAT = 8
"""Raised when the same rows would give other tokens or another order, or lie otherwise on disk."""

TRAIN, HELDOUT = "train.arrow", "heldout.arrow"

Progress = Callable[[int, int], None]
"""Told the rows done and the rows in all."""


class Prepared(NamedTuple):
    """Both parts in their fixed order, memory-mapped, with the columns of the stage's
    form (trainers/data/forms/layouts.py)."""

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

    The first distinct examples of the fixed order (`sources.order`) are held out, as many as
    `spec.heldout_examples` says, and no row is trained on in which the model reads the same as in
    one of them: of prompts what is asked, of pairs both texts; other columns do not matter. Rows
    are left out that are empty, of which no token is left that counts, or, up to a share, that
    cannot be read; `preparation` has the numbers.

    Several processes are forked from this one, which should do nothing else. However many there
    are, the files are the same to the byte.

    Raises:
        DataUnavailable: the data cannot be had.
        ValueError: too many rows cannot be read, nothing is left to train on, or what was left in
            `cache` is damaged.
    """
    tokenizer = speaking(tokenizer, spec.chat_template)
    folder = cache / _key(spec, tokenizer)
    cache.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _write(spec, tokenizer, folder, processes, progress)
    preparation = row_counts.read(folder)
    total = preparation.total
    if total.train == 0:
        names = ", ".join(repr(source.name) for source in spec.sources)
        raise ValueError(f"data {names}: {too_few(spec, 0)} ({total.line()})")
    parts = (TRAIN, total.train), (HELDOUT, total.heldout)
    train, heldout = (_open(folder / name, rows) for name, rows in parts)
    return Prepared(train, heldout, preparation, folder.name)


def speaking(tokenizer: PreTrainedTokenizerBase, template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer with the chat template in a file, where there is one."""
    if template is None:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    chat_template.use_template(tokenizer, template)
    return tokenizer


def _key(spec: TrainingSpec, tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    parts = [
        FORMAT, [(_declared(source), sources.fingerprint(source)) for source in spec.sources],
        spec.data_seed, spec.FORM, spec.data_settings,
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
        written = _write_parts(Work(spec, tokenizer, stored, order), aside, processes, progress)
        preparation = Preparation(
            asked=row_counts.asked(spec),
            sources=written.counts,
            unreadable=written.unreadable,
            unread_columns=written.unread_columns,
            left_out=written.left_out,
            left_aside={
                row_counts.name(s): names for s in spec.sources if (names := left_aside(s))
            },
            template_faults=chat_template.faults(tokenizer),
            template_date=chat_template.date_in(tokenizer),
        )
        row_counts.write(aside, preparation)
    except BaseException:
        shutil.rmtree(aside)
        raise
    files.take_place(aside, folder)


class Written(NamedTuple):
    """What became of the rows of each source, by its name."""

    counts: dict[str, Counts]
    unreadable: dict[str, Unreadable]
    unread_columns: dict[str, list[str]]
    left_out: dict[str, dict[str, int]]


def _write_parts(work: Work, folder: Path, processes: int, progress: Progress) -> Written:
    """Piece by piece, so that the whole of the data is never in memory.

    Raises:
        ValueError: more rows than a source allows cannot be read.
    """
    heldout, contents, start = heldout_examples(work)
    _save(folder / HELDOUT, [heldout.batch], work.schema)
    work = work._replace(heldout=contents)
    rows = len(work.order)
    pieces = [range(at, min(at + CHUNK, rows)) for at in range(start, rows, CHUNK)]
    total = heldout.tally.copy()
    reasons = Reasons([row_counts.name(source) for source in work.spec.sources])
    reasons.add(heldout.problems)
    columns = heldout.columns

    def batches() -> Iterator[pa.RecordBatch]:
        for examples in _mapped(work, pieces, processes):
            total[...] += examples.tally
            reasons.add(examples.problems)
            for known, found in zip(columns, examples.columns, strict=True):
                known.add(found)
            progress(int(total[:, KINDS.index("rows")].sum()), rows)
            yield examples.batch

    _save(folder / TRAIN, batches(), work.schema)
    by_name = {
        row_counts.name(source): Counts(**dict(zip(KINDS, map(int, row), strict=True)))
        for source, row in zip(work.spec.sources, total, strict=True)
    }
    unreadable = reasons.by_name()
    refused = [
        f"data {source.name!r}: {unreadable[name].refusal(by_name[name], source.max_unreadable)}"
        for source in work.spec.sources
        if by_name[name := row_counts.name(source)].unreadable_share > source.max_unreadable
    ]
    refused += [
        f"data {source.name!r}: no row has the column {column!r}, which `columns` names as "
        f"`{known}`; correct the name, or leave it out"
        for source, found in zip(work.spec.sources, columns, strict=True)
        for known, column in (source.columns.model_dump() if source.columns else {}).items()
        if column is not None and found.there and known not in found.there
    ]
    refused += [
        f"data {source.name!r}: the column {column!r}, which `columns` names as `{known}`, is not "
        f"read in a stage of the kind {work.spec.kind}, or beside the others that it names; leave "
        "it out"
        for source, found in zip(work.spec.sources, columns, strict=True)
        for known, column in (source.columns.model_dump() if source.columns else {}).items()
        if column is not None and known in found.unread and _kept(by_name[row_counts.name(source)])
    ]
    if refused:
        raise ValueError("\n".join(refused))
    unread = {name: c.unread for name, c in zip(by_name, columns, strict=True) if c.unread}
    left_out = {
        name: dict(sorted(c.left_out.items()))
        for name, c in zip(by_name, columns, strict=True)
        if c.left_out
    }
    return Written(by_name, unreadable, unread, left_out)


def _kept(counts: Counts) -> bool:
    """Whether a row became an example, which shows what is read of the rows."""
    return counts.train + counts.heldout > 0


def _mapped(work: Work, pieces: list[range], processes: int) -> Iterator[Examples]:
    """The examples of each piece, in order; only a few wait to be written at any time."""
    if min(processes, len(pieces)) < 2:
        for piece in pieces:
            yield examples_of(work, piece)
        return
    waiting: deque[Future[Examples]] = deque()
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(processes, len(pieces)), fork, _begin, (work,)) as pool:
        for piece in pieces:
            waiting.append(pool.submit(_in_process, piece))
            if len(waiting) > 3 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_work: list[Work] = []
"""The work of a forked process."""


def _begin(work: Work) -> None:
    _work[:] = [work]


def _in_process(piece: range) -> Examples:
    return examples_of(_work[0], piece)


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
        damage = f"{len(part):,} of {rows:,} rows" if len(part) != rows else ""
        if not damage:
            return part
    except (pa.ArrowException, OSError) as error:
        damage = str(error)
    raise ValueError(
        f"{path}: damaged ({damage}); delete {path.parent}, and the same command prepares the "
        "data again"
    )
