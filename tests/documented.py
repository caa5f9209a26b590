"""The commands that README, CONTRIBUTING, SECURITY and the pages of docs/ tell a reader to type."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))),
)  # fmt: skip

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
INDENTED = re.compile(r"^    (?=\S)(.*)$", re.MULTILINE)
COMMENT = re.compile(r"(?:^|\s)#.*")
MODULE = re.compile(r"(?:^|[\s/])python3? -m (\S.*)")
MAKE = re.compile(r"^make ([a-z].*)")


class Module(NamedTuple):
    """`python -m name arguments`"""

    name: str
    arguments: tuple[str, ...]

    @property
    def line(self) -> str:
        return shlex.join(("python", "-m", self.name, *self.arguments))


def blocks(language: str) -> list[str]:
    """The fenced blocks of all pages in one language."""
    found = (match for page in PAGES for match in FENCE.finditer(_text(page)))
    return [block for name, block in (match.groups() for match in found) if name == language]


def shell_lines() -> list[str]:
    """The lines of all shell blocks, without comments."""
    return sorted({line for block in blocks("sh") for line in _lines(block)})


def modules() -> list[Module]:
    """Every `python -m ...` of the pages: in blocks, in text and after another command."""
    matches = (MODULE.search(line) for line in _code_lines())
    words = (shlex.split(match[1]) for match in matches if match)
    return sorted({Module(name, tuple(arguments)) for name, *arguments in words})


def make_targets() -> list[str]:
    """What follows every `make` of the pages."""
    matches = (MAKE.match(line) for line in _code_lines())
    return sorted({match[1] for match in matches if match})


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _code_lines() -> list[str]:
    code: list[str] = []
    for text in map(_text, PAGES):
        code += [block for _, block in FENCE.findall(text)]
        prose = FENCE.sub("", text)
        code += [" ".join(part.split()) for part in INLINE.findall(prose)]
        code += INDENTED.findall(prose)
    return [line for part in code for line in _lines(part)]


def _lines(code: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", code)
    lines = (COMMENT.sub("", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
