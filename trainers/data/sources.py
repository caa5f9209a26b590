"""Named data -> raw rows, their number and their fingerprint. Loads no torch.

A row is a conversation (`messages`), a `prompt` with its `completion`, or plain `text`. Rows are
read by their number, from where they lie: no file has to fit into memory.
"""

import functools
import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from trainers import files
from trainers.specs.spec import DataSpec
from trainers.world import generate

WORLD: dict[str, generate.Split] = {
    "world:pretrain": "pretrain",
    "world:sft": "sft",
    "world:preferences": "preferences",
    "world:prompts": "prompts",
}
"""Data that the project writes itself, by name."""

WORLD_FORMS = {"world:preferences": "pairs", "world:prompts": "prompts"}
"""What their rows are (`TrainingSpec.FORM`) where they are not texts."""

WORLD_EXAMPLES = 4096
"""Rows of the miniature world where the grid file names no number."""

WORLD_SEED = 0

AT_A_TIME = 256
"""Rows read in one go."""

KNOWN_EXAMPLES = {
    ("allenai/tulu-3-sft-mixture", "train"): 939_343,
    ("allenai/llama-3.1-tulu-3-8b-preference-mixture", "train"): 272_898,
}
"""Rows of hub data by name and split, for plans made offline. Source: the data set's card."""

COMMIT = re.compile(r"[0-9a-f]{40}")

LOCAL_SUFFIXES = (".jsonl", ".parquet")

Row = dict[str, Any]


class DataUnavailable(Exception):
    """The data cannot be had here and now; the message says what was tried."""


