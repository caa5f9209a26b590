"""Task files of lm-eval and of users, read before a run, and the files that they need.

Imports neither lm-eval nor torch. Relative names in a task file are relative to that file.
"""

import difflib
import glob
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from trainers.tasks import compat_lm_eval

NAMED_FILE = re.compile(r"[^\s'\",\[\]{}]+\.(?:jsonl?|parquet|csv)\b")
"""A data file that a task file names, as `dataset_kwargs: {data_files: ...}` does."""

FILE_READERS = ("json", "csv", "parquet", "arrow", "text")
"""Values of `dataset_path` that read files in place of a data set's name."""

SUFFIXES = (".yaml", ".yml")


class EvaluationUnavailable(Exception):
    """A benchmark cannot be run here and now: its items or a resource are missing."""


class TaskFileError(EvaluationUnavailable):
    """A task file is wrong; the message names the file, the key and what to do."""


def is_path(name: str) -> bool:
    """Whether a benchmark is named by its file."""
    return name.endswith(SUFFIXES)


def config(path: Path) -> dict[str, Any]:
    """The keys of a task or group file with all that it includes, its own keys first; functions are
    texts. Not to be changed.

    Raises:
        TaskFileError: it, or what it includes, is not there or is no task file.
    """
    stamps = []
    for file in with_included(path):
        status = file.stat()
        stamps.append((status.st_mtime_ns, status.st_size))
    return _config(path, tuple(stamps))


