"""What a run was made with: code and libraries that change between two starts are never mixed
silently."""

import shutil
from pathlib import Path

import pytest

from sweep.storage import manifest
from sweep.storage.run_folder import RunFolder
from trainers import files


@pytest.fixture
def copied(chain_run, tmp_path) -> Path:
    shutil.copytree(chain_run.path, tmp_path / "chain")
    return tmp_path / "chain"


def changed(run: Path, **update: dict[str, str]) -> None:
    """Have the run say that it was made with other code."""
    record = files.read_json(run / "manifest.json")
    for name, values in update.items():
        record[name] = record[name] | values
    files.write_json(run / "manifest.json", record)


def test_changed_code_is_refused_with_what_changed(copied, chain, drive):
    changed(
        copied,
        code={"trainers/ops/chunked_loss.py": "0", "trainers/old.py": "0"},
        packages={"trl": "1.0"},
    )
    ended = drive(chain, copied)
    assert ended.code == 4
    for said in (
        "trainers/ops/chunked_loss.py has changed",
        "trainers/old.py is gone",
        "trl 1.0 then",
    ):
        assert said in ended.output
    assert "--changed-code" in ended.output


def test_changed_code_that_is_asked_for_is_noted(copied, chain, drive):
    changed(copied, code={"trainers/ops/chunked_loss.py": "0"})
    assert drive(chain, copied, "--changed-code").code == 0
    record = files.read_json(copied / "manifest.json")
    (noted,) = record["code_changes"]
    assert noted["changed"] == ["trainers/ops/chunked_loss.py has changed"]
    assert record["code"] == manifest.code()
    assert drive(chain, copied).code == 0, "from here on the new code is the run's"


def test_other_version_of_ray_changes_no_number(copied):
    changed(copied, packages={"ray": "1.0"})
    assert manifest.changed_code(RunFolder(copied)) == []


def test_code_counts_from_the_first_training_on(copied):
    changed(copied, code={"trainers/ops/chunked_loss.py": "0"})
    assert manifest.changed_code(RunFolder(copied)) == ["trainers/ops/chunked_loss.py has changed"]
    for record in copied.glob("trials/*/train.json"):
        record.unlink()
    assert manifest.changed_code(RunFolder(copied)) == []


def test_moved_files_are_no_change_and_many_changes_are_counted():
    before = {"trainers/loss.py": "1", "trainers/gone.py": "2"}
    assert manifest._changed_files(before, {"trainers/ops/loss.py": "1"}) == [
        "trainers/gone.py is gone"
    ]
    many = {f"trainers/{number}.py": str(number) for number in range(90)}
    (line,) = manifest._changed_files(dict.fromkeys(many, "old"), many)
    assert line == "90 files of trainers/ differ, for example trainers/0.py has changed"
