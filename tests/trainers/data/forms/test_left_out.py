"""What a chat template does not write of a conversation is refused or told."""

import json

import pytest

from tests.trainers.families import tokenizer
from trainers.data import prepare
from trainers.data.forms.tokenize import text_of
from trainers.models import chat_template, tiny
from trainers.specs.training import SftSpec

ASK, SAY = {"role": "user", "content": "Please search 3."}, {"role": "assistant", "content": "A1"}
CALL = {"name": "search", "arguments": "{}"}
TOOL = {"role": "tool", "content": "3"}


def called(**more):
    return {"role": "assistant", "content": None, "tool_calls": [{"function": CALL}]} | more


@pytest.mark.parametrize(
    "call", [called(), {"role": "assistant", "content": None, "function_call": CALL}]
)
@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_call_that_is_not_written_is_refused_whatever_the_words_of_others(call, loss_on):
    row = {"messages": [ASK, call, TOOL, SAY]}
    with pytest.raises(ValueError, match="does not write the turn of 'search'"):
        text_of(row, tiny.tokenizer(), loss_on)


def test_turn_of_a_tool_that_is_not_written_is_refused_whatever_the_words_of_others():
    tokens = tiny.tokenizer()
    tokens.chat_template = (
        "{% for m in messages %}{% if m.role != 'tool' %}{{ m.role + m.content }}"
        "{{ m.tool_calls }}<|im_end|>{% endif %}{% endfor %}"
    )
    with pytest.raises(ValueError, match="does not write the turn of 'tool'"):
        text_of({"messages": [ASK, called(), TOOL, SAY]}, tokens, "all")


def test_older_function_calls_are_read():
    tokens = tokenizer("qwen3")
    chat_template.complete_tokenizer(tokens)
    older = {"role": "assistant", "content": None, "function_call": CALL}
    row = {"messages": [ASK, older], "functions": [{"name": "search"}]}
    new = {"messages": [ASK, called()], "tools": [{"name": "search"}]}
    assert text_of(row, tokens, "assistant") == text_of(new, tokens, "assistant")


@pytest.mark.parametrize(
    ("family", "turns", "left_out"),
    [
        (
            "qwen2_5",
            [SAY | {"reasoning_content": "B1"}],
            {"the key `reasoning_content` of messages"},
        ),
        ("qwen3", [SAY | {"reasoning_content": "B1"}], set()),
        ("gptoss", [SAY | {"thinking": "B1"}, ASK, SAY], {"the key `thinking` of messages"}),
        ("llama3_2", [called(content="Let me look.")], {"what is said beside a call"}),
        ("qwen2_5", [called(content="Let me look.")], set()),
        ("qwen2_5", [SAY | {"train": False, "weight": "1"}], {"the key `train` of messages"}),
    ],
)
def test_parts_that_the_template_does_not_write_are_known(family, turns, left_out):
    tokens = tokenizer(family)
    chat_template.complete_tokenizer(tokens)
    assert text_of({"messages": [ASK, *turns]}, tokens, "assistant").left_out == left_out


def prepared(tmp_path, tokens, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in rows))
    spec = {"kind": "sft", "learning_rate": 1e-3, "batch_size": 1, "heldout": 0,
            "data": {"name": str(path)}}  # fmt: skip
    return prepare.prepare(SftSpec.model_validate(spec), tokens, tmp_path / "data")


def test_parts_that_are_left_out_are_told_with_their_rows(tiny, tmp_path):
    turns = [ASK, SAY | {"train": False}]
    lines = prepared(tmp_path, tiny.tokenizer, turns, [ASK, SAY], turns).preparation.lines()
    assert "data rows.jsonl: left out of the text: the key `train` of messages (2 rows)" in lines


def test_weight_as_text_is_a_number_and_any_other_is_refused(tiny, tmp_path):
    turns = [ASK, SAY | {"weight": "0"}, ASK, {"role": "assistant", "content": "A2"}]
    (row,) = prepared(tmp_path, tiny.tokenizer, turns).train
    assert "A1" not in tiny.tokenizer.decode([label for label in row["labels"] if label >= 0])
    with pytest.raises(ValueError, match=r"`messages\[1\]` has the weight 'low'; use 0 or 1"):
        text_of({"messages": [ASK, SAY | {"weight": "low"}]}, tiny.tokenizer, "all")
