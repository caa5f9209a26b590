"""The conversations of a data set, read as training reads them; rows that cannot be read are
counted."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sweep.audit import scan
from trainers.data.forms.turns import Turn, places
from trainers.data.rows.sources import DataUnavailable

ODD = (ValueError, TypeError, LookupError, AttributeError)
"""What the reader raises for a row in another form."""

Numbered = list[tuple[int, dict[Turn, int]]]
"""Conversations with the numbers of their rows, each turn with its place; both from 0."""


class Work(NamedTuple):
    """`count(context, conversations)` is what is done with the conversations of a part."""

    count: Callable[[Any, Numbered], Any]
    context: Any


class Part(NamedTuple):
    """What was counted in a part of the data. `unreadable` has the number of each row that could
    not be read, from 1, and the reason."""

    rows: int
    result: Any
    unreadable: list[tuple[int, str]]


def parts(name: str, reading: scan.Reading, work: Work, cores: int) -> Iterator[Part]:
    """Part after part of a data set.

    Raises:
        DataUnavailable: the data cannot be had, or more rows cannot be read than the data allows.
    """
    rows = 0
    unreadable: list[tuple[int, str]] = []
    for count, (result, odd) in scan.scan(reading, _read, work, cores):
        rows += count
        unreadable += odd
        yield Part(count, result, odd)
    allowed = reading.data.max_unreadable
    if len(unreadable) > allowed * rows:
        reasons = {reason: number for number, reason in reversed(unreadable)}  # its first row
        shown = "; ".join(f"row {row}: {reason}" for reason, row in list(reasons.items())[-3:])
        raise DataUnavailable(
            f"{name}: {len(unreadable):,} of {rows:,} rows cannot be read (at most "
            f"{allowed:.1%} may be): {shown}"
        )


def _read(work: Work, rows: scan.Rows) -> tuple[Any, list[tuple[int, str]]]:
    conversations: Numbered = []
    odd = []
    for number, row in rows:
        try:
            said = places(row)
            for turn in said:
                turn.text.encode()
            conversations.append((number, said))
        except UnicodeEncodeError as error:  # unreadable in training too
            half = error.object[error.start]
            odd.append((number + 1, f"a text holds {half!r}, half of a character; take it out"))
        except ODD as error:
            odd.append((number + 1, str(error) or type(error).__name__))
    return work.count(work.context, conversations), odd
