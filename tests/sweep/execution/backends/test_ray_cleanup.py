"""Who has a file of a killed driver's Ray open goes; nobody else does."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.execution.backends import ray_cleanup
from tests.faults.runs import wait_until

OPENS = "import sys, time; file = open(sys.argv[1], 'a'); print('open', flush=True); time.sleep(60)"

DRIVER = """
import sys, time
from pathlib import Path
from sweep.execution.backends.ray_cleanup import Reaper
reaper = Reaper(Path(sys.argv[2]))
reaper.watch(sys.argv[1])
print("watched", flush=True)
time.sleep(60)
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    """A process that has said its first word."""
    root = Path(ray_cleanup.__file__).parents[3]
    command = [sys.executable, "-c", *arguments]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.fixture
def processes(tmp_path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    (tmp_path / "session").mkdir()
    (tmp_path / "session2").mkdir()
    (tmp_path / "scratch" / "code").mkdir(parents=True)
    found = {
        "agent": started(OPENS, str(tmp_path / "session" / "agent.log")),
        "other": started(OPENS, str(tmp_path / "session2" / "agent.log")),
        "driver": started(DRIVER, str(tmp_path / "session"), str(tmp_path / "scratch")),
    }
    yield found
    for process in found.values():
        process.kill()
        process.wait()


def test_killed_driver_takes_its_agents_and_its_scratch_folder_with_it(processes, tmp_path):
    processes["driver"].kill()
    assert processes["agent"].wait(20) == -signal.SIGKILL
    assert processes["other"].poll() is None
    wait_until(lambda: not (tmp_path / "scratch").exists(), seconds=30)


def test_driver_killed_on_a_cluster_that_it_had_joined_leaves_ray_alone(processes, tmp_path):
    scratch = tmp_path / "another"
    scratch.mkdir()
    driver = started(DRIVER, ray_cleanup.JOINED, str(scratch))
    driver.kill()
    driver.wait()
    wait_until(lambda: not scratch.exists(), seconds=30)
    assert processes["agent"].poll() is None


STARTING = """
import os, sys, time
from pathlib import Path
from sweep.execution.backends.ray_cleanup import Reaper
reaper = Reaper(Path(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_driver_killed_while_ray_starts_takes_along_what_was_started(tmp_path):
    """Ray's folder ends in the driver's process id; it had no time to tell it."""
    root = Path(ray_cleanup.__file__).parents[3]
    command = [sys.executable, "-c", STARTING, str(tmp_path / "scratch")]
    driver = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    ours, others = (
        tmp_path / f"session_2026-01-02_03-04-05_000006_{number}" for number in (pid, pid + 1)
    )
    ours.mkdir()
    others.mkdir()
    driver.kill()
    driver.wait()
    agent = started(OPENS, str(ours / "agent.log"))
    other = started(OPENS, str(others / "agent.log"))
    try:
        assert agent.wait(20) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (agent, other):
            process.kill()
            process.wait()


def test_driver_that_ends_in_order_ends_its_reaper_and_nothing_else(processes, tmp_path):
    scratch = tmp_path / "another"
    scratch.mkdir()
    one = ray_cleanup.Reaper(scratch)
    one.watch(str(tmp_path / "session"))
    one.done()
    assert processes["agent"].poll() is None
    assert scratch.exists()
