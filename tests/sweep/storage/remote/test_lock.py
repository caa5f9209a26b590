"""One driver for a run in a store, which has no locks."""

import json
import os
import threading
import time
import uuid
from pathlib import Path

import pytest

from sweep.storage import driver_lock
from sweep.storage.driver_lock import RunHeld
from sweep.storage.remote.lock import store_lock
from sweep.storage.remote.mirror import Mirror

GONE = 2**22 + 1
"""No process of Linux has such a number."""


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Mirror:
    monkeypatch.setattr(driver_lock, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(driver_lock, "STALE_SECONDS", 2.0)
    monkeypatch.setattr(driver_lock, "SETTLE_SECONDS", 0.3)
    return Mirror(tmp_path, f"memory://bucket-{uuid.uuid4().hex}/run")


def taken(mirror: Mirror, **facts: object) -> None:
    """By a driver elsewhere."""
    about = {"id": "x", "pid": 7, "host": "elsewhere", "since": "noon", "beat": 1} | facts
    mirror.system.pipe_file(f"{mirror.path}/driver.json", json.dumps(about).encode())


def holder(mirror: Mirror) -> dict[str, object]:
    return json.loads(mirror.system.cat_file(f"{mirror.path}/driver.json"))


def lost() -> None:
    raise AssertionError("nobody has taken it")


def test_second_driver_is_refused_with_host_and_process_of_the_first(mirror):
    said: list[str] = []
    with (
        store_lock(mirror, said.append, lost),
        pytest.raises(RunHeld, match=rf"process {os.getpid()} on "),
        store_lock(mirror, said.append, lost),
    ):
        raise AssertionError("both hold it")
    assert len(said) == 1


def test_it_is_free_again_in_the_end(mirror):
    for _ in range(2):
        with store_lock(mirror, print, lost):
            assert holder(mirror)["pid"] == os.getpid()
        assert not mirror.system.exists(f"{mirror.path}/driver.json")


def test_holder_that_gives_no_sign_is_taken_over_by_this_clock_alone(mirror):
    taken(mirror, since="2999-01-01T00:00:00")
    began = time.monotonic()
    with store_lock(mirror, print, lost):
        assert time.monotonic() - began > driver_lock.STALE_SECONDS
        assert holder(mirror)["pid"] == os.getpid()


def test_dead_process_of_this_machine_is_taken_over_at_once(mirror):
    with store_lock(mirror, print, lost):
        here = holder(mirror)["host"]
    taken(mirror, host=here, pid=GONE)
    said: list[str] = []
    with store_lock(mirror, said.append, lost):
        assert not said, "it waited for a sign"


def test_record_that_is_cut_off_is_taken_over(mirror):
    mirror.system.pipe_file(f"{mirror.path}/driver.json", b'{"id": "x", "p')
    with store_lock(mirror, print, lost):
        assert holder(mirror)["pid"] == os.getpid()


def test_of_two_that_begin_in_the_same_moment_one_gets_it(mirror):
    start, ends = threading.Barrier(2), []

    def drive() -> None:
        start.wait()
        try:
            with store_lock(mirror, print, lost):
                ends.append("held")
                time.sleep(1.5)
        except RunHeld:
            ends.append("refused")

    both = [threading.Thread(target=drive) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(ends) == ["held", "refused"]


def test_holder_that_was_taken_over_is_told_and_leaves_the_record(mirror):
    told = threading.Event()
    with (
        pytest.raises(RunHeld, match="process 7 on elsewhere"),
        store_lock(mirror, print, told.set),
    ):
        taken(mirror)
        assert told.wait(5)
    assert holder(mirror)["host"] == "elsewhere"


def test_record_that_was_removed_is_written_again(mirror):
    with store_lock(mirror, print, lost):
        mirror.system.rm(f"{mirror.path}/driver.json")
        end = time.monotonic() + 5
        while not mirror.system.exists(f"{mirror.path}/driver.json"):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_nothing_of_it_is_a_file_here(mirror):
    with store_lock(mirror, print, lost):
        mirror.pull()
        assert list(Path(mirror.here).iterdir()) == []
