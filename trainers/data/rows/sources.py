"""Named data -> its rows, their number, their order and their fingerprint. Loads no torch.

Which files of a folder are read is in folders.py, how in stored_rows.py, what a row says in
trainers/data/forms/conversation.py.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainers.data.rows import hub_data
from trainers.data.rows import stored_rows as storage
from trainers.data.rows.folders import (
    LOCAL_SUFFIXES,
    data_files,
    folder_files,
    reason,
    saved_to_disk,
)
from trainers.data.rows.stored_rows import DataUnavailable, Row, Rows
from trainers.specs.data import DataSpec
from trainers.specs.fields import expanded
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


def is_local(name: str) -> bool:
    return (
        storage.suffix(name) in LOCAL_SUFFIXES or name.startswith((".", "/")) or Path(name).is_dir()
    )


def problem(name: str) -> str | None:
    """What is wrong with a data name, or None. A hub id is taken on trust: it needs the network."""
    name = expanded(name)
    if name in WORLD:
        return None
    if name.startswith("world:"):
        return f"{name!r} is not part of the miniature world; use one of {', '.join(WORLD)}"
    if "://" in name:
        return f"{name!r} is a URL; copy the file here, or use a data set's id on the hub"
    if not is_local(name) and not Path(name).exists():
        return None
    allowed = ", ".join(LOCAL_SUFFIXES[:-1]) + f" or {LOCAL_SUFFIXES[-1]} (also with .gz)"
    if Path(name).is_dir():
        return None if folder_files(Path(name)) else (
            f"no file in the folder {name!r} ends in {allowed}"
        )  # fmt: skip
    if storage.suffix(name) not in LOCAL_SUFFIXES:
        return f"{name!r} is not a data file or a folder of them; local data ends in {allowed}"
    return None if Path(name).is_file() else f"no file {name!r} (from {os.getcwd()})"


def part_problem(data: DataSpec) -> str | None:
    """What is wrong with the split or configuration of named data, or None."""
    if not (data.name in WORLD or (is_local(data.name) and not Path(data.name).is_dir())):
        return None
    for key, value in (("split", data.split), ("config", data.config)):
        if value not in ("train", None):
            return f"{key} {value!r}: {data.name!r} has no such parts; leave `{key}` out"
    return None


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
        if saved_to_disk(data.name):
            return len(_from_disk(data))
        return sum(_file_rows(str(path), path.stat().st_mtime_ns) for path in data_files(data))
    return KNOWN_EXAMPLES.get((data.name, data.split)) or data.examples


@functools.cache
def _file_rows(path: str, _changed: int) -> int:
    return storage.count(Path(path))


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
        return hub_data.commit(data)
    hashes = [_file_hash(str(path), path.stat().st_mtime_ns) for path in data_files(data)]
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
    index: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]

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
        part = index[start : start + AT_A_TIME]
        for row in stored.read(part):
            if isinstance(row, storage.Damaged):
                raise DataUnavailable(row.told)
            yield row


def stored_rows(data: DataSpec) -> Rows:
    """All rows of a source, as they are stored.

    Raises:
        DataUnavailable: the data cannot be had, or a file of it is damaged.
    """
    rows = _all_rows(data)
    return rows if data.columns is None else storage.Renamed(rows, data.columns)


def _all_rows(data: DataSpec) -> Rows:
    if data.name in WORLD:
        world = generate.rows(WORLD[data.name], _stored(data) or 0, WORLD_SEED)
        return storage.InMemory(list(world))
    if not is_local(data.name):
        return storage.Table(hub_data.table(data))
    if saved_to_disk(data.name):
        return storage.Table(_from_disk(data))
    parts = [storage.opened(path) for path in data_files(data)]
    return parts[0] if len(parts) == 1 else storage.Parts(parts)


def _from_disk(data: DataSpec) -> Any:
    import datasets

    try:
        saved = datasets.load_from_disk(data.name)
    except Exception as error:  # datasets raises a dozen unrelated types
        raise DataUnavailable(f"{data.name}: {reason(error)}") from error
    if not isinstance(saved, dict):
        return saved
    if data.split not in saved:
        raise DataUnavailable(
            f"{data.name}: no split {data.split!r}; `split` is one of {', '.join(map(str, saved))}"
        )
    return saved[data.split]
