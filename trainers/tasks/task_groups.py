"""Groups of lm-eval tasks: one score over several tasks, weighted as the group says.

A group is one of lm-eval's, by its name, or a user's file, whose members are defined inside it, in
task files beside it, or in lm-eval.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from trainers.tasks import task_files, task_index
from trainers.tasks.task_files import TaskFileError


class Aggregate(NamedTuple):
    """One entry of a group's `aggregate_metric_list`."""

    metric: str
    filters: tuple[str, ...] | None
    """None: every filter that a task has."""
    by_size: bool
    """Whether a task weighs as its number of items; else all tasks weigh the same."""


def aggregates(path: Path) -> list[Aggregate]:
    """What the group in a file reports of its tasks, the primary metric first.

    Raises:
        TaskFileError: it reports nothing, or another mean than lm-eval knows.
    """
    keys = task_files.config(path)
    listed = keys.get("aggregate_metric_list") or []
    entries = listed if isinstance(listed, list) else [listed]
    if not entries:
        raise TaskFileError(
            f"group {keys['group']!r} ({path}) has no aggregate_metric_list, so it has no score "
            "of its own; name tasks of it, or add for instance "
            "aggregate_metric_list: [{metric: acc, weight_by_size: true}]"
        )
    for entry in entries:
        if not isinstance(entry, dict) or "metric" not in entry:
            raise TaskFileError(f"group file {str(path)!r}: {entry!r} names no metric")
    return [
        Aggregate(entry["metric"], _filters(entry), bool(entry.get("weight_by_size", True)))
        for entry in entries
    ]


def _filters(entry: dict[str, Any]) -> tuple[str, ...] | None:
    listed = entry.get("filter_list")
    return None if listed is None else (listed,) if isinstance(listed, str) else tuple(listed)


def leaves(path: Path) -> Iterator[dict[str, Any]]:
    """The configuration of every task of the group in a file, with what the group sets for it.

    Raises:
        TaskFileError: a member is neither beside the file nor one of lm-eval's.
    """
    yield from _leaves(task_files.config(path), path, {}, ())


def _leaves(
    group: dict[str, Any], path: Path, overrides: dict[str, Any], via: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    if group["group"] in via:
        raise TaskFileError(f"group file {str(path)!r}: the group is a member of itself")
    via = (*via, group["group"])
    members = group.get("task") or []
    for member in members if isinstance(members, list) else [members]:
        own = dict(member) if isinstance(member, dict) else {}
        name = own.get("group") or own.get("task") if own else member
        if not isinstance(name, str):
            raise TaskFileError(f"group file {str(path)!r}: {member!r} names no task")
        files = _files(name, path)
        if "group" in own and not files:
            yield from _leaves(own, path, overrides, via)
        elif "task" in own and not files:
            yield {**overrides, **own}
        elif not files:
            raise TaskFileError(
                f"group file {str(path)!r}: member {name!r} is neither a task file beside it nor a "
                f"task of lm-eval{task_files.meant(name, task_index.index()['task'])}"
            )
        for file in files:
            keys = task_files.config(file)
            if "group" in keys:
                yield from _leaves(keys, file, {**overrides, **own}, via)
            else:
                yield {**keys, **overrides, **own}


def _files(name: str, path: Path) -> list[Path]:
    """The task files of a member by name: beside the group's file, else lm-eval's."""
    beside = _beside(path).get(name)
    if beside is not None:
        return [beside]
    index, root = task_index.index(), task_index.folder()
    for kind in ("task", "group"):
        if name in index[kind]:
            return [root / index[kind][name]]
    return [root / index["task"][task] for task in index["tagged"].get(name, [])]


def _beside(path: Path) -> dict[str, Path]:
    """Name -> task or group file in the same folder; of lm-eval's own the index knows."""
    if path.is_relative_to(task_index.folder()):
        return {}
    files = [file for suffix in task_files.SUFFIXES for file in path.parent.glob(f"*{suffix}")]
    stamp = tuple((file, file.stat().st_mtime_ns) for file in sorted(files) if file != path)
    return dict(_names(stamp))


@lru_cache(maxsize=64)
def _names(files: tuple[tuple[Path, int], ...]) -> tuple[tuple[str, Path], ...]:
    names = []
    for file, _ in files:
        try:
            keys = task_files.config(file)
        except TaskFileError:  # a grid, or a file of something else
            continue
        name = keys.get("group") or keys.get("task")
        if isinstance(name, str):
            names.append((name, file))
    return tuple(names)


def is_group(path: Path) -> bool:
    """Whether a file is a group's, not a task's."""
    keys = task_files.config(path)
    return "group" in keys and "class" not in keys


def member_files(path: Path) -> list[Path]:
    """The user's own files of a group's members, directly or by way of other groups; none for a
    task."""
    reached = _reached(path)[1:] if is_group(path) else []
    return [file for file in reached if not file.is_relative_to(task_index.folder())]


def _members(keys: dict[str, Any]) -> list[str]:
    members = keys.get("task") or []
    listed = members if isinstance(members, list) else [members]
    named = [m.get("group") or m.get("task") if isinstance(m, dict) else m for m in listed]
    return [name for name in named if isinstance(name, str)]


@contextmanager
def manager(path: Path) -> Iterator[Any]:
    """lm-eval's task manager that knows the group in a file with all its members.

    To index every stock task takes ten seconds, so that it is given links to the files it needs.
    """
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(_reached(path)):
            Path(folder, f"{number:04}.yaml").symlink_to(file)
        yield TaskManager(include_defaults=False, include_path=folder)


def _reached(path: Path) -> list[Path]:
    """A group's file and those of all its members, directly or by way of other groups."""
    reached = [path]
    for file in reached:  # grows while it is read
        for part in task_files.parts(task_files.config(file)):
            if "group" in part:
                reached += [
                    other
                    for name in _members(part)
                    for other in _files(name, file)
                    if other not in reached
                ]
    return reached
