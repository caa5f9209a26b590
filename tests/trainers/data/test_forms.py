"""Rows in the forms that people bring: what the assistant says counts; audits see it too."""

import ast
import csv
import datetime
import decimal
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from trainers.data import prepare
from trainers.data.forms import messages
from trainers.data.forms.tokenize import IGNORED
from trainers.data.forms.turns import turns
from trainers.data.rows import sources
from trainers.specs.preference import DpoSpec
from trainers.specs.rlvr import RlvrSpec
from trainers.specs.training import SftSpec

CASES = Path(__file__).parents[4] / "shared" / "cases"
"""Inputs that people bring; kept outside the repository, so their tests are skipped elsewhere."""

ASK, SAY = {"role": "user", "content": "Say 1."}, {"role": "assistant", "content": "1."}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}

FORMS = {
    "messages": {"messages": [ASK, SAY]},
    "text beside messages": {"text": "<|user|>Say 1.<|assistant|>1.", "messages": [ASK, SAY]},
    "no text beside messages": {"text": None, "messages": [ASK, SAY]},
    "text beside prompt": {"prompt": "Say 1.", "completion": "1.", "text": "1 2 3"},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Say 1."}, {"from": "gpt", "value": "1."}]
    },
    "from and value in messages": {
        "messages": [{"from": "human", "value": "Say 1."}, {"from": "gpt", "value": "1."}]
    },
    "human and gpt as roles": {
        "messages": [{"role": "human", "content": "Say 1."}, {"role": "GPT", "content": "1."}]
    },
    "alpaca": {"instruction": "Say", "input": "1.", "output": "1."},
    "alpaca without input": {"instruction": "Say 1.", "input": "", "output": "1."},
    "dolly": {"instruction": "Say 1.", "context": "", "response": "1."},
    "question and answer": {"question": "Say 1.", "answer": "1."},
    "number": {"question": "Say 1.", "answer": 1},
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Say 1."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "1."}]},
        ]
    },
    "json text": {"messages": json.dumps([ASK, SAY])},
    "python text": {"messages": str([ASK, SAY])},
    "transcript": {"messages": "\n\nHuman: Say 1.\n\nAssistant: 1."},
    "history": {"instruction": "Say 1.", "output": "1.", "history": [["Hi", "Ho"]]},
    "system beside": {"prompt": "Say 1.", "completion": "1.", "system": "Be brief."},
}


def sft(path, **settings) -> SftSpec:
    plain = {"kind": "sft", "learning_rate": 1e-3, "batch_size": 1, "heldout": 0}
    data = {"name": str(path)} | settings.pop("data", {})
    return SftSpec.model_validate(plain | {"data": data} | settings)


def trained_on(prepared, tokenizer) -> list[str]:
    """Text of the tokens that count, of each example."""
    return [
        tokenizer.decode([i for i, label in zip(row["input_ids"], row["labels"], strict=True)
                          if label != IGNORED])
        for row in prepared.train
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def jsonl(tmp_path):
    def write(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "said",
    ["[]", '[{"type": "LOC", "value": "Paris"}]', '[{"content": "a", "page": 3}]', "[1, 2]",
     '[{"role": "user", "name": "bob"}]', '[{"from": "NYC", "to": "LA"}]'],
)  # fmt: skip
def test_a_text_that_is_a_list_in_json_is_an_answer(said):
    for asked in ([], [ASK]):
        assert messages.answer(said, "completion", "assistant", asked) == [
            {"role": "assistant", "content": said}
        ]
    turns = [{"role": "user", "content": "a"}]
    assert messages.answer(json.dumps(turns), "completion", "assistant") == turns


@pytest.mark.parametrize("row", FORMS.values(), ids=FORMS)
def test_each_form_trains_on_the_answer_alone_and_the_audit_sees_it(row, jsonl, tiny, tmp_path):
    prepared = prepare.prepare(sft(jsonl(row)), tiny.tokenizer, tmp_path / "data")
    earlier = ["Ho<|im_end|>"] if "history" in row else []
    number = row.get("answer") == 1
    answer = "1" if number else "1."
    assert trained_on(prepared, tiny.tokenizer) == ["".join([*earlier, f"{answer}<|im_end|>"])]
    assert turns(row)[-1] == ("assistant", answer)
    asked = [turn.text.replace("\n\n", " ") for turn in turns(row) if turn.role == "user"]
    assert asked[-1] == "Say 1."


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [{"role": "narrator", "content": "x"}, SAY]}, "'narrator'; use one of"),
        ({"messages": [ASK, {"role": "assistant", "content": 7}]}, "content 7; give a text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, SAY]}, "type 'image'"),
        ({"messages": "hello"}, "'hello'; give a list of messages"),
        ({"ask": "a", "reply": "b"}, "columns ask, reply; it needs `messages`"),
        ({"chosen": "a", "rejected": "b"}, "stages of the kinds dpo and reward read"),
        ({"messages": [ASK, SAY], "tools": [TOOL]}, "does not write the tool 'add'"),
    ],
)
def test_row_that_cannot_be_read_is_refused_with_its_number_and_value(
    row, said, jsonl, tiny, tmp_path
):
    path = jsonl({"messages": [ASK, SAY]}, row)
    with pytest.raises(ValueError, match="1 of 2 rows cannot be read") as refused:
        prepare.prepare(sft(path), tiny.tokenizer, tmp_path / "data")
    assert "row 2: " in str(refused.value)
    assert said in str(refused.value)


