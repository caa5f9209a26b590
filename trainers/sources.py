"""Named data -> raw rows, their number and their fingerprint. Loads no torch.

A row is a conversation (`messages`), a `prompt` with its `completion`, or plain `text`.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainers import cache
from trainers.spec import DataSpec
from trainers.world import generate

WORLD: dict[str, Literal["pretrain", "sft"]] = {"world:pretrain": "pretrain", "world:sft": "sft"}
"""Data that the project writes itself, by name."""

WORLD_EXAMPLES = 4096
"""Rows of the miniature world where the grid file names no number."""

WORLD_SEED = 0
SUBSET_SEED = 0
"""One order for every trial: a subset of n examples begins with the subset of n - 1."""

KNOWN_EXAMPLES = {("allenai/tulu-3-sft-mixture", "train"): 939_343}
"""Rows of hub data by name and split, for plans made offline. Source: the data set's card."""

COMMIT = re.compile(r"[0-9a-f]{40}")

LOCAL_SUFFIXES = (".jsonl", ".parquet")


class DataUnavailable(Exception):
    """The data cannot be had here and now; the message says what was tried."""


def is_local(name: str) -> bool:
    return name.endswith(LOCAL_SUFFIXES)


def problem(name: str) -> str | None:
    """What is wrong with a data name, or None. A hub id is taken on trust: it needs the network."""
    if name in WORLD:
        return None
    if name.startswith("world:"):
        return f"{name!r} is not part of the miniature world; use one of {', '.join(WORLD)}"
    if is_local(name):
        return None if Path(name).is_file() else f"no file {name!r} (from {os.getcwd()})"
    if Path(name).exists() or name.startswith((".", "/")):
        return f"{name!r} is not a data file; local data ends in {' or '.join(LOCAL_SUFFIXES)}"
    return None


def count(data: DataSpec) -> int | None:
    """Rows that a stage will read, without reading hub data; None where only the hub knows."""
    if data.name in WORLD:
        return data.examples or WORLD_EXAMPLES
    if not is_local(data.name):
        known = KNOWN_EXAMPLES.get((data.name, data.split))
        return min(known, data.examples) if known and data.examples else known or data.examples
    if data.name.endswith(".parquet"):
        import pyarrow.parquet

        rows = pyarrow.parquet.read_metadata(data.name).num_rows
    else:
        with open(data.name, "rb") as file:
            rows = sum(1 for line in file if line.strip())
    return min(rows, data.examples) if data.examples else rows


def fingerprint(data: DataSpec) -> str:
    """Hash of the content of local data and of the world; the commit of hub data.

    Raises:
        DataUnavailable: the hub does not answer, or has no such data set or revision.
    """
    digest = hashlib.sha256()
    if data.name in WORLD:
        for row in generate.rows(WORLD[data.name], count(data) or 0, WORLD_SEED):
            digest.update(json.dumps(row, sort_keys=True).encode())
    elif is_local(data.name):
        with open(data.name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    else:
        return _hub_commit(data)
    return digest.hexdigest()[:16]


def rows(data: DataSpec) -> Iterator[dict[str, Any]]:
    """The rows in their one order: all of them shuffled by a fixed seed, cut to `data.examples`.

    The miniature world is written in random order, so its first rows are a random part already.

    Raises:
        DataUnavailable: the data cannot be had, or a file of it is damaged.
    """
    if data.name in WORLD:
        yield from generate.rows(WORLD[data.name], count(data) or 0, WORLD_SEED)
        return
    source = _rows_as_stored(data)
    order = np.random.default_rng(SUBSET_SEED).permutation(len(source))
    for index in order[: data.examples]:
        yield source[int(index)]


def _rows_as_stored(data: DataSpec):
    if data.name.endswith(".jsonl"):
        return _json_lines(data.name)
    if data.name.endswith(".parquet"):
        import pyarrow.parquet

        return pyarrow.parquet.read_table(data.name).to_pylist()
    return _hub_rows(data)


def _json_lines(name: str) -> list[dict[str, Any]]:
    found = []
    with open(name, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataUnavailable(f"{name}:{number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataUnavailable(f"{name}:{number}: {line.strip()[:40]!r} is not an object")
            found.append(row)
    return found


def _hub_rows(data: DataSpec):
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
            cache_dir=str(cache.folder("datasets") / commit),
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
