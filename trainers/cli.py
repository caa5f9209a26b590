"""How a command ends where it does not end well; README.md has the table."""

from typing import NoReturn

import typer
from rich.console import Console

BAD_INPUT, SOME_FAILED, CANNOT_RUN, LIMIT_REACHED, INTERRUPTED = 2, 3, 4, 5, 130


def stop(code: int, message: str) -> NoReturn:
    """Say why on stderr, and end with this code."""
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)
