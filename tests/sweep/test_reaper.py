"""Who has a file of a killed driver's Ray open goes; nobody else does."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep import reaper

OPENS = "import sys, time; file = open(sys.argv[1], 'a'); print('open', flush=True); time.sleep(60)"

DRIVER = """
import sys, time
from sweep.reaper import Reaper
reaper = Reaper()
reaper.watch(sys.argv[1])
print("watched", flush=True)
time.sleep(60)
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    """A process that has said its first word."""
    root = Path(reaper.__file__).parents[1]
    command = [sys.executable, "-c", *arguments]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.fixture
def processes(tmp_path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    (tmp_path / "session").mkdir()
    (tmp_path / "session2").mkdir()
    found = {
        "agent": started(OPENS, str(tmp_path / "session" / "agent.log")),
        "other": started(OPENS, str(tmp_path / "session2" / "agent.log")),
        "driver": started(DRIVER, str(tmp_path / "session")),
    }
    yield found
    for process in found.values():
        process.kill()
        process.wait()


def test_killed_driver_takes_its_agents_with_it(processes):
    processes["driver"].kill()
    assert processes["agent"].wait(20) == -signal.SIGKILL
    assert processes["other"].poll() is None


def test_driver_that_ends_in_order_ends_its_reaper_and_nothing_else(processes, tmp_path):
    one = reaper.Reaper()
    one.watch(str(tmp_path / "session"))
    one.done()
    assert processes["agent"].poll() is None
