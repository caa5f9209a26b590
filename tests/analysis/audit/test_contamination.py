"""Tulu 3's rule: planted overlaps are found to the token, and nothing else is."""

import random
import tracemalloc

import numpy as np
import pytest

from analysis.audit.contamination import (
    Best,
    Index,
    Rule,
    find,
    interval,
    tokens,
)
from analysis.audit.passages import clipped, side_by_side

ITEM = [f"w{number}" for number in range(100)]
"""An item of 100 tokens, no two alike: n of them are n percent."""


def share(item, *documents: str, **rule) -> float:
    """The item's largest share."""
    fields = (item,) if isinstance(item, str) else item
    index = Index([fields], Rule(**rule))
    best = Best(1, index.rule.threshold)
    best.add(find(index, list(documents), [(n, 0) for n in range(len(documents))]))
    return float(best.share[0])


def contaminated(item: str, *documents: str) -> bool:
    return share(item, *documents) > Rule().threshold


def planted(percent: int) -> str:
    """A document with the first `percent` tokens of the item in its midst."""
    return " ".join(["before", *ITEM[:percent], "after"])


@pytest.mark.parametrize(("percent", "is_contaminated"), [(49, False), (50, False), (51, True)])
def test_contaminated_is_strictly_more_than_half(percent, is_contaminated):
    assert share(" ".join(ITEM), planted(percent)) == percent / 100
    assert contaminated(" ".join(ITEM), planted(percent)) is is_contaminated


def test_case_spacing_and_punctuation_do_not_hide_an_overlap():
    item = "What is the largest city on the coast of the northern sea, by number of people?"
    document = (
        "“WHAT is\n\nthe largest\tcity — on the coast (of the Northern Sea) by number of People…"
    )
    assert share(item, document) == 1.0


@pytest.mark.parametrize("typeset", ["Janet\u2019s ducks", "JANET'S  ducks"])
def test_typeset_apostrophes_are_plain_ones(typeset):
    assert tokens(typeset, "tulu") == ["janet's", "ducks"]


def test_tulu_keeps_the_signs_of_mathematics_and_words_drops_them():
    assert tokens("x^2 + 3*y = 4.5", "tulu") == ["x^2", "+", "3*y", "=", "4", "5"]
    assert tokens("x^2 + 3*y = 4.5", "words") == ["x", "2", "3", "y", "4", "5"]
    assert tokens("A b, C", "none") == ["A", "b,", "C"]


def test_an_item_split_over_two_documents_is_not_contaminated():
    halves = " ".join(ITEM[:50]), " ".join(ITEM[50:])
    assert share(" ".join(ITEM), *halves) == 0.5
    assert contaminated(" ".join(ITEM), " ".join(halves))


def test_overlaps_of_fewer_than_n_tokens_count_nothing():
    pieces = " x ".join(" ".join(ITEM[start : start + 7]) for start in range(0, 98, 7))
    assert share(" ".join(ITEM), pieces) == 0.0
    assert share(" ".join(ITEM), pieces, n=7) == 0.98


def test_documents_do_not_run_into_each_other_nor_do_fields():
    assert share(" ".join(ITEM[:8]), " ".join(ITEM[:4]), " ".join(ITEM[4:8])) == 0.0
    assert share((" ".join(ITEM[:4]), " ".join(ITEM[4:8])), " ".join(ITEM[:8])) == 0.0


def test_share_of_several_fields_is_their_mean_in_one_document():
    passage, question = " ".join(ITEM[:40]), " ".join(ITEM[40:60])
    assert share((passage, question), passage) == 0.5
    assert share((passage, question), passage, question) == 0.5
    assert share((passage, question), f"{question} so {passage}") == 1.0


def test_repeated_phrases_cover_every_place_they_stand_in():
    phrase = " ".join(ITEM[:8])
    assert share(f"{phrase} a b c d {phrase}", f"Only once: {phrase}") == 16 / 20


def test_an_item_shorter_than_n_is_told_apart_from_a_clean_one():
    index = Index([("one two three",), (" ".join(ITEM),), ("",)], Rule())
    assert index.too_short.tolist() == [True, False, True]
    assert share("one two three", "one two three") == 0.0


@pytest.mark.parametrize(("threshold", "short"), [(0.5, True), (0.49, False)])
def test_an_item_is_too_short_where_its_long_fields_cannot_make_it_contaminated(threshold, short):
    question = " ".join(ITEM[:40])
    index = Index([(question, "yes"), (question, question)], Rule(threshold=threshold))
    assert index.too_short.tolist() == [short, False]
    assert share((question, "yes"), f"{question} yes", threshold=threshold) == 0.5


