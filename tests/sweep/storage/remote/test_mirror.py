"""A folder that is kept like one in a store, and what is there when it is cut off anywhere."""

import io
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from sweep.storage.remote import object_store
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.mirror_files import NOTE
from sweep.storage.remote.object_store import BadUrl, Unreachable
from sweep.storage.remote.weights import weights
from sweep.storage.run_folder import TrialFolder
from trainers.files import append_events, write_json
from trainers.steps import checkpoints


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path) -> str:
    """Of an empty folder of a store."""
    if request.param == "memory":
        return f"memory://bucket-{uuid.uuid4().hex}/runs/run"
    return f"file://{tmp_path}/store/runs/run"


@pytest.fixture
def in_memory() -> str:
    return f"memory://bucket-{uuid.uuid4().hex}/runs/run"


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def pulled(url: str, folder: Path, *, light: bool = False) -> Path:
    Mirror(folder, url, light=light).pull()
    return folder


def checkpoint(trial: Path, step: int) -> None:
    with open(trial / "metrics.jsonl", "a") as metrics:
        for number in range(step - 4, step + 1):
            metrics.write(json.dumps({"step": number}) + "\n")
    tensors = {"weight": torch.full((50,), float(step))}
    checkpoints.save(trial / "checkpoints", step, tensors, {"step": step})


def end_training(trial: Path) -> None:
    write(trial / "model", **{"model.safetensors": "weights", "config.json": "{}"})
    write_json(trial / "train.json", {"status": "ok", "reason": ""})
    checkpoints.clear(trial / "checkpoints")


def score(trial: Path) -> None:
    (trial / "scores").mkdir()
    write(trial / "scores", **{"mark.parquet": "items"})
    write_json(trial / "scores" / "mark.json", {"scores": []})
    append_events(trial / "attempts.jsonl", [{"event": "done"}])


def test_what_goes_up_comes_down_elsewhere(url, tmp_path):
    one = tmp_path / "one"
    write(one, **{"plan.csv": "a,b\n"})
    write(one / "trials" / "t" / "model", **{"model.safetensors": "weights"})
    Mirror(one, url).push()
    assert files(pulled(url, tmp_path / "two")) == files(one)


def test_what_is_one_machines_own_stays_there(url, tmp_path):
    own = ["driver.json", "driver.lock", ".a.part", "mirror.json", "tracking.log", "x.part.npz"]
    write(tmp_path / "one", **dict.fromkeys(own, "mine"), **{"plan.csv": "a,b\n"})
    write(tmp_path / "one" / "wandb" / "run", file="mine")
    Mirror(tmp_path / "one", url).push()
    assert list(files(pulled(url, tmp_path / "two"))) == ["plan.csv"]


def test_only_what_changed_goes_up_and_what_is_gone_goes(url, tmp_path):
    one = Mirror(tmp_path / "one", url)
    write(one.here, a="1", b="2", c="3")
    one.push()
    assert one.changed() == []
    write(one.here, a="4")
    (one.here / "b").unlink()
    assert one.changed() == ["a"]
    one.push()
    assert files(pulled(url, tmp_path / "two")) == {"a": b"4", "c": b"3"}


def test_a_record_of_the_same_length_is_another_record(url, tmp_path):
    one, two = Mirror(tmp_path / "one", url), Mirror(tmp_path / "two", url)
    write_json(one.here / "r.json", {"v": 1})
    one.push()
    two.pull()
    write_json(one.here / "r.json", {"v": 2})
    one.push()
    two.pull()
    assert json.loads((two.here / "r.json").read_text()) == {"v": 2}


def test_what_is_gone_there_goes_here(url, tmp_path):
    one, two = Mirror(tmp_path / "one", url), Mirror(tmp_path / "two", url)
    write(one.here / "trials" / "t", a="1", b="2")
    one.push()
    two.pull()
    (one.here / "trials" / "t" / "b").unlink()
    one.push()
    two.pull("trials/t")
    assert list(files(two.here)) == ["trials/t/a"]


