"""A process that makes no progress ends itself, and the driver ends one that cannot."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweep.execution import processes
from sweep.execution.job import Limits
from sweep.execution.supervisor import Supervisor
from sweep.execution.worker import watchdog
from sweep.storage.trial_folder import TrialFolder
from trainers import files
from trainers.processes import attempt

ROOT = Path(watchdog.__file__).parents[3]

WORK = """
import faulthandler, psutil, sys, time
from pathlib import Path
from sweep.execution import job
from sweep.execution.job import Limits
from sweep.execution.worker.watchdog import Watchdog
from sweep.storage.trial_folder import TrialFolder
from trainers.processes import attempt

job.GRACE_SECONDS = 1.0

def never_returns():
    time.sleep(1000)

first = Path(sys.argv[1])
folders = [first, *map(Path, sys.argv[4:])]
with attempt.begun(first) if len(folders) == 1 else attempt.begun_together(folders) as this:
    faulthandler.enable(open(first / "log.txt", "a"))
    created = psutil.Process().create_time()
    for folder in folders:
        TrialFolder(folder).log_attempt("started", node="", process_created=created)
    with Watchdog(this, Limits(float(sys.argv[2]), float(sys.argv[3])), shared=False):
        print("working", flush=True)
        never_returns()
"""


def work(folder: Path, stalled: float, most: float, *beside: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(folder), str(stalled), str(most), *map(str, beside)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize(
    ("stalled", "most", "said", "fact"),
    [
        (2.0, 1e9, "no sign of progress", "stalled"),
        (1e9, 1.0, "over the time limit", "out_of_time"),
    ],
)
def test_hanging_process_records_its_stacks_and_the_failure_and_ends(
    stalled, most, said, fact, tmp_path
):
    assert work(tmp_path, stalled, most).wait(60) == 4
    failure = TrialFolder(tmp_path).attempts()[-1]
    assert (failure["event"], failure[fact]) == ("failed", True)
    assert said in failure["reason"]
    assert "never_returns" in (tmp_path / "log.txt").read_text()


def test_hanging_process_ends_where_the_disk_is_full(tmp_path):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    assert work(tmp_path, 2.0, 1e9).wait(60) == 4
    assert TrialFolder(tmp_path).attempts()[-1]["stalled"]


def test_hanging_pass_records_it_for_each_trial_that_is_not_trained(tmp_path):
    first, second, ended = (tmp_path / name for name in ("first", "second", "ended"))
    for folder in (first, second, ended):
        folder.mkdir()
    files.write_json(ended / "train.json", {"status": "diverged"})
    assert work(first, 2.0, 1e9, second, ended).wait(60) == 4
    for folder, log in ((first, "log.txt"), (second, first / "log.txt")):
        failure = TrialFolder(folder).attempts()[-1]
        assert (failure["event"], failure["stalled"]) == ("failed", True)
        assert failure["reason"].endswith(f"; {log} has the stacks")
    assert [event["event"] for event in TrialFolder(ended).attempts()] == ["started"]
    assert "never_returns" in (first / "log.txt").read_text()


def test_superseded_process_ends_without_a_record(tmp_path):
    process = work(tmp_path, 1e9, 1e9)
    files.write_json(tmp_path / attempt.HOLDER, {"id": "other"})
    assert process.wait(60) == 4
    assert [event["event"] for event in TrialFolder(tmp_path).attempts()] == ["started"]


def test_stopped_process_is_ended_from_outside_with_its_stacks(tmp_path, monkeypatch):
    class Job:
        folder = str(tmp_path)
        limits = Limits(stalled_seconds=1.0)

    process = work(tmp_path, 1e9, 1e9)
    time.sleep(0.5)  # it is in `never_returns` by then
    os.kill(process.pid, signal.SIGSTOP)
    ended = []

    def kill(started):
        ended.append(started["pid"])
        processes.end(started["pid"], started["process_created"])

    monkeypatch.setattr("sweep.execution.supervisor.LOOK_SECONDS", 0.1)
    supervisor = Supervisor({"key": Job()}, kill)  # pyright: ignore[reportArgumentType]
    supervisor.started("key")
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        supervisor.look()
        time.sleep(0.05)
    assert process.poll() is not None
    assert ended == [process.pid]
    failure = TrialFolder(tmp_path).attempts()[-1]
    assert failure["stalled"]
    assert "did not end by itself" in failure["reason"]
    assert "never_returns" in (tmp_path / "log.txt").read_text()


def test_silence_does_not_count_while_the_signs_of_trials_do_not_come(tmp_path, monkeypatch):
    class Job:
        folder = str(tmp_path)
        limits = Limits(stalled_seconds=0.5)

    TrialFolder(tmp_path).log_attempt("started", pid=0, process_created=0.0)
    clock, seen, ended = [0.0], [False], []
    monkeypatch.setattr("sweep.execution.supervisor.time.monotonic", lambda: clock[0])
    job: Any = Job()
    supervisor = Supervisor({"key": job}, ended.append, sees=lambda: seen[0])
    supervisor.started("key")
    for clock[0] in range(0, 7200, 60):
        supervisor.look()
    assert ended == [], "the store was away for two hours"
    seen[0] = True
    for clock[0] in range(7200, 7320, 3):
        supervisor.look()
    assert len(ended) >= 1


def test_process_that_got_the_number_of_another_is_left_alone():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        processes.end(process.pid, psutil.Process(process.pid).create_time() - 100)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
