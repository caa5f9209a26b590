"""A driver that sees no folder of a running trial asks it to stop all the same."""

import time
import uuid
from pathlib import Path

import pytest

from sweep.execution import stop_request
from sweep.execution.job import Stored
from sweep.execution.job import make as make_job
from sweep.execution.worker import remote_trial
from trainers.processes import attempt


@pytest.fixture
def job(planned, tmp_path, small, load, monkeypatch):
    """Of a trial whose run lies in a store."""
    from sweep.resolve.resolve import resolve
    from sweep.storage.run_folder import RunFolder

    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "node"))
    monkeypatch.setattr(remote_trial, "ASKED_EVERY", 0.1)
    monkeypatch.setattr(remote_trial, "LOOK_EVERY", 0.05)
    trial = next(one for one in planned(small) if one.spec is not None)
    run = RunFolder(tmp_path / "driver" / "small")
    url = f"memory://bucket-{uuid.uuid4().hex}/runs/small"
    return make_job(trial, None, resolve(load(small)), run)._replace(stored=Stored(url, {}))


def asked(seconds: float) -> str:
    """Why the attempt of this process was asked to stop, within the seconds."""
    end = time.monotonic() + seconds
    while not (why := attempt.asked_to_stop()) and time.monotonic() < end:
        time.sleep(0.02)
    return why


def test_request_reaches_a_trial_in_a_store(job):
    with remote_trial.here(job) as here, attempt.begun(Path(here.folder)):
        stop_request.ask(job, "enough")
        assert asked(30) == "enough"


def test_request_to_an_earlier_worker_stops_no_later_one(job):
    with remote_trial.here(job) as here, attempt.begun(Path(here.folder)):
        stop_request.ask(job, "enough")
        assert asked(30) == "enough"
    with remote_trial.here(job) as here, attempt.begun(Path(here.folder)):
        assert asked(0.5) == ""
