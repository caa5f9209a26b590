"""Parts of killed processes go, parts that may be somebody's stay."""

import os
import time

import pytest

from sweep.storage import leftovers


@pytest.fixture
def run(tmp_path):
    """Part files of every kind, and files that are none."""
    for name in (
        ".ab.part.json",
        "report/.ab.part.html",
        "choices/.ab.part.json",
        "trials/a/.model.12.part/model.safetensors",
        "trials/a/scores/.ab.part.parquet",
        "trials/a/checkpoints/.3.12.old.part/state",
        "trials/a/model/.ab.part.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    (tmp_path / "trials/a/scores/whole.json").write_text("{}")
    (tmp_path / "trials/a/party.part.json").write_text("not ours")
    return tmp_path


def age(folder, seconds):
    then = time.time() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_old_parts_go_and_nothing_else(run):
    age(run, leftovers.STALE_SECONDS + 60)
    assert leftovers.remove(run) == 7
    assert names(run) == {"trials/a/scores/whole.json", "trials/a/party.part.json"}


def test_checkpoints_of_a_training_that_has_ended_go(run):
    checkpoint = run / "trials/b/checkpoints/step-00000003/state.json"
    for path in (checkpoint, run / "trials/c/checkpoints/step-00000003/state.json"):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    (run / "trials/c/train.json").write_text("{}")
    assert leftovers.remove(run) == 1
    assert checkpoint.exists()
    assert not (run / "trials/c/checkpoints").exists()


def test_a_part_that_is_written_to_stays(run):
    before = names(run)
    age(run, leftovers.STALE_SECONDS + 60)
    (run / "trials/a/.model.12.part/model.safetensors").touch()
    assert leftovers.remove(run) == 6
    assert "trials/a/.model.12.part/model.safetensors" in names(run)
    assert names(run) < before


def refused(run):
    """A start that writes what starts write, and is refused."""
    with pytest.raises(KeyError), leftovers.gone_after(KeyError, run):
        (run / "report").mkdir(parents=True, exist_ok=True)
        for name in ("report/index.html", "driver.log", "driver.lock"):
            (run / name).write_text("new")
        raise KeyError


def test_start_that_is_refused_leaves_no_folder(tmp_path):
    refused(tmp_path / "runs" / "run")
    assert list(tmp_path.iterdir()) == []


def test_start_that_is_refused_leaves_what_was_there(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("calibration.json", "driver.log"):
        (tmp_path / "run" / name).write_text("earlier")
    refused(tmp_path / "run")
    assert names(tmp_path / "run") == {"calibration.json", "driver.log"}


def test_refusal_of_a_run_with_a_plan_removes_nothing(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.csv").write_text("key\n")
    refused(tmp_path / "run")
    assert len(names(tmp_path / "run")) == 4
