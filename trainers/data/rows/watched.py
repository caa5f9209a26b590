"""Which columns of the data are read, and which stand there unread. Loads no torch."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from trainers.data.rows.json_rows import Row


class Watched(dict[str, Any]):
    """A row that notes which of its columns are read: their values, not whether they are there."""

    def __init__(self, row: Row, read: set[str] | None = None):
        super().__init__(row)
        self.read: set[str] = set() if read is None else read
        self.named: frozenset[str] = getattr(row, "named", frozenset())
        """Those of its columns that the grid file names; readers take them before others."""
        self.left_out: frozenset[str] = frozenset()
        """What of its messages no example is made of, in words."""

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
        filled = Watched({k: v for k, v in super().items() if not _missing(v)}, self.read)
        filled.named = self.named
        return filled

    def first_named(self, columns: Iterable[str]) -> list[str]:
        """Those of the columns that the row has, the ones that the grid file names first."""
        return sorted(
            (name for name in columns if name in self), key=lambda name: name not in self.named
        )


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
    left_out: Counter[str]
    """What of messages no example is made of, in words, and in how many rows."""

    @classmethod
    def of(cls, rows: Iterable[Watched]) -> "ColumnsRead":
        columns = cls(set(), set(), set(), Counter())
        for row in rows:
            filled = {name for name in row.filled() if not row.blank(name)}
            columns.add(cls(set(row), filled, row.read, Counter(row.left_out)))
        return columns

    def add(self, others: "ColumnsRead") -> None:
        self.there.update(others.there)
        self.filled.update(others.filled)
        self.read.update(others.read)
        self.left_out.update(others.left_out)

    @property
    def unread(self) -> list[str]:
        return sorted(self.filled - self.read)