def test_the_first_of_the_best_documents_is_named_and_all_above_are_counted():
    index = Index([(" ".join(ITEM),)], Rule())
    best = Best(1, 0.5)
    best.add(find(index, [planted(30), planted(60)], [(0, 0), (0, 2)]))
    best.add(find(index, [planted(90), planted(90)], [(7, 0), (8, 1)]))
    best.add(find(index, ["nothing", planted(90)], [(9, 0), (9, 1)]))
    assert best.place[0].tolist() == [7, 0]
    assert best.share[0] == 0.9
    assert best.documents[0] == 4
    assert best.texts == {0: planted(90)}


def test_no_false_alarm_on_10_000_unrelated_pairs():
    """Texts of one vocabulary with the frequencies of words, so that short runs do recur."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{rank}" for rank in range(5000)])
    weights = 1 / np.arange(1, 5001)

    def text() -> str:
        return " ".join(rng.choice(words, 60, p=weights / weights.sum()))

    index = Index([(text(),) for _ in range(100)], Rule())
    shares, read = index.shares([text() for _ in range(100)])
    assert read == 100 * 60
    assert shares.share.max(initial=0) <= 0.5


def brute_force(item: list[str], document: list[str], n: int) -> float:
    covered = set()
    for i in range(len(item) - n + 1):
        for j in range(len(document) - n + 1):
            if item[i : i + n] == document[j : j + n]:
                covered |= set(range(i, i + n))
    return len(covered) / len(item)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_shares_agree_with_brute_force_on_random_data(n):
    rng = random.Random(n)
    for _ in range(20):
        letters = "ab" if n == 8 else "abcdefg"
        items = [rng.choices(letters, k=rng.randint(1, 40)) for _ in range(8)]
        documents = [rng.choices(letters, k=rng.randint(0, 60)) for _ in range(8)]
        if n == 8:
            documents = [d + rng.choice(items)[:20] for d in documents]
        index = Index([(" ".join(item),) for item in items], Rule(n=n))
        shares, _ = index.shares([" ".join(document) for document in documents])
        found = {
            (int(d), int(i)): s
            for d, i, s in zip(shares.document, shares.item, shares.share, strict=True)
        }
        expected = {
            (d, i): part
            for d, document in enumerate(documents)
            for i, item in enumerate(items)
            if (part := brute_force(item, document, n))
        }
        assert found == expected


def test_shares_do_not_depend_on_how_much_is_looked_at_at_once(monkeypatch):
    rng = random.Random(1)
    items = [(" ".join(rng.choices("abc", k=30)),) for _ in range(40)]
    documents = [" ".join(rng.choices("abc", k=50)) for _ in range(30)]
    index = Index(items, Rule(n=4))
    whole, _ = index.shares(documents)
    monkeypatch.setattr("analysis.audit.contamination.MOST_AT_ONCE", 50)
    parts, _ = index.shares(documents)
    assert [column.tolist() for column in parts] == [column.tolist() for column in whole]


def test_memory_does_not_grow_with_the_training_data():
    index = Index([(" ".join(ITEM),)], Rule())

    def peak(parts: int) -> int:
        tracemalloc.start()
        best = Best(1, 0.5)
        for part in range(parts):
            texts = [f"{part} {number} {planted(20)}" for number in range(50)]
            best.add(find(index, texts, [(part, number) for number in range(50)]))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(40) < 1.2 * peak(4)


def test_overlap_is_marked_in_both_texts():
    item = ("Max bought stamps at the post office today. How many?",)
    document = "Bella BOUGHT stamps, at the Post-Office today! How many, all in all?"
    left, right = side_by_side(item, document, Rule())
    assert left == [("Max ", False), ("bought stamps at the post office today. How many", True),
                    ("?", False)]  # fmt: skip
    assert [text for text, marked in right if marked] == [
        "BOUGHT stamps, at the Post-Office today! How many"
    ]
    assert "".join(text for text, _ in right) == document


def test_long_documents_are_clipped_around_the_overlap():
    pieces = [("a" * 500, False), ("same", True), ("b" * 500, False), ("same", True), ("c", False)]
    found = clipped(pieces, 10)
    assert [text for text, marked in found if marked] == ["same", "same"]
    assert found[0] == (" … " + "a" * 10, False)
    assert found[2] == ("b" * 10 + " … " + "b" * 10, False)
    assert found[-1] == ("c", False)


def test_interval_is_wilsons():
    """Figures of Newcombe 1998, table I: 81 of 263, and 0 of 20."""
    assert interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_an_n_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Index([("a",)], Rule(n=0))
