"""What killed and cut-off writers leave in a store is in nobody's way, and goes."""

from pathlib import Path
from typing import Any

import pytest

from sweep.storage import leftovers
from sweep.storage.remote import object_store
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.object_store import Unreachable
from sweep.storage.run_folder import RunFolder, TrialFolder


@pytest.fixture
def node(tmp_path: Path) -> Mirror:
    """With a curve, a record and weights of one trial in a store that is a folder."""
    mirror = Mirror(tmp_path / "node", f"file://{tmp_path}/store")
    trial = mirror.here / "trials" / "t"
    (trial / "model").mkdir(parents=True)
    (trial / "model" / "model.safetensors").write_text("weights")
    (trial / "train.json").write_text("{}")
    (trial / "metrics.jsonl").write_text('{"step": 1}\n')
    mirror.push()
    return mirror


def all_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_file_that_was_written_halfway_is_not_there_and_goes(node, tmp_path, monkeypatch):
    store = tmp_path / "store"
    whole = all_files(store)
    segments = next(path for path in store.rglob("*") if path.parent.parent.suffix == ".segments")
    for folder in (store, segments.parent, store / "trials" / "t" / "model"):
        (folder / f".{'0a' * 16}.part.json").write_text("half")
    other = Mirror(tmp_path / "elsewhere", node.url)
    assert not [name for name in other.there() if ".part" in name]
    other.pull()
    assert all_files(other.here) - {"trials/t/.metrics.jsonl.generation"} == all_files(node.here)
    leftovers.remove_parts(store)
    assert all_files(store) > whole, "they may be somebody's who is at work"
    monkeypatch.setattr(leftovers, "STALE_SECONDS", -1.0)
    leftovers.remove_parts(store)
    assert all_files(store) == whole


def test_what_went_up_before_an_upload_failed_goes_with_its_files(node, tmp_path, monkeypatch):
    checkpoint = node.here / "trials" / "t" / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    for name in ("state.json", "tensors.safetensors", "checksums.json"):
        (checkpoint / name).write_text("{}")
    put_file = object_store.WholeFiles.put_file
    went_up = []

    def fails(system: Any, path1: str, path2: str, *more: Any, **options: Any) -> None:
        if went_up:
            raise OSError(5, "Input/output error")
        put_file(system, path1, path2, *more, **options)
        went_up.append(path2)

    with monkeypatch.context() as patch, pytest.raises(Unreachable):
        patch.setattr(object_store.WholeFiles, "put_file", fails)
        node.push()
    assert [name for name in node.there() if "checkpoints" in name], "some of it went up"
    for path in checkpoint.iterdir():
        path.unlink()
    checkpoint.rmdir()
    node.push()
    assert not [name for name in node.there() if "checkpoints" in name]


def test_weights_whose_removal_was_cut_off_go_at_the_next_start(node, tmp_path, monkeypatch):
    driver = Mirror(tmp_path / "driver", node.url, light=True)
    driver.pull()
    trial = TrialFolder(driver.here / "trials" / "t")
    trial.remove_weights("keep: best")
    remove = Mirror._remove

    def cut_off(mirror: Mirror, names: list[str]) -> None:
        if any("model" in name for name in names):
            raise Unreachable("the store is away")
        remove(mirror, names)

    with monkeypatch.context() as patch, pytest.raises(Unreachable):
        patch.setattr(Mirror, "_remove", cut_off)
        driver.push()
    again = Mirror(tmp_path / "driver", node.url, light=True)
    again.pull()
    assert "trials/t/model/model.safetensors" in again.there()
    again.push()
    assert not [name for name in again.there() if "/model/" in name]
    assert TrialFolder(again.here / "trials" / "t").weights_removed() == "keep: best"


def test_checkpoints_of_an_ended_training_go_where_their_worker_died(node, tmp_path):
    store = tmp_path / "store" / "trials"
    left = [f"{name}/checkpoints/step-00000001/state.json" for name in ("t", "begun")]
    for name in left:
        (store / name).parent.mkdir(parents=True)
        (store / name).write_text("{}")
    driver = Mirror(tmp_path / "driver", node.url, light=True)
    driver.pull()
    driver.push()
    assert not (store / left[0]).exists()
    assert (store / left[1]).exists(), "its training goes on from there"


@pytest.mark.parametrize("left", ["data/ab/counts.json", "driver.log", ".0a.part.json"])
def test_start_that_came_to_no_plan_leaves_a_folder_that_may_be_a_mirror(tmp_path, left):
    path = tmp_path / "runs" / "run" / left
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    run = RunFolder(tmp_path / "runs" / "run")
    assert run.problem("s3://bucket/runs/run") is None
    (run.path / "plan.csv").write_text("key\n")
    assert "holds a run of its own" in (run.problem("s3://bucket/runs/run") or "")
