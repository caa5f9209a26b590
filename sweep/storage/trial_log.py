"""log.txt of a trial: what its processes say while it runs, attempt after attempt."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

LOG = logging.getLogger("sweep.execution.worker.trial")
LOG.setLevel(logging.INFO)


@contextlib.contextmanager
def records(path: Path) -> Iterator[None]:
    """Have `path` hold what we and the libraries log from here on, and all warnings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def output(path: Path) -> Iterator[None]:
    """Have `path` hold all that this process and its children print too, compiled code included.

    For a worker; where the driver runs the trials, what they print belongs on its terminal.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    before = [os.dup(number) for number in (1, 2)]
    with open(path, "ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for stream, number, saved in zip(streams, (1, 2), before, strict=True):
            stream.flush()
            os.dup2(saved, number)
            os.close(saved)
