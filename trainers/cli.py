"""How a command ends where it does not end well; README.md has the table."""

import sys
from contextlib import suppress
from typing import NoReturn

import typer

BAD_INPUT, SOME_FAILED, CANNOT_RUN, LIMIT_REACHED, INTERRUPTED = 2, 3, 4, 5, 130


def stop(code: int, message: str) -> NoReturn:
    """Say why on stderr, and end with this code."""
    with suppress(OSError):  # the terminal was closed
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
    raise typer.Exit(code)
