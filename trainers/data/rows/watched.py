"""Which columns of the data are read, and which stand there unread. Loads no torch."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from trainers.data.rows.json_rows import Row


class Watched(dict[str, Any]):
    """A row that notes which of its columns are read: their values, not whether they are there."""

    def __init__(self, row: Row, read: set[str] | None = None):
        super().__init__(row)
        self.read: set[str] = set() if read is None else read

    def __getitem__(self, column: str) -> Any:
        self.read.add(column)
        return super().__getitem__(column)

    def get(self, column: str, default: Any = None) -> Any:
        self.read |= {column} & self.keys()
        return super().get(column, default)

    def items(self):
        self.read |= self.keys()
        return super().items()

    def blank(self, column: str) -> bool:
        value = super().__getitem__(column)
        return isinstance(value, str) and not value.strip()

    def filled(self) -> "Watched":
        """The columns that hold something; what is read of them is noted here too."""
        return Watched({k: v for k, v in super().items() if not _missing(v)}, self.read)


def _missing(value: Any) -> bool:
    """None, or NaN, as which pandas writes it into JSON."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


class ColumnsRead(NamedTuple):
    """Of one data set."""

    there: set[str]
    """Columns that a row which was read has."""
    filled: set[str]
    """Columns in which a row that was read has a value: no None, no NaN, no blank text."""
    read: set[str]
    """Those of which a row's value was read."""

    @classmethod
    def of(cls, rows: Iterable[Watched]) -> "ColumnsRead":
        columns = cls(set(), set(), set())
        for row in rows:
            filled = {name for name in row.filled() if not row.blank(name)}
            columns.add(cls(set(row), filled, row.read))
        return columns

    def add(self, others: "ColumnsRead") -> None:
        self.there.update(others.there)
        self.filled.update(others.filled)
        self.read.update(others.read)

    @property
    def unread(self) -> list[str]:
        return sorted(self.filled - self.read)
