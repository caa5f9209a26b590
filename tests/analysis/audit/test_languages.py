"""Languages of conversations, with code and mathematics set apart."""

import pytest

from analysis.audit.languages import (
    CODE,
    MATHEMATICS,
    UNDETERMINED,
    Tally,
    apart,
    by_kind,
    language,
)
from tests.analysis.sentences import SENTENCES

CASES = [(code, text) for code, texts in SENTENCES.items() for text in texts]

PYTHON = """\
import os

def total(values):
    return sum(values)

x = total([1, 2])
"""


def test_the_paper_s_twenty_are_told_apart():
    """99 of 100 when the detector was chosen; below 97 another one has to be looked for."""
    right = sum(language(text) == code for code, text in CASES)
    assert len(CASES) == 100
    assert right >= 97


@pytest.mark.parametrize("code", SENTENCES)
def test_a_conversation_of_two_sentences_is_in_its_language(code):
    tally = Tally()
    tally.add(SENTENCES[code][3:5])
    assert tally.conversations == {code: 1}


def test_fenced_code_is_set_apart_from_the_prose_around_it():
    parts = apart(f"Here is how to add numbers:\n```python\n{PYTHON}```\nIt takes a list.")
    assert parts.prose.split("\n") == ["Here is how to add numbers:", "", "", "It takes a list."]
    assert parts.code > 60
    assert parts.mathematics == 0


def test_code_without_a_fence_is_known_by_its_looks():
    for line in filter(None, PYTHON.splitlines()):
        assert apart(line).prose == "", line


@pytest.mark.parametrize(
    "text",
    [
        "for the following movie plot:",
        "If you like it, say so: it helps.",
        "Let me know; I am at home.",
        "import duties are high",
        "return the book to the library (the old one).",
        "She has $5 and spends $3, so she has $2.",
        "Gracie is 7 inches taller than 5 feet.",
        "if you (the reader) want to know more:",
        "from Germany",
        "class sizes are as follows:",
        "Berlin (Hauptstadt);",
        "東京タワー(東京都港区芝公園)",
        "<p>Viele Menschen besuchen die Stadt im Sommer.</p>",
        "2023-11-05",
        "1988-93",
        "|---|---|",
        "=====",
    ],
)
def test_prose_is_neither_code_nor_mathematics(text):
    assert apart(text) == (0, 0, text)


@pytest.mark.parametrize(
    "line",
    [
        "class Model(Base):",
        "from os import path, sep",
        "import numpy as np",
        "if not (a and b) or c(d):",
        "if (a == b) {",
        "total(values);",
        '<div class="row">Hi</div>',
        "x[3];",
    ],
)
def test_a_line_of_code_is_set_apart(line):
    assert apart(line).code == len("".join(line.split()))


@pytest.mark.parametrize(
    "text",
    [
        "12 - 5",
        "48 / 2 = 24",
        r"\[ a^2 + b^2 = c^2 \]",
        "$$\\int f(x) dx$$",
        r"\begin{align}ab\end{align}",
    ],
)
def test_mathematics_is_set_apart(text):
    parts = apart(text)
    assert parts.prose.strip() == ""
    assert parts.mathematics == len("".join(text.split()))


def test_every_character_but_space_is_counted_once():
    turns = [f"Sum the list.\n```\n{PYTHON}```", "It is $a + b$ and so on:\n1 + 2 = 3", "好的"]
    assert sum(by_kind(turns).values()) == len("".join("".join(turns).split()))


def test_languages_of_a_translation_are_both_counted():
    found = by_kind([SENTENCES["en"][3], SENTENCES["de"][3]])
    assert set(found) == {"en", "de"}


def test_a_short_answer_is_in_the_language_of_its_conversation():
    assert set(by_kind([SENTENCES["sw"][3], "Ndiyo."])) == {"sw"}


def test_a_list_of_names_is_in_the_language_of_its_question():
    names = "Felix Gaeta\nHelena Cain\nSaul Tigh\nKarl Agathon"
    assert set(by_kind(["Name some people of the series, one in each line.", names])) == {"en"}


@pytest.mark.parametrize("text", ["xq zzv pltk wrrg", "!!! ???", ""])
def test_what_cannot_be_told_is_undetermined(text):
    assert language(text) == UNDETERMINED


def test_a_conversation_counts_for_most_of_its_characters():
    tally = Tally()
    tally.add(["Write it.", f"```\n{PYTHON * 5}```"])
    tally.add(["2 + 2 = ?", "4"])
    tally.add([])
    assert tally.conversations == {CODE: 1, MATHEMATICS: 1, UNDETERMINED: 1}


def test_tallies_add_up():
    one, other, both = Tally(), Tally(), Tally()
    one.add(SENTENCES["fr"][:2])
    other.add(SENTENCES["ja"][3:5])
    both.add(SENTENCES["fr"][:2])
    both.add(SENTENCES["ja"][3:5])
    one.merge(other)
    assert one.conversations == both.conversations
    assert one.characters == both.characters
