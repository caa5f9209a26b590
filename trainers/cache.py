"""The node-local cache: `$SWEEP_CACHE`, or `~/.cache/lr-bs-sweep`. All of it can be deleted."""

import hashlib
import os
from pathlib import Path


def folder(part: str) -> Path:
    """The cache's folder for one kind of thing, made if need be."""
    root = os.environ.get("SWEEP_CACHE") or Path.home() / ".cache" / "lr-bs-sweep"
    path = Path(root).absolute() / part
    path.mkdir(parents=True, exist_ok=True)
    return path


def content_hash(*files: Path) -> str:
    """Hash of the files' content, in the order given."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
