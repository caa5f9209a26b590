"""What a killed process has left in a run folder and nobody needs.

Part files: what is written aside and renamed (records, weights, checkpoints) begins with a dot and
ends in `.part`, or in that and a suffix. A part to which nobody has written for `STALE_SECONDS` is
nobody's. And the checkpoints of trainings that have ended.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

STALE_SECONDS = 600.0

OF_A_TRIAL = ("", "/scores", "/checkpoints", "/model")
PLACES = (".", "report", "choices", *(f"trials/*{folder}" for folder in OF_A_TRIAL))


BEFORE_THE_PLAN = ("report", "driver.log", "driver.lock", "driver.json", "mirror.json")
"""What a start writes before there is a plan."""


@contextlib.contextmanager
def gone_after(refusal: type[Exception], run: Path) -> Iterator[None]:
    """A start that is refused before there is a plan leaves nothing that was not there before."""
    missing = [place for place in (run, *run.parents) if not place.exists()]
    new = [run / name for name in BEFORE_THE_PLAN if not (run / name).exists()]
    try:
        yield
    except refusal:
        if not (run / "plan.csv").exists():
            for path in new:
                _remove(path)
            for folder in missing:
                with contextlib.suppress(OSError):  # something else lies there
                    folder.rmdir()
        raise


def remove(run: Path) -> int:
    """Remove it; returns how many files and folders there were."""
    left = [*_stale(run), *_of_ended_trainings(run)]
    for path in left:
        _remove(path)
    return len(left)


def remove_parts(store: Path) -> None:
    """Remove stale parts wherever they lie below a folder in the place of a store."""
    for path in store.rglob(".*.part*"):
        if _is_stale(path):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _stale(run: Path) -> Iterator[Path]:
    for place in PLACES:
        for path in run.glob(f"{place}/.*.part*"):
            if _is_stale(path):
                yield path


def _is_stale(path: Path) -> bool:
    return time.time() - _last_written(path) > STALE_SECONDS


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