def test_at_the_first_look_the_store_is_right(url, tmp_path):
    """A trial's folder that was deleted there to be trained again is not brought back."""
    one = Mirror(tmp_path / "one", url)
    write(one.here / "trials" / "kept", a="1")
    write(one.here / "trials" / "deleted", a="1")
    one.push()
    one.system.rm(f"{one.path}/trials/deleted", recursive=True)
    write(one.here, **{"notes.md": "mine", "calibration.json": "{}"})
    again = Mirror(tmp_path / "one", url)
    again.pull()
    again.push()
    assert sorted(files(again.here)) == ["calibration.json", "notes.md", "trials/kept/a"]
    assert sorted(again.there()) == ["notes.md", "trials/kept/a"]


def test_lines_that_did_not_go_up_any_more_stay_and_go_up(url, tmp_path):
    one = Mirror(tmp_path / "one", url)
    append_events(one.here / "events.jsonl", [{"event": "begun"}])
    one.push()
    append_events(one.here / "events.jsonl", [{"event": "done"}])
    longer = (one.here / "events.jsonl").read_bytes()
    again = Mirror(tmp_path / "one", url)
    again.pull()
    again.push()
    assert files(pulled(url, tmp_path / "two")) == {"events.jsonl": longer}


class Cut(Exception):
    """Here the connection ends."""


def cut_after(system: Any, operations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(range(operations))
    for name in ("put_file", "pipe_file", "rm_file"):
        does = getattr(system, name)

        def counted(*given: Any, does=does, **more: Any) -> Any:
            if next(left, None) is None:
                raise Cut
            return does(*given, **more)

        monkeypatch.setattr(system, name, counted)


def life(trial: Path) -> Iterator[None]:
    """Of a trial, between any two uploads."""
    append_events(trial / "attempts.jsonl", [{"event": "started"}])
    yield
    for step in (5, 10, 15, 20):
        checkpoint(trial, step)
        yield
    end_training(trial)
    yield
    score(trial)
    yield
    TrialFolder(trial).remove_weights("keep: none")
    yield


LIFE = 8


class Killed(BaseException):
    """Here the process ends."""


def test_writer_killed_in_the_middle_of_a_file_leaves_what_was_there(tmp_path, monkeypatch):
    """Of a store that is a folder; records are written by one way and large files by the other."""
    here, url = tmp_path / "here", f"file://{tmp_path}/store"
    record, weights = here / "train.json", here / "model" / "weights.safetensors"
    write(here, **{"train.json": "first"})
    write(here / "model", **{"weights.safetensors": "old weights"})
    mine = Mirror(here, url)
    mine.push()
    before = files(tmp_path / "store")

    def half(source: Any, target: Any) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:4])
        raise Killed

    class Half(io.BytesIO):
        def __init__(self, path: str):
            self.path = Path(path)

        def write(self, value: Any) -> int:
            self.path.write_bytes(value[:3])
            raise Killed

    write(here, **{"train.json": "second"})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(mine.system, "open", lambda path, mode: Half(path))
        mine.push()
    record.write_text("first")
    weights.unlink()
    weights.write_text("new weights")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("fsspec.implementations.local.shutil.copyfile", half)
        mine.push()
    there = files(pulled(url, tmp_path / "elsewhere"))
    assert there == before == {"train.json": b"first", "model/weights.safetensors": b"old weights"}
    mine.push()
    assert files(tmp_path / "store") == files(here), "nothing is left aside"


@pytest.mark.parametrize("moment", range(LIFE))
def test_cut_off_anywhere_the_store_promises_nothing_that_is_not_there(moment, in_memory, tmp_path):
    """Each upload of a trial's life is ended before each of its operations; another node finds a
    trial that can go on."""
    operations = 0
    while True:
        url, folder = f"{in_memory}/{operations}", tmp_path / str(operations)
        trial = Mirror(folder / "here", url)
        trial.here.mkdir(parents=True)
        steps = life(trial.here)
        for _ in range(moment):
            next(steps)
            trial.push()
        next(steps)
        with pytest.MonkeyPatch.context() as patch:
            cut_after(trial.system, operations, patch)
            try:
                trial.push()
                whole = True
            except Unreachable:
                whole = False
        assert_can_go_on(pulled(url, folder / "there"), moment)
        trial.push()  # the same process tries again
        assert files(pulled(url, folder / "at last")) == files(trial.here)
        if whole:
            assert operations > 0
            return
        operations += 1


