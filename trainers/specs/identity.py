"""What of a spec decides the weights, as values that can be hashed: a file by its content."""

import functools
import hashlib
import os
from typing import Any

from pydantic import BaseModel

from trainers.specs import file_names

NOT_IN_IDENTITY = frozenset(
    {"tokens_per_micro_batch", "noise_scale_every", "save_every_minutes", "save_every_steps"}
)
"""Fields that decide memory and speed but not weights, up to what dropout draws; `identity` leaves
them out."""

HELDOUT_EXAMPLES = 200
"""Examples that are held out where the grid file names no number, at most a tenth of the data."""


def identity(spec: BaseModel) -> dict[str, Any]:
    """The part of a spec that decides the weights, as plain data for hashing.

    Raises:
        OSError: a file that the spec names cannot be read.
    """
    facts = spec.model_dump(mode="json", exclude=set(NOT_IN_IDENTITY))
    return {name: identified(type(spec), name, value) for name, value in facts.items()}


def identified(spec: type[BaseModel], name: str, value: Any) -> Any:
    """The value of a spec's field for hashing: of a file its content. An empty `heldout` keeps the
    key that it had as 200."""
    if name == "heldout" and value is None:
        return HELDOUT_EXAMPLES
    mark = file_names.marks(spec).get(name)
    return value if mark is None or mark.kind == "model" else mark.renamed(value, content)


@functools.cache
def _content(path: str, _changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def content(path: str) -> str:
    """Hash of a file's content.

    Raises:
        OSError: the file cannot be read.
    """
    return _content(path, os.stat(path).st_mtime_ns)
