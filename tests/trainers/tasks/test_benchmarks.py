"""Benchmarks by name: what they need, and what their fingerprint covers."""

import json
from pathlib import Path

import lm_eval
import pytest

from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks, task_files
from trainers.tasks.benchmarks import BENCHMARKS, find, fingerprint, missing
from trainers.tasks.task_files import EvaluationUnavailable

STOCK = Path(lm_eval.__file__).parent / "tasks"


def spec(**settings) -> EvaluateSpec:
    return EvaluateSpec.model_validate({"benchmarks": ["arc"]} | settings)


@pytest.fixture
def task_file(tmp_path):
    path = tmp_path / "tasks" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("task: mine\n")
    return path


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_task_files_of_a_benchmark_are_there(benchmark):
    for task in benchmark.tasks:
        assert (STOCK / task).is_file(), "an absolute path stays as it is"


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_local_files_belong_to_tasks_of_the_benchmark(benchmark):
    assert {task for task, _, _ in benchmark.local_files} <= {Path(t).stem for t in benchmark.tasks}


def test_benchmark_is_found_by_name_or_by_file(task_file, monkeypatch):
    assert find("arc") is BENCHMARKS["arc"]
    assert find(str(task_file)).name == "mine"
    monkeypatch.chdir(task_file.parent)
    assert find("mine.yaml").tasks == (str(task_file),)


@pytest.mark.parametrize("name", ["ark", "none.yaml", "", "heldout_loss"])
def test_unknown_benchmark_is_a_problem(name):
    with pytest.raises(KeyError):
        find(name)
    assert repr(name) in str(benchmarks.problem(name))


def test_fingerprint_does_not_change_with_what_does_not_decide_a_score(task_file):
    mine = find(str(task_file))
    assert fingerprint(mine, spec()) == fingerprint(mine, spec(benchmarks=["gsm8k", "arc"]))
    assert fingerprint(mine, spec()) != fingerprint(find("arc"), spec())


@pytest.mark.parametrize(
    "settings",
    [{"limit": 3}, {"batch_size": 3}, {"chat_template": False}, {"dtype": "bfloat16"}],
    ids=str,
)
def test_fingerprint_changes_with_a_setting(settings):
    assert fingerprint(find("arc"), spec(**settings)) != fingerprint(find("arc"), spec())


def test_fingerprint_does_not_change_with_the_folder_of_the_task(task_file, tmp_path):
    copy = tmp_path / "mine.yaml"
    copy.write_bytes(task_file.read_bytes())
    assert fingerprint(find(str(copy)), spec()) == fingerprint(find(str(task_file)), spec())


def test_fingerprint_changes_with_local_items(tmp_path):
    items = tmp_path / "hellaswag_validation.jsonl"
    items.write_text(json.dumps({"ind": 1}) + "\n")
    local = spec(data_dir=str(tmp_path))
    before = fingerprint(find("hellaswag"), local)
    assert before != fingerprint(find("hellaswag"), spec())
    items.write_text(json.dumps({"ind": 2}) + "\n")
    assert fingerprint(find("hellaswag"), local) != before


def test_fingerprint_does_not_change_with_the_folder_of_local_items(tmp_path):
    marks = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hellaswag_validation.jsonl").write_text("{}\n")
        marks.append(fingerprint(find("hellaswag"), spec(data_dir=str(tmp_path / name))))
    assert marks[0] == marks[1]


@pytest.mark.parametrize(("files", "said"), [([], "no file"), (["a", "b"], "2 files")])
def test_local_items_that_are_not_one_file_are_missing(files, said, tmp_path):
    for name in files:
        (tmp_path / f"hellaswag_validation_{name}.jsonl").write_text("{}\n")
    local = spec(data_dir=str(tmp_path))
    assert said in str(missing(find("hellaswag"), local))
    with pytest.raises(EvaluationUnavailable, match=said):
        task_files.local_file(tmp_path, "hellaswag_validation*.jsonl")


def test_sentence_splitter_is_missed_before_anything_is_generated(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    assert "punkt_tab" in str(missing(find("ifeval"), spec()))


def test_benchmarks_of_the_world_miss_nothing():
    for name in BENCHMARKS:
        if name.startswith("world"):
            assert missing(find(name), spec()) is None
