"""One driver for a run folder, where file locks say yes to everybody too."""

import json
import os
import socket
import threading
import time

import pytest

from sweep.storage import driver_lock
from sweep.storage.driver_lock import HOLDER, DriverLock, FolderLock, FolderRecord, RunHeld


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(driver_lock, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(driver_lock, "STALE_SECONDS", 1.5)


def unlocked(folder, lost=lambda: None, say=lambda line: None) -> DriverLock:
    """The lock of a folder whose file system has no file locks."""
    return DriverLock(FolderRecord(folder), say, lost, settles=False, may_vanish=False)


def left(folder, **facts) -> None:
    record = {"id": "x", "pid": 7, "host": "elsewhere", "since": "noon", "beat": 1} | facts
    (folder / HOLDER).write_text(json.dumps(record))


def test_second_driver_is_refused_without_file_locks(tmp_path):
    with (
        unlocked(tmp_path),
        pytest.raises(RunHeld, match=f"process {os.getpid()} on {socket.gethostname()}"),
        unlocked(tmp_path),
    ):
        pass


def test_driver_that_died_elsewhere_is_taken_over_when_its_record_is_stale(tmp_path):
    left(tmp_path)
    said: list[str] = []
    began = time.monotonic()
    with unlocked(tmp_path, say=said.append):
        assert time.monotonic() - began > driver_lock.STALE_SECONDS
        assert "waiting up to" in said[0]
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / HOLDER).exists()


@pytest.mark.parametrize(
    "facts", [{"pid": 2**22 + 1}, {"pid": os.getpid(), "process_created": 1.0}]
)
def test_dead_driver_of_this_host_is_taken_over_at_once(facts, tmp_path):
    left(tmp_path, host=socket.gethostname(), **facts)
    said: list[str] = []
    with unlocked(tmp_path, say=said.append):
        assert not said, "it waited for a sign"


def test_driver_whose_record_is_anothers_is_told_and_leaves_it(tmp_path):
    told = threading.Event()
    with pytest.raises(RunHeld, match="process 7 on elsewhere"), unlocked(tmp_path, told.set):
        left(tmp_path)
        assert told.wait(5)
    assert json.loads((tmp_path / HOLDER).read_text())["id"] == "x"


def test_driver_whose_folder_was_moved_away_is_told_and_makes_no_new_one(tmp_path):
    folder, told = tmp_path / "run", threading.Event()
    with pytest.raises(RunHeld, match="moved away"), FolderLock(folder, print) as lock:
        lock._lock._tell = told.set
        folder.rename(tmp_path / "moved")
        assert told.wait(5)
    assert not folder.exists()


def test_driver_looks_at_its_record_before_it_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(driver_lock, "RENEW_SECONDS", 60)
    with pytest.raises(RunHeld), FolderLock(tmp_path / "run", print) as lock:
        lock.check()
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(RunHeld, match="moved away"):
            lock.check()
