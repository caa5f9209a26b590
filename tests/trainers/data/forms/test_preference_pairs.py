"""Rows of pairs in each of their forms, and which of their tokens count."""

import numpy as np
import pytest

from trainers.data import prepare
from trainers.data.forms import pairs, preference_pairs, tokenize
from trainers.data.forms.tokenize import IGNORED
from trainers.specs.preference import DpoSpec

USER = {"role": "user", "content": "Which is red?"}
RIGHT = {"role": "assistant", "content": "the apple"}
WRONG = {"role": "assistant", "content": "the pear"}
SAME = pairs.Pair([USER], [RIGHT], [WRONG])


SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Which is red?", "chosen": "the apple", "rejected": "the pear"},
        {"prompt": [USER], "chosen": [RIGHT], "rejected": [WRONG]},
        {"chosen": [USER, RIGHT], "rejected": [USER, WRONG]},
        {"prompt": "Which is red?", "chosen": [USER, RIGHT], "rejected": [USER, WRONG]},
        {"conversations": [{"from": "human", "value": "Which is red?"}],
         "chosen": {"from": "gpt", "value": "the apple"},
         "rejected": {"from": "gpt", "value": "the pear"}},
        {"messages": [USER, RIGHT], "chosen": "the apple", "rejected": "the pear"},
        {"messages": [USER, RIGHT], "chosen": [USER, RIGHT], "rejected": [USER, WRONG]},
    ],
    ids=["texts", "messages", "conversations", "conversations with their prompt", "LLaMA-Factory's",
         "texts beside a conversation", "conversations beside one"],
)  # fmt: skip
def test_forms_say_the_same(row):
    assert pairs.pair_of(row) == SAME
    told = pairs.pair_of(row | {"system": "Be brief."})
    assert told == SAME._replace(prompt=[SYSTEM, USER])


def test_system_turn_of_a_pair_stands_once():
    told = {"chosen": [SYSTEM, USER, RIGHT], "rejected": [SYSTEM, USER, WRONG]}
    assert pairs.pair_of(told | {"system": "Talk."}).prompt == [SYSTEM, USER]
    other = {"role": "system", "content": "Be long."}
    apart = told | {"rejected": [other, USER, WRONG], "system": "Talk."}
    assert pairs.pair_of(apart).prompt == []
    bare = {"chosen": [RIGHT], "rejected": [WRONG], "system": "Be brief."}
    assert pairs.pair_of(bare).prompt[0] == SYSTEM


HISTORY = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


@pytest.mark.parametrize(
    ("prompt", "repeated"),
    [
        ([SYSTEM, USER], [USER]),
        ([*HISTORY, USER], [USER]),
        (HISTORY, [USER]),
        ([SYSTEM, USER], [*HISTORY, USER]),
        ([*HISTORY, USER], [*HISTORY, USER]),
        ([USER], [SYSTEM, USER]),
    ],
)
def test_turns_of_the_prompt_that_the_answers_do_not_repeat_stand_before_them(prompt, repeated):
    row = {"prompt": prompt, "chosen": [*repeated, RIGHT], "rejected": [*repeated, WRONG]}
    before = [turn for turn in (SYSTEM, *HISTORY, USER) if turn in prompt or turn in repeated]
    assert pairs.pair_of(row) == SAME._replace(prompt=before)


def test_prompt_that_the_answers_contradict_is_refused_and_as_a_text_told(tiny):
    row = {"prompt": [HISTORY[0]], "chosen": [USER, RIGHT], "rejected": [USER, WRONG]}
    with pytest.raises(ValueError, match="`prompt` ends with 'Hi' and `chosen` begins with 'Which"):
        pairs.pair_of(row)
    row["prompt"] = "Hi"
    assert pairs.pair_of(row) == SAME._replace(apart="prompt")
    chosen, _ = preference_pairs.texts(row, tiny.tokenizer)
    assert chosen.left_out == {"`prompt`, as the answers open with another question"}


@pytest.mark.parametrize("column", ["trajectory", "context"])
def test_question_is_not_guessed_beside_a_column_of_messages(column):
    row = {"chosen": "It is 4", "rejected": "It is 5", column: [USER]}
    with pytest.raises(ValueError, match=rf"`{column}` holds messages; .*messages: {column}"):
        pairs.pair_of(row)


@pytest.mark.parametrize("objects", [[{"value": "a"}], [{"from": "web", "value": "a"}]])
def test_objects_beside_two_texts_are_no_messages(objects):
    row = {"chosen": "It is 4", "rejected": "It is 5", "tags": objects}
    assert pairs.pair_of(row).prompt == [{"role": "user", "content": "It is"}]


def test_question_is_not_guessed_from_answers_that_are_declared():
    row = {"chosen": [RIGHT], "rejected": [WRONG]}
    assert pairs.pair_of(row) == pairs.Pair([], [RIGHT], [WRONG])


def test_row_that_is_no_pair_is_told_what_is_needed():
    with pytest.raises(ValueError, match="columns messages; use `chosen` and `rejected`"):
        pairs.pair_of({"messages": [USER, RIGHT]})


def test_only_what_follows_the_shared_turns_counts(tiny):
    turns = [USER, RIGHT, {"role": "user", "content": "And blue?"}]
    row = {"chosen": [*turns, RIGHT], "rejected": [*turns, WRONG]}
    for text, answer in zip(
        preference_pairs.texts(row, tiny.tokenizer), (RIGHT, WRONG), strict=True
    ):
        ((ids, labels),) = tokenize.encode([text], tiny.tokenizer)
        counted = tiny.tokenizer.decode(labels[labels != IGNORED])
        assert counted == f"{answer['content']}<|im_end|>"
        assert ids[-1] == tiny.tokenizer.eos_token_id


@pytest.mark.parametrize("rejected", ["the apple", "  "])
def test_pair_that_says_nothing_is_blank(rejected, tiny):
    row = {"prompt": "Which is red?", "chosen": "the apple", "rejected": rejected}
    assert all(text.blank for text in preference_pairs.texts(row, tiny.tokenizer))


def test_prepared_pair_is_both_texts_each_cut_to_length(tiny, tmp_path):
    spec = DpoSpec.model_validate({
        "kind": "dpo", "data": {"name": "world:preferences", "examples": 50}, "heldout": 10,
        "learning_rate": 1e-4, "batch_size": 8, "max_length": 24,
    })  # fmt: skip
    prepared = prepare.prepare(spec, tiny.tokenizer, tmp_path)
    assert prepared.counts["rows"] == 50
    assert len(prepared.heldout) == 10
    fates = ("train", "dropped", "duplicates", "empty")
    assert sum(prepared.counts[fate] for fate in fates) == 40
    for row in prepared.train:
        parts = np.split(np.array(row["labels"]), [row["second"]])
        assert [len(part) <= 24 for part in parts] == [True, True]
        assert all((part[1:] != IGNORED).any() for part in parts)
        assert row["length"] == len(row["input_ids"])
