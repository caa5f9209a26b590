"""The file operations of a process, numbered in each of its threads, and one of them disturbed.

Python tells an audit hook of every open, rename, removal, folder and lock before it is done,
whichever library asks for it, and an exception of the hook takes the place of the operation.
`os.fsync` has no such event and is wrapped. What goes on below the run's root is numbered.
"""

import errno
import os
import re
import resource
import signal
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests.crash_points.power import PowerCut

Kind = Literal["kill", "torn", "EIO", "ENOSPC", "short", "power"]
KINDS: tuple[Kind, ...] = ("kill", "torn", "EIO", "ENOSPC", "short", "power")

MAIN = "main"

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
SHORT_BYTES = 16
"""That a file takes before it takes no more."""

UNIQUE = re.compile(r"[0-9a-f]{8,}|process-\d+|(?<=\.)\d+(?=\.part)|(?<=aside-)\w+")
"""What is another in every run: ids in names of part files."""


class Operation(NamedTuple):
    name: str
    """`open`, `rename`, `unlink`, `mkdir`, `fsync`, `lock` ..."""
    path: str
    """Below the root."""
    target: str = ""
    """Of a rename."""

    def words(self, root: Path) -> str:
        """The same in every run."""
        path = UNIQUE.sub("*", self.path.removeprefix(f"{root}/"))
        to = f" -> {UNIQUE.sub('*', Path(self.target).name)}" if self.target else ""
        return f"{self.name} {path}{to}"


class Disturbance(NamedTuple):
    kind: Kind
    number: int
    """Of the operation that is disturbed, from 0, among those of its thread."""
    thread: str = MAIN

    @property
    def file_name(self) -> str:
        return f"{self.kind}-{self.thread.replace(' ', '_')}-{self.number:04}"


class Recorder:
    """Numbers the operations of this process below `root`; disturbs one of them.

    `kill`: the process ends by SIGKILL in place of the operation. `torn`: it ends so at the next
    operation of the thread, with half of what was written to the file that this one opened. `EIO`,
    `ENOSPC`: the operation fails. `short`: until the thread's next operation files take some bytes,
    and then no more (EFBIG), whoever writes them. `power`: killed, and nothing is left that was not
    flushed: see `PowerCut`.
    """

    def __init__(self, root: Path, disturbance: Disturbance | None = None):
        self.root = str(root)
        self.operations: dict[str, list[Operation]] = defaultdict(list)
        self._disturbance = disturbance
        self._torn: tuple[str, int] | None = None
        self._is_short = False
        self._power = PowerCut(root) if disturbance and disturbance.kind == "power" else None
        self._lock = threading.RLock()
        self._here = threading.local()

    def start(self) -> None:
        """For the rest of the process: an audit hook cannot be taken away."""
        fsync = os.fsync

        def numbered(descriptor: int) -> None:
            path = _path_of(descriptor)
            self._event("fsync", path)
            fsync(descriptor)
            if self._power and self._is_below(path):
                with self._lock:
                    self._power.flushed(path)

        os.fsync = numbered
        sys.addaudithook(self._hook)

    def end(self) -> None:
        """Files take everything again."""
        self._is_short = False
        _limit(resource.RLIM_INFINITY)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & WRITES:
                self._event("open", os.fsdecode(path))
        elif event in EVENTS:
            self._event(EVENTS[event], *_paths(event, arguments))
        elif event == "fcntl.flock" and isinstance(arguments[0], int):
            self._event("lock", _path_of(arguments[0]))

    def _is_below(self, path: str) -> bool:
        return f"{os.path.abspath(path)}/".startswith(f"{self.root}/")

    def _event(self, name: str, path: str, target: str = "") -> None:
        if getattr(self._here, "inside", False) or not self._is_below(path):
            return
        there = os.path.lexists(path)
        if (name == "mkdir" and there) or (name == "unlink" and not there):
            return  # it does nothing
        self._here.inside = True  # what follows does file operations of its own
        try:
            operation = Operation(name, os.path.abspath(path), target and os.path.abspath(target))
            with self._lock:
                self._numbered(operation)
        finally:
            self._here.inside = False

    def _numbered(self, operation: Operation) -> None:
        thread = _thread()
        number = len(self.operations[thread])
        self.operations[thread].append(operation)
        disturbance = self._disturbance
        if disturbance is not None and thread == disturbance.thread:
            if self._torn is not None:
                _tear(*self._torn)
                _die()
            if self._is_short:
                self.end()
            if number == disturbance.number:
                self._disturb(disturbance.kind, operation)
        if self._power and operation.name == "open":
            self._power.will_open(operation.path)
        elif self._power and operation.name == "rename":
            self._power.will_rename(operation.path, operation.target)

    def _disturb(self, kind: Kind, operation: Operation) -> None:
        struck = Path(f"{self.root}.struck")
        struck.write_text(operation.words(Path(self.root)), encoding="utf-8")
        size = os.path.getsize(operation.path) if os.path.isfile(operation.path) else 0
        match kind:
            case "kill":
                _die()
            case "power":
                assert self._power is not None
                self._power.cut()
                _die()
            case "torn":
                self._torn = operation.path, size
            case "short":
                self._is_short = True
                _limit(size + SHORT_BYTES)
            case _:
                number = getattr(errno, kind)
                raise OSError(number, os.strerror(number), operation.path)


def _thread() -> str:
    if threading.current_thread() is threading.main_thread():
        return MAIN
    name = threading.current_thread().name
    return re.sub(r"^Thread-\d+ \((\w+)\)$", r"\1", name)


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _paths(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """What the operation changes; of a rename also what it becomes."""
    match event, arguments:
        case "os.rename", (path, target, within, target_within):
            return [_at(path, within), _at(target, target_within)]
        case "os.link", (_, path, _, within):
            return [_at(path, within)]
        case ("os.symlink", (_, path, within)) | ("os.mkdir", (path, _, within)):
            return [_at(path, within)]
        case "os.truncate", (path, _):
            return [_at(path, -1)]
        case _, (path, within):
            return [_at(path, within)]
    raise AssertionError(f"{event} has other arguments now: {arguments}")


def _at(path: Any, folder: int) -> str:
    """A path may be a descriptor, and in a folder whose descriptor is given."""
    if isinstance(path, int):
        return _path_of(path)
    return os.path.join(_path_of(folder), os.fsdecode(path)) if folder >= 0 else os.fsdecode(path)


def _limit(size: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))


def _tear(path: str, before: int) -> None:
    if os.path.isfile(path):
        size = os.path.getsize(path)
        os.truncate(path, before + max(size - before, 0) // 2)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