def test_odd_rows_are_left_out_and_counted_up_to_the_stated_share(jsonl, tiny, tmp_path):
    odd = {"messages": [{"role": "narrator", "content": "x"}]}
    path = jsonl(*[{"prompt": f"{n}", "completion": "x"} for n in range(198)], odd, odd)
    preparation = prepare.prepare(sft(path), tiny.tokenizer, tmp_path / "data").preparation
    assert (preparation.total.unreadable, preparation.total.train) == (2, 198)
    lines = preparation.lines()
    assert "2 that cannot be read" in lines[0]
    assert "row 199 and 1 more: `messages[0]` has the role 'narrator'" in lines[1]
    strict = sft(path, data={"max_unreadable": 0.0})
    with pytest.raises(ValueError, match="2 of 200 rows cannot be read"):
        prepare.prepare(strict, tiny.tokenizer, tmp_path / "data")


def test_damaged_lines_are_all_counted(tiny, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n[1]\n', encoding="utf-8")
    with pytest.raises(ValueError, match="2 of 3 rows cannot be read"):
        prepare.prepare(sft(path), tiny.tokenizer, tmp_path / "data")


def test_columns_name_what_the_reader_does_not_know(jsonl, tiny, tmp_path):
    path = jsonl({"ask": "Say 1.", "reply": "1."})
    spec = sft(path, data={"columns": {"prompt": "ask", "completion": "reply"}})
    prepared = prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
    assert trained_on(prepared, tiny.tokenizer) == ["1.<|im_end|>"]
    assert turns(next(sources.rows(spec.sources[0]))) == [("user", "Say 1."), ("assistant", "1.")]


def test_named_column_that_some_rows_have_may_be_absent_from_others(jsonl, tiny, tmp_path):
    row = {"prompt": "Say 1.", "completion": "1."}
    path = jsonl(row | {"sys": "Be brief."}, row | {"system": "Be another's."})
    spec = sft(path, data={"columns": {"system": "sys"}})
    prepared = prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
    assert prepared.counts["unreadable"] == 0
    asked = [("user", "Say 1."), ("assistant", "1.")]
    read = [turns(row) for row in sources.rows(spec.sources[0])]
    assert read == [[("system", "Be brief."), *asked], asked]


def test_named_column_that_no_row_has_is_refused(jsonl, tiny, tmp_path):
    path = jsonl({"prompt": "Say 1.", "completion": "1.", "sys": "Be brief."})
    spec = sft(path, data={"columns": {"system": "sis", "tools": "functions"}})
    with pytest.raises(ValueError, match=r"no row has the column 'sis'.* as `system`") as refused:
        prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
    assert "'functions'" in str(refused.value)


def test_turn_with_weight_zero_is_not_trained_on(jsonl, tiny, tmp_path):
    row = {"messages": [ASK, SAY | {"weight": 0}, ASK, {"role": "assistant", "content": "2."}]}
    prepared = prepare.prepare(sft(jsonl(row)), tiny.tokenizer, tmp_path / "data")
    assert trained_on(prepared, tiny.tokenizer) == ["2.<|im_end|>"]


ROWS = [{"prompt": f"Say {n}.", "completion": f"{n}"} for n in range(12)]


def write_rows(folder: Path, kind: str) -> Path:
    path = folder / f"rows{kind}"
    match kind:
        case ".json":
            path.write_text(json.dumps(ROWS, indent=1))
        case ".json.gz":
            with gzip.open(path, "wt") as file:
                json.dump({"data": ROWS}, file)
        case ".jsonl":  # an array, as some tools write it
            path.write_text(json.dumps(ROWS))
        case ".jsonl.gz":
            with gzip.open(path, "wt") as file:
                file.writelines(json.dumps(row) + "\n" for row in ROWS)
        case ".csv" | ".tsv":
            with open(path, "w", newline="") as file:
                lines = csv.DictWriter(
                    file, list(ROWS[0]), delimiter=";" if kind == ".csv" else "\t"
                )
                lines.writeheader()
                lines.writerows(ROWS)
        case ".parquet":
            import pyarrow as pa
            import pyarrow.parquet

            pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    return path


KINDS = [".json", ".json.gz", ".jsonl", ".jsonl.gz", ".csv", ".tsv", ".parquet"]


@pytest.mark.parametrize("kind", KINDS)
def test_file_of_each_kind_has_the_same_rows(kind, tmp_path):
    data = sft(write_rows(tmp_path, kind)).sources[0]
    assert sources.count(data) == 12
    rows = sorted(sources.rows(data), key=lambda row: int(row["completion"]))
    assert rows == ROWS


def test_cells_of_a_table_stay_text(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\nNA,007\nnull,\n")
    rows = list(sources.rows(sft(path).sources[0]))
    assert {tuple(row.values()) for row in rows} == {("NA", "007"), ("null", "")}


def test_folder_of_a_hub_snapshot_is_read_by_its_splits(tmp_path):
    for split, number in (("train", 3), ("test", 2)):
        path = tmp_path / "snapshot" / "data" / f"{split}-00000-of-00001.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:number]))
    folder = tmp_path / "snapshot"
    assert sources.count(sft(folder).sources[0]) == 3
    assert sources.count(sft(folder, data={"split": "test"}).sources[0]) == 2
    with pytest.raises(sources.DataUnavailable, match="no split 'dev'; `split` is one of"):
        sources.count(sft(folder, data={"split": "dev"}).sources[0])


def test_split_of_a_single_file_is_refused(jsonl):
    spec = sft(jsonl(*ROWS), data={"split": "test"})
    assert "leave `split` out" in str(sources.part_problem(spec.sources[0]))


def test_home_and_variables_in_a_name_are_replaced(jsonl, monkeypatch, tmp_path):
    jsonl(*ROWS)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    for name in ("~/rows.jsonl", "${DATA_DIR}/rows.jsonl"):
        assert sources.problem(name) is None
        assert sources.count(sft(name).sources[0]) == 12
    assert "is a URL" in str(sources.problem("s3://bucket/rows.jsonl"))


def dpo(path) -> DpoSpec:
    plain = {"kind": "dpo", "learning_rate": 1e-3, "batch_size": 1, "heldout": 0}
    return DpoSpec.model_validate(plain | {"data": {"name": str(path)}})


@pytest.mark.parametrize(
    "row",
    [
        {
            "chosen": "\n\nHuman: Say 1.\n\nAssistant: 1.",
            "rejected": "\n\nHuman: Say 1.\n\nAssistant: 2.",
        },
        {"prompt": "\n\nHuman: Say 1.\n\nAssistant:", "chosen": " 1.", "rejected": " 2."},
        {"chosen": [ASK, SAY], "rejected": [ASK, SAY | {"content": "2."}]},
        {"chosen": "Say 1. 1.", "rejected": "Say 1. 2."},
        {"question": "Say 1.", "chosen": "1.", "rejected": "2."},
    ],
    ids=["transcripts", "prompt of a transcript", "implicit", "implicit text", "question"],
)
def test_pair_of_each_form_counts_both_answers(row, jsonl, tiny, tmp_path):
    (example,) = prepare.prepare(dpo(jsonl(row)), tiny.tokenizer, tmp_path / "data").train
    kept = [i for i, label in zip(example["input_ids"], example["labels"], strict=True)
            if label != IGNORED]  # fmt: skip
    assert tiny.tokenizer.decode(kept).replace(" ", "") == "1.<|im_end|>2.<|im_end|>"
    assert [turn.text.strip() for turn in turns(row)] == ["Say 1.", "1.", "2."]


def rlvr(path, **settings) -> RlvrSpec:
    plain = {"kind": "rlvr", "learning_rate": 1e-3, "batch_size": 2, "group_size": 2, "heldout": 0}
    return RlvrSpec.model_validate(plain | {"data": {"name": str(path)}} | settings)


def prompt(truth, **more):
    return {"messages": [ASK], "ground_truth": truth, "dataset": "gsm8k"} | more


@pytest.mark.parametrize(
    ("row", "truth"),
    [
        (prompt("4,000"), "4000"),
        (prompt("-3"), "-3"),
        (prompt("2+2=4\n#### 4"), "4"),
        (prompt(["4"], dataset=["gsm8k"]), "4"),
        (prompt(4), "4"),
        (prompt(4.0), "4"),
        (prompt("$1,072."), "1072"),
        ({"prompt": [ASK], "answer": "4"}, "4"),
        ({"prompt": "What?", "solution": r"\frac{1}{2}"}, r"\frac{1}{2}"),
        ({"question": "What?", "answer": "2+2=<<2+2=4>>4\n#### 4"}, "4"),
    ],
)
def test_truth_is_read_so_that_an_answer_can_reach_it(row, truth, jsonl, tiny, tmp_path):
    from trainers.data.forms.rlvr_prompts import read_prompts
    from trainers.rewards import graders

    prepared = prepare.prepare(rlvr(jsonl(row)), tiny.tokenizer, tmp_path / "data")
    (read,) = read_prompts(list(prepared.train))
    assert read.ground_truth == truth
    right = f"So it is \\boxed{{{truth}}}." if read.dataset == "math" else f"So it is {truth}."
    assert graders.reward(right, read.dataset, read.ground_truth) == 1.0
    assert graders.reward("So it is 5.", read.dataset, read.ground_truth) == 0.0


def test_columns_of_every_type_reach_a_reward_function(tiny, tmp_path):
    from trainers.data.forms.rlvr_prompts import read_prompts

    row = {
        "prompt": "What?", "day": datetime.date(2026, 1, 2), "worth": decimal.Decimal("1.50"),
        "raw": "h\u00e9".encode(), "at": datetime.datetime(2026, 1, 2, 3), "count": 4,
        "question": "Why?",
    }  # fmt: skip
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    (tmp_path / "mine.py").write_text("def f(prompts, completions, **columns): ...\n")
    spec = rlvr(tmp_path / "rows.parquet", reward=f"{tmp_path / 'mine.py'}:f")
    prepared = prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
    (read,) = read_prompts(list(prepared.train))
    assert read.columns == {
        "day": "2026-01-02", "worth": "1.50", "raw": "h\u00e9", "at": "2026-01-02 03:00:00",
        "count": 4, "question": "Why?",
    }, "all but the one that is the prompt"  # fmt: skip


@pytest.mark.parametrize("truth", ["4 apples", "1/2", "four", ["4", "5"], "12:30"])
def test_truth_that_no_answer_can_reach_is_refused_by_row(truth, jsonl, tiny, tmp_path):
    path = jsonl(prompt("4"), prompt(truth))
    with pytest.raises(ValueError, match="row 2: ") as refused:
        prepare.prepare(rlvr(path), tiny.tokenizer, tmp_path / "data")
    assert "1 of 2 rows cannot be read" in str(refused.value)


def test_negative_truth_is_held_against_the_signed_number():
    from trainers.rewards import graders

    assert graders.gsm8k("8 - 11 = -3", "-3") == 1.0
    assert graders.gsm8k("10-3", "-3") == 0.0
    assert graders.gsm8k("it is \u22123.", "-3") == 1.0
    assert graders.gsm8k("it is 3", "-3") == 0.0


@pytest.mark.skipif(not CASES.is_dir(), reason="the inputs that people bring are not here")
@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("23-content-parts/parts.jsonl", "Number {}."),
        ("24-sharegpt/sharegpt.jsonl", "{}."),
        ("24-sharegpt/human_gpt_roles.jsonl", "{}."),
        ("24-sharegpt/messages_with_from.jsonl", "{}."),
        ("25-alpaca/alpaca.jsonl", None),
        ("26-json-array/data.json", "{}."),
        ("26-json-array/array_in.jsonl", "{}."),
        ("26-json-array/pretty.jsonl", "{}."),
        ("27-text-beside-messages/both.jsonl", "{}."),
        ("27-text-beside-messages/null_text.jsonl", "{}."),
        ("27-text-beside-messages/source_text.jsonl", "{} cats slept."),
        ("33-paths/train.csv", "{}."),
        ("33-paths/train.jsonl.gz", "{}."),
    ],
)
def test_case_trains_on_its_answers(case, answer, tiny, tmp_path):
    prepared = prepare.prepare(sft(CASES / case), tiny.tokenizer, tmp_path / "data")
    rows = len(prepared.train)
    expected = (f"{2 * n}" if answer is None else answer.format(n) for n in range(rows))
    assert sorted(trained_on(prepared, tiny.tokenizer)) == sorted(
        f"{e}<|im_end|>" for e in expected
    )


