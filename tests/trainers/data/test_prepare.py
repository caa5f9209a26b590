"""Rows become tokens whose labels are exactly what the assistant writes."""

import json
import os
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from tests.trainers.tokenised import tokenise
from trainers.data import prepare as data
from trainers.data import row_counts
from trainers.data.forms.tokenize import IGNORED
from trainers.data.prepare import prepare
from trainers.data.rows import sources
from trainers.specs.data import DataSpec
from trainers.specs.training import SftSpec

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
    with pytest.raises(ValueError, match="columns reply, ask; it needs `messages`"):
        tokenise({"reply": "a", "ask": "b"}, tokenizer, "assistant")


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
    tokens = [len(ids) for ids in prepared.train["input_ids"]]
    counted = sum(label != IGNORED for labels in prepared.train["labels"] for label in labels[1:])
    assert prepared.counts == {
        "rows": 30, "train": 25, "heldout": 5, "truncated": 0, "dropped": 0, "duplicates": 0,
        "empty": 0, "unreadable": 0, "folded": 0, "rendered": 0, "spaced": 0, "worded": 0,
        "tokens": sum(tokens), "loss_tokens": counted,
    }  # fmt: skip
    assert prepared.lengths.dtype == np.int32
    assert prepared.lengths.tolist() == tokens


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


def test_as_many_are_held_out_as_asked_though_some_rows_cannot_be(tokenizer, jsonl, tmp_path):
    """Rows that are empty, have no token that counts, or stand twice, take no place."""
    asked = [{"messages": [{"role": "user", "content": f"{n}"}]} for n in range(30)]
    empty = [{"text": " \n"} for _ in range(30)]
    twice = [{"text": f"row {n % 30}"} for n in range(60)]
    path = jsonl([*asked, *empty, *twice])
    prepared = prepare(spec(path, heldout=10), tokenizer, tmp_path / "data")
    assert len(set(prepared.heldout["item"])) == 10
    assert not set(prepared.heldout["item"]) & set(prepared.train["item"])
    found = prepared.counts
    assert (found["dropped"], found["empty"], found["duplicates"]) == (30, 30, 10)
    assert (found["train"], found["heldout"], found["rows"]) == (40, 10, 120)


@pytest.mark.parametrize(
    ("row", "loss_on", "fate"),
    [
        ({"text": ""}, "assistant", "empty"),
        ({"messages": []}, "assistant", "empty"),
        ({"messages": []}, "all", "empty"),
        ({"prompt": "Say apple.", "completion": " "}, "assistant", "empty"),
        ({"prompt": "Say apple.", "completion": " "}, "all", "train"),
        ({"messages": [{"role": "user", "content": "Say apple."}]}, "assistant", "dropped"),
        ({"messages": [{"role": "user", "content": "Say apple."}]}, "all", "train"),
    ],
)
def test_row_in_which_nothing_is_said_is_counted_as_empty(
    row, loss_on, fate, tokenizer, jsonl, tmp_path
):
    path = jsonl([row, {"text": "red"}])
    prepared = prepare(spec(path, loss_on=loss_on, heldout=0), tokenizer, tmp_path / "data")
    assert prepared.counts[fate] == 1 + (fate == "train")
    assert len(prepared.train) == prepared.counts["train"] == 1 + (fate == "train")


def test_files_are_the_same_to_the_byte_whatever_the_number_of_processes(
    tokenizer, jsonl, tmp_path, monkeypatch
):
    monkeypatch.setattr(data, "CHUNK", 16)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text("".join(json.dumps({"text": f"row {n} " * (n % 9)}) + "\n" for n in range(150)))
    two.write_text("".join(json.dumps(row) + "\n" for row in [DIALOGUE, {"text": "x"}] * 40))
    mixed = spec(one, heldout=20, max_length=60).model_copy(
        update={"data": (DataSpec(name=str(one), weight=1.5), DataSpec(name=str(two)))}
    )
    contents = []
    for processes in (1, 2, 5):
        cache = tmp_path / str(processes)
        prepare(mixed, tokenizer, cache, processes)
        (folder,) = (path for path in cache.iterdir() if path.is_dir())
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0].keys() == {"train.arrow", "heldout.arrow", "counts.json"}
    assert contents[0] == contents[1] == contents[2]


