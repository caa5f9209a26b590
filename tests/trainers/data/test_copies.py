"""Rows in which the model reads the same are one row, whatever else stands in them."""

import json

import pytest

from trainers.data.prepare import prepare
from trainers.specs.preference import DpoSpec
from trainers.specs.rlvr import RlvrSpec
from trainers.specs.training import SftSpec

PLAIN = {"learning_rate": 1e-3, "batch_size": 1}


@pytest.fixture
def prepared(tiny, tmp_path):
    """Prepares rows, a file for each list of them."""

    def make(spec, *files, **settings):
        sources = []
        for number, rows in enumerate(files):
            path = tmp_path / f"{number}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            sources.append({"name": str(path)})
        kind = {SftSpec: "sft", DpoSpec: "dpo", RlvrSpec: "rlvr"}[spec]
        more = {"group_size": 2, "batch_size": 2} if kind == "rlvr" else {}
        asked = PLAIN | more | {"kind": kind, "data": sources} | settings
        return prepare(spec.model_validate(asked), tiny.tokenizer, tmp_path / "data")

    return make


def said(number: int) -> list[dict]:
    return [
        {"role": "user", "content": f"{number}?"},
        {"role": "assistant", "content": f"{number}"},
    ]


def shared_form(row: dict) -> dict:
    """As ShareGPT has it."""
    turns = [{"from": turn["role"], "value": turn["content"]} for turn in row["messages"]]
    return {"conversations": turns, "source": "copy"}


SFT = [{"messages": said(number), "id": number} for number in range(20)]
PAIRS = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no", "id": n} for n in range(20)]
PROMPTS = [{"prompt": f"{n}?", "answer": str(n), "id": n} for n in range(20)]


@pytest.mark.parametrize(
    ("spec", "rows", "copies"),
    [
        (SftSpec, SFT, [row | {"id": -1} for row in SFT]),
        (SftSpec, SFT, [shared_form(row) for row in SFT]),
        (DpoSpec, PAIRS, [row | {"id": -1} for row in PAIRS]),
        (RlvrSpec, PROMPTS, [row | {"answer": f"#### {row['answer']}"} for row in PROMPTS]),
    ],
    ids=["id", "form", "pairs", "truth written otherwise"],
)
def test_copies_of_held_out_rows_are_not_trained_on(spec, rows, copies, prepared):
    made = prepared(spec, rows, copies, heldout=5)
    held, trained = (
        {tuple(ids) for ids in part["input_ids"]} for part in (made.heldout, made.train)
    )
    assert (len(held), held & trained) == (5, set())
    assert (made.counts["duplicates"], made.counts["train"]) == (5, 30)


def test_other_answers_to_a_held_out_question_are_other_pairs(prepared):
    made = prepared(DpoSpec, PAIRS, [row | {"rejected": "never"} for row in PAIRS], heldout=5)
    assert (made.counts["duplicates"], made.counts["train"]) == (0, 35)


def test_items_keep_the_names_that_earlier_records_have(prepared):
    made = prepared(SftSpec, [{"text": "a"}, {"text": "b"}], heldout=1)
    names = {*made.heldout["item"], *made.train["item"]}
    assert names == {"8cb37057e8c174fd", "fcf7579b2db13f7e"}


def test_pairs_that_are_alike_up_to_where_they_are_cut_are_dropped(prepared):
    """They teach nothing, and held out they count as wrong."""
    long = "red " * 50
    row = {"prompt": "Which?", "chosen": f"{long}apple", "rejected": f"{long}pear"}
    other = row | {"chosen": "apple"}
    made = prepared(DpoSpec, [row, other], heldout=0, max_length=40)
    assert (made.counts["dropped"], made.counts["train"], made.counts["truncated"]) == (1, 1, 1)


HALF = "\ud83d"


@pytest.mark.parametrize(
    ("spec", "row"),
    [
        (SftSpec, {"prompt": "p", "completion": f"bad {HALF}"}),
        (SftSpec, {"messages": [{"role": "user", "content": HALF}, *said(1)[1:]]}),
        (DpoSpec, {"prompt": "p", "chosen": "a", "rejected": HALF}),
        (RlvrSpec, {"prompt": HALF, "answer": "4"}),
        (SftSpec, {"messages": {HALF: 1}}),
    ],
)
def test_row_with_half_a_character_cannot_be_read_and_has_its_number(spec, row, prepared):
    rows = {SftSpec: SFT, DpoSpec: PAIRS, RlvrSpec: PROMPTS}[spec] * 5
    made = prepared(spec, [*rows, row], heldout=0)
    assert made.counts["unreadable"] == 1
    (line,) = (line for line in made.preparation.lines() if "row 101: " in line)
    assert r"\ud83d" in line
