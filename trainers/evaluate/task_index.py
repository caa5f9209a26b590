"""lm-eval's own tasks by name: which YAML file each is in, without the ten seconds of indexing.

lm-eval parses its 14,000 files to learn their names. Here they are only searched for the lines that
name a task, a group or a tag, and what was found is kept in the node-local cache.
"""

import difflib
import importlib.util
import json
import os
import re
from functools import cache as remembered
from importlib import metadata
from pathlib import Path

from trainers import files

NAMING = re.compile(
    r"^['\"]?(task|group|tag)['\"]?[ \t]*:[ \t]*(.*(?:\n[ \t]*- .*)*)", re.MULTILINE
)
"""The three keys that name something, with a list below them where there is one."""

FORMAT = 1
"""Raised when the same files would give another index."""

CLASS = re.compile(r"^class:", re.MULTILINE)

Index = dict[str, dict[str, str]]
"""`task`, `group` and `tag` -> name -> the YAML file that has it, below lm_eval/tasks."""


def folder() -> Path:
    """Where lm-eval keeps its tasks; found without importing it."""
    found = importlib.util.find_spec("lm_eval")
    assert found is not None and found.submodule_search_locations, "a dependency"
    return Path(found.submodule_search_locations[0]) / "tasks"


def find(name: str) -> str | None:
    """The YAML file of the task of that name, below lm_eval/tasks; None where there is none."""
    return index()["task"].get(name)


def problem(name: str, ours: list[str]) -> str:
    """Why a name is no task, and what may have been meant; `ours` are names that are there too."""
    known = index()
    for kind in ("group", "tag"):
        if name in known[kind]:
            place = known[kind][name].rpartition("/")[0]
            members = [t for t, file in known["task"].items() if file.startswith(f"{place}/")][:3]
            some = f", such as {', '.join(members)}" if members else ""
            return (
                f"{name!r} is a {kind} of lm-eval tasks (lm_eval/tasks/{place}), whose "
                f"average is not one score; name tasks of it{some}"
            )
    near = difflib.get_close_matches(name, [*ours, *known["task"]], n=3, cutoff=0.75)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return (
        f"{name!r} is not a benchmark{meant} Use one of {', '.join(ours)}, the name of a task of "
        "lm-eval, or a task's YAML file"
    ).replace("benchmark Use", "benchmark; use")


@remembered
def index() -> Index:
    """From the cache, or by a search of half a second."""
    file = files.cache_folder("tasks") / f"lm_eval-{metadata.version('lm_eval')}-{FORMAT}.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or damaged
        found = _search(folder())
    files.write_json(file, found)
    return found


def _search(root: Path) -> Index:
    """Read every YAML file in lm-eval's own order: where two have one name the first counts."""
    found: Index = {"task": {}, "group": {}, "tag": {}}
    files = (Path(at, name) for at, _, names in os.walk(root) for name in names)
    for path in sorted((path for path in files if path.suffix == ".yaml"), key=Path.as_posix):
        text = path.read_text(encoding="utf-8", errors="replace")
        named = {key: _names(value) for key, value in NAMING.findall(text)}
        place = path.relative_to(root).as_posix()
        # `task` is a list in a group, and `group` a leftover in a task that is a Python class
        named.pop("group" if CLASS.search(text) else "task" if "group" in named else "", None)
        for key, names in named.items():
            for name in names:
                found[key].setdefault(name, place)
    return found


def _names(value: str) -> list[str]:
    lines = [line.partition(" #")[0].strip().removeprefix("- ") for line in value.splitlines()]
    return [line.strip().strip("'\"") for line in lines if line]