def test_error_in_a_process_names_the_data_and_the_row(tokenizer, jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHUNK", 16)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    path = jsonl([{"text": "a"}] * 40 + [{"question": "b"}] + [{"text": "a"}] * 40)
    with pytest.raises(ValueError, match=r"(?s)rows.jsonl': 1 of 81 rows.* row 41: a row with the"):
        prepare(spec(path, heldout=0), tokenizer, tmp_path / "data", processes=3)
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]


def mixture(*parts: dict, **settings) -> SftSpec:
    plain = {"kind": "sft", "learning_rate": 1e-3, "batch_size": 4, "heldout": 0}
    return SftSpec.model_validate(plain | {"data": list(parts)} | settings)


@pytest.fixture
def letters(jsonl):
    """Two files of 40 and 10 texts, one name each."""
    return {
        name: str(jsonl([{"text": f"{name} {number}"} for number in range(rows)], f"{name}.jsonl"))
        for name, rows in (("a", 40), ("b", 10))
    }


def decoded(part, tokenizer) -> list[str]:
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in part["input_ids"]]


def test_weight_is_the_passes_over_a_source_in_one_epoch(letters, tokenizer, tmp_path):
    """0.5 takes half of the rows, 2.5 each row twice and half of them once more."""
    spec = mixture({"name": letters["a"], "weight": 0.5}, {"name": letters["b"], "weight": 2.5})
    found = Counter(decoded(prepare(spec, tokenizer, tmp_path / "data").train, tokenizer))
    of_a = {text: number for text, number in found.items() if text.startswith("a")}
    of_b = {text: number for text, number in found.items() if text.startswith("b")}
    assert len(of_a) == 20
    assert set(of_a.values()) == {1}
    assert len(of_b) == 10
    assert sorted(of_b.values()) == [2] * 5 + [3] * 5


