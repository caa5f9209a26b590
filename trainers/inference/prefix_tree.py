"""Token sequences -> their distinct prefixes, each token once.

Sorted, a sequence shares with the one before it the longest beginning that it shares with any
earlier one, so only its tail is new: sorted tails, one after another, are the trie of all
sequences in depth-first order, and no knowledge of tasks is needed to find it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Prefixes(NamedTuple):
    tokens: np.ndarray
    """Token ids, depth first; a place is an index into this, and each place is one distinct
    prefix."""
    depths: np.ndarray
    """Number of tokens before each place in its sequence: its position id."""
    paths: list[np.ndarray]
    """The places of each given sequence, from its first token to its last."""
    tails: np.ndarray
    """First place of each tail, ascending."""
    tail_sequences: np.ndarray
    """Index of the sequence whose tail it is."""


class Row(NamedTuple):
    """Consecutive places of one sequence that are computed together, and all that they see."""

    start: int
    """First of the places, counted from the start of the span."""
    path: np.ndarray
    """Places from the sequence's first token to the last of the row."""
    length: int
    """Number of places computed; they are the last ones of `path`."""


def find(sequences: Sequence[list[int]] | Sequence[tuple[int, ...]]) -> Prefixes:
    """The distinct prefixes of the sequences, none of which is empty."""
    arrays = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
    paths: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(arrays)
    tails, tail_sequences, tokens, depths = [], [], [], []
    total = 0
    before, path = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for index in sorted(range(len(arrays)), key=lambda index: sequences[index]):
        sequence = arrays[index]
        shared = _shared(before, sequence)
        new = len(sequence) - shared
        path = np.concatenate([path[:shared], np.arange(total, total + new)])
        paths[index] = path
        if new:
            tails.append(total)
            tail_sequences.append(index)
            tokens.append(sequence[shared:])
            depths.append(np.arange(shared, len(sequence)))
            total += new
        before = sequence
    return Prefixes(
        np.concatenate(tokens),
        np.concatenate(depths),
        paths,
        np.array(tails),
        np.array(tail_sequences),
    )


def _shared(first: np.ndarray, second: np.ndarray) -> int:
    """Length of the longest common beginning."""
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if len(different) else length


def rows(prefixes: Prefixes, start: int, stop: int) -> Iterator[Row]:
    """The rows that compute the places of the span from `start` to `stop`."""
    first = int(np.searchsorted(prefixes.tails, start, side="right")) - 1
    last = int(np.searchsorted(prefixes.tails, stop, side="left"))
    ends = [*prefixes.tails[first + 1 : last], stop]
    for tail, end in zip(range(first, last), ends, strict=True):
        begin = max(int(prefixes.tails[tail]), start)
        path = prefixes.paths[prefixes.tail_sequences[tail]]
        depth = int(prefixes.depths[end - 1]) + 1
        yield Row(begin - start, path[:depth], int(end) - begin)


def carried(prefixes: Prefixes, stop: int) -> np.ndarray:
    """Places before `stop` that places from `stop` on still see, ascending."""
    if stop >= len(prefixes.tokens):
        return np.empty(0, dtype=np.int64)
    tail = int(np.searchsorted(prefixes.tails, stop, side="right")) - 1
    path = prefixes.paths[prefixes.tail_sequences[tail]]
    return path[: int(prefixes.depths[stop])]
