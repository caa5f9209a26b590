"""Clears up what a killed driver leaves: a process beside the driver, idle until then.

It waits for its input to end, and removes the driver's scratch folder (the code that workers ran,
Tune's files). Where the driver had started Ray here it also kills whoever has a file of Ray's
session folder open: Ray's agents see the death of their node at once, and then try for a minute to
report it to the head, which has died too. A driver that ends in order says so before. One that dies
while Ray starts has told no session folder, but Ray names it after the driver's process.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

GRACE_SECONDS = 2.0
"""For what ends by itself."""

LOOKS = 5
"""So often it is looked, with as long in between: what was just being started opens its files
later."""

DONE = "done"
JOINED = "joined"
"""In place of a session folder: Ray is another's."""


class Reaper:
    """The driver's side."""

    def __init__(self, scratch: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(os.getpid()), str(scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # who reads the driver's output need not wait for this
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is the driver's
        )

    def watch(self, session: str) -> None:
        """From here on, until `done`, the end of this process is the end of Ray's; with `JOINED`
        Ray's processes are left alone."""
        self._say(session)

    def done(self) -> None:
        self._say(DONE)
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()


def using(folder: re.Pattern[str]) -> Iterator[psutil.Process]:
    """Processes that have a file below the folder open."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(folder.match(file.path) for file in process.open_files()):
                yield process


def main() -> None:
    driver = int(sys.argv[1])
    session = sys.stdin.readline().strip()
    if session == DONE or (session and sys.stdin.readline().strip() == DONE):
        return
    if session != JOINED:
        _end(re.escape(session) if session else rf".*/session_[\d_-]+_{driver}")
    shutil.rmtree(sys.argv[2], ignore_errors=True)


def _end(session: str) -> None:
    for _ in range(LOOKS):
        time.sleep(GRACE_SECONDS)
        for process in using(re.compile(f"{session}/")):
            with contextlib.suppress(psutil.Error):
                process.kill()


if __name__ == "__main__":
    main()
