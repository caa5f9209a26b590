"""What a power cut leaves of the files of a process."""

import os
import shutil
import time
from pathlib import Path


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
        self._stashed = 0

    def will_open(self, path: str) -> None:
        if path not in self._flushed:
            self._flushed[path] = os.path.getsize(path) if os.path.exists(path) else 0

    def will_rename(self, path: str, target: str) -> None:
        old = None
        if os.path.isfile(target):
            self._stash.mkdir(exist_ok=True)
            self._stashed += 1
            old = str(self._stash / str(self._stashed))
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
        flushed: dict[int, int] = {}  # by inode: all links to a file have its bytes
        for path, size in self._flushed.items():
            if os.path.exists(path):
                inode = os.stat(path).st_ino
                flushed[inode] = max(size, flushed.get(inode, 0))
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                size = flushed.get(status.st_ino, 0)  # 0: written by a library in another language
                if status.st_mtime_ns >= self._began and status.st_size > size:
                    os.truncate(path, size)
        for path, target, old in reversed(self._renames):
            if os.path.lexists(target) and not os.path.lexists(path):
                if os.path.isdir(os.path.dirname(path)):
                    os.rename(target, path)
                if old is not None:
                    os.replace(old, target)
        shutil.rmtree(self._stash, ignore_errors=True)
