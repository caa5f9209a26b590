"""What trials read of the hub, fetched once for each node: before the first trials for the nodes
that are there by then, and by its own first trial for a node that joins later."""

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from filelock import FileLock

from trainers import files, hub
from trainers.hub import Needs
from trainers.processes import attempt

SIGNS_EVERY = 5.0
"""Seconds from one sign of the attempt that waits for it to the next: the hub's client itself gives
up where no data comes."""


def fetch(needed: Needs, node: str) -> None:
    """Fetch it for the node that this process is on, whatever was fetched there before.

    Raises:
        FetchFailed: something is not to be had.
    """
    hub.fetch(needed)
    note(needed, node)


def note(needed: Needs, node: str) -> None:
    """This node has it."""
    _mark(needed, node).touch()


def ensure(needed: Needs | None, node: str) -> None:
    """Fetch it if this node does not have it yet; of several trials one does, and the others wait.

    Raises:
        FetchFailed: something is not to be had.
    """
    if needed is None or _mark(needed, node).exists():
        return
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(_once, needed, node)
        while not fetching.done():
            attempt.sign("fetching from the hub")
            wait([fetching], SIGNS_EVERY)
        fetching.result()


def _once(needed: Needs, node: str) -> None:
    mark = _mark(needed, node)
    with FileLock(f"{mark}.lock"):
        if not mark.exists():
            fetch(needed, node)


def _mark(needed: Needs, node: str) -> Path:
    """A file that is there once the node has it; nodes may share the cache, and its files."""
    wanted = files.short_hash(needed.model_dump(mode="json"))
    return files.cache_folder("hub") / f"{node}-{wanted}"
