"""How much of a benchmark item stands in one training document: Tulu 3's rule on plain texts.

    index = Index(items, Rule())
    shares = index.shares(documents)

An item is contaminated where strictly more than half of its tokens lie in 8-grams that one training
document has too (Tulu 3, arXiv 2411.15124, section 3.2; code in open-instruct, decontamination/).
What differs from that code, on purpose: items and documents are tokenised alike, where it cuts
items with spaCy and documents with its index, so that punctuation counts on one side only; every
document is looked at, where it asks for the ten best hits of each n-gram.

The index is over the benchmarks, and training documents stream past it. N-grams are found by a
hash and then compared token by token, so a collision cannot make a match. Text in a script without
spaces is split at punctuation alone: the rule hardly sees it.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import binomtest

Normalisation = Literal["tulu", "words", "none"]

TOKEN: dict[Normalisation, re.Pattern[str]] = {
    # The separators of open-instruct's `tulu_analyzer`, which keeps the signs of mathematics.
    "tulu": re.compile(r'[^\s,.?!:;()"\\-]+'),
    "words": re.compile(r"[^\W_]+"),
    "none": re.compile(r"\S+"),
}
"""What a token is: `tulu` and `words` ignore case and punctuation (`words` all of it, operators
and underscores too), `none` takes the text as it is written."""

TYPOGRAPHIC = {
    ord(typeset): plain
    for plain, forms in {
        "'": "\u2018\u2019\u201b",
        '"': "\u201c\u201d\u201e\u201f\u00ab\u00bb",
        "-": "\u2010\u2011\u2012\u2013\u2014\u2015",
        ".": "\u2026\u3002",
        ",": "\uff0c\u3001",
        "?": "\uff1f",
        "!": "\uff01",
        ":": "\uff1a",
        ";": "\uff1b",
        "(": "\uff08",
        ")": "\uff09",
    }.items()
    for typeset in forms
}
"""Typeset punctuation -> its plain form, one character for one."""

BASE = np.uint64(0x9E3779B97F4A7C15)
"""Of the polynomial over an n-gram's token ids, modulo 2^64."""

FILTER_BITS = 24
"""The table that most n-grams of a document fail at has 2^24 entries of a byte."""

MOST_AT_ONCE = 4_000_000
"""Token places of items to look at in one go; bounds memory where many items share a phrase."""


class Rule(NamedTuple):
    """When an item counts as contaminated."""

    n: int = 8
    """Tokens of an n-gram."""
    threshold: float = 0.5
    """An item is contaminated where its share is strictly above this."""
    normalisation: Normalisation = "tulu"


class Shares(NamedTuple):
    """The pairs of a document and an item that have an n-gram in common, a row each.

    `share` is the part of the item's tokens that the document covers, above 0 and at most 1; of an
    item with several fields, the mean over its fields.
    """

    document: np.ndarray
    item: np.ndarray
    share: np.ndarray


def tokens(text: str, normalisation: Normalisation) -> list[str]:
    """The tokens of a text, as they are compared."""
    if normalisation == "none":
        return TOKEN["none"].findall(text)
    return TOKEN[normalisation].findall(text.translate(TYPOGRAPHIC).lower())


