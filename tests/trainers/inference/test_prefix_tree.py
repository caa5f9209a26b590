"""Distinct prefixes: found from the sequences alone, each once, wherever they are cut."""

import numpy as np
import pytest

from trainers.inference.prefix_tree import carried, find, rows

RNG = np.random.default_rng(0)

SHAPES = {
    "choices of one context": [[1, 2, 3, choice, 9] for choice in range(4)],
    "one is the beginning of another": [[1, 2, 3], [1], [1, 2], [1, 2, 3, 4]],
    "alike": [[5, 6], [5, 6], [5, 6]],
    "nothing shared": [[1, 2], [2, 1], [3]],
    "two preambles, three items each": [
        [preamble, preamble, item, choice]
        for preamble in (7, 8)
        for item in range(3)
        for choice in (0, 1)
    ],
    "random": [RNG.integers(0, 3, RNG.integers(1, 9)).tolist() for _ in range(60)],
}


@pytest.fixture(params=SHAPES.values(), ids=list(SHAPES))
def sequences(request):
    return request.param


def prefixes_of(sequences) -> set[tuple[int, ...]]:
    return {tuple(s[:length]) for s in sequences for length in range(1, len(s) + 1)}


def test_each_distinct_prefix_has_one_place(sequences):
    found = find(sequences)
    assert len(found.tokens) == len(prefixes_of(sequences))


def test_path_of_a_sequence_spells_it(sequences):
    found = find(sequences)
    for sequence, path in zip(sequences, found.paths, strict=True):
        assert found.tokens[path].tolist() == sequence
        assert found.depths[path].tolist() == list(range(len(sequence)))


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_rows_of_any_cut_compute_each_place_once_with_all_before_it(sequences, size):
    found = find(sequences)
    computed: list[int] = []
    here: set[int] = set()
    for start in range(0, len(found.tokens), size):
        stop = min(start + size, len(found.tokens))
        kept = set(carried(found, start).tolist()) if start else set()
        assert kept <= here, "what is carried was computed or carried before"
        here = kept | set(range(start, stop))
        for row in rows(found, start, stop):
            own = list(range(start + row.start, start + row.start + row.length))
            assert row.path[-row.length :].tolist() == own
            assert set(row.path.tolist()) <= here
            assert found.depths[row.path].tolist() == list(range(len(row.path)))
            computed += own
    assert computed == list(range(len(found.tokens)))


def test_nothing_is_carried_beyond_the_end():
    found = find([[1, 2, 3]])
    assert len(carried(found, 3)) == 0
