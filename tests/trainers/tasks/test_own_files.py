"""The files that decide a score: a change of each is another fingerprint."""

import os
from pathlib import Path

import pytest

from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks, own_files

TASK = "task: mine\noutput_type: generate_until\ndoc_to_text: q\ndoc_to_target: a\n"
INCLUDES = TASK + "include: ../common/base.yaml\nprocess_docs: !function parts.of.docs\n"
READS = TASK + "dataset_path: json\ndataset_kwargs: "
GROUP = "group: mine\ntask: MEMBERS\naggregate_metric_list: [{metric: exact_match}]\n"

FILES = [
    "common/base.yaml",
    "common/utils.py",
    "common/deep/base.yaml",
    "common/deep/more.py",
    "tasks/items.jsonl",
    "tasks/utils.py",
    "tasks/parts/of.py",
    "data/a.jsonl",
    "data/deep/b.jsonl",
    "tasks/member.yaml",
    "tasks/inner.yaml",
]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# nothing\n" if name.endswith(".py") else '{"q": 1}\n')
    (tmp_path / "common/base.yaml").write_text("include: deep/base.yaml\n")
    (tmp_path / "tasks/member.yaml").write_text(INCLUDES.replace("mine", "member"))
    inner = GROUP.replace("MEMBERS", "[member]").replace("mine", "inner")
    (tmp_path / "tasks/inner.yaml").write_text(inner)
    return tmp_path


def fingerprint(path: Path) -> str:
    return benchmarks.fingerprint(benchmarks.find(str(path)), EvaluateSpec(benchmarks=[]))


INLINE = (
    "[{task: part, dataset_path: json, output_type: generate_until, "
    "dataset_kwargs: {data_dir: ../data}}]"
)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (INCLUDES, "tasks/mine.yaml"),
        (INCLUDES, "tasks/utils.py"),
        (INCLUDES, "tasks/parts/of.py"),
        (INCLUDES, "common/base.yaml"),
        (INCLUDES, "common/utils.py"),
        (INCLUDES, "common/deep/base.yaml"),
        (INCLUDES, "common/deep/more.py"),
        (READS + "{data_files: {test: items.jsonl}}", "tasks/items.jsonl"),
        (READS + '{data_files: {test: "../data/*.jsonl"}}', "data/a.jsonl"),
        (READS + '{data_files: {test: "../data/**/*.jsonl"}}', "data/deep/b.jsonl"),
        (READS + "{data_dir: ../data}", "data/deep/b.jsonl"),
        (READS + "{data_dir: ../data, data_files: {test: a.jsonl}}", "data/a.jsonl"),
        (TASK + "dataset_path: ../data", "data/a.jsonl"),
        (GROUP.replace("MEMBERS", "[member]"), "common/utils.py"),
        (GROUP.replace("MEMBERS", "[inner]"), "common/base.yaml"),
        (GROUP.replace("MEMBERS", INLINE), "data/a.jsonl"),
    ],
)
def test_fingerprint_changes_with_every_file_of_a_users_task(text, changed, folder):
    mine = folder / "tasks/mine.yaml"
    mine.write_text(text)
    assert benchmarks.problem(str(mine)) is None
    before = fingerprint(mine)
    file = folder / changed
    assert file.resolve() in {own.resolve() for own in own_files.of_task(mine)}
    file.write_text(file.read_text() + ("\n" if file.suffix == ".jsonl" else "# changed\n"))
    assert fingerprint(mine) != before


def test_files_of_lm_eval_and_those_beside_are_no_part_of_a_users_task(folder):
    mine = folder / "tasks/mine.yaml"
    mine.write_text(GROUP.replace("MEMBERS", "[gsm8k, winogrande]"))
    names = {path.name for path in own_files.of_task(mine)}
    assert names == {"mine.yaml", "utils.py"}


def test_what_another_machine_needs_is_all_there_is_to_a_task(folder):
    mine = folder / "tasks/mine.yaml"
    mine.write_text(INCLUDES + "dataset_path: json\ndataset_kwargs: {data_dir: ../data}\n")
    names = {os.path.relpath(file, folder) for file in own_files.of_task(mine)}
    assert names == {"tasks/mine.yaml", *FILES} - {
        "tasks/items.jsonl", "tasks/member.yaml", "tasks/inner.yaml"
    }  # fmt: skip
