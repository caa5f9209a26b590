"""A reward function of the user's own, `path.py:function`, called as TRL calls reward functions.

    def shorter(prompts, completions, completion_ids, **columns):
        return [-len(ids) for ids in completion_ids]

`prompts` and `completions` are lists of messages and `completion_ids` lists of tokens, one each per
answer; `columns` has the other columns of the rows, each as a list of the same length, and TRL's
`log_extra` and `log_metric`, which write nothing here. There is no `trainer_state`: held-out
answers are rewarded without a trainer. A function without `**columns` gets what it names; an
`async` one is awaited. None instead of a number is no reward: such an answer has no part in means
and teaches nothing.
"""

import ast
import asyncio
import functools
import importlib.util
import inspect
import math
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.specs.file_names import function_file

Messages = list[dict[str, Any]]

TRAINER = "trainer_state"
"""What TRL gives a reward function beside all that it gets here."""


def is_own(reward: str) -> bool:
    """Whether a `reward` names a file with a function, not a grader."""
    return function_file(reward) is not None


def problem(reward: str) -> str | None:
    """What is wrong with a `reward` of a grid file, without running it, or None."""
    if not is_own(reward):
        from trainers.rewards import graders  # loads `datasets`

        known = ", ".join(graders.GRADERS)
        wrong = reward.lower() not in graders.GRADERS
        return f"{reward!r}: use one of {known}, or path.py:function" if wrong else None
    path, _, name = reward.rpartition(":")
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return f"{path}: {getattr(error, 'strerror', None) or error} (from {os.getcwd()})"
    except SyntaxError as error:
        return f"{path}:{error.lineno}: {error.msg}"
    functions = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    if name in functions and TRAINER in _required(functions[name].args):
        return f"{path}: {name} needs {TRAINER}, which is not given here; make it {TRAINER}=None"
    if name in functions or any(isinstance(node, ast.ImportFrom | ast.Assign) and name in
                                _names(node) for node in tree.body):  # fmt: skip
        return None
    return f"{path} has no function {name!r}; it has {', '.join(functions) or 'none'}"


def _required(arguments: ast.arguments) -> list[str]:
    """Parameters without a default."""
    positional = [*arguments.posonlyargs, *arguments.args]
    required = positional[: len(positional) - len(arguments.defaults)]
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required += [argument for argument, default in keywords if default is None]
    return [argument.arg for argument in required]


def _names(node: ast.ImportFrom | ast.Assign) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def rewards(
    reward: str,
    prompts: Sequence[Messages],
    completions: Sequence[Messages],
    completion_ids: Sequence[Sequence[int]],
    columns: Sequence[Mapping[str, Any]],
) -> list[float]:
    """What the completions earn, a number each, nan for None; `columns` has the columns of each
    one's row.

    Raises:
        ValueError: the function cannot be loaded, raises, or returns something else.
    """
    function = _load(reward, os.stat(reward.rpartition(":")[0]).st_mtime_ns)
    names = dict.fromkeys(name for row in columns for name in row)
    named: dict[str, Any] = {name: [row.get(name) for row in columns] for name in names}
    named |= {"prompts": list(prompts), "completions": list(completions)}
    named["completion_ids"] = [list(ids) for ids in completion_ids]
    named |= {"log_extra": _write_nothing, "log_metric": _write_nothing}
    parameters = inspect.signature(function).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        named = {name: value for name, value in named.items() if name in parameters}
    try:
        values = function(**named)
        if inspect.isawaitable(values):
            values = asyncio.run(_awaited(values))
    except Exception as error:  # it can raise anything
        raise ValueError(f"reward {reward}: {type(error).__name__}: {error}") from error
    if hasattr(values, "tolist"):  # an array or a tensor
        values = values.tolist()
    if not isinstance(values, list | tuple) or len(values) != len(completions):
        raise ValueError(
            f"reward {reward}: it returned {_shown(values)} for {len(completions)} completions; "
            "return a list with a number or None for each"
        )
    return [math.nan if value is None else _number(value, reward) for value in values]


def _write_nothing(*_: Any, **__: Any) -> None:
    """TRL's `log_extra(column, values)` and `log_metric(name, value)`."""


async def _awaited(values: Awaitable[Any]) -> Any:
    return await values


def _number(value: Any, reward: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"reward {reward}: it returned {_shown(value)}; return finite numbers, or None"
        )
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


_loading = threading.Lock()


@functools.cache
def _load(reward: str, _changed: int) -> Callable[..., Any]:
    path, _, name = reward.rpartition(":")
    with _loading:
        spec = importlib.util.spec_from_file_location(f"reward_{Path(path).stem}", path)
        if spec is None or spec.loader is None:
            raise ValueError(f"reward {reward}: {path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(Path(path).absolute().parent))  # for modules beside it
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # it can raise anything
            raise ValueError(f"reward {reward}: {type(error).__name__}: {error}") from error
        finally:
            sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"reward {reward}: {path} has no function {name!r}")
    return function
