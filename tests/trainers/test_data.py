"""Rows become tokens whose labels are exactly what the assistant writes."""

import json
import os

import pytest

from trainers import data, sources
from trainers.data import IGNORED, prepare, tokenise
from trainers.spec import SftSpec

DIALOGUE = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say apple two times."},
        {"role": "assistant", "content": "apple apple"},
        {"role": "user", "content": "Ünd now? 一 🙂"},
        {"role": "assistant", "content": "  Jä, 二 🙂\n#### 3"},
    ]
}


def spec(name="world:sft", **settings) -> SftSpec:
    source = {"name": str(name)} | {k: settings.pop(k) for k in ("examples",) if k in settings}
    plain = {"kind": "sft", "learning_rate": 1e-3, "batch_size": 4, "max_length": 256, "heldout": 5}
    return SftSpec.model_validate(plain | {"data": source} | settings)


@pytest.fixture
def jsonl(tmp_path):
    """Writes rows as a local file; returns its path."""

    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def tokenizer(tiny):
    return tiny.tokenizer


def labelled(example, tokenizer) -> str:
    """Text of the tokens that count."""
    kept = [t for t, label in zip(*example.values(), strict=True) if label != IGNORED]
    return tokenizer.decode(kept, skip_special_tokens=False)


def test_assistant_labels_are_its_text_and_its_end_token(tokenizer):
    row = {"messages": DIALOGUE["messages"][:3]}
    assert labelled(tokenise(row, tokenizer, "assistant"), tokenizer) == "apple apple<|im_end|>"


def test_each_assistant_turn_counts_and_nothing_else(tokenizer):
    example = tokenise(DIALOGUE, tokenizer, "assistant")
    said = "apple apple<|im_end|>  Jä, 二 🙂\n#### 3<|im_end|>"
    assert labelled(example, tokenizer) == said


def test_tokens_are_those_of_the_chat_template(tokenizer):
    example = tokenise(DIALOGUE, tokenizer, "assistant")
    ids = tokenizer.apply_chat_template(DIALOGUE["messages"], tokenize=True, return_dict=True)
    assert example["input_ids"] == ids["input_ids"]
    assert len(example["labels"]) == len(example["input_ids"])


def test_labels_are_the_tokens_themselves_where_they_count(tokenizer):
    example = tokenise(DIALOGUE, tokenizer, "assistant")
    pairs = list(zip(example["input_ids"], example["labels"], strict=True))
    assert all(label in (token, IGNORED) for token, label in pairs)


def test_loss_on_all_counts_every_token(tokenizer):
    example = tokenise(DIALOGUE, tokenizer, "all")
    assert example["labels"] == example["input_ids"]


def test_text_ends_with_the_end_token_and_counts_in_full(tokenizer):
    example = tokenise({"text": "The apple is red."}, tokenizer, "assistant")
    assert labelled(example, tokenizer) == "The apple is red.<|im_end|>"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Say apple.", "completion": "apple"},
        {
            "prompt": [{"role": "user", "content": "Say apple."}],
            "completion": [{"role": "assistant", "content": "apple"}],
        },
    ],
    ids=["texts", "messages"],
)
def test_prompt_and_completion_are_a_conversation(row, tokenizer):
    whole = {"messages": [
        {"role": "user", "content": "Say apple."}, {"role": "assistant", "content": "apple"},
    ]}  # fmt: skip
    assert tokenise(row, tokenizer, "assistant") == tokenise(whole, tokenizer, "assistant")


def test_row_of_unknown_form_names_its_columns(tokenizer):
    with pytest.raises(ValueError, match=r"\['answer', 'question'\]; use `messages`"):
        tokenise({"question": "a", "answer": "b"}, tokenizer, "assistant")


def test_template_that_rewrites_earlier_turns_is_refused(tokenizer, monkeypatch):
    dropping = (
        "{% for message in messages %}{% if loop.last or message['role'] == 'user' %}"
        "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endif %}{% endfor %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", dropping)
    with pytest.raises(ValueError, match="rewrites earlier turns"):
        tokenise(DIALOGUE, tokenizer, "assistant")


