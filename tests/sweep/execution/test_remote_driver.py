"""How a driver follows its trials in a store that is away."""

import threading
import time
import uuid
from pathlib import Path

from sweep.execution import remote_driver
from sweep.execution.remote_driver import RemoteRun
from sweep.storage.remote.object_store import Unreachable
from sweep.storage.run_folder import RunFolder
from tests.faults.runs import wait_until


def test_it_is_asked_as_often_as_is_said_however_long_an_answer_takes(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(remote_driver, "FOLLOWED_EVERY", 0.1)
    said: list[str] = []
    url = f"memory://bucket-{uuid.uuid4().hex}/run"
    run = RemoteRun(url, RunFolder(tmp_path / "run"), said.append)
    asked = 0

    def away(*names: str) -> None:
        nonlocal asked
        asked += 1
        time.sleep(0.3)
        if asked < 4:
            raise Unreachable(f"{url}: is away")

    monkeypatch.setattr(run._mirror, "pull", away)
    run.begun("trials/a")
    follower = threading.Thread(target=run._follow)
    follower.start()
    began = time.monotonic()
    while not run.away or asked < 4:
        assert time.monotonic() < began + 6, f"asked {asked} times"
        time.sleep(0.01)
    while run.away:
        assert time.monotonic() < began + 8, "it is never back"
        time.sleep(0.01)
    run._end(follower)
    assert len(said) == 1, "told once"


def test_store_that_did_not_answer_at_the_end_of_a_trial_is_asked_soon_though_looks_take_long(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(remote_driver, "FOLLOWED_EVERY", 0.05)
    url = f"memory://bucket-{uuid.uuid4().hex}/run"
    run = RemoteRun(url, RunFolder(tmp_path / "run"), lambda line: None)
    looked = threading.Event()

    def pull(*names: str) -> None:
        if names == ("trials/ends",):
            raise Unreachable(f"{url}: is away")
        time.sleep(0.2)

    monkeypatch.setattr(run._mirror, "pull", pull)
    monkeypatch.setattr(run._mirror, "push", lambda **_: looked.set())
    run.begun("trials/a")
    follower = threading.Thread(target=run._follow)
    follower.start()
    looked.wait()
    time.sleep(0.05)
    assert not run.seen("trials/ends") and run.away
    began = time.monotonic()
    wait_until(lambda: not run.away)
    assert time.monotonic() - began < 1.5, "a tenth of the time is 2 s"
    run._end(follower)
