"""One driver for a run: `driver.json`, in its folder or its object store, which the holder renews.

The holder writes its record anew every few seconds, and looks first whether it is still its own. A
driver that finds a record watches it, and takes its place when it has not changed for
`STALE_SECONDS` by its own clock. So a run is taken over from a driver that died on another host,
and two drivers on one run are noticed where file locks say yes to everybody (Lustre's `localflock`)
or where the run folder was moved away. A local file lock comes on top: it refuses at once.
"""

import _thread
import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import psutil
from filelock import FileLock, Timeout

from trainers import files

HOLDER = "driver.json"

RENEW_SECONDS = 5.0
STALE_SECONDS = 60.0
"""Without a change of the record after which its driver counts as dead."""

SETTLE_SECONDS = 2.0
"""After which a second driver that began in the same moment has written its record too."""


class RunHeld(Exception):
    """Another driver is at work on the run."""


class Record(Protocol):
    """Where the record lies. Each method may raise OSError or what `transient` holds."""

    @property
    def name(self) -> str: ...

    @property
    def transient(self) -> tuple[type[Exception], ...]:
        """Errors after which the record is looked at again later."""
        ...

    def read(self) -> dict[str, Any] | None: ...

    def write(self, facts: dict[str, Any]) -> None: ...

    def remove(self) -> None: ...


class DriverLock:
    """Holds the record of a run for the time of the block."""

    def __init__(
        self,
        record: Record,
        say: Callable[[str], None],
        lost: Callable[[], None] = _thread.interrupt_main,
        *,
        settles: bool,
        may_vanish: bool,
    ):
        """`lost` is called in another thread when somebody else has taken over. `settles`: wait for
        a driver that began in the same moment. `may_vanish`: a record that is gone is written
        again; otherwise it means that the folder was moved away or removed."""
        self._record = record
        self._say = say
        self._tell = lost
        self._settles = settles
        self._may_vanish = may_vanish
        self._taken = ""
        """Why the run is this driver's no more."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="driver lock", daemon=True)
        self.facts = {
            "id": uuid.uuid4().hex,
            "pid": os.getpid(),
            "process_created": psutil.Process().create_time(),
            "host": socket.gethostname(),
            "since": files.now(),
        }

    @property
    def lost(self) -> bool:
        return bool(self._taken)

    def check(self) -> None:
        """Look at the record now, before something is written.

        Raises:
            RunHeld: the run is this driver's no more.
        """
        with contextlib.suppress(OSError, *self._record.transient):
            self._look()
        if self.lost:
            raise RunHeld(self._taken)

    def __enter__(self) -> "DriverLock":
        """
        Raises:
            RunHeld: another driver is at work.
        """
        if (holder := self._record.read()) is not None:
            self._wait_for_end_of(holder)
        self._record.write(self.facts | {"beat": 0})
        if self._settles:
            time.sleep(SETTLE_SECONDS)
            self._look()
            if self.lost:
                raise RunHeld(self._taken)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """
        Raises:
            RunHeld: the run was lost meanwhile.
        """
        self._stop.set()
        self._thread.join(2 * RENEW_SECONDS)
        self.check()
        with contextlib.suppress(OSError, *self._record.transient):
            self._record.remove()

    def _wait_for_end_of(self, holder: dict[str, Any]) -> None:
        if holder.get("host") == self.facts["host"] and not lives(holder):
            return
        end = time.monotonic() + STALE_SECONDS
        who = whose(self._record.name, holder)
        self._say(f"{who}; waiting up to {STALE_SECONDS:.0f} s for a sign of it")
        while time.monotonic() < end:
            time.sleep(min(1.0, STALE_SECONDS / 10))
            latest = self._record.read()
            if latest is None:
                return
            if latest != holder:
                raise RunHeld(f"{whose(self._record.name, latest)}; wait for it, or stop it")

    def _renew(self) -> None:
        beat = 0
        while not self._stop.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError, *self._record.transient):
                self._look()
                if self.lost:
                    self._tell()
                    return
                beat += 1
                self._record.write(self.facts | {"beat": beat})

    def _look(self) -> None:
        holder = self._record.read()
        if holder is None and not self._may_vanish:
            self._taken = (
                f"{self._record.name}: gone, so the run folder was moved away or removed; this "
                "driver ends, and the same command goes on in the folder's new place"
            )
        elif holder is not None and holder.get("id") != self.facts["id"]:
            self._taken = f"{whose(self._record.name, holder)}; this driver has lost the run to it"


class FolderRecord:
    """The record in a run folder."""

    transient = ()

    def __init__(self, folder: Path):
        self._path = folder / HOLDER
        self.name = str(folder)

    def read(self) -> dict[str, Any] | None:
        try:
            return parsed(self._path.read_bytes())
        except FileNotFoundError:
            return None

    def write(self, facts: dict[str, Any]) -> None:
        if self._path.parent.is_dir():  # or a folder that was moved away would be made anew
            files.write_json(self._path, facts)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class FolderLock:
    """The lock of a run folder: a file lock, which ends with its process, and the record."""

    def __init__(self, folder: Path, say: Callable[[str], None] = print):
        self._folder = folder
        self._file = FileLock(folder / "driver.lock")
        self._record = FolderRecord(folder)
        self._lock = DriverLock(self._record, say, settles=False, may_vanish=False)

    @property
    def lost(self) -> bool:
        return self._lock.lost

    def check(self) -> None:
        """See `DriverLock.check`."""
        self._lock.check()

    def __enter__(self) -> "FolderLock":
        """
        Raises:
            RunHeld: another driver is at work.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._file.acquire(timeout=0)
        except Timeout as error:
            holder = self._record.read() or {}
            message = f"{whose(self._record.name, holder)}; wait for it, or stop it"
            raise RunHeld(message) from error
        except NotImplementedError:  # a file system without locks: the record alone
            pass
        try:
            self._lock.__enter__()
        except BaseException:
            self._file.release()
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        try:
            self._lock.__exit__(*exception)
        finally:
            self._file.release()


def parsed(content: str | bytes) -> dict[str, Any]:
    """A record as it was written; empty where it was cut off."""
    try:
        record = json.loads(content)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def whose(name: str, holder: dict[str, Any]) -> str:
    return (
        f"{name}: held by process {holder.get('pid', '?')} on {holder.get('host', '?')} since "
        f"{holder.get('since', '?')}"
    )


def lives(holder: dict[str, Any]) -> bool:
    """Whether the process of a record of this host is there, and not another of its number."""
    pid, created = holder.get("pid"), holder.get("process_created")
    if not isinstance(pid, int):
        return False
    try:
        process = psutil.Process(pid)
        return created is None or abs(process.create_time() - created) < 2.0
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # another user's
        return True
