"""What a killed process has left in a run folder and nobody needs.

Part files: what is written aside and renamed (records, weights, checkpoints) begins with a dot and
ends in `.part`, or in that and a suffix. A part to which nobody has written for `STALE_SECONDS` is
nobody's. And the checkpoints of trainings that have ended.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

STALE_SECONDS = 600.0

PLACES = (".", "report", "choices", "trials/*", "trials/*/scores", "trials/*/checkpoints")


def remove(run: Path) -> int:
    """Remove it; returns how many files and folders there were."""
    left = [*_stale(run), *_of_ended_trainings(run)]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left)


def _stale(run: Path) -> Iterator[Path]:
    for place in PLACES:
        for path in run.glob(f"{place}/.*.part*"):
            if time.time() - _last_written(path) > STALE_SECONDS:
                yield path


def _of_ended_trainings(run: Path) -> Iterator[Path]:
    for path in run.glob("trials/*/checkpoints"):
        if (path.parent / "train.json").exists():
            yield path


def _last_written(path: Path) -> float:
    """When a file, or any in a folder, was last written to; now where it goes meanwhile."""
    try:
        return max(file.stat().st_mtime for file in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()