class Rows(Protocol):
    """One data set as it is stored; any row at any time, in any process that was forked."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> list[Row]: ...


def is_local(name: str) -> bool:
    return name.endswith(LOCAL_SUFFIXES) or name.startswith((".", "/")) or Path(name).is_dir()


def data_files(name: str) -> list[Path]:
    """The files of local data; those of a folder, and of the folders in it, ordered by name."""
    path = Path(name)
    if not path.is_dir():
        return [path]
    return sorted(file for suffix in LOCAL_SUFFIXES for file in path.rglob(f"*{suffix}"))


def problem(name: str) -> str | None:
    """What is wrong with a data name, or None. A hub id is taken on trust: it needs the network."""
    if name in WORLD:
        return None
    if name.startswith("world:"):
        return f"{name!r} is not part of the miniature world; use one of {', '.join(WORLD)}"
    if not is_local(name) and not Path(name).exists():
        return None
    allowed = " or ".join(LOCAL_SUFFIXES)
    if Path(name).is_dir():
        return None if data_files(name) else f"no file in the folder {name!r} ends in {allowed}"
    if not name.endswith(LOCAL_SUFFIXES):
        return f"{name!r} is not a data file or a folder of them; local data ends in {allowed}"
    return None if Path(name).is_file() else f"no file {name!r} (from {os.getcwd()})"


def count(data: DataSpec) -> int | None:
    """Rows of one epoch, without reading hub data; None where only the hub knows."""
    stored = _stored(data)
    return None if stored is None else _taken(data, stored)


def total(mixture: Sequence[DataSpec]) -> int | None:
    """Rows of one epoch of a mixture; None where only the hub knows."""
    counts = [count(data) for data in mixture]
    return None if None in counts else sum(number for number in counts if number is not None)


def _stored(data: DataSpec) -> int | None:
    if data.name in WORLD:
        return data.examples or WORLD_EXAMPLES
    if is_local(data.name):
        return sum(_file_rows(str(path), path.stat().st_mtime_ns) for path in data_files(data.name))
    return KNOWN_EXAMPLES.get((data.name, data.split)) or data.examples


@functools.cache
def _file_rows(name: str, _changed: int) -> int:
    if name.endswith(".parquet"):
        import pyarrow.parquet

        return pyarrow.parquet.read_metadata(name).num_rows
    with open(name, "rb") as file:
        return sum(1 for line in file if not line.isspace())


def _taken(data: DataSpec, stored: int) -> int:
    return round(data.weight * min(stored, data.examples or stored))


def fingerprint(data: DataSpec) -> str:
    """Hash of the content of local data and of the world; the commit of hub data.

    Raises:
        DataUnavailable: the hub does not answer, or has no such data set or revision.
    """
    if data.name in WORLD:
        return _world_fingerprint(data.name, _stored(data) or 0)
    if not is_local(data.name):
        return _hub_commit(data)
    hashes = [_file_hash(str(path), path.stat().st_mtime_ns) for path in data_files(data.name)]
    if len(hashes) == 1:
        return hashes[0][:16]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


@functools.cache
def _world_fingerprint(name: str, examples: int) -> str:
    digest = hashlib.sha256()
    for row in generate.rows(WORLD[name], examples, WORLD_SEED):
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:16]


@functools.cache
def _file_hash(name: str, _changed: int) -> str:
    """Read once in a process: every trial asks for it."""
    with open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Order(NamedTuple):
    """One epoch: row `index[i]` of source `source[i]`, for each i."""

    source: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


def order(mixture: Sequence[DataSpec], stored: Sequence[int], seed: int = 0) -> Order:
    """The rows of an epoch in their one order, from the number of rows that each source has stored.

    A source's rows are shuffled by `seed`, cut to its `examples`, and repeated or cut to its
    `weight`; so a part of them begins with every smaller part. Several sources are then shuffled
    into each other. The world is written in random order, so its first rows are a random part.
    """
    indices = []
    for data, length in zip(mixture, stored, strict=True):
        taken = _taken(data, length)
        if taken == 0:
            raise ValueError(f"data {data.name!r}: no row of {length} at weight {data.weight:g}")
        plain = data.name in WORLD and seed == 0
        rows = np.arange(length) if plain else np.random.default_rng(seed).permutation(length)
        indices.append(np.resize(rows[: data.examples], taken))
    source = np.repeat(np.arange(len(mixture)), [len(rows) for rows in indices])
    index = np.concatenate(indices)
    if len(mixture) > 1:
        shuffled = np.random.default_rng([seed, len(mixture)]).permutation(len(index))
        source, index = source[shuffled], index[shuffled]
    return Order(source, index)


def rows(data: DataSpec) -> Iterator[Row]:
    """The rows of one epoch of one source, in order; see `order`.

    Raises:
        DataUnavailable: the data cannot be had, or a file of it is damaged.
    """
    stored = stored_rows(data)
    index = order([data], [len(stored)]).index.tolist()
    for start in range(0, len(index), AT_A_TIME):
        yield from stored.read(index[start : start + AT_A_TIME])


def stored_rows(data: DataSpec) -> Rows:
    """All rows of a source, as they are stored.

    Raises:
        DataUnavailable: the data cannot be had, or a file of it is damaged.
    """
    if data.name in WORLD:
        return _InMemory(list(generate.rows(WORLD[data.name], _stored(data) or 0, WORLD_SEED)))
    if not is_local(data.name):
        return _Table(_hub_table(data))
    parts = [_file(path) for path in data_files(data.name)]
    return parts[0] if len(parts) == 1 else _Parts(parts)


def _file(path: Path) -> Rows:
    return _JsonLines(path) if path.suffix == ".jsonl" else _Table(_parquet_table(path))


class _InMemory:
    def __init__(self, found: list[Row]):
        self._rows = found

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Sequence[int]) -> list[Row]:
        return [self._rows[index] for index in indices]


class _JsonLines:
    """Holds where each line starts: eight bytes a row."""

    def __init__(self, path: Path):
        self._path = path
        self._starts = array("q")
        at = 0
        try:
            with open(path, "rb") as file:
                for line in file:
                    if not line.isspace():
                        self._starts.append(at)
                    at += len(line)
        except OSError as error:
            raise DataUnavailable(f"{path}: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, indices: Sequence[int]) -> list[Row]:
        found = []
        with open(self._path, "rb") as file:
            for index in indices:
                file.seek(self._starts[index])
                line = file.readline()
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise self._damaged(index, f"not JSON ({error})") from error
                if not isinstance(row, dict):
                    shown = line[:40].decode(errors="replace").strip()
                    raise self._damaged(index, f"{shown!r} is not an object")
                found.append(row)
        return found

    def _damaged(self, index: int, what: str) -> DataUnavailable:
        with open(self._path, "rb") as file:
            number = file.read(self._starts[index]).count(b"\n") + 1
        return DataUnavailable(f"{self._path}:{number}: {what}")


class _Table:
    """A memory-mapped data set of the `datasets` library."""

    def __init__(self, table):
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def read(self, indices: Sequence[int]) -> list[Row]:
        columns = self._table[list(indices)]
        values = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in values]


class _Parts:
    def __init__(self, parts: list[Rows]):
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: Sequence[int]) -> list[Row]:
        owners = np.searchsorted(self._starts, indices, side="right") - 1
        found: dict[int, Row] = {}
        for owner in np.unique(owners).tolist():
            mine = [i for i, part in zip(indices, owners, strict=True) if part == owner]
            read = self._parts[owner].read([int(i - self._starts[owner]) for i in mine])
            found |= dict(zip(mine, read, strict=True))
        return [found[index] for index in indices]


def _parquet_table(path: Path):
    """Columns in row groups cannot be read by the row: kept once more as Arrow, per content."""
    import datasets

    try:
        return datasets.Dataset.from_parquet(
            str(path), cache_dir=str(files.cache_folder("parquet") / files.content_hash(path))
        )
    except Exception as error:  # pyarrow and datasets raise a dozen unrelated types
        raise DataUnavailable(f"{path}: {error}") from error


def _hub_table(data: DataSpec):
    """Of the commit that is asked for and of no other, also offline: each has a folder of its own.

    `datasets` falls back to the newest thing in its cache folder on any error.
    """
    import datasets

    commit = _hub_commit(data)
    try:
        return datasets.load_dataset(
            data.name,
            split=data.split,
            revision=commit,
            cache_dir=str(files.cache_folder("datasets") / commit),
        )
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise DataUnavailable(f"data set {data.name!r}: {error}") from error


def _hub_commit(data: DataSpec) -> str:
    """The commit that a revision means now, or, offline, meant when it was last fetched."""
    if COMMIT.fullmatch(data.revision or ""):
        return str(data.revision)
    from huggingface_hub import HfApi

    try:
        found = HfApi().resolve_revision(data.name, repo_type="dataset", revision=data.revision)
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise DataUnavailable(f"data set {data.name!r}: {error}") from error
    return found.resolved
