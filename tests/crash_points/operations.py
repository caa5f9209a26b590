"""The file operations of a process, numbered, and one of them disturbed.

Python tells an audit hook of every open, rename, removal and folder before it is done, whichever
library asks for it, and an exception of the hook takes the place of the operation. `os.fsync` has
no such event and is wrapped. Only the main thread's operations below the run's root are numbered:
those of heartbeats come when they like.
"""

import errno
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

Kind = Literal["kill", "torn", "EIO", "ENOSPC", "power"]
KINDS: tuple[Kind, ...] = ("kill", "torn", "EIO", "ENOSPC", "power")

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = {
    "os.rename": "rename",
    "os.remove": "unlink",
    "os.mkdir": "mkdir",
    "os.rmdir": "rmdir",
    "os.truncate": "truncate",
    "os.link": "link",
    "os.symlink": "symlink",
}


class Operation(NamedTuple):
    name: str
    """`open`, `rename`, `unlink`, `mkdir`, `fsync` ..."""
    path: str
    """Below the root."""
    target: str = ""
    """Of a rename."""


class Disturbance(NamedTuple):
    kind: Kind
    number: int
    """Of the operation that is disturbed, from 0."""


class Recorder:
    """Numbers the operations of this process below `root`; disturbs one of them.

    `kill`: the process ends by SIGKILL in place of the operation. `torn`: it ends so at the next
    operation, with half of what was written to the file that this one opened. `EIO`, `ENOSPC`:
    the operation fails. `power`: killed, and nothing is left that was not flushed: see `PowerCut`.
    """

    def __init__(self, root: Path, disturbance: Disturbance | None = None):
        self.root = str(root)
        self.operations: list[Operation] = []
        self._disturbance = disturbance
        self._torn: tuple[str, int] | None = None
        self._power = PowerCut(root) if disturbance and disturbance.kind == "power" else None
        self._inside = False

    def start(self) -> None:
        """For the rest of the process: an audit hook cannot be taken away."""
        fsync = os.fsync

        def counted(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            self._event("fsync", path)
            fsync(descriptor)
            if self._power and path.startswith(self.root):
                self._power.flushed(path)

        os.fsync = counted
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & WRITES:
                self._event("open", os.fsdecode(path))
        elif event in EVENTS:
            paths = [os.fsdecode(one) for one in arguments[:2] if isinstance(one, str | bytes)]
            self._event(EVENTS[event], *paths)

    def _event(self, name: str, path: str, target: str = "") -> None:
        here = threading.current_thread() is threading.main_thread()
        if self._inside or not here or not os.path.abspath(path).startswith(self.root):
            return
        self._inside = True  # what follows does file operations of its own
        try:
            self._numbered(
                Operation(name, os.path.abspath(path), target and os.path.abspath(target))
            )
        finally:
            self._inside = False

    def _numbered(self, operation: Operation) -> None:
        number = len(self.operations)
        self.operations.append(operation)
        if self._torn is not None:
            _tear(*self._torn)
            _die()
        disturbance = self._disturbance
        if disturbance is not None and number == disturbance.number:
            self._disturb(disturbance.kind, operation)
        if self._power:
            self._power.will(operation)

    def _disturb(self, kind: Kind, operation: Operation) -> None:
        if kind == "kill":
            _die()
        if kind == "power":
            assert self._power is not None
            self._power.cut()
            _die()
        if kind == "torn":
            size = os.path.getsize(operation.path) if os.path.exists(operation.path) else 0
            self._torn = operation.path, size
            return
        number = getattr(errno, kind)
        raise OSError(number, os.strerror(number), operation.path)


class PowerCut:
    """What a disk holds when the power goes, at the least that POSIX promises: of a file the bytes
    that an fsync has flushed, and of a rename nothing until its folder is flushed. (A new name is
    kept: the file systems in use flush it with its file.)
    """

    def __init__(self, root: Path):
        self._root = root
        self._began = time.time_ns()
        self._flushed: dict[str, int] = {}
        """Path -> bytes that are on the disk."""
        self._renames: list[tuple[str, str, str | None]] = []
        self._stash = root.with_name(f"{root.name}.stash")

    def will(self, operation: Operation) -> None:
        if operation.name == "open" and operation.path not in self._flushed:
            size = os.path.getsize(operation.path) if os.path.exists(operation.path) else 0
            self._flushed[operation.path] = size
        elif operation.name == "rename":
            self._will_rename(operation.path, operation.target)

    def _will_rename(self, path: str, target: str) -> None:
        old = None
        if os.path.isfile(target):
            self._stash.mkdir(exist_ok=True)
            old = str(self._stash / str(len(self._renames)))
            os.link(target, old)
        self._renames.append((path, target, old))
        for known in list(self._flushed):
            if known == path or known.startswith(f"{path}/"):
                self._flushed[target + known[len(path) :]] = self._flushed.pop(known)

    def flushed(self, path: str) -> None:
        if os.path.isdir(path):
            self._renames = [r for r in self._renames if os.path.dirname(r[1]) != path]
        else:
            self._flushed[path] = os.path.getsize(path)

    def cut(self) -> None:
        """Take from the disk what was not flushed since this process began."""
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                size = self._flushed.get(path, 0)  # 0: written by a library in another language
                if status.st_mtime_ns >= self._began and status.st_size > size:
                    os.truncate(path, size)
        for path, target, old in reversed(self._renames):
            if os.path.lexists(target) and not os.path.lexists(path):
                if os.path.isdir(os.path.dirname(path)):
                    os.rename(target, path)
                if old is not None:
                    os.replace(old, target)
        shutil.rmtree(self._stash, ignore_errors=True)


def _tear(path: str, before: int) -> None:
    if os.path.isfile(path):
        size = os.path.getsize(path)
        os.truncate(path, before + max(size - before, 0) // 2)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
