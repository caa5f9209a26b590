"""Benchmarks as the audit reads them: the right text, under the name that scores have."""

import json
from pathlib import Path

import pandas as pd
import pytest

from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import items
from trainers.tasks.benchmarks import BENCHMARKS
from trainers.tasks.items import TABLE_1, Request
from trainers.tasks.task_files import EvaluationUnavailable

ROWS = [{"question": f"What is {n}?", "passage": f"It is {n}.", "answer": "x"} for n in range(3)]


def read(*names: str, scored: tuple[str, ...] = ("world_choice",), data_dir: Path | None = None):
    folder = str(data_dir) if data_dir else None
    evaluate = EvaluateSpec(benchmarks=list(scored), data_dir=folder)
    return items.read(Request(benchmarks=names, evaluate=evaluate, offline=True))


@pytest.fixture
def rows(tmp_path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_items_have_the_names_of_evaluation_records(chain_run):
    """Every item that the run has scored is one of the audit's."""
    choice, arithmetic = read("world_choice", "world_arithmetic")
    names = {item.name for one in (choice, arithmetic) for item in one.items}
    scored = {
        name.partition("-")[0]
        for path in chain_run.path.glob("trials/base*/scores/*.parquet")
        for name in pd.read_parquet(path).item
    }
    assert len(choice.items) == choice.public == 300
    assert choice.items[0].fields[0].startswith("Which is")
    assert len(scored & names) == 16


def test_local_files_in_every_format_are_the_same_items(rows, tmp_path):
    frame = pd.DataFrame(ROWS)
    frame.to_parquet(tmp_path / "p.parquet", index=False)
    frame.to_csv(tmp_path / "c.csv", index=False)
    found = read(str(rows), str(tmp_path / "p.parquet"), str(tmp_path / "c.csv"))
    assert [one.benchmark for one in found] == ["rows", "p", "c"]
    assert found[0].items == found[1].items == found[2].items
    assert found[0].items[1].fields == ("What is 1?",)


def test_a_folder_is_one_benchmark_and_fields_can_be_named(rows):
    both, renamed, comma = read(
        f"{rows}:passage+question", f"drop={rows.parent}", f"{rows}:passage,question"
    )
    assert both.compared == ("passage", "question") and comma.items == both.items
    assert both.items[2].fields == renamed.items[2].fields == ("It is 2.", "What is 2?")
    assert renamed.benchmark == "drop"
    assert renamed.public == TABLE_1["drop"].items


def test_a_field_that_says_the_same_in_most_items_is_no_question(tmp_path):
    path = tmp_path / "read.jsonl"
    same = {"instruction": "Answer the question about the passage below in one short sentence."}
    path.write_text("".join(json.dumps(same | {"input": row["passage"]}) + "\n" for row in ROWS))
    (found,) = read(str(path))
    assert found.compared == ("input",)
    assert found.items[2].fields == ("It is 2.",)


def test_a_task_file_goes_by_the_name_of_its_scores(tmp_path):
    """And never by that of a benchmark that is built in."""
    for name in ("a/world_choice", "b/mine", "c/mine"):
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir()
        path.write_text("task: mine\n")
    choice, mine, other = (str(path) for path in sorted(tmp_path.glob("*/*.yaml")))
    evaluate = EvaluateSpec(benchmarks=["world_choice", mine])
    audited = [choice, other, mine]
    labels = [items.label_of_tasks(name, audited, evaluate) for name in audited]
    assert labels == ["a-world_choice", "c-mine", "mine"]


def test_benchmarks_of_the_paper_are_read_from_local_items(shared_data):
    names = ("arc", "gsm8k", "hellaswag", "ifeval", "bbh", "mmlu_pro", "piqa")
    found = read(*names, data_dir=shared_data / "eval")
    assert [one.benchmark for one in found] == list(names)
    for one in found:
        assert 0 < len(one.items) <= (BENCHMARKS[one.benchmark].items or 0)
        assert all(field for item in one.items for field in item.fields)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("mmul", "'mmul' is not a benchmark to audit; use one of "),
        ("mmlu=nowhere.jsonl", "no file or folder 'nowhere.jsonl'"),
        ("x=pyproject.toml", "'pyproject.toml' is none of .jsonl, .parquet, .csv"),
    ],
)
def test_a_wrong_name_is_told_with_what_is_allowed(given, told):
    assert told in (items.problem(given) or "")


@pytest.mark.parametrize(
    "given", [*TABLE_1, *(name for name, one in BENCHMARKS.items() if one.scores == "policy")]
)
def test_every_benchmark_of_what_a_model_writes_has_a_name(given):
    assert items.problem(given) is None
    assert items.label(given) == given


def test_items_that_cannot_be_had_are_one_line_with_a_way_out(rows):
    with pytest.raises(EvaluationUnavailable, match=r"mmlu.*cais/mmlu cannot be read.*mmlu=PATH"):
        read("mmlu")
    with pytest.raises(EvaluationUnavailable, match=r"no field 'solution'; it has question"):
        read(f"{rows}:solution")
