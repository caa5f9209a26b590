"""A YAML file -> plain data with the line of every key, and nothing that a grid does not need."""

import difflib
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from analysis.tables import nearby

MAX_BYTES = 30_000
"""Ten times what a large grid has; of the densest file that is three seconds of parsing at most."""
MAX_NODES = 100_000
"""Bounds what aliases may expand to."""
MAX_DEPTH = 50
"""Of brackets in brackets; beyond a few hundred the parser takes its time to fail."""

INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}($|[Tt \t])")

CORE = "tag:yaml.org,2002:"
PLAIN_TAGS = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")

KeyPath = tuple[str | int, ...]


Entry = tuple[str, Node, int]
"""A key, its value, and the line of the key."""


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
    written: dict[KeyPath, str] = field(default_factory=dict)
    """Numbers and truth values as the file has them, where they were not in quotes."""
    mappings: dict[int, list[Entry]] = field(default_factory=dict)
    """Entries by the identity of their node: one that is merged in often is read once."""

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
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise YamlProblem(file, f"cannot be read ({error.strerror}){_meant(path)}") from error
    except UnicodeDecodeError as error:
        raise YamlProblem(file, f"is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    document = Document(file, {})
    data = _convert(_parse(file, text), (), document)
    if not isinstance(data, dict) or not data:
        raise YamlProblem(
            file, "is not a mapping of keys; see grids/quickstart.yaml for an example"
        )
    document.data = data
    return document


def _meant(path: Path) -> str:
    if said := nearby.of_url(path):
        return f"; {said}"
    if (own := path / "grid.yaml").is_file():
        return f"; its grid file is {own}"
    files = {file.name: file for folder in (Path("grids"), path.parent) for file in _grids(folder)}
    near = difflib.get_close_matches(path.name, files, n=1)
    return f"; there is {files[near[0]]}" if near else ""


def _grids(folder: Path) -> list[Path]:
    return [*folder.glob("*.yaml"), *folder.glob("*.yml")]


def parse_value(text: str, where: str) -> Document:
    """One value as YAML has it, for `--set key=value`."""
    document = Document(where, {})
    document.data = _convert(_parse(where, text), (), document)
    return document


def _parse(file: str, text: str) -> Node | None:
    """The nodes of a document: its own resolution of plain scalars is read in `_scalar`."""
    if _depth(text) > MAX_DEPTH:
        raise YamlProblem(file, f"brackets more than {MAX_DEPTH} deep, which is no grid file")
    try:
        return YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}" if mark is not None else file
        problem = str(error.problem or "is not YAML")
        if "found character '\\t'" in problem:
            problem = "a tab; indent with spaces"
        if "found another document" in problem:
            problem = "a second document (---) begins here; a grid file has one"
        lines = text.splitlines()
        if mark is not None and mark.line < len(lines) and "${" in lines[mark.line]:
            problem += "; inside braces a text with ${...} stands in quotes"
        raise YamlProblem(where, problem) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise YamlProblem(file, f"is not YAML ({error})") from error


def _depth(text: str) -> int:
    """Of brackets, those in texts and comments among them."""
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    return max(itertools.accumulate(steps), default=0)


def _convert(node: Node | None, path: KeyPath, document: Document) -> Any:
    if len(document.places) > MAX_NODES or len(path) > MAX_DEPTH:
        here = dotted(path[:4])
        raise YamlProblem(document.file, f"{here}: expands to more than {MAX_NODES:,} values")
    if node is None:
        return None
    tag = str(node.tag)
    if tag.removeprefix(CORE) not in PLAIN_TAGS:
        raise YamlProblem(document.place(path), f"{dotted(path)}: the tag {tag!r} is not allowed")
    if isinstance(node, MappingNode):
        result = {}
        for key, value, line in _entries(node, document, path):
            document.places[(*path, key)] = f"{document.file}:{line}"
            result[key] = _convert(value, (*path, key), document)
        return result
    if isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            document.places[(*path, index)] = f"{document.file}:{value.start_mark.line + 1}"
        return [_convert(value, (*path, index), document) for index, value in enumerate(node.value)]
    assert isinstance(node, ScalarNode)
    return _scalar(node, path, document)


def _entries(node: MappingNode, document: Document, path: KeyPath) -> list[Entry]:
    """(key, value, line) of a mapping; what `<<` merges in comes last and gives way."""
    if id(node) in document.mappings:
        return document.mappings[id(node)]
    document.mappings[id(node)] = []  # what a mapping that merges itself would get
    entries: dict[str, Entry] = {}
    merged: list[Entry] = []
    for key_node, value in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value if isinstance(key_node, ScalarNode) else None
        plain = isinstance(key_node, ScalarNode) and key_node.style is None
        if key == "<<" and plain:
            for other in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(other, MappingNode):
                    raise YamlProblem(f"{document.file}:{line}", "<< merges mappings alone")
                merged += [(k, v, line) for k, v, _ in _entries(other, document, path)]
            continue
        if key is None or (plain and not isinstance(_plain(key), str)):
            raise YamlProblem(document.place(path), f"the key {key or '?'} is not a text")
        if key in entries:
            raise YamlProblem(f"{document.file}:{line}", f"duplicate key {key!r}")
        entries[key] = key, value, line
    for entry in merged:
        entries.setdefault(entry[0], entry)
    document.mappings[id(node)] = list(entries.values())
    return document.mappings[id(node)]


def _scalar(node: ScalarNode, path: KeyPath, document: Document) -> Any:
    """A text in quotes as it is; else a number, a truth value, nothing, or a text."""
    text = node.value
    if node.style is not None:
        return str(text)
    if DATE.match(text):
        raise YamlProblem(
            document.place(path),
            f"{dotted(path)}: {text} is a date, not a plain value; put it in quotes: {text!r}",
        )
    value = _plain(text)
    if isinstance(value, int | float):
        document.written[path] = text
    return value


def _plain(text: str) -> Any:
    """A scalar without quotes, by YAML 1.2 and, for numbers, by 1.1 too."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text.lower() in ("true", "false") and text in (text.lower(), text.upper(), text.title()):
        return text.lower() == "true"
    if INTEGER.fullmatch(text):
        return int(text.replace("_", "").lstrip("+"), 10)
    if OTHER_BASE.fullmatch(text):
        return int(text, 0)
    if FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if text.lstrip("+-").lower() in (".inf", ".nan"):
        return float(text.replace(".", "", 1))
    return text


def dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
