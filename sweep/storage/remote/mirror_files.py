"""The files of a run as a mirror sees them: which go up, in which order, and what changed."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sweep.storage import driver_lock, driver_signs
from sweep.storage.run_folder import CALIBRATION, MARK
from trainers import files
from trainers.processes import attempt

NOTE = "IN_THE_STORE.txt"
"""Lies in model/ of a light mirror, in the place of weights."""

OWN = {
    MARK, CALIBRATION, driver_lock.HOLDER, driver_signs.SEEN, "driver.log", "worker.json",
    attempt.HOLDER, attempt.STOP,
    "tracking.json", "tracking.log", "wandb", "tensorboard",
}  # fmt: skip
"""Files and folders of one machine, and who is at work: neither brought up nor down."""

OF_TRIALS = ("trials", "choices", "search", "decide")
NOT_IN_LIGHT = ("checkpoints", "inputs")
WEIGHTS, DATA = "model", "data"


class Stat(NamedTuple):
    """Tells a file from what it was."""

    size: int
    changed: int
    inode: int


NEVER = Stat(-1, -1, -1)


def content(root: Path, paths: Iterable[Path]) -> str:
    """Hash of files and of their names below `root`."""
    ordered = sorted(paths)
    names = [file.relative_to(root).as_posix() for file in ordered]
    return files.short_hash(names, files.content_hash(*ordered))


HAPPENED = 4


def promise(name: str) -> int:
    """The place of a file in the order of uploads: nothing is promised that is not there."""
    folder, _, file = name.rpartition("/")
    if file == "attempts.jsonl":
        return HAPPENED
    if file == "train.json":
        return 3
    if file in ("checksums.json", "counts.json") or (folder.endswith("scores") and "json" in file):
        return 2
    return int(not is_large(name))


def is_large(name: str) -> bool:
    """Written aside and renamed, never changed, and perhaps large."""
    parts = name.split("/")
    return parts[-1].endswith((".arrow", ".parquet", ".npz")) or bool(
        {WEIGHTS, "checkpoints"} & set(parts[:-1])
    )


def is_longer(record: Path, other: Path) -> bool:
    """Whether a record here is `other`, from the store, with lines that did not go up any more."""
    return (
        record.name.endswith(".jsonl")
        and record.exists()
        and record.read_bytes().startswith(other.read_bytes())
    )


def is_own(name: str) -> bool:
    """Whether it stays on its machine: no record, or one that is still being written."""
    return any(
        part in OWN or part.startswith(".") or part.endswith((".part", ".part.npz", ".lock"))
        for part in name.split("/")
    )


def below(folders: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name lies in one of the folders; "" is all of it."""
    starts = tuple(folder and f"{folder}/" for folder in folders)
    return lambda name: name.startswith(starts)


def of_checkpoints_cut_off(names: Iterable[str], objects: dict[str, Any]) -> set[str]:
    """Files of checkpoints that never went up whole: nobody goes on from these."""
    return {
        name
        for name in names
        if "checkpoints" in (parts := name.split("/"))[:-1]
        and "/".join([*parts[:-1], "checksums.json"]) not in objects
    }


def of_ended_trainings(objects: dict[str, Any]) -> set[str]:
    """Files of checkpoints that nobody goes on from: a worker died as it removed them."""
    return {
        name
        for name in objects
        if (parts := name.split("/"))[0] == "trials"
        and parts[2:3] == ["checkpoints"]
        and "/".join([*parts[:2], "train.json"]) in objects
    }


def checkpoints_to_go_on_from(objects: dict[str, Any]) -> set[str]:
    """Folders of the checkpoints that went up whole, of trainings that have not ended."""
    marks = (name.rpartition("/") for name in objects.keys() - of_ended_trainings(objects))
    return {
        folder
        for folder, _, file in marks
        if file == "checksums.json" and folder.split("/")[2:3] == ["checkpoints"]
    }


def aside_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def stat_of(path: Path) -> Stat:
    stat = path.stat()
    return Stat(stat.st_size, stat.st_mtime_ns, stat.st_ino)


def version_of(info: dict[str, Any]) -> int:
    return hash(repr(sorted(info.items(), key=str)))