def assert_can_go_on(there: Path, moment: int) -> None:
    trial, found = TrialFolder(there), checkpoints.newest(there / "checkpoints")
    assert found.refused == ()
    if trial.training() is None:
        assert (found.checkpoint.step if found.checkpoint else 0) >= 5 * (min(moment, 5) - 1)
    elif trial.weights_removed() is None:
        assert sorted(path.name for path in trial.model.iterdir()) == [
            "config.json", "model.safetensors",
        ]  # fmt: skip
    else:
        assert moment == LIFE - 1
    if found.checkpoint is not None:
        lines = (there / "metrics.jsonl").read_text().splitlines()
        assert len(lines) >= found.checkpoint.step
    if (there / "scores" / "mark.json").exists():
        assert (there / "scores" / "mark.parquet").exists()
    if any(event["event"] == "done" for event in trial.attempts()):
        assert trial.done(["mark"])


def test_old_checkpoints_go_and_what_was_cut_off_goes(in_memory, tmp_path):
    trial = Mirror(tmp_path / "one", in_memory)
    trial.here.mkdir()
    for step in (5, 10, 15):
        checkpoint(trial.here, step)
        trial.push()
    assert {name.split("/")[1] for name in trial.there("checkpoints")} == {
        "step-00000010", "step-00000015",
    }  # fmt: skip
    trial.system.rm(f"{trial.path}/checkpoints/step-00000015/checksums.json")
    other = Mirror(tmp_path / "two", in_memory)
    other.pull()
    assert checkpoints.newest(other.here / "checkpoints").refused == ()
    other.push()
    assert {name.split("/")[1] for name in other.there("checkpoints")} == {"step-00000010"}


def test_checkpoints_that_go_away_while_they_go_up_go_up_whole(in_memory, tmp_path, monkeypatch):
    """Training saves faster than the store takes."""
    trial = Mirror(tmp_path / "one", in_memory)
    trial.here.mkdir()
    checkpoint(trial.here, 5)
    put, steps = trial.system.put, iter((10, 15, 20))

    def save_first(*given: Any) -> None:
        for step in steps:
            checkpoint(trial.here, step)
        put(*given)

    monkeypatch.setattr(trial.system, "put", save_first)
    assert trial.push()
    found = checkpoints.newest(pulled(in_memory, tmp_path / "two") / "checkpoints")
    assert found.checkpoint is not None and found.checkpoint.step == 5
    assert trial.push()
    found = checkpoints.newest(pulled(in_memory, tmp_path / "three") / "checkpoints")
    assert found.checkpoint is not None and found.checkpoint.step == 20
    assert {name.split("/")[1] for name in trial.there("checkpoints")} == {
        "step-00000015", "step-00000020",
    }  # fmt: skip


def test_what_happened_after_the_look_at_the_rest_goes_up_later(in_memory, tmp_path, monkeypatch):
    trial = Mirror(tmp_path / "one", in_memory)
    append_events(trial.here / "attempts.jsonl", [{"event": "started"}])
    scan = trial._scan

    def ends_meanwhile(under: str) -> Any:
        found = scan(under)
        end_training(trial.here)
        append_events(trial.here / "attempts.jsonl", [{"event": "done"}])
        return found

    monkeypatch.setattr(trial, "_scan", ends_meanwhile)
    assert trial.push()
    events = TrialFolder(pulled(in_memory, tmp_path / "two")).attempts()
    assert [event["event"] for event in events] == ["started"]


