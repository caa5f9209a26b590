"""An object store by its URL: `s3://bucket/prefix`, or any other that fsspec has a client for.

The only `import fsspec`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from sweep.plan.disk import full
from trainers import files

TRIES = {"config_kwargs": {"retries": {"total_max_attempts": 4}}}
"""Of botocore for S3: a store that is away is known to be after some seconds. Its default took up
to 36 s here, and who can wait asks again after pauses of his own."""


class WholeFiles(LocalFileSystem):
    """A folder in the place of a store: a file is there whole or as it was, as S3 has it, whenever
    its writer is killed or the power goes. What a killed writer left of one is not listed."""

    def put_file(self, path1: str, path2: str, callback: Any = None, **options: Any) -> None:
        with files.replacing(Path(path2)) as aside:
            super().put_file(path1, str(aside), callback, **options)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        with files.replacing(Path(path)) as aside:
            super().pipe_file(str(aside), value, mode, **options)

    def ls(self, path: str, detail: bool = False, **options: Any) -> list[Any]:
        there: list[dict[str, Any]] = super().ls(path, detail=True, **options)
        whole = [info for info in there if not files.is_part(info["name"].rpartition("/")[2])]
        return whole if detail else [info["name"] for info in whole]


class BadUrl(ValueError):
    """Not a place that can be had; the message says what is."""


class Unreachable(Exception):
    """The store does not do what it is asked to."""


def opened(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL, and the path in it.

    Raises:
        BadUrl: it has a password, leads nowhere, or its protocol is not known or not installed.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadUrl(f"{url}: {error}; for example s3://BUCKET/PREFIX") from error
    if not parts.scheme:
        raise BadUrl(f"{url}: names no protocol; write it as s3://BUCKET/PREFIX")
    if parts.password or parts.query:
        raise BadUrl(
            f"{parts.scheme}://...: a URL is kept with the run, so it may hold no password, key or "
            "query; give those in the environment"
        )
    if not (parts.netloc + parts.path).strip("/"):
        raise BadUrl(f"{url}: names no bucket; write it as {parts.scheme}://BUCKET/PREFIX")
    client = TRIES if parts.scheme in ("s3", "s3a") else {}
    try:
        system, path = url_to_fs(url, use_listings_cache=False, **client)
    except ImportError as error:
        extra = "; python -m pip install -e '.[s3]' does" if parts.scheme == "s3" else ""
        raise BadUrl(f"{url}: {error}{extra}") from error
    except ValueError as error:
        raise BadUrl(f"{url}: {error}; for example s3://BUCKET/PREFIX") from error
    if isinstance(system, LocalFileSystem):
        system = WholeFiles(use_listings_cache=False)
    if hasattr(system, "auto_mkdir"):  # of a folder, as `file:` and `smb:` have them
        system.auto_mkdir = True  # pyright: ignore[reportAttributeAccessIssue]
    return system, path.rstrip("/")


@contextlib.contextmanager
def asking(url: str) -> Iterator[None]:
    """Whatever a client raises is Unreachable; that there is no room here stays what it is."""
    try:
        yield
    except Exception as error:  # each client raises dozens of unrelated types
        if full(error) or isinstance(error, Unreachable):
            raise
        reason = (str(error).strip().splitlines() or [""])[0]
        raise Unreachable(f"{url}: {type(error).__name__}: {reason}") from error
