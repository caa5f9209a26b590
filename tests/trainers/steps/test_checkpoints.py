"""A checkpoint is whole or it is refused, whatever happened to it or while it was written."""

import json
import resource
import shutil
import subprocess
import sys

import pytest
import torch

from trainers.steps import checkpoints
from trainers.steps.checkpoints import CHECKSUMS, STATE, TENSORS, clear, newest, save

EXPONENTS = torch.tensor([1.0, -0.0, 1e-45, float("inf"), float("nan")])


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {
        "weight": torch.full((40, 5), step, dtype=torch.bfloat16),
        "moment": EXPONENTS * step,
        "rng": torch.arange(16, dtype=torch.uint8),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
    }


def state(step: int) -> dict:
    return {"step": step, "loss": 0.1 + 0.2, "smoothed": None, "rates": [1e-300, 3]}


@pytest.fixture
def two(tmp_path):
    """A folder with checkpoints of steps 3 and 7."""
    for step in (3, 7):
        save(tmp_path, step, tensors(step), state(step))
    return tmp_path


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_whole(found, step, refused=()):
    assert found.checkpoint is not None
    assert found.checkpoint.step == step
    assert found.checkpoint.state == state(step)
    assert found.checkpoint.tensors.keys() == tensors(step).keys()
    for name, tensor in tensors(step).items():
        back = found.checkpoint.tensors[name]
        assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
        assert back.contiguous().view(torch.uint8).equal(tensor.contiguous().view(torch.uint8))
    assert len(found.refused) == len(refused)
    assert all(part in reason for part, reason in zip(refused, found.refused, strict=True))


def test_newest_comes_back_bit_for_bit(two):
    assert_whole(newest(two), 7)


def test_folder_without_checkpoints_has_none_and_refuses_none(tmp_path):
    assert newest(tmp_path / "missing") == newest(tmp_path) == (None, ())


def test_two_are_kept(two):
    save(two, 100_000_000, tensors(9), state(9))
    assert names(two) == ["step-00000007", "step-100000000"]
    found = newest(two).checkpoint
    assert found is not None
    assert found.step == 100_000_000


def test_clear_leaves_nothing_and_does_not_mind_nothing(two):
    for _ in range(2):
        clear(two)
        assert not two.exists()


def test_state_that_is_cut_off_anywhere_is_refused_and_the_one_before_used(two):
    path = two / "step-00000007" / STATE
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert_whole(newest(two), 3, ["step-00000007: state.json is not what was written"])


def test_tensors_that_are_cut_off_are_refused_and_the_ones_before_used(two):
    path = two / "step-00000007" / TENSORS
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert_whole(newest(two), 3, ["step-00000007: tensors.safetensors is not"])


