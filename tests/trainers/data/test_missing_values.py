"""A column without a value, None or the NaN that pandas writes into JSON, is an empty one."""

import json
from typing import Any

import pytest

from trainers.data.forms.messages import answer
from trainers.data.prepare import prepare
from trainers.specs.preference import DpoSpec
from trainers.specs.rlvr import RlvrSpec
from trainers.specs.training import SftSpec

NAN = float("nan")

SFT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
PAIR = {"prompt": "Which?", "chosen": "this", "rejected": "that"}
PROMPT = {"prompt": "2 + 2?", "answer": "4"}


def prepared(spec, row, other, tiny, tmp_path, **settings):
    """Two rows, of which one may be unreadable."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (row, other)))
    kind = {SftSpec: "sft", DpoSpec: "dpo", RlvrSpec: "rlvr"}[spec]
    more = {"group_size": 2, "batch_size": 2} if kind == "rlvr" else {"batch_size": 1}
    data = {"name": str(path), "max_unreadable": 0.5}
    asked = {"kind": kind, "learning_rate": 1e-3, "heldout": 0, "data": data} | more | settings
    return prepare(spec.model_validate(asked), tiny.tokenizer, tmp_path / "data")


@pytest.mark.parametrize("nothing", [None, NAN, float("inf"), " "], ids=str)
@pytest.mark.parametrize(
    ("spec", "row", "column", "other"),
    [
        (SftSpec, {"prompt": "p", "completion": "c"}, "completion", SFT),
        (SftSpec, {"instruction": "do", "output": "c", "text": "### do: c"}, "output", SFT),
        (SftSpec, {"text": "c", "source": "web"}, "text", SFT),
        (DpoSpec, PAIR, "chosen", PAIR),
        (DpoSpec, PAIR, "rejected", PAIR),
        (RlvrSpec, PROMPT, "prompt", PROMPT),
    ],
)
def test_row_that_lacks_what_its_form_needs_is_empty(
    spec, row, column, other, nothing, tiny, tmp_path
):
    made = prepared(spec, row | {column: nothing}, other, tiny, tmp_path)
    assert (made.counts["empty"], made.counts["train"]) == (1, 1)


@pytest.mark.parametrize("nothing", [None, NAN, " "], ids=str)
def test_truth_that_is_missing_is_told(nothing, tiny, tmp_path):
    made = prepared(RlvrSpec, PROMPT | {"answer": nothing}, PROMPT, tiny, tmp_path)
    assert made.counts["unreadable"] == 1
    assert " is empty" in made.preparation.lines()[1]


def test_form_whose_question_is_missing_too_gives_way_to_another(tiny, tmp_path):
    row = {"messages": None, "prompt": None, "completion": None, "text": "Once."}
    assert prepared(SftSpec, row, SFT, tiny, tmp_path).counts["train"] == 2


def test_transcript_without_a_last_answer_is_an_empty_pair(tiny, tmp_path):
    begun = "\n\nHuman: Say 1.\n\nAssistant:"
    row = {"chosen": f"{begun} 1.", "rejected": begun}
    assert prepared(DpoSpec, row, PAIR, tiny, tmp_path).counts["empty"] == 1


@pytest.mark.parametrize("nothing", [None, NAN], ids=str)
def test_question_that_is_missing_is_not_guessed_from_the_answers(nothing, tiny, tmp_path):
    row = {"prompt": nothing, "chosen": "It is 4", "rejected": "It is 5"}
    assert prepared(DpoSpec, row, PAIR, tiny, tmp_path).counts["empty"] == 1


def test_text_that_ends_like_a_transcript_and_is_none_is_an_answer(tiny, tmp_path):
    row = PAIR | {"chosen": "Write this after it:\n\nAssistant:"}
    assert prepared(DpoSpec, row, PAIR, tiny, tmp_path).counts["train"] == 2


def test_conversations_need_no_question(tiny, tmp_path):
    begun = "\n\nHuman: Say 1.\n\nAssistant:"
    row = {"prompt": None, "chosen": f"{begun} 1.", "rejected": f"{begun} 2."}
    assert prepared(DpoSpec, row, PAIR, tiny, tmp_path).counts["train"] == 2


@pytest.mark.parametrize("text", [5, ["a"]])
def test_text_that_is_none_is_unreadable(text, tiny, tmp_path):
    made = prepared(SftSpec, {"text": text}, SFT, tiny, tmp_path)
    assert made.counts["unreadable"] == 1
    assert f"`text` is {json.dumps(text)}; give a text" in made.preparation.lines()[1]


def test_infinity_reaches_a_reward_function_of_the_users(tiny, tmp_path):
    from trainers.data.forms.rlvr_prompts import read_prompts

    (tmp_path / "mine.py").write_text("def f(prompts, completions, **columns): ...\n")
    rows = [PROMPT | {"most": most} for most in (float("inf"), None)]
    reward = f"{tmp_path / 'mine.py'}:f"
    made = prepared(RlvrSpec, rows[0], rows[1] | {"prompt": "?"}, tiny, tmp_path, reward=reward)
    prepared_rows: Any = list(made.train)
    most = {read.columns.get("most") for read in read_prompts(prepared_rows)}
    assert most == {float("inf"), None}


@pytest.mark.parametrize(("value", "said"), [(18.0, "18"), (18.5, "18.5"), (-3, "-3")])
def test_number_is_an_answer_without_empty_decimals(value, said):
    assert answer(value, "answer", "assistant") == [{"role": "assistant", "content": said}]
