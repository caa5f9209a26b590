"""JSON in any form people keep rows in, as a file of JSON lines."""

import gzip
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainers import files

Row = dict[str, Any]

SPACE = re.compile(r"\s*")

LISTS = ("data", "train", "rows", "examples", "instances")
"""Keys under which a JSON file that is one object may have its rows."""


def json_lines(path: Path) -> Path:
    """A file of JSON lines with the rows of `path`: itself, or a copy in the cache where it is
    compressed, an array, or written over several lines.

    Raises:
        ValueError, OSError: it is no JSON.
    """
    if not path.name.endswith(".gz") and _is_lines(path):
        return path
    copy = files.cache_folder("json") / f"{files.content_hash(path)}.jsonl"
    if not copy.exists():
        with files.replacing(copy) as part:
            with stream(path) as source, open(part, "wb") as lines:
                shutil.copyfileobj(source, lines)
            if not _is_lines(part):
                text = part.read_text(encoding="utf-8-sig")
                with open(part, "w", encoding="utf-8") as lines:
                    lines.writelines(
                        json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(text)
                    )
    return copy


def stream(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb")


def _is_lines(path: Path) -> bool:
    """Whether a file has a JSON value on each line, by its first line; an empty file has."""
    with open(path, "rb") as file:
        head = next((line for line in file if not line.isspace()), b"{}")
        more = any(not line.isspace() for line in file)
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is UTF-16; save it as UTF-8")
    if head.startswith(b"["):
        return False
    try:
        first = json.loads(head)
    except ValueError:
        return more and head.strip() != b"{"  # a damaged line among others, or a pretty object
    return more or not (isinstance(first, dict) and _list_in(first) is not None)


def _rows(text: str) -> Iterator[Any]:
    """The rows of JSON values that follow each other: of arrays their elements."""
    decoder, at = json.JSONDecoder(), _past_space(text, 0)
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise ValueError(f"not JSON ({error})") from error
        at = _past_space(text, at)
        inner = _list_in(value) if isinstance(value, dict) else value
        yield from inner if isinstance(inner, list) else [value]


def _past_space(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at


def _list_in(value: Row) -> list[Any] | None:
    lists = [value[key] for key in LISTS if isinstance(value.get(key), list)]
    return lists[0] if lists and all(isinstance(row, dict) for row in lists[0]) else None