@pytest.mark.parametrize("name", [STATE, TENSORS])
def test_one_flipped_bit_is_refused(two, name):
    path = two / "step-00000007" / name
    whole = path.read_bytes()
    for place in range(0, len(whole), max(len(whole) // 200, 1)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert_whole(newest(two), 3, [name])


def test_damaged_checksums_are_refused(two):
    """One flipped bit in them may leave their meaning; then the checkpoint is whole."""
    path = two / "step-00000007" / CHECKSUMS
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [b"[]", b"{}", b"\xff\xfe", whole.replace(b'"step": 7', b'"step": 8')]
    damaged += [whole.replace(b'"format": 1', b'"format": 9'), whole.replace(b"state.json", b"x")]
    for content in damaged:
        path.write_bytes(content)
        assert_whole(newest(two), 3, ["checksums.json is damaged"])


@pytest.mark.parametrize("name", [STATE, TENSORS, CHECKSUMS])
def test_missing_file_is_refused(two, name):
    (two / "step-00000007" / name).unlink()
    assert_whole(newest(two), 3, [name])


def test_checkpoint_of_another_step_in_its_place_is_refused(two):
    shutil.rmtree(two / "step-00000007")
    shutil.copytree(two / "step-00000003", two / "step-00000007")
    assert_whole(newest(two), 3, ["step-00000007"])


def test_all_damaged_is_none_with_each_reason(two):
    for folder in two.iterdir():
        (folder / STATE).write_text("{}")
    found = newest(two)
    assert found.checkpoint is None
    assert [reason.split(":")[0] for reason in found.refused] == ["step-00000007", "step-00000003"]


def test_refused_one_goes_when_training_saves_again(two):
    (two / "step-00000007" / STATE).write_text("{}")
    save(two, 5, tensors(5), state(5))
    assert names(two) == ["step-00000003", "step-00000005"]
    assert_whole(newest(two), 5)


def test_saving_a_step_again_replaces_it(two):
    (two / "step-00000007" / STATE).write_text("{}")
    save(two, 7, tensors(7), state(7))
    assert names(two) == ["step-00000003", "step-00000007"]
    assert_whole(newest(two), 7)


KILLED = """
import os, sys, torch
from pathlib import Path
from trainers.steps import checkpoints

calls = 0

def killed(real):
    def run(*arguments, **options):
        global calls
        calls += 1
        if calls == at:
            os._exit(9)
        return real(*arguments, **options)
    return run

checkpoints.files.fsync = killed(checkpoints.files.fsync)
for name in ("_write_json", "_digest", "_remove"):
    setattr(checkpoints, name, killed(getattr(checkpoints, name)))
Path.rename = killed(Path.rename)
tensors = {"weight": torch.full((40, 5), 9.0)}
for folder in sys.argv[1:]:
    at = int(Path(folder).name)
    if os.fork() == 0:
        checkpoints.save(Path(folder), 9, tensors, {"step": 9})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
"""Saves step 9 in each folder, killed at the call whose number is the folder's name."""


def test_killed_save_leaves_a_whole_newest_and_a_later_save_cleans_up(
    two, tmp_path_factory, monkeypatch
):
    monkeypatch.setattr(checkpoints, "STALE_SECONDS", -1.0)  # the parts of the dead are old
    copies = tmp_path_factory.mktemp("killed")
    folders = [copies / str(at) for at in range(1, 17)]
    for folder in folders:
        shutil.copytree(two, folder)
    command = [sys.executable, "-c", KILLED, *map(str, folders)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    codes = run.stdout.split()
    assert set(codes[:12]) == {"9"}, "killed at every one of its calls"
    assert codes[-1] == "0", "the last was not killed"
    steps = []
    for folder in folders:
        found = newest(folder)
        assert found.checkpoint is not None
        assert found.refused == ()
        steps.append(found.checkpoint.step)
        save(folder, 10, tensors(10), state(10))
        assert names(folder) == [f"step-{steps[-1]:08}", "step-00000010"]
    assert set(steps) == {7, 9}
    assert steps == sorted(steps), "before the rename 7, after it 9"


def test_full_disk_leaves_the_earlier_ones_intact(two):
    """The limit on a file's size stands in for the disk: the writer meets it mid-file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        with pytest.raises(OSError, match=TENSORS):
            save(two, 9, tensors(9), state(9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(two) == ["step-00000003", "step-00000007"]
    assert_whole(newest(two), 7)


def test_full_file_system_leaves_the_earlier_ones_intact(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        for step in (3, 7):
            save(disk / "c", step, tensors(step), state(step))
        with pytest.raises(OSError, match="No space"):
            save(disk / "c", 9, {"weight": torch.zeros(100_000)}, state(9))
        assert names(disk / "c") == ["step-00000003", "step-00000007"]
        assert_whole(newest(disk / "c"), 7)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_tied_weights_are_refused_in_words(tmp_path):
    weight = torch.zeros(4)
    with pytest.raises(RuntimeError, match="share memory"):
        save(tmp_path, 1, {"embedding": weight, "head": weight}, {})
    assert names(tmp_path) == []


def test_state_is_plain_json(two):
    record = json.loads((two / "step-00000007" / STATE).read_text())
    assert record == state(7)
