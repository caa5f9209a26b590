"""Which files of a folder are its rows."""

import json

import pytest

from trainers.data.prepare import prepare
from trainers.data.rows.folders import left_aside
from trainers.specs.data import DataSpec
from trainers.specs.training import SftSpec


@pytest.fixture
def mixed(tmp_path):
    """A folder of several kinds of files, two of them about the data."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    (folder / "b.json").write_text(json.dumps([{"text": "b"}]))
    (folder / "c.csv").write_text("text\nc\n")
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "README.md").write_text("not data")
    return folder


def test_files_of_a_folder_that_are_not_read_are_told(mixed, tiny, tmp_path):
    spec = SftSpec.model_validate({
        "kind": "sft", "learning_rate": 1e-3, "batch_size": 1, "heldout": 0,
        "data": {"name": str(mixed)},
    })  # fmt: skip
    prepared = prepare(spec, tiny.tokenizer, tmp_path / "data")
    (told,) = (line for line in prepared.preparation.lines() if "files that are not read" in line)
    assert "data mixed: " in told
    assert ": b.json, c.csv; " in told


def test_files_of_one_kind_leave_none_aside(mixed):
    (mixed / "a.jsonl").unlink()
    assert left_aside(DataSpec(name=str(mixed))) == []
    assert left_aside(DataSpec(name=str(mixed / "c.csv"))) == []
