"""What README and docs/ point to exists, and the grids that they show are right."""

import json
import re

import pytest
from ruamel.yaml import YAML

from sweep.gridfile import load
from tests.documented import PAGES, ROOT, blocks
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks, tasks

TASKS = [text for text in blocks("yaml") if text.startswith("task:")]


@pytest.mark.parametrize("text", [text for text in blocks("yaml") if text not in TASKS])
def test_grid_examples_are_right_but_for_the_data_they_name(text, tmp_path):
    """A part of a grid file stands in grids/lr_bs.yaml."""
    for name in ("conversations.jsonl", "pairs.jsonl"):
        (tmp_path / name).write_text('{"prompt": "a", "completion": "b"}\n' * 300)
        text = text.replace(name, str(tmp_path / name))
    part = YAML(typ="safe").load(text)
    if "stages" not in part:
        text = json.dumps(YAML(typ="safe").load((ROOT / "grids" / "lr_bs.yaml").read_text()) | part)
    grid = tmp_path / "grid.yaml"
    grid.write_text(text)
    load.load(grid)


@pytest.mark.parametrize("text", TASKS)
def test_task_files_read_the_rows_that_they_name(text, tmp_path):
    """A row stands in the comment beside the file's name."""
    file, row = re.search(r"(\w+\.jsonl).*# rows: (\{.*\})", text).groups()
    (tmp_path / "mine.yaml").write_text(text)
    (tmp_path / file).write_text(f"{row}\n" * 4)
    name = str(tmp_path / "mine.yaml")
    (task,) = tasks.load(benchmarks.find(name), EvaluateSpec(benchmarks=[name])).values()
    asked = task.eval_docs[0]
    assert task.doc_to_choice(asked)[task.doc_to_target(asked)] == json.loads(row)["choices"][0]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [
        link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not link.startswith("http")
    ]
    named = re.findall(r"`((?:sweep|trainers|analysis|grids|tests)/[\w/.]+)`", text)
    beside = (ROOT / page).parent
    places = [*(beside / link for link in links), *(ROOT / name for name in named)]
    assert [str(place) for place in places if not place.exists()] == []


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
