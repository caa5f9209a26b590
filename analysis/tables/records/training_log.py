"""metrics.jsonl of a trial: a line per step, hundreds of thousands of a long training, of which a
curve needs a few."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

SMALL = 256 * 1024
"""Bytes that are read whole, about a thousand lines."""


class Sample(NamedTuple):
    """Lines that lie evenly along a file, the first and the last among them."""

    lines: list[bytes]
    every: int
    """Lines from one of them to the next, about."""
    end: int
    """Where the last whole line ends; a killed writer leaves half a line behind it."""


class Reading:
    """How far a file that grows has been read."""

    def __init__(self, end: int = 0, last: bytes = b""):
        """Up to byte `end`, which the whole line `last` ends at."""
        self._end = end
        self._last = last

    def stands(self, file: BinaryIO) -> bool:
        """Whether the last line read is still where it was: an attempt that goes on from a
        checkpoint, or begins again, replaces the file."""
        file.seek(self._end - len(self._last))
        return file.read(len(self._last)) == self._last

    def lines(self, file: BinaryIO) -> Iterator[bytes]:
        """New whole lines."""
        file.seek(self._end)
        for line in file:
            if not line.endswith(b"\n"):
                return
            self._end, self._last = self._end + len(line), line
            yield line


def records(folder: Path, most: int) -> list[dict[str, Any]]:
    """At most `most` records along metrics.jsonl in a trial's folder; none where training has not
    begun. What is no object is skipped."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        return objects(sample(file, most).lines)


def objects(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The records that lines hold."""
    records = []
    for line in lines:
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records


def sample(file: BinaryIO, most: int) -> Sample:
    """At most `most` lines: evenly by number of a small file, evenly by bytes of another, so that
    the size of the file costs nothing."""
    size = file.seek(0, 2)
    file.seek(max(size - SMALL, 0))
    tail = file.read(SMALL)
    whole = tail[: tail.rfind(b"\n") + 1]
    end = size - len(tail) + len(whole)
    if size <= SMALL:
        lines = whole.splitlines()
        places = np.unique(np.linspace(0, len(lines) - 1, min(most, len(lines))).round())
        every = max(len(lines) // max(len(places), 1), 1)
        return Sample([lines[int(place)] for place in places], every, end)
    last = end - len(whole) + whole.rfind(b"\n", 0, -1) + 1
    lines = {}
    for offset in np.linspace(0, last, most).astype(int):
        file.seek(max(offset - 1, 0))
        if offset:
            file.readline()  # to the end of the line in which the offset lies
        lines[file.tell()] = file.readline()
    length = sum(map(len, lines.values())) / len(lines)
    return Sample(list(lines.values()), max(round(end / len(lines) / length), 1), end)
