"""Files that a reader finds whole or not at all, hashes of content, and the node-local cache.

The cache is `$SWEEP_CACHE`, or `~/.cache/lr-bs-sweep`. All of it can be deleted.
"""

import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Damaged(ValueError):
    """A record cannot be read as JSON."""


def fsync(path: Path) -> None:
    """Flush a file to the disk; of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, flushed and renamed to it when the block ends well: a reader
    sees the old file or the whole new one, after a power cut too. It keeps the suffix of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.part{path.suffix}")
    try:
        yield part
        fsync(part)
        part.replace(path)
        fsync(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def is_part(name: str) -> bool:
    """Whether a file or folder of this name was written aside, as `replacing` does."""
    return name.startswith(".") and ".part" in name


def take_place(aside: Path, folder: Path) -> None:
    """Give a folder that was written aside its name, in place of what has it, when every file in it
    is flushed: a reader finds it whole, after a power cut too."""
    for path in (*aside.rglob("*"), aside):
        if not path.is_symlink():
            fsync(path)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    fsync(folder.parent)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, record: Any) -> None:
    write_text(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The record, or None where there is none.

    Raises:
        Damaged: the file is not whole.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise Damaged(f"{path}: damaged (it holds no object); delete it to make it anew")
        return record
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{path}: damaged ({error}); delete it to make it anew") from error


@contextmanager
def shaped(path: Path) -> Iterator[None]:
    """What the block reads of the records at `path` has the shape in which it was written.

    Raises:
        Damaged: it has not; somebody has edited it.
    """
    try:
        yield
    except Damaged:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Damaged(
            f"{path}: holds what was never written there ({type(error).__name__}: {error}); put it "
            "back, or delete it to make it anew"
        ) from error


def append_events(path: Path, events: list[dict[str, Any]]) -> None:
    """Add a line per event, with the time, host and process. After a line that a crash cut off they
    begin on a new one."""
    about = {"time": now(), "host": socket.gethostname(), "pid": os.getpid()}
    lines = b"".join(json.dumps(event | about).encode() + b"\n" for event in events)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                lines = b"\n" + lines
        file.write(lines)


def read_events(path: Path) -> list[dict[str, Any]]:
    """What `append_events` has written, without lines that a crash cut off."""
    if not path.exists():
        return []
    events = []
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def short_hash(*parts: Any) -> str:
    """Of JSON values, 16 hexadecimal digits; the order of keys does not count."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def content_hash(*files: Path) -> str:
    """Of the files' content, in the order given, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def cache_folder(part: str) -> Path:
    """The cache's folder for one kind of thing, made where it is missing."""
    root = os.environ.get("SWEEP_CACHE") or Path.home() / ".cache" / "lr-bs-sweep"
    path = Path(root).absolute() / part
    path.mkdir(parents=True, exist_ok=True)
    return path
