"""The end of Ray's process here is told in one sentence, and is exit code 4."""

import subprocess
import sys
from pathlib import Path

from sweep.execution.backends import raylet_watch

DRIVER = """
import subprocess, sys, time
import psutil
from sweep.execution.backends import raylet_watch
raylet = subprocess.Popen(["sleep", "60"])
with raylet_watch.watched(psutil.Process(raylet.pid)):
    if sys.argv[1] == "dies":
        raylet.kill()
        time.sleep(60)
raylet.kill()
raylet.wait()
time.sleep(1)
"""


def ended(what: str) -> subprocess.CompletedProcess[str]:
    root = Path(raylet_watch.__file__).parents[3]
    command = [sys.executable, "-c", DRIVER, what]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=50)


def test_death_of_the_raylet_is_one_sentence():
    driver = ended("dies")
    assert driver.returncode == 4
    assert driver.stderr == f"{raylet_watch.MESSAGE}\n"


def test_raylet_that_ends_after_the_run_is_nothing():
    driver = ended("is ended in order")
    assert (driver.returncode, driver.stderr) == (0, "")
