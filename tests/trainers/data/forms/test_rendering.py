"""Conversations by the real chat templates of model families: each turn of the assistant counts."""

import copy
import json
import time

import pytest
from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing

from tests.trainers.families import FAMILIES, template, tokenizer
from tests.trainers.tokenised import tokenise
from trainers.data import prepare
from trainers.data.forms.tokenize import IGNORED, text_of
from trainers.models import chat_template, tiny, training_templates
from trainers.specs.training import SftSpec

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 0 plus 2?"},
    {"role": "assistant", "content": "It is 2."},
    {"role": "user", "content": "And plus 3?"},
    {"role": "assistant", "content": "Then it is 3."},
]

THOUGHTLESS = "<think>\n\n</think>\n\n"

WRITTEN = {
    "qwen3": (THOUGHTLESS + "{}<|im_end|>",) * 2,
    # its prompt has already opened the thought
    "qwen3_5_think": ("\n</think>\n\n{}<|im_end|>",) * 2,
    "phi3": ("{}<|end|>",) * 2,
    "deepseekv3": ("{}<\uff5cend▁of▁sentence\uff5c>",) * 2,
    # <|end|> also ends thoughts, so generation goes on behind it and it is not trained
    "gptoss": ("<|channel|>final<|message|>{}", "<|channel|>final<|message|>{}<|return|>"),
    "llama3_2": ("{}<|eot_id|>",) * 2,
    "gemma": ("{}<end_of_turn>",) * 2,
    "gemma3": ("{}<end_of_turn>",) * 2,
    "qwen2_5": ("{}<|im_end|>",) * 2,
}


@pytest.fixture(params=FAMILIES)
def family(request):
    made = tokenizer(request.param)
    chat_template.complete_tokenizer(made)
    return request.param, made


def counted(tokens, example) -> list[str]:
    """Texts of the runs of tokens that count."""
    runs: list[list[int]] = [[]]
    for token, label in zip(example["input_ids"], example["labels"], strict=True):
        if label != IGNORED:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokens.decode(run) for run in runs if run]


def test_every_turn_of_the_assistant_counts_up_to_its_end_token(family):
    name, tokens = family
    example = tokenise({"messages": TALK}, tokens, "assistant")
    said = [turn["content"] for turn in TALK if turn["role"] == "assistant"]
    assert counted(tokens, example) == [
        form.format(text) for form, text in zip(WRITTEN[name], said, strict=True)
    ]
    assert "Be brief." in tokens.decode(example["input_ids"])


@pytest.mark.parametrize("processor", [ByteLevel(), Sequence([ByteLevel(trim_offsets=True)])])
def test_white_space_counts_under_a_tokenizer_that_trims_its_offsets(processor):
    tokens, said = tiny.tokenizer(), "def f(x):\n    return  x\n"
    row = {"messages": [TALK[1], {"role": "assistant", "content": said}]}
    exact = tokenise(row, tokens, "assistant")
    tokens.backend_tokenizer.post_processor = processor
    assert tokenise(row, tokens, "assistant") == exact
    assert counted(tokens, exact) == [f"{said}<|im_end|>"]


def test_every_end_that_is_trained_ends_generation(family, fresh):
    _name, tokens = family
    chat_template.complete(fresh.model, tokens)
    example = tokenise({"messages": TALK}, tokens, "assistant")
    ends = fresh.model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    last = [label for label in example["labels"] if label != IGNORED][-1]
    assert last in ends


def test_text_of_a_conversation_is_that_of_the_own_template_where_it_keeps_earlier_turns():
    tokens = tokenizer("llama3_2")
    chat_template.complete_tokenizer(tokens)
    text = tokens.apply_chat_template(TALK, tokenize=False)
    example = tokenise({"messages": TALK}, tokens, "assistant")
    assert tokens.decode(example["input_ids"]) == text


def test_date_of_a_template_is_the_same_every_day():
    for family in ("llama3_2", "gptoss"):
        tokens = tokenizer(family)
        assert chat_template.CLOCK not in str(tokens.chat_template)
        chat_template.complete_tokenizer(tokens)
        once = str(tokens.chat_template)
        chat_template.complete_tokenizer(tokens)
        assert tokens.chat_template == once, "a saved tokenizer is not changed again"
        text = tokens.apply_chat_template(TALK[1:2], tokenize=False, add_generation_prompt=True)
        assert "26 Jul 2024" in text or "2024-07-26" in text
        assert chat_template.date_in(tokens) == "2024-07-26"


