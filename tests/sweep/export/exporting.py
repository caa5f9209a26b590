"""The command `python -m sweep.export`, in this process."""

from pathlib import Path

from typer.testing import CliRunner

from sweep.export import __main__ as export


def told(*arguments: str | Path) -> tuple[int, str]:
    """Its exit code and what it prints."""
    ended = CliRunner().invoke(export.app, [str(a) for a in arguments], catch_exceptions=False)
    return ended.exit_code, ended.output
