"""What a name stands for is on the disk before the name is: a machine may stop at any moment."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """To the disk itself; of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