def test_system_turn_that_the_template_refuses_opens_the_first_user_turn(tmp_path):
    tokens = tokenizer("gemma")
    chat_template.complete_tokenizer(tokens)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": TALK}) + "\n")
    spec = SftSpec.model_validate({
        "kind": "sft", "data": {"name": str(path)}, "heldout": 0, "learning_rate": 1e-3,
        "batch_size": 1,
    })  # fmt: skip
    prepared = prepare.prepare(spec, tokens, tmp_path / "data")
    text = tokens.decode(prepared.train[0]["input_ids"])
    assert "<start_of_turn>user\nBe brief.\n\nWhat is 0 plus 2?<end_of_turn>" in text
    assert prepared.counts["folded"] == 1
    assert "1 with the system turn in the first user turn" in prepared.preparation.lines()[0]


def test_answer_that_trl_would_join_to_its_prompt_is_a_turn_and_is_told(tiny, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "Which is red?", "completion": said} for said in (" the apple", "the sky")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"kind": "sft", "data": {"name": str(path)}, "heldout": 0, "learning_rate": 1e-3,
            "batch_size": 1}  # fmt: skip
    prepared = prepare.prepare(SftSpec.model_validate(spec), tiny.tokenizer, tmp_path / "data")
    texts = {tiny.tokenizer.decode(row["input_ids"]) for row in prepared.train}
    assert any("assistant\n the apple<|im_end|>" in text for text in texts)
    assert prepared.counts["spaced"] == 1
    assert "1 with an answer that begins with white space" in prepared.preparation.lines()[0]


def test_text_that_is_a_conversation_has_one_end_and_is_told(tiny, tmp_path):
    """As TRL's users write it: rendered by the template, in the column `text`."""
    rendered = [tiny.tokenizer.apply_chat_template(TALK, tokenize=False), "Once upon a time."]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rendered))
    spec = {"kind": "sft", "data": {"name": str(path)}, "heldout": 0, "learning_rate": 1e-3,
            "batch_size": 1}  # fmt: skip
    prepared = prepare.prepare(SftSpec.model_validate(spec), tiny.tokenizer, tmp_path / "data")
    texts = {tiny.tokenizer.decode(row["input_ids"]) for row in prepared.train}
    assert texts == {rendered[0], f"Once upon a time.{tiny.tokenizer.eos_token}"}
    assert prepared.counts["rendered"] == 1
    assert "1 texts that are conversations" in prepared.preparation.lines()[0]
    whole = SftSpec.model_validate(spec | {"loss_on": "all"})
    assert prepare.prepare(whole, tiny.tokenizer, tmp_path / "all").counts["rendered"] == 0


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("### Human: hi### Assistant: ho", 1),
        ("<s>[INST] hi [/INST] ho </s>", 1),
        ("\n\nHuman: hi\n\nAssistant: ho", 1),
        ("<|user|>\nhi\n<|assistant|>\nho", 1),
        ("### Instruction:\nhi\n\n### Response:\nho", 1),
        ("Human: I said hi. ### A heading: ho", 0),
    ],
)
def test_text_that_is_a_conversation_in_another_spelling_is_told(text, rendered, tiny):
    assert text_of({"text": text}, tiny.tokenizer, "assistant").rendered == bool(rendered)
    assert not text_of({"text": text}, tiny.tokenizer, "all").rendered


def test_many_marks_of_questions_without_an_answer_take_no_time(tiny):
    started = time.monotonic()
    assert not text_of({"text": "### User: hi\n" * 20_000}, tiny.tokenizer, "assistant").rendered
    assert time.monotonic() - started < 1