@lru_cache(maxsize=4096)
def _config(path: Path, stamps: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    try:
        keys = compat_lm_eval.load_yaml(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TaskFileError(f"task file {_where(path, error)}: {_reason(error)}") from error
    if "task" not in keys and "group" not in keys:
        raise TaskFileError(
            f"task file {str(path)!r}: has no `task:` with a name, so lm-eval knows no task of it"
        )
    return keys


def with_included(path: Path) -> list[Path]:
    """A task file and those that it includes, one after another.

    Raises:
        TaskFileError: one of them is not there or no YAML, or they include each other.
    """
    return _with_included(path, ())


def _with_included(path: Path, via: tuple[Path, ...]) -> list[Path]:
    if path in via:
        raise TaskFileError(f"task file {str(via[0])!r}: includes itself by way of {path.name}")
    if not path.is_file():
        by = f"task file {str(via[-1])!r} includes" if via else "no task file"
        raise TaskFileError(f"{by} {str(path)!r}{', which is not there' if via else ''}")
    files = [path]
    for name in _included(path, path.stat().st_mtime_ns):
        files += _with_included(path.parent / name, (*via, path))
    return files


@lru_cache(maxsize=4096)
def _included(path: Path, stamp: int) -> tuple[str, ...]:
    try:
        keys = compat_lm_eval.load_yaml(path, includes=False)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TaskFileError(f"task file {_where(path, error)}: {_reason(error)}") from error
    includes = keys.get("include") or []
    return tuple(map(str, includes if isinstance(includes, list) else [includes]))


def text(path: Path) -> str:
    """A task file with all that it includes, its own keys first."""
    return "\n".join(file.read_text(encoding="utf-8") for file in with_included(path))


def data_files(path: Path) -> list[Path]:
    """The local files that a task file names as its data, in its order; names with `://` are left
    out, and a pattern that no file matches stays as it is.

    Raises:
        TaskFileError: the file is wrong.
    """
    return [file for keys in parts(config(path)) for file in local_data(keys, path.parent)]


def parts(keys: dict[str, Any]) -> list[dict[str, Any]]:
    """The configuration itself and those that a group has inside it."""
    members = keys.get("task")
    inside = [m for m in members if isinstance(m, dict)] if isinstance(members, list) else []
    return [keys, *(part for member in inside for part in parts(member))]


def local_data(keys: dict[str, Any], folder: Path) -> list[Path]:
    """The local files that a task with these keys reads: those that it names, or all of a folder.
    Relative names are relative to `folder`."""
    source, options = keys.get("dataset_path"), keys.get("dataset_kwargs") or {}
    if source not in FILE_READERS:
        data_set = folder / Path(str(source)).expanduser()
        return _inside(data_set) if source and data_set.is_dir() else []
    named, data_dir = options.get("data_files"), options.get("data_dir")
    folder = folder / Path(data_dir or "").expanduser()
    if named is None:
        return _inside(folder) if data_dir else []
    lists = named.values() if isinstance(named, dict) else [named]
    names = [name for entry in lists for name in (entry if isinstance(entry, list) else [entry])]
    local = [name for name in names if isinstance(name, str) and "://" not in name]
    return [file for name in local for file in _matching(folder / Path(name).expanduser())]


def _matching(path: Path) -> list[Path]:
    """The files that a name with `*` stands for; a name that matches none as it is."""
    names = glob.glob(str(path), recursive=True) if glob.has_magic(str(path)) else []
    return [Path(name) for name in sorted(names)] or [path]


def _inside(folder: Path) -> list[Path]:
    """All files of a folder but hidden ones; a folder that is not there as it is."""
    if not folder.is_dir():
        return [folder]
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(
        file
        for file in files
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def problem(path: Path) -> str | None:
    """What can be known to be wrong with a task file before lm-eval reads it; None for nothing."""
    try:
        keys = config(path)
        for part in parts(keys):
            if (wrong := _wrong(part, path)) is not None:
                return f"task file {str(path)!r}: {wrong}"
        for file in data_files(path):
            if not file.is_file():
                return f"task file {str(path)!r}: {_no_data(file)}"
    except TaskFileError as error:
        return str(error)
    return None


def _wrong(keys: dict[str, Any], path: Path) -> str | None:
    reader = keys.get("dataset_path")
    options = keys.get("dataset_kwargs") or {}
    if reader in FILE_READERS and not {"data_files", "data_dir"} & options.keys():
        # datasets would search the whole working folder for files, for minutes
        return (
            f"has dataset_path: {reader} and names no file; add "
            "dataset_kwargs: {data_files: {test: PATH}}"
        )
    kind, kinds = keys.get("output_type"), compat_lm_eval.DEFAULT_METRICS
    if kind is not None and kind not in kinds:
        return f"output_type: {kind!r}: use one of {', '.join(kinds)}{meant(str(kind), kinds)}"
    if keys.get("unsafe_code"):
        return (
            "runs code that the model writes (unsafe_code), which is not done here: there is no "
            "sandbox; leave it out"
        )
    files = options.get("data_files")
    if reader in FILE_READERS and isinstance(files, str | list | dict):
        splits = list(files) if isinstance(files, dict) else ["train"]
        for key in ("test_split", "validation_split", "training_split", "fewshot_split"):
            split = keys.get(key)
            if isinstance(split, str) and split.partition("[")[0] not in splits:
                return (
                    f"{key}: {split!r}: the data files have {' and '.join(splits)} alone; "
                    f"use that, or name the file: data_files: {{{split}: PATH}}"
                )
    return None


def _no_data(file: Path) -> str:
    message = f"no data file {str(file)!r}"
    if Path(file.name).is_file() and not file.is_absolute():
        return message
    here = Path.cwd() / file.name
    if here.is_file() and here != file:
        return f"{message}; names are relative to the task file, and {str(here)!r} is elsewhere"
    near = difflib.get_close_matches(file.name, _names(file.parent), n=1)
    return f"{message}; did you mean {near[0]!r}?" if near else message


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


def meant(value: str, allowed) -> str:
    near = difflib.get_close_matches(value, list(allowed), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _where(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{str(path)!r}" + (f", line {mark.line + 1}" if mark is not None else "")


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.YAMLError):
        return f"is not YAML ({getattr(error, 'problem', None) or error})"
    return str(error).splitlines()[0]


def local_file(data_dir: Path, pattern: str) -> Path:
    """The one file in `data_dir` that matches.

    Raises:
        EvaluationUnavailable: none does, or several.
    """
    matches = sorted(data_dir.glob(pattern))
    if len(matches) != 1:
        what = "no file" if not matches else f"{len(matches)} files"
        raise EvaluationUnavailable(f"evaluate.data_dir: {what} {pattern} in {data_dir}")
    return matches[0].resolve()
