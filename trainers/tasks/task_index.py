"""lm-eval's own tasks by name: which YAML file each is in, without the ten seconds of indexing.

lm-eval parses its 14,000 files to learn their names. Here they are only searched for the lines that
name a task, a group or a tag, and what was found is kept in the node-local cache.
"""

import difflib
import json
import os
import re
from functools import cache as remembered
from importlib import metadata
from pathlib import Path
from typing import Any

from trainers import files
from trainers.tasks import compat_lm_eval

NAMING = re.compile(
    r"^['\"]?(task|group|tag)['\"]?[ \t]*:[ \t]*(.*(?:\n[ \t]*- .*)*)", re.MULTILINE
)
"""The three keys that name something, with a list below them where there is one."""

FORMAT = 2
"""Raised when the same files would give another index."""

INCLUDE = re.compile(r"^['\"]?include['\"]?[ \t]*:[ \t]*['\"]?([^\s'\"\[\]]+)", re.MULTILINE)

CLASS = re.compile(r"^class:", re.MULTILINE)

Index = dict[str, dict[str, Any]]
"""`task`, `group` and `tag` -> name -> the YAML file that has it, below lm_eval/tasks; `tagged` ->
name of a tag -> names of its tasks."""


@remembered
def folder() -> Path:
    """Where lm-eval keeps its tasks."""
    return compat_lm_eval.tasks_folder()


def find(name: str) -> str | None:
    """The YAML file of the task of that name, below lm_eval/tasks; None where there is none."""
    return index()["task"].get(name)


def find_group(name: str) -> str | None:
    """The YAML file of the group of that name, below lm_eval/tasks; None where there is none."""
    return index()["group"].get(name)


def problem(name: str, ours: list[str]) -> str:
    """Why a name is no benchmark, and what may be meant; `ours` are names beside lm-eval's."""
    known = index()
    if name in known["tag"]:
        place = known["tag"][name].rpartition("/")[0]
        members = known["tagged"].get(name, [])
        more = ", ..." if len(members) > 4 else ""
        return (
            f"{name!r} is a tag of lm-eval tasks (lm_eval/tasks/{place}), which has no score of "
            f"its own; name tasks of it: {', '.join(members[:4])}{more}"
        )
    names = list(dict.fromkeys([*ours, *known["task"], *known["group"]]))
    alike = [other for other in names if other.lower() == name.lower()]
    near = alike or difflib.get_close_matches(name, names, n=3, cutoff=0.75)
    if near:
        return f"{name!r} is not a benchmark; did you mean {' or '.join(near)}?"
    return (
        f"{name!r} is not a benchmark; use one of {', '.join(ours)}, the name of a task or group "
        "of lm-eval, or a task's YAML file"
    )


@remembered
def index() -> Index:
    """From the cache, or by a search of half a second."""
    file = files.cache_folder("tasks") / f"lm_eval-{metadata.version('lm_eval')}-{FORMAT}.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or damaged
        searched = _search(folder())
    files.write_json(file, searched)
    return searched


def _search(root: Path) -> Index:
    """Read every YAML file in lm-eval's own order: where two have one name the first counts."""
    index: Index = {"task": {}, "group": {}, "tag": {}, "tagged": {}}
    files = (Path(at, name) for at, _, names in os.walk(root) for name in names)
    for path in sorted((path for path in files if path.suffix == ".yaml"), key=Path.as_posix):
        text = path.read_text(encoding="utf-8", errors="replace")
        named = {key: _names(value) for key, value in NAMING.findall(text)}
        place = path.relative_to(root).as_posix()
        # `task` is a list in a group, and `group` a leftover in a task that is a Python class
        named.pop("group" if CLASS.search(text) else "task" if "group" in named else "", None)
        if "task" in named and "tag" not in named:
            named["tag"] = _included_tags(path, text)
        for task in named.get("task", []):
            for tag in named["tag"] if task not in index["task"] else []:
                index["tagged"].setdefault(tag, []).append(task)
        for key, names in named.items():
            for name in names:
                index[key].setdefault(name, place)
    for tasks in index["tagged"].values():
        tasks.sort()
    return index


def _included_tags(path: Path, text: str) -> list[str]:
    """Tags of what a task file includes."""
    include = INCLUDE.search(text)
    return [] if include is None else list(_tags(path.parent / include[1]))


@remembered
def _tags(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    named = {key: _names(value) for key, value in NAMING.findall(text)}
    return tuple(named["tag"] if "tag" in named else _included_tags(path, text))


def _names(value: str) -> list[str]:
    lines = [line.partition(" #")[0].strip().removeprefix("- ") for line in value.splitlines()]
    return [line.strip().strip("'\"") for line in lines if line]
