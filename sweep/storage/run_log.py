"""What the command says: to the terminal while there is one, and to driver.log of the run folder.

The terminal is no part of the run: a pipe whose reader has gone or a terminal that was closed ends
nothing.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from trainers import files

NAME = "driver.log"


class RunConsole(Console):
    """A console that outlives its terminal, and prints text as it stands: brackets in a reason or
    in a name are no markup. It has a log within `kept_in`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)
        self._log: TextIO | None = None

    @contextlib.contextmanager
    def kept_in(self, folder: Path) -> Iterator[None]:
        """Until the end of the block write what is printed to `driver.log` of a run folder too."""
        with open(folder / NAME, "a", encoding="utf-8", buffering=1) as file:
            self._log = file
            try:
                yield
            except BaseException as error:
                self._note(f"{type(error).__name__}: {error}")
                raise
            finally:
                self._log = None

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:  # the terminal was closed
            self.on_broken_pipe()
        if objects and all(isinstance(part, str) for part in objects):
            self._note(" ".join(objects))

    def say(self, line: str) -> None:
        """A line without colours and breaks."""
        self.print(line, highlight=False, soft_wrap=True)

    def _note(self, line: str) -> None:
        if self._log is not None:
            with contextlib.suppress(OSError):  # a full disk is found where it matters
                self._log.write(f"{files.now()} {line}\n")

    def on_broken_pipe(self) -> None:
        """Go on without a terminal."""
        self.quiet = True
        leave_terminal()


def leave_terminal() -> None:
    """Have further output of this process go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def outlive_terminal() -> None:
    """The end of the terminal (SIGHUP) is not the end of this process, nor of those it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
