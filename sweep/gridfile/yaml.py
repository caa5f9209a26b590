"""A YAML file -> plain data with the line of every key, and nothing that a grid does not need."""

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedOrderedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

MAX_BYTES = 30_000
"""Ten times what a large grid has; of the densest file that is three seconds of parsing at most."""
MAX_NODES = 100_000
"""Bounds what aliases may expand to."""
MAX_DEPTH = 50
"""Of brackets in brackets; beyond a few hundred the parser takes its time to fail."""

KeyPath = tuple[str | int, ...]


class YamlProblem(Exception):
    """`where` is the file, with the line where there is one."""

    def __init__(self, where: str, message: str):
        super().__init__(f"{where}: {message}")


@dataclass
class Document:
    """`data` is plain; `places` says where each key path was given, as `file:line` or an option."""

    file: str
    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where a path was given; for what is missing, where its nearest parent was."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.file


def read(path: Path) -> Document:
    """Parse a file that is a mapping of plain values at the top.

    Raises:
        YamlProblem: unreadable, too large, not UTF-8, not YAML, duplicate keys, tags, not a
        mapping.
    """
    file = str(path)
    try:
        with open(path, "rb") as stream:  # a pipe or a device does not say how large it is
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise YamlProblem(file, f"larger than {MAX_BYTES:,} bytes, which is no grid file")
        text = content.decode("utf-8")
    except OSError as error:
        raise YamlProblem(file, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise YamlProblem(file, f"is not UTF-8 (byte {error.start})") from error
    document = Document(file, {})
    data = _convert(_parse(file, text), (), document)
    if not isinstance(data, dict) or not data:
        raise YamlProblem(
            file, "is not a mapping of keys; see grids/quickstart.yaml for an example"
        )
    document.data = data
    return document


def parse_value(text: str, where: str) -> Any:
    """One value as YAML has it, for `--set key=value`."""
    return _convert(_parse(where, text), (), Document(where, {}))


def _parse(file: str, text: str) -> Any:
    if _depth(text) > MAX_DEPTH:
        raise YamlProblem(file, f"brackets more than {MAX_DEPTH} deep, which is no grid file")
    try:
        return YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}" if mark is not None else file
        problem = str(error.problem or "is not YAML")
        if "found character '\\t'" in problem:
            problem = "a tab; indent with spaces"
        raise YamlProblem(where, problem) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise YamlProblem(file, f"is not YAML ({error})") from error


def _depth(text: str) -> int:
    """Of brackets, those in texts and comments among them."""
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    return max(itertools.accumulate(steps), default=0)


def _convert(node: Any, path: KeyPath, document: Document) -> Any:
    if len(document.places) > MAX_NODES:
        raise YamlProblem(document.file, f"expands to more than {MAX_NODES:,} values")
    tag = getattr(getattr(node, "tag", None), "value", None)
    if tag is not None:
        raise YamlProblem(document.place(path), f"{dotted(path)}: the tag {tag!r} is not allowed")
    if isinstance(node, CommentedMap) and not isinstance(node, CommentedOrderedMap):
        result = {}
        for key, value in node.items():
            if not isinstance(key, str):
                raise YamlProblem(document.place(path), f"the key {key!r} is not a text")
            document.places[(*path, key)] = f"{document.file}:{_line(node, key)}"
            result[str(key)] = _convert(value, (*path, str(key)), document)
        return result
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            line = node.lc.item(index)[0] + 1
            document.places[(*path, index)] = f"{document.file}:{line}"
        return [_convert(value, (*path, index), document) for index, value in enumerate(node)]
    for plain in (bool, int, float, str):
        if isinstance(node, plain):
            return plain(node)
    if node is None:
        return None
    raise YamlProblem(document.place(path), f"{dotted(path)}: {node!r} is not a plain value")


def _line(node: CommentedMap, key: str) -> int:
    """Of a key; one that `<<` merges in has no place of its own, so that of the mapping."""
    places = node.lc.data or {}
    return (places[key][0] if key in places else node.lc.line) + 1


def dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
