"""Every local file that decides a score: what a task's file includes, calls and reads.

Task files in lm-eval's own folder are left out: its version stands for them. So are modules that a
task imports by an installed name, and what its functions open.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from trainers.tasks import task_files, task_groups, task_index

FUNCTION = re.compile(r"!function\s+['\"]?([\w.]+)\.\w+")
"""A module as a task file names it, relative to the file's folder."""


def of_task(path: Path) -> list[Path]:
    """The file of a task or group with its includes and members, the Python files beside each of
    these and beside the modules that they call, and the data.

    The order is part of recorded fingerprints.

    Raises:
        TaskFileError: one of the task files is wrong.
    """
    named = [path.parent / name for name in task_files.NAMED_FILE.findall(task_files.text(path))]
    files = [*task_files.with_included(path), *sorted(path.parent.glob("*.py")), *named]
    files += [file for file in task_files.data_files(path) if file not in files]
    members = task_groups.member_files(path)
    for member in members:
        files += [*task_files.with_included(member), *task_files.data_files(member)]
    files = [file for file in files if file.is_file()]
    known = {file.resolve() for file in files}
    beside = _python_files([path, *members])
    more = (file for file in (*beside, *_data(path)) if file.is_file())
    return files + [file for file in dict.fromkeys(more) if file.resolve() not in known]


def _python_files(tasks: Iterable[Path]) -> Iterator[Path]:
    for task in tasks:
        for file in task_files.with_included(task):
            if file.is_relative_to(task_index.folder()):
                continue
            modules = FUNCTION.findall(file.read_text(encoding="utf-8"))
            called = [file.parent.joinpath(*module.split(".")) for module in modules]
            for folder in dict.fromkeys((file.parent, *(module.parent for module in called))):
                yield from sorted(folder.glob("*.py"))


def _data(path: Path) -> Iterator[Path]:
    """Data of a task, or of every task of a group with what the group sets for it; a group's are
    read from the group's folder."""
    group = task_groups.is_group(path)
    for keys in task_groups.leaves(path) if group else [task_files.config(path)]:
        yield from task_files.local_data(keys, path.parent)


def content(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; read once while it stays the same."""
    status = path.stat()
    return _content(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _content(path: Path, _changed: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
