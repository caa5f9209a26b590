"""Columns that a grid file names are read before those that a reader knows by itself."""

import json

import pytest

from trainers.data import prepare
from trainers.data.forms import rlvr_prompts
from trainers.data.forms.pairs import pair_of
from trainers.data.forms.turns import turns
from trainers.data.rows.stored_rows import InMemory, Renamed
from trainers.specs.data import Columns
from trainers.specs.training import SftSpec

OTHERS = [{"role": "user", "content": "Other?"}, {"role": "assistant", "content": "Other."}]


def renamed(row, **columns):
    (read,) = Renamed(InMemory([row]), Columns(**columns)).read([0])
    return read


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"q": "Q", "a": "A", "messages": OTHERS}, {"prompt": "q", "completion": "a"}, ["Q", "A"]),
        ({"body": "T", "messages": OTHERS}, {"text": "body"}, ["T"]),
        ({"text": "T", "prompt": "p", "completion": "c"}, {"text": "text"}, ["T"]),
        ({"instruction": "Q", "output": "b", "short": "A"}, {"completion": "short"}, ["Q", "A"]),
        ({"question": "b", "new": "Q", "answer": "A"}, {"prompt": "new"}, ["Q", "A"]),
        ({"instruction": "Q", "input": "b", "output": "A"}, {"prompt": "instruction"}, ["Q", "A"]),
        ({"problem": "Q", "ground_truth": "4", "messages": OTHERS}, {"prompt": "problem"}, ["Q"]),
    ],
)
def test_named_column_comes_before_all_others(row, columns, expected):
    assert [turn.text for turn in turns(renamed(row, **columns))] == expected


def test_named_truth_and_prompt_come_before_all_others():
    row = {"problem": "Q", "final": "7", "ground_truth": "9", "messages": OTHERS}
    row |= {"instruction_id_list": ["length_constraints:number_words"], "kwargs": [{}]}
    read = rlvr_prompts.read(renamed(row, prompt="problem", answer="final"))
    assert (read.messages[0]["content"], read.ground_truth) == ("Q", "7")


def test_named_prompt_of_a_pair_comes_before_all_others():
    row = {"prompt": "b", "asked": "Q", "chosen": "A", "rejected": "B"}
    assert pair_of(renamed(row, prompt="asked")).prompt[0]["content"] == "Q"


def test_rows_that_are_empty_say_nothing_of_the_columns_that_are_named(tiny, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"q": "Q", "a": None}) + "\n")
    spec = SftSpec.model_validate({
        "kind": "sft", "learning_rate": 1e-3, "batch_size": 1, "heldout": 0,
        "data": {"name": str(path), "columns": {"prompt": "q", "completion": "a"}},
    })  # fmt: skip
    with pytest.raises(ValueError, match=r"no example is left to train on .*1 empty"):
        prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")


def test_named_column_that_is_not_read_is_refused_by_the_name_in_the_file(tiny, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": "A", "messages": OTHERS}) + "\n")
    spec = SftSpec.model_validate({
        "kind": "sft", "learning_rate": 1e-3, "batch_size": 1, "heldout": 0,
        "data": {"name": str(path), "columns": {"completion": "a"}},
    })  # fmt: skip
    with pytest.raises(ValueError, match="column 'a', which `columns` names as `completion`, is n"):
        prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
