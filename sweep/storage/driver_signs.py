"""Whether a driver is at work on a run, as its record says: `driver.json` of one that works in this
folder, or, in a mirror that was brought from an object store, what the store had of one then."""

import math
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sweep.storage.driver_lock import HOLDER, STALE_SECONDS, FolderRecord, lives
from trainers import files

SEEN = "store_driver.json"
"""In a mirror that was brought here: `url`, `time` of the look, the store's record of the `driver`,
and its `age` in seconds then."""

CLOCKS_APART = 60.0
"""Seconds by which a node's clock may be behind the driver's."""


class Driver(NamedTuple):
    at_work: bool
    since: float
    """When it began by the clock furthest behind, in seconds since the epoch: what was begun
    before, it has not begun again. 0 where its record does not say."""
    now: float
    """When the records of the run are from, in seconds since the epoch."""
    told: str
    """What there is to say of it; empty where all is well."""


def of(folder: Path) -> Driver:
    """Of the run in a folder. A driver at work is of this host one that lives, of another one that
    was renewed lately."""
    record = FolderRecord(folder).read()
    if record is None:
        seen = files.read_json(folder / SEEN)
        return _none() if seen is None else _seen(folder, seen)
    age = _age(folder)
    at_work = lives(record) if record.get("host") == socket.gethostname() else _is_young(age)
    told = "" if at_work else f"{_left_behind(record, age)}; the same command goes on"
    return Driver(at_work, _since(record), time.time(), told)


def note_seen(folder: Path, url: str, driver: dict[str, Any], age: float) -> None:
    """Of a mirror: what its store has of a driver, which was renewed so many seconds ago."""
    record = {"url": url, "time": files.now(), "driver": driver, "age": age}
    files.write_json(folder / SEEN, record)


def _none() -> Driver:
    return Driver(False, math.inf, time.time(), "")


def _seen(folder: Path, seen: dict[str, Any]) -> Driver:
    with files.shaped(folder / SEEN):
        record, age, when = seen["driver"], float(seen["age"]), seen["time"]
        told = (
            f"as it stood in {seen['url']} at {when}; to see how it stands now, first: python -m "
            f"sweep.execution.remote_run {seen['url']} {folder}"
        )
        if not _is_young(age):
            told = f"{_left_behind(record, age)} then; {told}"
        return Driver(
            _is_young(age), _since(record), datetime.fromisoformat(when).timestamp(), told
        )


def _is_young(age: float) -> bool:
    return age < 2 * STALE_SECONDS


def _age(folder: Path) -> float:
    """Seconds since the driver last renewed its record."""
    try:
        return time.time() - (folder / HOLDER).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _since(record: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(record["since"]).timestamp() - CLOCKS_APART
    except (KeyError, TypeError, ValueError):
        return 0.0


def _left_behind(record: dict[str, Any], age: float) -> str:
    return (
        f"its driver (process {record.get('pid', '?')} on {record.get('host', '?')}) has given no "
        f"sign for {age / 60:.0f} minutes"
    )