@pytest.mark.skipif(not CASES.is_dir(), reason="the inputs that people bring are not here")
@pytest.mark.parametrize(
    "name", ["ground_truth_comma", "ground_truth_hashes", "ground_truth_int", "ground_truth_list",
             "ground_truth_negative", "gsm8k_raw", "trl_style"],
)  # fmt: skip
def test_case_of_rlvr_has_truths_that_are_right(name, tiny, tmp_path):
    from trainers.data.forms.rlvr_prompts import read_prompts
    from trainers.rewards import graders

    spec = rlvr(CASES / "44-grpo-answers" / f"{name}.jsonl")
    prepared = prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
    assert prepared.counts["unreadable"] == 0
    for read in read_prompts(list(prepared.train)):
        asked = read.messages[0]["content"].removeprefix("What is ").rstrip("?")
        left, sign, right = asked.partition("+") if "+" in asked else asked.partition("-")
        value = int(left) + int(right) * (1 if sign == "+" else -1)
        assert graders.reward(f"It is {value}.", read.dataset, read.ground_truth) == 1.0


def test_form_of_python_text_is_that_of_pandas():
    assert ast.literal_eval(FORMS["python text"]["messages"]) == [ASK, SAY]


@pytest.mark.parametrize(("rows", "heldout"), [(60, 6), (1999, 199), (2000, 200), (50_000, 200)])
def test_a_tenth_at_most_is_held_out_unless_asked(rows, heldout):
    assert sft("rows.jsonl", heldout=None).heldout_examples(rows) == heldout
    assert sft("rows.jsonl", heldout=50).heldout_examples(rows) == 50


