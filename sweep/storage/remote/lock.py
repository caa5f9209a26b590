"""The lock of a run in an object store, which has no locks: see `driver_lock`."""

import _thread
import json
import time
from collections.abc import Callable
from typing import Any

from sweep.storage.driver_lock import HOLDER, DriverLock, parsed
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.object_store import Unreachable, asking


class StoreRecord:
    """The record of the driver beside a mirror's files in the store."""

    transient = (Unreachable,)

    def __init__(self, mirror: Mirror):
        self.name = f"{mirror.url}/{HOLDER}"
        self._system, self._path = mirror.system, f"{mirror.path}/{HOLDER}"

    def read(self) -> dict[str, Any] | None:
        with asking(self.name):
            try:
                return parsed(self._system.cat_file(self._path))
            except FileNotFoundError:
                return None

    def age(self) -> float:
        """Seconds since it was last written by the store's clock; 0 where its client tells none."""
        with asking(self.name):
            try:
                return time.time() - self._system.modified(self._path).timestamp()
            except (FileNotFoundError, NotImplementedError):
                return 0.0

    def write(self, facts: dict[str, Any]) -> None:
        with asking(self.name):
            self._system.pipe_file(self._path, json.dumps(facts).encode())

    def remove(self) -> None:
        with asking(self.name):
            self._system.rm(self._path)


def store_lock(
    mirror: Mirror,
    say: Callable[[str], None],
    lost: Callable[[], None] = _thread.interrupt_main,
) -> DriverLock:
    """The lock of the run that `mirror` is of.

    Raises, on entering:
        RunHeld: another driver is at work.
        Unreachable: the store cannot be read or written.
    """
    return DriverLock(StoreRecord(mirror), say, lost, settles=True, may_vanish=True)