def test_template_without_an_end_or_a_generation_prompt_is_told(family):
    _name, tokens = family
    assert chat_template.faults(tokens) == []
    turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}END\n{% endfor %}"
    asked = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    tokens.chat_template = (turns + asked).replace("END", "")
    (fault,) = chat_template.faults(tokens)
    assert "no token at the end of an answer" in fault
    tokens.chat_template = turns.replace("END", str(tokens.eos_token))
    (fault,) = chat_template.faults(tokens)
    assert r"writes '<|im_start|>assistant\n' before an answer" in fault
    closed = "{{ m.content }}{% if m.role == 'user' %} [/INST]{% else %}{{ eos_token }}{% endif %}"
    tokens.chat_template = "{% for m in messages %}" + closed + "{% endfor %}"
    assert chat_template.faults(tokens) == [], "Mistral's question ends where the answer begins"
    refused = "{% if messages[-1].role == 'user' %}{{ raise_exception('whose turn?') }}{% endif %}"
    tokens.chat_template = refused + turns.replace("END", str(tokens.eos_token))
    assert chat_template.faults(tokens) == [], "what it writes before an answer is not known"


def test_faults_of_a_template_are_in_the_plan(tmp_path):
    own, rows = tmp_path / "own.jinja", tmp_path / "rows.jsonl"
    own.write_text("{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n{% endfor %}")
    rows.write_text(json.dumps({"messages": TALK[1:3]}) + "\n")
    spec = SftSpec.model_validate({
        "kind": "sft", "data": {"name": str(rows)}, "heldout": 0, "learning_rate": 1e-3,
        "batch_size": 1, "chat_template": str(own), "loss_on": "all",
    })  # fmt: skip
    lines = prepare.prepare(spec, tiny.tokenizer(), tmp_path / "data").preparation.lines()
    assert sum("chat template: it writes " in line for line in lines) == 2


def test_tool_calls_are_written_as_the_template_has_them():
    tokens = tokenizer("qwen3")
    chat_template.complete_tokenizer(tokens)
    schema = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
    call = {"function": {"name": "add", "arguments": '{"a": 1}'}}
    row = {
        "tools": [schema],
        "messages": [
            TALK[1],
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2"},
            TALK[2],
        ],
    }
    first, second = counted(tokens, tokenise(row, tokens, "assistant"))
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>' in first
    assert second.endswith("It is 2.<|im_end|>")


def test_unknown_template_that_rewrites_turns_says_the_way_out_and_a_file_is_one(tmp_path):
    tokens = tiny.tokenizer()
    tokens.chat_template = template("qwen3") + "{# mine #}"
    with pytest.raises(ValueError, match=r"rewrites earlier turns.*chat_template:"):
        tokenise({"messages": TALK}, tokens, "assistant")
    own = tmp_path / "own.jinja"
    own.write_text(str(training_templates.training_version(template("qwen3"))))
    chat_template.use_template(tokens, str(own))
    assert len(counted(tokens, tokenise({"messages": TALK}, tokens, "assistant"))) == 2


def test_broken_template_file_is_named_with_its_line(tmp_path):
    own = tmp_path / "own.jinja"
    own.write_text("{% for m in messages %}\n{{ m.content }")
    with pytest.raises(ValueError, match=r"chat_template: .*own\.jinja:2"):
        chat_template.use_template(tiny.tokenizer(), str(own))


def test_plain_text_opens_as_the_tokenizer_opens_every_text():
    tokens = with_first_token(tiny.tokenizer())
    stock = tokens("the cat")["input_ids"]
    example = tokenise({"text": "the cat"}, tokens, "all")
    assert example["input_ids"] == [*stock, tokens.eos_token_id]


def test_base_model_without_template_opens_conversations_so_too():
    tokens = with_first_token(tiny.tokenizer())
    tokens.chat_template = None
    chat_template.complete_tokenizer(tokens)
    ids = tokenise({"messages": TALK}, tokens, "assistant")["input_ids"]
    assert ids[0] == tokens.bos_token_id
    assert tokens.decode(ids[1:4]).startswith("<|im_start|>")


def with_first_token(tokens):
    tokens = copy.deepcopy(tokens)
    tokens.add_special_tokens({"bos_token": "<s>"})
    tokens.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokens.bos_token_id)]
    )
    return tokens


def test_trl_still_ships_its_templates_as_files():
    """Written for TRL 1.16, whose `get_training_chat_template` would load torch."""
    from trl import chat_template_utils

    for name in ("qwen3", "phi3", "deepseekv3", "gptoss", "gemma"):
        asked = tokenizer(name)
        expected = chat_template_utils.get_training_chat_template(asked)
        assert training_templates.training_version(str(asked.chat_template)) == expected
