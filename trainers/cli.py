"""How a command ends where it does not end well; docs/run.md has the table."""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

import typer

from trainers.files import Damaged

BAD_INPUT, SOME_FAILED, CANNOT_RUN, LIMIT_REACHED, INTERRUPTED = 2, 3, 4, 5, 130


Command = TypeVar("Command", bound=Callable[..., None])


def refusing(command: Command) -> Command:
    """A command that ends with one sentence and exit code 4 where the operating system refuses what
    it needs (a disk that fails, a file that is gone, a name that is too long), and where a record
    holds what was never written there."""

    @wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except OSError as error:
            at = f"{error.filename}: " if error.filename else ""
            stop(CANNOT_RUN, f"{at}{error.strerror or error}")
        except Damaged as error:
            stop(CANNOT_RUN, str(error))

    return cast(Command, guarded)


def stop(code: int, message: str) -> NoReturn:
    """Say why on stderr, and end with this code."""
    with suppress(OSError):  # the terminal was closed
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
    raise typer.Exit(code)
