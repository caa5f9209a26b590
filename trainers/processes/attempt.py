"""The attempt at a trial that this process makes: its signs of progress, its fence, its end.

One attempt holds a trial folder at a time. Its id is in `attempt.json`; who finds another id there
has been superseded and writes nothing more. The loops that do the work (a micro-batch, a span of an
evaluation, an optimizer step) call `sign`, which touches `signs.json`: a thread that only shows
that the process exists would hide a hang. Outside an attempt every function here does nothing.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from trainers import files

HOLDER = "attempt.json"
SIGNS = "signs.json"

STOP = "stop.json"

SIGN_SECONDS = 1.0
"""Signs that come quicker are not written."""


class Superseded(Exception):
    """Another attempt holds the trial folder; what this one would write is of no use."""


class Stopped(Exception):
    """The attempt was asked to stop, and has saved what the next one goes on from."""


class Attempt:
    """One attempt at the trial in `folder`."""

    def __init__(self, folder: Path, id: str, previous_sign: float | None = None):
        """`previous_sign` is when the attempt before it was last heard of, by `signed_at`."""
        self.folder = folder
        self.id = id
        self.previous_sign = previous_sign
        self._count = 0
        self._written = -SIGN_SECONDS

    def sign(self, what: str) -> None:
        """Record progress. A file system that does not answer is found where it matters."""
        self._count += 1
        now = time.monotonic()
        if now - self._written < SIGN_SECONDS:
            return
        self._written = now
        record = {"attempt": self.id, "signs": self._count, "what": what, "time": files.now()}
        with suppress(OSError):
            (self.folder / SIGNS).write_text(json.dumps(record), encoding="utf-8")

    def check(self) -> None:
        """
        Raises:
            Superseded: the folder is another attempt's, or is not there any more.
        """
        holder = holder_of(self.folder)
        if holder.get("id") == self.id:
            return
        who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')} has it now"
        raise Superseded(
            f"{self.folder}: {who if holder else 'was moved away or removed'}; attempt {self.id} "
            "writes nothing more"
        )

    def asked_to_stop(self) -> str:
        """Why it should save a checkpoint and end; empty where it should go on."""
        try:
            request = json.loads((self.folder / STOP).read_bytes())
        except (OSError, ValueError):
            return ""
        return request["reason"] if request.get("attempt") == self.id else ""

    @property
    def parts(self) -> "tuple[Attempt, ...]":
        """The attempts at single trials that it is made of."""
        return (self,)

    def heard(self) -> object:
        """Another value after each sign, whichever process gave it."""
        return last_sign(self.folder)


class Together(Attempt):
    """Attempts at several trials that one process trains in one pass, each a lane of it.

    A sign is one of each of them, and a request to stop any of them is one to all. What is written
    about a single trial is written under `of(folder)`, so that the fence is that trial's.
    """

    def __init__(self, attempts: Sequence[Attempt]):
        super().__init__(attempts[0].folder, uuid.uuid4().hex[:12])
        self._parts = tuple(attempts)

    @property
    def parts(self) -> tuple[Attempt, ...]:
        """Without those that were superseded."""
        return self._parts

    def leave(self, attempt: Attempt) -> None:
        """It was superseded: a sign of ours would be taken for one of the other's."""
        self._parts = tuple(part for part in self._parts if part is not attempt)

    def sign(self, what: str) -> None:
        self._count += 1
        for part in self._parts:
            part.sign(what)

    def heard(self) -> object:
        """No other process takes part."""
        return self._count

    def check(self) -> None:
        """
        Raises:
            Superseded: there is no trial left that it holds.
        """
        for part in self._parts:
            try:
                part.check()
            except Superseded:
                self.leave(part)
        if not self._parts:
            raise Superseded(f"{self.folder} and all beside it: other attempts have them now")

    def asked_to_stop(self) -> str:
        return next(filter(None, (part.asked_to_stop() for part in self._parts)), "")


def last_sign(folder: Path) -> bytes:
    """What the latest sign of a trial says, to be compared with an earlier one."""
    try:
        return (folder / SIGNS).read_bytes()
    except OSError:
        return b""


def signed_at(folder: Path) -> float | None:
    """When the latest sign of a trial was given, in seconds since the epoch; None where none was.
    The file's own time, which a copy changes, counts where a crash has cut the sign off."""
    try:
        return datetime.fromisoformat(json.loads(last_sign(folder))["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        with suppress(OSError):
            return (folder / SIGNS).stat().st_mtime
    return None


def ask_to_stop(folder: Path, reason: str) -> None:
    """Have the attempt that holds a trial folder save a checkpoint and end."""
    if holder := holder_of(folder):
        files.write_json(folder / STOP, {"attempt": holder["id"], "reason": reason})


_current: Attempt | None = None


def holder_of(folder: Path) -> dict[str, Any]:
    """Who holds a trial folder; empty where nobody does."""
    try:
        record = json.loads((folder / HOLDER).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@contextmanager
def begun(folder: Path, **facts: Any) -> Iterator[Attempt]:
    """Take the trial folder for a new attempt of this process, until the end of the block."""
    attempt = _taken(folder, facts)
    with joined(attempt):
        attempt.sign("started")
        yield attempt


@contextmanager
def begun_together(folders: Sequence[Path], **facts: Any) -> Iterator[Together]:
    """Take the folders of several trials for one training of this process."""
    attempt = Together([_taken(folder, facts) for folder in folders])
    with joined(attempt):
        attempt.sign("started")
        yield attempt


def _taken(folder: Path, facts: dict[str, Any]) -> Attempt:
    attempt = Attempt(folder, uuid.uuid4().hex[:12], signed_at(folder))
    about = {"id": attempt.id, "pid": os.getpid(), "host": socket.gethostname(), **facts}
    files.write_json(folder / HOLDER, about | {"since": files.now()})
    (folder / STOP).unlink(missing_ok=True)
    return attempt


@contextmanager
def of(folder: Path) -> Iterator[None]:
    """Until the end of the block this process works on the trial in `folder` alone, where it makes
    attempts at several; else as before.

    Raises:
        Superseded: another attempt holds this trial; those beside it go on without it.
    """
    together = _current
    if not isinstance(together, Together):
        yield
        return
    own = next((part for part in together.parts if part.folder == folder), None)
    if own is None:
        raise Superseded(f"{folder}: is no trial of this process any more")
    with joined(own):
        try:
            yield
        except Superseded:
            together.leave(own)
            raise


@contextmanager
def joined(attempt: Attempt) -> Iterator[None]:
    """This process works on the attempt until the end of the block; one that was begun elsewhere
    too."""
    global _current
    before, _current = _current, attempt
    try:
        yield
    finally:
        _current = before


def current() -> Attempt | None:
    return _current


def name() -> str:
    """What names of part files hold, so that only their owner removes them."""
    return _current.id if _current else f"process-{os.getpid()}"


def sign(what: str) -> None:
    """See `Attempt.sign`."""
    if _current is not None:
        _current.sign(what)


def check() -> None:
    """See `Attempt.check`."""
    if _current is not None:
        _current.check()


def asked_to_stop() -> str:
    """See `Attempt.asked_to_stop`."""
    return _current.asked_to_stop() if _current else ""
