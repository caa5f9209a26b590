"""One driver for a run in an object store: `driver.json` there, which its holder renews.

A store has no locks. The holder writes its record anew every few seconds; who finds one watches it,
and takes its place when it has not changed for long enough, by his own clock alone. Two that begin
within the same moment both read what they wrote: one of them finds the other's. What this cannot
do is stop a holder that slept, or was cut off, before it looks again; then it ends by itself.
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
from typing import Any

from sweep.storage import run_folder
from sweep.storage.mirror import Mirror
from sweep.storage.object_store import Unreachable, asking
from sweep.storage.run_folder import Lock, RunHeld
from trainers import files

RENEWED_EVERY = 5.0
GIVEN_UP_AFTER = 30.0
"""Seconds without a sign of the holder."""

SETTLED_AFTER = 2.0
"""Seconds after which a second one that began in the same moment would have written too."""


class Lease:
    def __init__(
        self,
        mirror: Mirror,
        say: Callable[[str], None],
        lost: Callable[[], None] = _thread.interrupt_main,
    ):
        """`lost` is called in another thread when somebody else has taken over."""
        self._url = f"{mirror.url}/{Lock.HOLDER}"
        self._system, self._path = mirror.system, f"{mirror.path}/{Lock.HOLDER}"
        self._say = say
        self._tell = lost
        self._taken: dict[str, Any] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._facts = {
            "id": uuid.uuid4().hex,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": files.now(),
        }

    @property
    def lost(self) -> bool:
        return bool(self._taken)

    def __enter__(self) -> "Lease":
        """
        Raises:
            RunHeld: another driver is at work.
            Unreachable: the store cannot be read or written.
        """
        if (holder := self._read()) is not None:
            self._wait_for_end_of(holder)
        self._write(0)
        time.sleep(SETTLED_AFTER)
        self._check()
        if self.lost:
            raise self._held(self._taken)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """
        Raises:
            RunHeld: the lease was lost meanwhile.
        """
        self._stop.set()
        self._thread.join(2 * RENEWED_EVERY)
        if self.lost:
            raise self._held(self._taken)
        with contextlib.suppress(Unreachable, FileNotFoundError), asking(self._url):
            self._system.rm(self._path)

    def _wait_for_end_of(self, holder: dict[str, Any]) -> None:
        if holder.get("host") == self._facts["host"] and not run_folder.lives(holder.get("pid", 0)):
            return
        end = time.monotonic() + GIVEN_UP_AFTER
        self._say(f"{self._whose(holder)}; up to {GIVEN_UP_AFTER:.0f} s to see whether it lives")
        while time.monotonic() < end:
            time.sleep(1)
            now = self._read()
            if now is None:
                return
            if now != holder:
                raise self._held(now)

    def _renew(self) -> None:
        beat = 0
        while not self._stop.wait(RENEWED_EVERY):
            with contextlib.suppress(Unreachable):  # tried again, and looked at first, next time
                self._check()
                if self.lost:
                    self._tell()
                    return
                beat += 1
                self._write(beat)

    def _check(self) -> None:
        holder = self._read()
        if holder is not None and holder.get("id") != self._facts["id"]:
            self._taken = holder

    def _read(self) -> dict[str, Any] | None:
        with asking(self._url):
            try:
                found = json.loads(self._system.cat_file(self._path))
            except FileNotFoundError:
                return None
            except ValueError:  # cut off, where a store writes in place
                return {}
        return found if isinstance(found, dict) else {}

    def _write(self, beat: int) -> None:
        with asking(self._url):
            self._system.pipe_file(self._path, json.dumps(self._facts | {"beat": beat}).encode())

    def _whose(self, holder: dict[str, Any]) -> str:
        return (
            f"{self._url}: held by process {holder.get('pid', '?')} on {holder.get('host', '?')} "
            f"since {holder.get('since', '?')}"
        )

    def _held(self, holder: dict[str, Any]) -> RunHeld:
        return RunHeld(f"{self._whose(holder)}; wait for it, or stop it")
