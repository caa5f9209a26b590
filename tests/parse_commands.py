"""Parses command lines and runs none: `python -m tests.parse_commands < lines.json`.

Takes a JSON list of [program, argument, ...], where a program is a module that `python -m` takes or
a console script such as `ray`; prints a list of what their parsers say, "" for a line that is
accepted. A program runs up to its parser, and ends when that has accepted the line.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import optparse
import runpy
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import click
from typer.core import TyperCommand

SCRIPTS = ("ray", "hf")


class Accepted(BaseException):
    """A parser has accepted a command line."""


def main() -> None:
    lines = json.load(sys.stdin)
    _end_when_parsed(argparse.ArgumentParser)
    _end_when_parsed(optparse.OptionParser)
    TyperCommand.invoke = _accept  # type: ignore[method-assign]
    _end_at_commands(click.Command)
    print(json.dumps([refusal(*line) for line in lines]))


def refusal(program: str, *arguments: str) -> str:
    """What the program says to a line that it does not accept, else ""."""
    said = io.StringIO()
    sys.argv = [program, *arguments]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            _start(program)
    except Accepted:
        return ""
    except SystemExit as error:
        return "" if error.code in (0, None) else said.getvalue() or str(error.code)
    except ImportError as error:
        return str(error)
    return "it has no parser"


def _start(program: str) -> None:
    if program in SCRIPTS:
        (script,) = metadata.entry_points(group="console_scripts", name=program)
        script.load()()
    elif importlib.util.find_spec(program) is None:
        raise ImportError(f"no module {program}")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _accept(*_: Any) -> None:
    raise Accepted


def _end_when_parsed(parser: Any) -> None:
    parse = parser.parse_args

    def parse_and_end(self: Any, args: Sequence[str] | None = None, *rest: Any) -> None:
        parse(self, args, *rest)
        raise Accepted

    parser.parse_args = parse_and_end


def _end_at_commands(command: Any) -> None:
    invoke = command.invoke

    def invoke_groups(self: Any, context: Any) -> Any:
        return invoke(self, context) if isinstance(self, click.Group) else _accept()

    command.invoke = invoke_groups


if __name__ == "__main__":
    main()
