"""Task files as users write them: what they include and read, and what is wrong with them."""

import json
import os

import pytest

from tests.own_task import own_task
from trainers.evaluate import try_out
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks, task_files


@pytest.fixture
def mine(tmp_path):
    return own_task(tmp_path, [{"q": f"Copy: {n}", "a": str(n)} for n in range(4)])


def spec(path, **settings) -> EvaluateSpec:
    return EvaluateSpec.model_validate({"benchmarks": [str(path)], "limit": 2} | settings)


def test_lists_of_includes_are_followed_and_own_keys_win(mine):
    (mine.parent / "a.yaml").write_text("doc_to_text: of a\ndoc_to_target: of a\n")
    (mine.parent / "b.yaml").write_text("include: c.yaml\ndoc_to_target: of b\n")
    (mine.parent / "c.yaml").write_text("description: of c\n")
    mine.write_text("task: mine\ninclude: [a.yaml, b.yaml]\ndoc_to_text: own\n")
    keys = task_files.config(mine)
    assert (keys["doc_to_text"], keys["doc_to_target"], keys["description"]) == (
        "own", "of b", "of c"
    )  # fmt: skip
    names = [path.name for path in task_files.with_included(mine)]
    assert names == ["mine.yaml", "a.yaml", "b.yaml", "c.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("task: mine", "task: mine\ninclude: none.yaml", "includes '{}/none.yaml', which is not"),
        ("task: mine", "task: mine\ninclude: [a.yaml, none.yaml]", "none.yaml', which is not"),
        ("task: mine", "task: mine\ninclude: mine.yaml", "includes itself"),
        ("task: mine", "task: [", "line"),
        ("task: mine", "name: mine", "has no `task:` with a name"),
        ("items.jsonl", "itms.jsonl", "no data file '{}/itms.jsonl'; did you mean 'items.jsonl'?"),
        ("items.jsonl", "parts/*.jsonl", "no data file '{}/parts/*.jsonl'"),
        ("data_files: {test: items.jsonl}", "data_dir: parts", "no data file '{}/parts'"),
        ("test_split: test", "test_split: tests", "test_split: 'tests': the data files have test"),
        ("generate_until", "generate_untill", "did you mean generate_until?"),
        ("test_split", "unsafe_code: true\ntest_split", "no sandbox"),
        ("dataset_kwargs: {data_files: {test: items.jsonl}}\n", "", "names no file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_before_lm_eval_reads_it(old, new, said, mine):
    (mine.parent / "a.yaml").write_text("description: x\n")
    mine.write_text(mine.read_text().replace(old, new, 1))
    assert said.format(mine.parent) in str(benchmarks.problem(str(mine)))


def test_data_files_are_relative_to_the_task_file_and_hashed(mine, tmp_path, monkeypatch):
    before = benchmarks.fingerprint(benchmarks.find(str(mine)), spec(mine))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert benchmarks.fingerprint(benchmarks.find(str(mine)), spec(mine)) == before
    from trainers.tasks import tasks

    (task,) = tasks.load(benchmarks.find(str(mine)), spec(mine)).values()
    assert [doc["a"] for doc in task.eval_docs] == ["0", "1", "2", "3"]
    assert os.getcwd() == str(elsewhere)
    with open(mine.parent / "items.jsonl", "a") as file:
        file.write("\n" + json.dumps({"q": "x", "a": "y"}))
    assert benchmarks.fingerprint(benchmarks.find(str(mine)), spec(mine)) != before


def test_two_task_files_of_one_name_are_two_benchmarks(mine, tmp_path):
    paths, task = [], mine.read_text()
    for language in ("en", "de"):
        (tmp_path / language).mkdir()
        paths.append(tmp_path / language / "qa.yaml")
        paths[-1].write_text(task.replace("mine", f"qa_{language}"))
    arc = tmp_path / "en" / "arc.yaml"
    arc.write_text(task)
    names = [*map(str, paths), "world_choice", str(mine), str(arc)]
    assert list(benchmarks.labels(names).values()) == [
        "en-qa", "de-qa", "world_choice", "mine", "en-arc"
    ]  # fmt: skip
    assert benchmarks.labels([str(paths[0])]) == {str(paths[0]): "qa"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


FUNCTIONS = """\
def boom(doc, results):
    return {"edits": 1 / 0}


def other(doc, results):
    return {"else": 1.0}
"""
EDITS = "metric_list: [{metric: edits, aggregation: mean, higher_is_better: false}]\n"


def test_what_only_running_shows_is_told_of_all_at_once(mine, cache, monkeypatch):
    """And what passed is not tried again."""
    (mine.parent / "utils.py").write_text(FUNCTIONS)
    names, said = [], {
        "typo": ("doc_to_txt: q\n", "unknown key 'doc_to_txt'; did you mean doc_to_text?"),
        "missing": (f"process_results: !function utils.none\n{EDITS}", "no function 'none'"),
        "boom": (f"process_results: !function utils.boom\n{EDITS}", "utils.py, line 2, in boom"),
        "other": (f"process_results: !function utils.other\n{EDITS}", "not among what its task"),
    }  # fmt: skip
    for name, (more, _) in said.items():
        path = mine.with_name(f"{name}.yaml")
        path.write_text(mine.read_text().replace("task: mine", f"task: {name}") + more)
        names.append(str(path))
    problems = try_out.problems(spec(mine, benchmarks=[*names, str(mine)]))
    assert len(problems) == 4
    for (name, (_, expected)), problem in zip(said.items(), problems, strict=True):
        assert problem.startswith(f"benchmark {name!r}")
        assert expected in problem
    monkeypatch.setattr(try_out.subprocess, "run", None)
    assert try_out.problems(spec(mine, benchmarks=[str(mine), "world_choice"])) == []
