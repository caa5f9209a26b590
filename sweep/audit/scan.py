"""Training data past a function, on all cores, in memory that does not grow with the data."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeVar

import numpy as np

from trainers.data.rows import sources
from trainers.specs.data import DataSpec

AT_ONCE = 500
"""Rows that a process reads and counts at a time."""

FEW = 4
"""Parts that are done here sooner than other processes have started."""

Context = TypeVar("Context")
Result = TypeVar("Result")

Rows = list[tuple[int, dict[str, Any]]]
"""Rows with their numbers in the data, from 0."""


class Reading(NamedTuple):
    """A data set as a stage reads it: `seed` decides which rows a part of it has."""

    data: DataSpec
    seed: int = 0


class _Held(NamedTuple):
    """What a process keeps from one part to the next."""

    stored: sources.Rows
    work: Callable[[Any, Rows], Any]
    context: Any


_held: _Held | None = None


def scan(
    reading: Reading, work: Callable[[Context, Rows], Result], context: Context, cores: int
) -> Iterator[tuple[int, Result]]:
    """`work(context, rows)` of part after part of the data, in order, each after its row count.

    Every row that training reads is read once, whatever its weight. `work` is a function of a
    module; `context` and what it returns go between processes.

    Raises:
        DataUnavailable: the data cannot be had, or a file of it is damaged.
    """
    stored = sources.stored_rows(reading.data)
    if len(stored) == 0:
        return
    rows = np.unique(sources.order([reading.data], [len(stored)], reading.seed).index)
    parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
    held = _Held(stored, work, context)
    if cores == 1 or len(parts) <= FEW:
        _hold(held)
        yield from ((len(part), _work(part)) for part in parts)
        return
    # Spawned, not forked: the driver has threads of its own.
    with ProcessPoolExecutor(
        min(cores, len(parts)), get_context("spawn"), initializer=_hold, initargs=(held,)
    ) as pool:
        yield from zip(map(len, parts), pool.map(_work, parts), strict=True)


def _hold(held: _Held) -> None:
    global _held
    _held = held


def _work(part: np.ndarray) -> Any:
    assert _held is not None, "set when the process began"
    numbers = part.tolist()
    rows = _held.stored.read(numbers)
    return _held.work(_held.context, list(zip(numbers, rows, strict=True)))
