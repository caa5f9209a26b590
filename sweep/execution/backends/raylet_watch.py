"""Ends the command in words when Ray's process on this machine dies.

Ray itself would end it some seconds later, without any.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import psutil

from trainers.cli import CANNOT_RUN

LOOK_SECONDS = 0.25

SHOW_CURSOR = "\x1b[?25h"
"""A live table hides it."""

MESSAGE = (
    "Ray does not answer any more (its raylet on this machine has died); the same command goes on "
    "from here"
)


def raylet(socket: str) -> psutil.Process | None:
    """The raylet that listens on this socket."""
    for process in psutil.process_iter(["name", "cmdline"]):
        command = process.info["cmdline"] or ()
        if process.info["name"] == "raylet" and any(socket in word for word in command):
            return process
    return None


@contextlib.contextmanager
def watched(process: psutil.Process | None) -> Iterator[None]:
    """Until the end of the block the end of the raylet is that of this process. Nothing is put in
    order: records survive it, and the reaper ends what is left of Ray."""
    if process is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if not _lives(process) and not over.is_set():
                cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
                with contextlib.suppress(OSError):  # the terminal was closed
                    os.write(2, f"{cursor}{MESSAGE}\n".encode())
                os._exit(CANNOT_RUN)

    thread = threading.Thread(target=watch, name="raylet watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
