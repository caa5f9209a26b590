"""A folder of data files -> those that are read. Loads no torch."""

import re
from pathlib import Path

from trainers.data.rows import stored_rows
from trainers.data.rows.stored_rows import DataUnavailable
from trainers.specs.data import DataSpec

LOCAL_SUFFIXES = (*stored_rows.JSON, *stored_rows.TABLES)

DICTIONARY = "dataset_dict.json"
"""Marks a folder of several splits that `save_to_disk` has written."""

ABOUT = ("dataset_info.json", "dataset_infos.json")
"""Files about the data, as `datasets` writes them."""

SPLIT_NAMES = re.compile(
    r"(^|[^a-z])(train|training|test|testing|eval|evaluation|valid|validation|val|dev)([^a-z]|$)"
)
"""File and folder names by which `datasets` tells splits apart."""


def data_files(data: DataSpec) -> list[Path]:
    """The files of local data, ordered by name; of a folder whose files or README name splits,
    those of the split alone, as `datasets` tells them apart.

    Raises:
        DataUnavailable: the folder has no such split or configuration.
    """
    folder = Path(data.name)
    if not folder.is_dir():
        return [folder]
    paths = folder_files(folder)
    if saved_to_disk(data.name):
        return paths
    named = any(SPLIT_NAMES.search(str(path.relative_to(folder)).lower()) for path in paths)
    if not named and data.config is None:
        return paths
    import datasets

    try:
        builder = datasets.load_dataset_builder(str(folder), name=data.config)
    except Exception as error:  # datasets raises a dozen unrelated types
        raise DataUnavailable(f"{folder}: {reason(error)}") from error
    splits = {str(name): paths for name, paths in (builder.config.data_files or {}).items()}
    if data.split not in splits:
        raise DataUnavailable(
            f"{folder}: no split {data.split!r}; `split` is one of {', '.join(splits)}"
        )
    return sorted(Path(path) for path in splits[data.split])


def folder_files(folder: Path) -> list[Path]:
    """JSON lines and parquet; files of the other kinds only where there are none of these."""
    for suffixes in ((".jsonl", ".parquet"), LOCAL_SUFFIXES):
        if paths := _of_kinds(folder, suffixes):
            return paths
    return []


def left_aside(data: DataSpec) -> list[str]:
    """Names of data files in a folder that are not read, as they are of another kind."""
    folder = Path(data.name)
    if not folder.is_dir() or saved_to_disk(data.name):
        return []
    aside = {*_of_kinds(folder, LOCAL_SUFFIXES)} - {*folder_files(folder)}
    return sorted(str(path.relative_to(folder)) for path in aside if path.name not in ABOUT)


def _of_kinds(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if stored_rows.suffix(path) in suffixes and path.name not in ("state.json", DICTIONARY)
    )


def saved_to_disk(name: str) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return any((Path(name) / file).is_file() for file in ("state.json", DICTIONARY))


def reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