def test_small_data_keeps_rows_to_train_on(jsonl, tiny, tmp_path):
    path = jsonl(*[{"prompt": f"{n}", "completion": "x"} for n in range(60)])
    prepared = prepare.prepare(sft(path, heldout=None), tiny.tokenizer, tmp_path / "data")
    assert (len(prepared.train), len(prepared.heldout)) == (54, 6)


def test_batch_above_what_is_left_is_refused_when_the_data_is_prepared(jsonl, tmp_path):
    """Duplicates of held-out rows and empty rows are known only then."""
    from trainers.data.prepare_process import PrepareFailed, Request, prepare_here

    path = jsonl(*[{"prompt": f"{n}", "completion": "x" if n < 10 else " "} for n in range(20)])
    spec = sft(path, batch_size=16)
    request = Request(model="tiny", revision=None, specs=(spec,), cache=str(tmp_path / "data"))
    with pytest.raises(PrepareFailed, match="batch_size 16 is more than the 10 examples"):
        prepare_here(request)


def test_batch_above_the_data_is_refused_by_its_key_in_the_plan(jsonl, tmp_path):
    from sweep.gridfile import load

    jsonl(*[{"prompt": f"{n}", "completion": "x"} for n in range(120)])
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "name: small\nmodel: tiny\nstages:\n  sft:\n    kind: sft\n"
        f"    data: {tmp_path / 'rows.jsonl'}\n    heldout: 20\n"
        "    grid:\n      learning_rate: [1.0e-3]\n      batch_size: [32, 128]\n"
        "evaluate: {benchmarks: [world_choice]}\n"
    )
    with pytest.raises(load.GridError) as refused:
        load.load(grid)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{grid}:10: stages.sft.grid.batch_size: batch_size 128 is more")
    assert "100 examples" in problem