def test_sources_are_mixed_in_one_order_that_the_data_seed_decides(letters, tokenizer, tmp_path):
    parts = [{"name": letters["a"]}, {"name": letters["b"]}]
    orders = [
        decoded(prepare(mixture(*parts, **of), tokenizer, tmp_path / "data").train, tokenizer)
        for of in ({}, {"seed": 5, "learning_rate": 1.0}, {"data_seed": 1})
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    kinds = "".join(text[0] for text in orders[0])
    assert "b" in kinds[:25]
    assert "b" in kinds[25:]


def test_no_copy_of_a_held_out_row_is_trained_on_however_often_it_enters(
    letters, tokenizer, tmp_path
):
    spec = mixture({"name": letters["a"]}, {"name": letters["b"], "weight": 4}, heldout=15)
    prepared = prepare(spec, tokenizer, tmp_path / "data")
    train, heldout = (decoded(part, tokenizer) for part in (prepared.train, prepared.heldout))
    assert len(heldout) == len(set(heldout)) == 15
    assert {text[0] for text in heldout} == {"a", "b"}
    assert not set(train) & set(heldout)
    copies = sum(4 if text.startswith("b") else 1 for text in heldout)
    assert len(train) == 80 - copies
    assert prepared.counts["duplicates"] == copies - 15


def test_each_source_has_its_own_counts(letters, tokenizer, tmp_path):
    spec = mixture({"name": letters["a"]}, {"name": letters["b"], "weight": 2}, heldout=6)
    made = prepare(spec, tokenizer, tmp_path / "data").preparation
    of_a, of_b = made.sources.values()
    assert (of_a.rows, of_b.rows) == (40, 20)
    for found in (of_a, of_b, made.total):
        parts = (found.train, found.heldout, found.dropped, found.duplicates, found.empty)
        assert sum(parts) == found.rows
    assert made.total.heldout == 6
    assert [line.split(":")[0] for line in made.lines()] == ["data a.jsonl", "data b.jsonl x 2"]


def test_columns_that_no_example_is_made_of_are_told(jsonl, tokenizer, tmp_path):
    asked = {"question": "2 + 2?", "answer": "4", "hint": None, "id": 7}
    blank = {"tag": " ", "system": "Be brief."}
    name = jsonl([{**asked, "context": "Sums."}, {**asked, **blank, "passage": "Add."}, {"odd": 1}])
    other = jsonl([{"text": "Sums.", "source": "a"}] * 2, "other.jsonl")
    half = {"name": str(name), "max_unreadable": 0.5}
    spec_ = mixture(half, {"name": str(other)}, batch_size=1, heldout=1)
    told = prepare(spec_, tokenizer, tmp_path / "data").preparation
    assert list(told.unread_columns.values()) == [["id", "passage"], ["source"]]
    assert "data rows.jsonl: columns that are not read: id, passage" in told.lines()


def test_two_parts_of_one_data_set_have_names_of_their_own():
    parts = [{"name": "openai/gsm8k", "config": config} for config in ("main", "socratic")]
    names = [row_counts.name(source) for source in mixture(*parts).sources]
    assert names == ["openai/gsm8k(main):train", "openai/gsm8k(socratic):train"]


def test_single_source_in_a_list_is_that_source(letters, tokenizer, tmp_path):
    alone = mixture({"name": letters["a"]}).model_copy(update={"data": DataSpec(name=letters["a"])})
    orders = [
        decoded(prepare(one, tokenizer, tmp_path / "data").train, tokenizer)
        for one in (alone, mixture({"name": letters["a"]}))
    ]
    assert orders[0] == orders[1]


def test_weight_so_small_that_no_row_is_left_is_refused(letters, tokenizer, tmp_path):
    spec = mixture({"name": letters["a"]}, {"name": letters["b"], "weight": 0.01})
    with pytest.raises(ValueError, match=r"b\.jsonl': no row of 10 at weight 0.01"):
        prepare(spec, tokenizer, tmp_path / "data")


def test_what_was_prepared_is_found_without_tokenizer_or_data(letters, tokenizer, tmp_path):
    spec = mixture({"name": letters["a"]}, {"name": letters["b"]})
    cache = tmp_path / "data"
    assert row_counts.find(cache, spec) is None
    made = prepare(spec, tokenizer, cache).preparation
    assert row_counts.find(cache, spec) == made
    assert row_counts.find(cache, spec.model_copy(update={"max_length": 9})) is None


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
    for name in ("world:pretrain", "world:sft"):
        for row in sources.rows(spec(name, examples=50).data):
            example = tokenise(row, tokenizer, "assistant")
            assert len(example["input_ids"]) <= tokenizer.model_max_length
            assert any(label != IGNORED for label in example["labels"][1:])


@pytest.mark.parametrize("name", [data.TRAIN, data.HELDOUT, row_counts.FILE])
def test_prepared_data_that_is_cut_off_is_refused(name, tokenizer, jsonl, tmp_path, monkeypatch):
    """Between two batches too, where a stream that is cut off reads as a shorter one."""
    monkeypatch.setattr(data, "CHUNK", 4)
    rows = [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(20)]
    asked, cache = spec(jsonl(rows)), tmp_path / "cache"
    whole = prepare(asked, tokenizer, cache)
    expected = {data.TRAIN: len(whole.train), data.HELDOUT: len(whole.heldout)}.get(name, 1)
    (file,) = cache.glob(f"*/{name}")
    content = file.read_bytes()
    between = {kept for kept in range(len(content)) if 0 < reads(content[:kept]) < expected}
    assert len(between) >= (2 if name == data.TRAIN else 0)
    for kept in between | set(range(0, len(content) - 8, 64)):
        file.unlink()  # a file that is mapped must not shrink
        file.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=f"{name}: damaged"):
            prepare(asked, tokenizer, cache)
        assert (row_counts.find(cache, asked) is None) == (name == row_counts.FILE)
    file.unlink()
    file.write_bytes(content)
    assert len(prepare(asked, tokenizer, cache).train) == len(whole.train)


def reads(stream: bytes) -> int:
    """Rows that Arrow finds in it; none where it complains."""
    try:
        return pa.ipc.open_stream(stream).read_all().num_rows
    except (pa.ArrowException, OSError):
        return 0