def test_light_mirror_has_a_note_for_weights_and_removes_them_with_it(url, tmp_path):
    node = Mirror(tmp_path / "node", url)
    trial = node.here / "trials" / "t"
    trial.mkdir(parents=True)
    end_training(trial)
    score(trial)
    checkpoint(trial, 5)
    node.push()
    light = Mirror(tmp_path / "driver", url, light=True)
    light.pull()
    mine = TrialFolder(light.here / "trials" / "t")
    assert mine.usable() and mine.has_weights()
    assert [path.name for path in mine.model.iterdir()] == [NOTE]
    assert not mine.checkpoints.exists()
    light.push()
    assert "trials/t/model/model.safetensors" in light.there()
    with weights(light, "trials/t/model") as found:
        assert files(found) == files(trial / "model")
    behind = Mirror(Path(shutil.copytree(light.here, tmp_path / "laptop")), url, light=True)
    mine.remove_weights("keep: none")
    light.push()
    with pytest.raises(Unreachable, match="removed since"), weights(behind, "trials/t/model"):
        pass
    assert not [name for name in light.there() if "model" in name.split("/")]
    other = pulled(url, tmp_path / "another driver", light=True)
    assert not TrialFolder(other / "trials" / "t").has_weights()
    assert TrialFolder(other / "trials" / "t").weights_removed() == "keep: none"


def test_light_mirror_knows_how_far_a_training_has_got_and_pushes_nothing_of_it(url, tmp_path):
    node = Mirror(tmp_path / "node", url)
    trial = node.here / "trials" / "t"
    trial.mkdir(parents=True)
    light = Mirror(tmp_path / "driver", url, light=True)
    mine = TrialFolder(light.here / "trials" / "t")
    for step in (5, 10, 15):
        checkpoint(trial, step)
        node.push()
        light.pull("trials/t")
        assert mine.checkpoint_steps() == TrialFolder(trial).checkpoint_steps()
        assert mine.progress() == [0, step, 0]
    there = node.there()
    node.system.rm(f"{node.path}/trials/t/checkpoints/step-00000015/checksums.json")
    light.pull()
    assert mine.progress() == [0, 10, 0], "nobody goes on from one that is not whole"
    light.push()
    assert set(there) - set(node.there()) == {"trials/t/checkpoints/step-00000015/checksums.json"}
    end_training(trial)
    node.push()
    light.pull()
    assert mine.checkpoint_steps() == [0]


def test_folders_that_are_spared_are_left_alone(url, tmp_path):
    driver = Mirror(tmp_path / "driver", url, light=True)
    for name in ("at-work", "at-work-2"):
        write(driver.here / "trials" / name, a="1")
    driver.push(spared=["trials/at-work"])
    assert list(driver.there()) == ["trials/at-work-2/a"]


BAD = {
    "s4://bucket/runs": "s4",
    "s3://": "names no bucket",
    "s3://key:Secret@bucket/runs": "no password",
    "s3://bucket/runs?token=Secret": "no password",
    "gs://bucket/runs": "gcsfs",
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_url_is_refused_in_words(bad):
    with pytest.raises(BadUrl, match=BAD[bad]) as error:
        object_store.opened(bad)
    assert "Secret" not in str(error.value)


def test_error_of_a_client_is_told_in_one_sentence(in_memory, tmp_path, monkeypatch):
    one = Mirror(tmp_path, in_memory)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("access denied\nat line 1")

    monkeypatch.setattr(one.system, "find", refuse)
    with pytest.raises(Unreachable) as error:
        one.there()
    assert str(error.value) == f"{in_memory}: RuntimeError: access denied"


def test_no_room_here_is_not_the_stores_fault(in_memory, tmp_path, monkeypatch):
    one = Mirror(tmp_path / "one", in_memory)
    write(one.here, a="1")
    one.push()

    def fill(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    two = Mirror(tmp_path / "two", in_memory)
    monkeypatch.setattr(two.system, "get", fill)
    with pytest.raises(OSError, match="No space left"):
        two.pull()


def test_memory_store_is_one_for_all_who_ask(in_memory):
    system, path = object_store.opened(in_memory)
    system.pipe_file(f"{path}/x", b"1")
    assert fsspec.filesystem("memory").cat_file(f"{path}/x") == b"1"
