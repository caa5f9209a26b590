"""Task files of lm-eval and of users, read as text, and the files of items beside them.

lm-eval's own reader takes seconds and imports; what is asked before a run needs neither.
"""

import re
from pathlib import Path

INCLUDE = re.compile(r"^include: *['\"]?([^\s'\"]+)", re.MULTILINE)

NAMED_FILE = re.compile(r"[^\s'\",\[\]{}]+\.(?:jsonl?|parquet|csv)\b")
"""A data file that a task file names, as `dataset_kwargs: {data_files: ...}` does."""

FILE_READER = re.compile(r"^dataset_path: *['\"]?(json|csv|parquet|arrow|text)\b", re.MULTILINE)
"""A reader of files in place of a data set's name."""


class EvaluationUnavailable(Exception):
    """A benchmark cannot be run here and now: its items or a resource are missing."""


def text(path: Path) -> str:
    """A task file with all that it includes, its own keys first."""
    return "\n".join(file.read_text(encoding="utf-8") for file in with_included(path))


def with_included(path: Path) -> list[Path]:
    """A task file and those that it includes, one after another."""
    included = INCLUDE.search(path.read_text(encoding="utf-8"))
    return [path, *(with_included(path.parent / included[1]) if included else [])]


def reads_no_file(path: Path) -> str | None:
    """What is wrong with a task file that reads files and names none: datasets would then search
    the whole working folder for some, for minutes."""
    keys = text(path)
    reader = FILE_READER.search(keys)
    if reader is None or "data_files" in keys or "data_dir" in keys:
        return None
    return (
        f"task file {str(path)!r} has dataset_path: {reader[1]} and names no file; add "
        "dataset_kwargs: {data_files: {test: PATH}}"
    )


def local_file(data_dir: Path, pattern: str) -> Path:
    """The one file in `data_dir` that matches.

    Raises:
        EvaluationUnavailable: none does, or several.
    """
    found = sorted(data_dir.glob(pattern))
    if len(found) != 1:
        what = "no file" if not found else f"{len(found)} files"
        raise EvaluationUnavailable(f"evaluate.data_dir: {what} {pattern} in {data_dir}")
    return found[0].resolve()
