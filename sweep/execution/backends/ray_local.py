"""What a Ray that starts on this machine needs first: room, a private token, a copy of the code."""

import contextlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path


class CannotRun(Exception):
    """The cluster cannot give a trial what the grid asks for, or cannot be had."""


TEMPORARY_BYTES = 200_000_000
"""For Ray's logs, its sockets and what does not fit in memory; with less it tries on in silence."""


def check_temporary_folder() -> None:
    """
    Raises:
        CannotRun: Ray could not write there.
    """
    folder = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise CannotRun(
            f"{folder}: Ray cannot write there ({error.strerror}); set RAY_TMPDIR"
        ) from error
    if free < TEMPORARY_BYTES:
        raise CannotRun(
            f"{folder}: {free / 1e6:.0f} MB are free, and Ray needs {TEMPORARY_BYTES / 1e6:.0f} MB "
            "for its temporary files; make room, or set RAY_TMPDIR"
        )


def private_token() -> None:
    """Ray writes its token for a local cluster readable by all; one that exists it leaves alone."""
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))


def copy_code(folder: Path) -> None:
    """Copy the code as it is now, for workers to run whatever happens to the original."""
    import analysis
    import sweep
    import trainers

    for package in (sweep, trainers, analysis):
        source = Path(str(package.__file__)).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / source.name, ignore=ignored)
