"""Names of lm-eval's tasks, found in its files and without its index."""

import json
import re

import pytest

from trainers.tasks import benchmarks, task_index


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    task_index.index.cache_clear()
    yield tmp_path / "tasks"
    task_index.index.cache_clear()


@pytest.fixture
def files(tmp_path):
    for name, text in {
        "b/two.yaml": 'include: one.yaml\n"task": "two"  # quoted\ntag:\n  - fast\n  - small\n',
        "a/one.yaml": "tag: fast\ntask: one\ndoc_to_text: x\n",
        "c/one.yaml": "task: one\n",
        "c/_all.yaml": "group: all\ntask:\n  - one\n  - two\n",
        "d/python.yaml": "group: all\ntask: three\nclass: !function task.Three\n",
        "e/template": "task: not_read\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_tasks_groups_and_tags_are_read_from_their_lines(files):
    found = task_index._search(files)
    assert found["task"] == {"one": "a/one.yaml", "two": "b/two.yaml", "three": "d/python.yaml"}
    assert found["group"] == {"all": "c/_all.yaml"}
    assert found["tag"] == {"fast": "a/one.yaml", "small": "b/two.yaml"}
    assert found["tagged"] == {"fast": ["one", "two"], "small": ["two"]}


def test_every_stock_task_of_lm_eval_is_found_by_its_name():
    for name in ("winogrande", "arc_easy", "mmlu_anatomy", "lambada_openai", "scrolls_quality"):
        benchmark = benchmarks.find(name)
        (path,) = benchmarks.task_paths(benchmark)
        assert benchmark.name == name
        assert re.search(rf"""^"?task"?: "?{name}"?$""", path.read_text(), re.MULTILINE)
        assert benchmarks.problem(name) is None


@pytest.mark.slow
def test_index_is_lm_evals_own():
    from lm_eval.tasks import TaskManager

    theirs = TaskManager()
    found = task_index._search(task_index.folder())
    assert set(found["task"]) == set(theirs.all_subtasks)
    assert set(found["group"]) == set(theirs.all_groups)
    for name, place in found["task"].items():
        assert theirs.task_index[name].yaml_path == task_index.folder() / place
    tags = {n: sorted(e.tags) for n, e in theirs.task_index.items() if e.kind.name == "TAG"}
    assert found["tagged"] == tags


def test_our_own_benchmark_comes_before_the_stock_task_of_its_name():
    assert benchmarks.find("gsm8k") is benchmarks.BENCHMARKS["gsm8k"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("math_word_problems", "is a tag of lm-eval tasks"),
        ("truthfulqa", "name tasks of it: truthfulqa_gen, truthfulqa_mc1, truthfulqa_mc2"),
        ("GSM8K", "did you mean gsm8k?"),
        ("ARC", "did you mean arc?"),
        ("winogrand", "did you mean winogrande"),
        ("hellaswga", "did you mean hellaswag"),
        ("zzzzzz", "use one of arc, gsm8k"),
    ],
)
def test_name_that_is_no_task_is_answered_with_what_may_be_meant(name, said):
    assert said in str(benchmarks.problem(name))


def test_index_is_kept_in_the_cache_and_made_anew_where_it_is_damaged(cached, monkeypatch):
    first = task_index.index()
    (file,) = cached.glob("lm_eval-*.json")
    assert json.loads(file.read_text()) == first
    file.write_text("{")
    task_index.index.cache_clear()
    assert task_index.index() == first
    monkeypatch.setattr(task_index, "_search", None)
    task_index.index.cache_clear()
    assert task_index.index() == first, "read, not searched for"
