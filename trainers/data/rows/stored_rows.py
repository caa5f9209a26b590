"""Data as it is stored, a file or a table of the `datasets` library -> any row by its number. No
file has to fit into memory, apart from a JSON array while it is first read. Loads no torch.

JSON is read here and not by `datasets`, which keeps rows as Arrow: there, each message and each
tool call has the keys of all others, and numbers become what the other rows make of them.
"""

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trainers import files
from trainers.data.rows.json_rows import Row, json_lines, stream
from trainers.specs.data import Columns

JSON, TABLES = (".jsonl", ".json"), (".parquet", ".csv", ".tsv", ".arrow")


class DataUnavailable(Exception):
    """The data cannot be had here and now; the message says what was tried."""


class Damaged(dict[str, Any]):
    """In place of a row that cannot be read: it has a `reason`, and no column."""

    def __init__(self, reason: str, path: Path | None = None, start: int = 0):
        super().__init__()
        self.reason, self._path, self._start = reason, path, start

    def __reduce__(self):
        return Damaged, (self.reason, self._path, self._start)

    def __missing__(self, column: str) -> Any:
        raise DataUnavailable(self.told)

    @property
    def told(self) -> str:
        """The reason with its place."""
        if self._path is None:
            return self.reason
        with open(self._path, "rb") as file:
            line = file.read(self._start).count(b"\n") + 1
        return f"{self._path}:{line}: {self.reason}"


class Rows(Protocol):
    """One data set as it is stored; any row at any time, in any process that was forked."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> list[Row]: ...


def suffix(path: str | Path) -> str:
    """The ending that says what a file is, without `.gz`."""
    return Path(str(path).removesuffix(".gz")).suffix


def opened(path: Path) -> Rows:
    """The rows of a local file.

    Raises:
        DataUnavailable: there is no such file, or it cannot be read at all.
    """
    try:
        if suffix(path) in JSON:
            return JsonLines(json_lines(path))
        return Table(_table(path))
    except (OSError, ValueError) as error:
        raise DataUnavailable(f"{path}: {_first_line(error)}") from error


def count(path: Path) -> int:
    """The number of rows of a local file.

    Raises:
        DataUnavailable: the file cannot be read.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            return pyarrow.parquet.read_metadata(path).num_rows
        except (OSError, ValueError) as error:
            raise DataUnavailable(f"{path}: {_first_line(error)}") from error
    return len(opened(path))


class InMemory:
    def __init__(self, rows: list[Row]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Sequence[int]) -> list[Row]:
        return [self._rows[index] for index in indices]


class JsonLines:
    """Holds where each line starts: eight bytes a row."""

    def __init__(self, path: Path):
        self._path = path
        self._starts = array("q")
        at = 0
        with open(path, "rb") as file:
            for line in file:
                if not line.isspace():
                    self._starts.append(at)
                at += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, indices: Sequence[int]) -> list[Row]:
        with open(self._path, "rb") as file:
            return [self._row(file, index) for index in indices]

    def _row(self, file: Any, index: int) -> Row:
        file.seek(self._starts[index])
        line = file.readline()
        try:
            row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except (ValueError, RecursionError) as error:
            return Damaged(f"not JSON ({error})", self._path, self._starts[index])
        if isinstance(row, dict):
            return row
        shown = line[:40].decode(errors="replace").strip()
        return Damaged(f"{shown!r} is not an object", self._path, self._starts[index])


class Table:
    """A memory-mapped data set of the `datasets` library."""

    def __init__(self, table: Any):
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def read(self, indices: Sequence[int]) -> list[Row]:
        columns = self._table[list(indices)]
        values = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in values]


class Parts:
    """Several files, one after the other."""

    def __init__(self, parts: list[Rows]):
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: Sequence[int]) -> list[Row]:
        owners = np.searchsorted(self._starts, indices, side="right") - 1
        rows: dict[int, Row] = {}
        for owner in np.unique(owners).tolist():
            own = [i for i, part in zip(indices, owners, strict=True) if part == owner]
            read = self._parts[owner].read([int(i - self._starts[owner]) for i in own])
            rows |= dict(zip(own, read, strict=True))
        return [rows[index] for index in indices]


class Named(dict[str, Any]):
    """A row of which the grid file names the columns `named`."""

    named: frozenset[str]


class Renamed:
    """Rows with their columns under the names that the readers know."""

    def __init__(self, rows: Rows, columns: Columns):
        self._rows = rows
        self._columns = columns.model_dump(exclude_none=True)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Sequence[int]) -> list[Row]:
        return [self._renamed(row) for row in self._rows.read(indices)]

    def _renamed(self, row: Row) -> Row:
        if isinstance(row, Damaged):
            return row
        missing = {known: column for known, column in self._columns.items() if column not in row}
        if needed := [missing[known] for known in missing if known not in Columns.OPTIONAL]:
            return Damaged(
                f"no column {needed[0]!r}, which `columns` names; it has {', '.join(row)}"
            )
        named = {
            known: row[column] for known, column in self._columns.items() if known not in missing
        }
        renamed = Named(
            named
            | {
                name: value
                for name, value in row.items()
                if name not in self._columns.values() and name not in self._columns
            }
        )
        renamed.named = frozenset(named)
        return renamed


def _table(path: Path) -> Any:
    """Columns in row groups cannot be read by the row: kept once more as Arrow, per content."""
    import datasets

    datasets.disable_progress_bars()  # it would stand in the middle of a plan
    cache = str(files.cache_folder("tables") / files.content_hash(path))
    try:
        match suffix(path):
            case ".parquet":
                return datasets.Dataset.from_parquet(str(path), cache_dir=cache)
            case ".arrow":
                return datasets.Dataset.from_file(str(path))
            case _:
                return datasets.Dataset.from_csv(str(path), cache_dir=cache, **_csv(path))
    except Exception as error:  # pyarrow and datasets raise a dozen unrelated types
        raise ValueError(_first_line(error)) from None  # `opened` would tell the cause, a wrapper


def _csv(path: Path) -> dict[str, Any]:
    """Options of a CSV file: its delimiter, and every column as text: `007` is no number, and `NA`
    is not missing. Columns without a name, as of an index, and repeated ones are called as pandas
    does."""
    import csv

    import datasets
    import pandas as pd

    with stream(path) as file:
        head = file.readline().decode("utf-8-sig")
    try:
        delimiter = csv.Sniffer().sniff(head, ",;\t|").delimiter
    except csv.Error:  # one column
        delimiter = ","
    names = pd.read_csv(path, sep=delimiter, nrows=0, encoding="utf-8-sig").columns
    features = datasets.Features({name: datasets.Value("string") for name in names})
    return {"features": features, "sep": delimiter, "keep_default_na": False,
            "encoding": "utf-8-sig"}  # fmt: skip


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ if error.__cause__ is not None else error
    lines = str(cause).strip().splitlines()
    line = lines[0] if lines else type(cause).__name__
    return f"{line}; save it as UTF-8" if isinstance(cause, UnicodeDecodeError) else line
