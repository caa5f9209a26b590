"""Files that are replaced whole."""

import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, save: Callable[[Path], object]) -> None:
    """Write aside, flush and rename: a reader finds the old file or the whole new one, also after a
    power cut."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save(aside)
        _flush(aside)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