def test_template_with_a_default_system_prompt_is_no_rewriting(tokenizer, monkeypatch):
    """SmolLM2's template adds one where a conversation has none."""
    added = (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nHelp.<|im_end|>\n{% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", added + tokenizer.chat_template)
    row = {"messages": DIALOGUE["messages"][1:3]}
    assert labelled(tokenise(row, tokenizer, "assistant"), tokenizer) == "apple apple<|im_end|>"


def test_prepared_world_counts_every_row_once(tokenizer, tmp_path):
    prepared = prepare(spec(examples=30), tokenizer, tmp_path)
    assert (len(prepared.train), len(prepared.heldout)) == (25, 5)
    assert prepared.counts == {"train": 25, "heldout": 5, "truncated": 0, "dropped": 0}


def test_truncation_is_counted_and_cuts_the_end(tokenizer, jsonl, tmp_path):
    rows = [{"text": "red " * 50}, {"text": "red"}]
    prepared = prepare(spec(jsonl(rows), max_length=20, heldout=0), tokenizer, tmp_path / "data")
    assert prepared.counts["truncated"] == 1
    assert sorted(map(len, prepared.train["input_ids"]))[-1] == 20
    for row in prepared.train:
        assert len(row["labels"]) == len(row["input_ids"])


def test_example_without_a_token_that_counts_is_dropped_and_counted(tokenizer, jsonl, tmp_path):
    asked = {"messages": [{"role": "user", "content": "Say apple."}]}
    late = {"messages": [{"role": "user", "content": "red " * 50}, *DIALOGUE["messages"][2:3]]}
    good = {"messages": DIALOGUE["messages"][1:3]}
    path = jsonl([asked, late, good])
    prepared = prepare(spec(path, max_length=40, heldout=0), tokenizer, tmp_path / "data")
    assert prepared.counts["dropped"] == 2
    assert len(prepared.train) == prepared.counts["train"] == 1


def test_data_with_nothing_to_train_on_is_refused(tokenizer, jsonl, tmp_path):
    path = jsonl([{"messages": [{"role": "user", "content": "Say apple."}]}])
    with pytest.raises(ValueError, match="no example is left"):
        prepare(spec(path, heldout=0), tokenizer, tmp_path / "data")


def test_rows_that_are_all_held_out_are_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="no example is left"):
        prepare(spec(examples=5, heldout=5), tokenizer, tmp_path)


def test_heldout_rows_are_never_in_train(tokenizer, jsonl, tmp_path):
    rows = [{"text": f"row {number}"} for number in range(40)]
    prepared = prepare(spec(jsonl(rows), heldout=10), tokenizer, tmp_path / "data")
    train, heldout = (
        {tuple(ids) for ids in part["input_ids"]} for part in (prepared.train, prepared.heldout)
    )
    assert (len(train), len(heldout)) == (30, 10)
    assert not train & heldout


def test_row_that_stands_twice_is_not_both_held_out_and_trained_on(tokenizer, jsonl, tmp_path):
    rows = [{"text": f"row {number % 20}"} for number in range(60)]
    prepared = prepare(spec(jsonl(rows), heldout=10), tokenizer, tmp_path / "data")
    assert not set(prepared.heldout["item"]) & set(prepared.train["item"])


@pytest.mark.parametrize("source", ["file", "world:sft", "world:pretrain"])
def test_heldout_rows_stay_the_same_when_examples_grow(source, tokenizer, jsonl, tmp_path):
    if source == "file":
        source = jsonl([{"text": f"row {number}"} for number in range(60)])
    few, many = (prepare(spec(source, examples=n), tokenizer, tmp_path / "data") for n in (20, 60))
    assert list(few.heldout["item"]) == list(many.heldout["item"])
    assert set(few.train["item"]) < set(many.train["item"])


def test_second_call_opens_what_the_first_one_left(tokenizer, tmp_path):
    first = prepare(spec(examples=20), tokenizer, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")}
    second = prepare(spec(examples=20), tokenizer, tmp_path)
    assert written
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")}
    assert second.train.cache_files == first.train.cache_files, "memory-mapped from one file"
    assert list(second.train["input_ids"]) == list(first.train["input_ids"])


@pytest.mark.parametrize(
    "settings",
    [{"learning_rate": 1.0}, {"seed": 3}, {"batch_size": 2}, {"schedule": "cosine"}],
    ids=str,
)
def test_cells_of_a_grid_share_one_preparation(settings, tokenizer, tmp_path):
    prepare(spec(examples=20), tokenizer, tmp_path)
    prepare(spec(examples=20, **settings), tokenizer, tmp_path)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize(
    "settings", [{"max_length": 32}, {"loss_on": "all"}, {"heldout": 6}, {"examples": 21}], ids=str
)
def test_what_changes_the_tokens_is_prepared_anew(settings, tokenizer, tmp_path):
    prepare(spec(examples=20), tokenizer, tmp_path)
    prepare(spec(**{"examples": 20} | settings), tokenizer, tmp_path)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_changed_file_is_prepared_anew(tokenizer, jsonl, tmp_path):
    before = prepare(spec(jsonl([{"text": "a"}]), heldout=0), tokenizer, tmp_path / "data")
    after = prepare(spec(jsonl([{"text": "b"}]), heldout=0), tokenizer, tmp_path / "data")
    assert list(before.train["input_ids"]) != list(after.train["input_ids"])


def test_preparation_that_fails_leaves_nothing_that_looks_prepared(tokenizer, jsonl, tmp_path):
    bad = jsonl([{"text": "a"}, {"question": "b"}])
    for _ in range(2):
        with pytest.raises(ValueError, match="question"):
            prepare(spec(bad, heldout=0), tokenizer, tmp_path / "data")


def test_preparation_of_a_killed_process_is_made_anew(tokenizer, tmp_path):
    """What a process leaves half-written has another name."""
    key = data._key(spec(examples=20), tokenizer)
    half = tmp_path / f"{key}.{os.getpid()}.part" / "train"
    half.mkdir(parents=True)
    (half / "data.arrow").write_bytes(b"half")
    assert len(prepare(spec(examples=20), tokenizer, tmp_path).train) == 15
    assert not half.exists()


def test_every_row_of_the_world_fits_and_counts(tokenizer):
    for name in sources.WORLD:
        for row in sources.rows(spec(name, examples=50).data):
            example = tokenise(row, tokenizer, "assistant")
            assert len(example["input_ids"]) <= tokenizer.model_max_length
            assert any(label != IGNORED for label in example["labels"][1:])