class Index:
    """All n-grams of a list of items, each of one or several fields."""

    def __init__(self, items: Sequence[Sequence[str]], rule: Rule):
        if rule.n < 1:
            raise ValueError(f"n-grams of {rule.n} tokens; n is at least 1")
        self.rule = rule
        fields = [tokens(field, rule.normalisation) for item in items for field in item]
        self._vocabulary = {
            token: number
            for number, token in enumerate(dict.fromkeys(t for field in fields for t in field), 1)
        }
        self._lengths = np.array([len(field) for field in fields], dtype=np.int64)
        self._item = np.repeat(np.arange(len(items)), [len(item) for item in items])
        # A field without a single token says nothing, and is no field.
        self._fields = np.bincount(self._item[self._lengths > 0], minlength=len(items))
        self._text, self._field = self._encoded(fields)
        self._hashes, self._starts, self._places = self._ngrams()
        self._filter = np.zeros(1 << FILTER_BITS, dtype=bool)
        self._filter[_slot(self._hashes)] = True

    @property
    def items(self) -> int:
        return len(self._fields)

    @property
    def too_short(self) -> np.ndarray:
        """Items of which the fields that have an n-gram are too few: no document can cover more
        than the threshold."""
        long = np.bincount(self._item[self._lengths >= self.rule.n], minlength=self.items)
        return long <= self.rule.threshold * self._fields

    def shares(self, documents: Sequence[str]) -> tuple[Shares, int]:
        """All pairs with an n-gram in common, and the number of tokens read.

        Rows are sorted by document, then item.
        """
        encoded, owner = self._encoded(
            [tokens(text, self.rule.normalisation) for text in documents]
        )
        count = len(encoded) - len(documents)
        if not len(self._hashes) or len(encoded) < self.rule.n:
            return _nothing(), count
        place, gram = self._found(encoded)
        return self._covered(owner[place], gram), count

    def _encoded(self, texts: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of all texts in a row, a 0 after each, and the text that each belongs to.

        A token that no item has is 0 too: an n-gram with a 0 is in no item.
        """
        known = self._vocabulary.get
        ids: list[int] = []
        for text in texts:
            ids += [known(token, 0) for token in text]
            ids.append(0)
        owner = np.repeat(np.arange(len(texts)), [len(text) + 1 for text in texts])
        return np.array(ids, dtype=np.uint64), owner

    def _ngrams(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The items' n-grams: their hashes, sorted; where each one's places begin; the places."""
        if len(self._text) < self.rule.n:
            return np.empty(0, np.uint64), np.zeros(1, np.int64), np.empty(0, np.int64)
        windows = sliding_window_view(self._text, self.rule.n)
        places = np.flatnonzero((windows != 0).all(axis=1))
        hashes = _hashes(self._text, self.rule.n)[places]
        order = np.argsort(hashes, kind="stable")
        unique, starts = np.unique(hashes[order], return_index=True)
        places = places[order]
        first = np.repeat(places[starts], np.diff(starts, append=len(places)))
        assert (windows[places] == windows[first]).all(), "two n-grams have one hash; change BASE"
        return unique, np.append(starts, len(places)), places

    def _found(self, encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in `encoded` an n-gram of an item begins, and which."""
        hashes = _hashes(encoded, self.rule.n)
        place = np.flatnonzero(self._filter[_slot(hashes)])
        gram = np.searchsorted(self._hashes, hashes[place])
        gram[gram == len(self._hashes)] = 0
        same = self._hashes[gram] == hashes[place]
        place, gram = place[same], gram[same]
        ours = sliding_window_view(self._text, self.rule.n)[self._places[self._starts[gram]]]
        exact = (sliding_window_view(encoded, self.rule.n)[place] == ours).all(axis=1)
        return place[exact], gram[exact]

    def _covered(self, document: np.ndarray, gram: np.ndarray) -> Shares:
        """The shares of these n-grams, found in documents of ascending number."""
        often = self._starts[gram + 1] - self._starts[gram]
        total = int(often.sum())
        if total == 0:
            return _nothing()
        if total > MOST_AT_ONCE and document[0] < document[-1]:
            half = np.searchsorted(document, (document[0] + document[-1] + 1) // 2)
            parts = (self._covered(document[s], gram[s]) for s in (slice(half), slice(half, None)))
            return Shares(*map(np.concatenate, zip(*parts, strict=True)))
        within = np.arange(total) - np.repeat(np.cumsum(often) - often, often)
        begins = self._places[np.repeat(self._starts[gram], often) + within]
        size = len(self._text)
        begins = np.unique(np.repeat(document, often) * size + begins)
        token = np.unique(begins[:, None] + np.arange(self.rule.n))
        pair = token // size * len(self._lengths) + self._field[token % size]
        pair, count = np.unique(pair, return_counts=True)
        field = pair % len(self._lengths)
        item = self._item[field]
        of_field = count / self._lengths[field]  # a quotient of whole numbers: 50 of 100 is 0.5
        key, inverse = np.unique(
            pair // len(self._lengths) * self.items + item, return_inverse=True
        )
        item = key % self.items
        return Shares(key // self.items, item, np.bincount(inverse, of_field) / self._fields[item])


def _nothing() -> Shares:
    return Shares(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def _hashes(ids: np.ndarray, n: int) -> np.ndarray:
    """sum of ids[i + j] BASE^(n - 1 - j) for each n-gram i, modulo 2^64."""
    hashes = np.zeros(len(ids) - n + 1, dtype=np.uint64)
    for offset in range(n):
        hashes *= BASE
        hashes += ids[offset : offset + len(hashes)]
    return hashes


def _slot(hashes: np.ndarray) -> np.ndarray:
    return (hashes * BASE) >> np.uint64(64 - FILTER_BITS)


class Found(NamedTuple):
    """What some documents hold of the items, a row for each item of which they hold anything."""

    item: np.ndarray
    share: np.ndarray
    """Of the document that covers most; the first of equals."""
    place: np.ndarray
    """Row of the data and turn of the conversation of that document, both from 0."""
    documents: np.ndarray
    """Documents that cover more than the threshold."""
    texts: dict[int, str]
    """That document, of contaminated items alone."""
    read: tuple[int, int]
    """Documents and tokens that were read."""


def find(index: Index, documents: list[str], places: list[tuple[int, int]]) -> Found:
    """The best document for each item, of some documents and their places."""
    shares, read = index.shares(documents)
    above = shares.share > index.rule.threshold
    order = np.lexsort((shares.document, -shares.share, shares.item))
    items, first = np.unique(shares.item[order], return_index=True)
    chosen = order[first]
    texts: dict[int, str] = {}
    for row in chosen[above[chosen]].tolist():
        texts[int(shares.item[row])] = documents[int(shares.document[row])]
    count = np.bincount(shares.item[above], minlength=index.items)[items]
    place = np.array(places, dtype=np.int64).reshape(-1, 2)[shares.document[chosen]]
    return Found(items, shares.share[chosen], place, count, texts, (len(documents), read))


class Best:
    """For each item the document that covers most of it, of all documents looked at so far."""

    def __init__(self, items: int, threshold: float):
        self.threshold = threshold
        self.share = np.zeros(items)
        self.place = np.zeros((items, 2), dtype=np.int64)
        self.documents = np.zeros(items, dtype=np.int64)
        self.texts: dict[int, str] = {}
        self.read = np.zeros(2, dtype=np.int64)

    def add(self, later: Found) -> None:
        """Take in what was found in documents after these; of equals the first stays."""
        self.documents[later.item] += later.documents
        self.read += later.read
        better = later.share > self.share[later.item]
        items = later.item[better]
        self.share[items] = later.share[better]
        self.place[items] = later.place[better]
        self.texts |= {item: later.texts[item] for item in items.tolist() if item in later.texts}

    @property
    def contaminated(self) -> np.ndarray:
        """Numbers of the contaminated items."""
        return np.flatnonzero(self.share > self.threshold)


def interval(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share that was counted in a sample (Wilson), as fractions."""
    low, high = binomtest(hits, count).proportion_ci(method="wilson")
    return float(low), float(high)
