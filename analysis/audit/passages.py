"""Item and document side by side, the n-grams that they share marked in both."""

from collections.abc import Sequence

import numpy as np

from analysis.audit.contamination import TOKEN, TYPOGRAPHIC, Normalisation, Rule

Segment = tuple[str, bool]
"""A piece of a text, and whether it is part of the overlap."""


def side_by_side(
    item: Sequence[str], document: str, rule: Rule
) -> tuple[list[Segment], list[Segment]]:
    """Item and document in pieces, the overlap marked in both; an item's fields a line each."""
    right = _spans(document, rule.normalisation)
    there = _grams([token for token, *_ in right], rule.n)
    left: list[Segment] = []
    here: set[tuple[str, ...]] = set()
    for field in item:
        spans = _spans(field, rule.normalisation)
        shared = there & _grams([token for token, *_ in spans], rule.n)
        here |= shared
        left += [*([("\n", False)] if left else []), *_segments(field, spans, shared, rule.n)]
    return left, _segments(document, right, here, rule.n)


def _grams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return set(zip(*(words[offset:] for offset in range(n)), strict=False))


def _spans(text: str, normalisation: Normalisation) -> list[tuple[str, int, int]]:
    """Tokens as they are compared, and where they stand in the text."""
    plain = text if normalisation == "none" else text.translate(TYPOGRAPHIC)
    fold = str if normalisation == "none" else str.lower
    return [(fold(m[0]), *m.span()) for m in TOKEN[normalisation].finditer(plain)]


def _segments(
    text: str, spans: list[tuple[str, int, int]], shared: set[tuple[str, ...]], n: int
) -> list[Segment]:
    words = [token for token, *_ in spans]
    marked = np.zeros(len(words) + 1, dtype=bool)
    for place in range(len(words) - n + 1):
        if tuple(words[place : place + n]) in shared:
            marked[place : place + n] = True
    edges = np.flatnonzero(np.diff(marked, prepend=False))
    pieces: list[Segment] = []
    at = 0
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        start, stop = spans[first][1], spans[end - 1][2]
        pieces += [(text[at:start], False), (text[start:stop], True)]
        at = stop
    return [piece for piece in (*pieces, (text[at:], False)) if piece[0]]


def clipped(segments: Sequence[Segment], around: int) -> list[Segment]:
    """The pieces with at most `around` characters of unmarked text beside a marked one."""
    pieces: list[Segment] = []
    for place, (text, marked) in enumerate(segments):
        before, after = place > 0, place + 1 < len(segments)
        if marked or len(text) <= around * (before + after):
            pieces.append((text, marked))
            continue
        head = text[:around] if before else ""
        tail = text[-around:] if after else ""
        pieces.append((f"{head} … {tail}", False))
    return pieces
