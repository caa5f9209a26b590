"""`~` and `${VARIABLE}` in the texts of a grid file, as a shell has them."""

import os
import re
from typing import Any

from sweep.gridfile.errors import Problems
from sweep.gridfile.yaml import KeyPath

VARIABLE = re.compile(r"\$\{(\w+)\}|^\$(\w+)(?=/|$)")


AS_WRITTEN = "notify"
"""The key whose secrets stay in the environment (sweep/gridfile/keys/apprise_urls.py)."""


def expanded(value: Any, problems: Problems, path: KeyPath = ()) -> Any:
    """The same data; a variable of the environment that is not set is added to `problems`."""
    if path == (AS_WRITTEN,):
        return value
    match value:
        case dict():
            return {key: expanded(part, problems, (*path, key)) for key, part in value.items()}
        case list():
            return [expanded(part, problems, (*path, n)) for n, part in enumerate(value)]
        case str() if value.startswith("~/") or "$" in value:
            return _expanded(value, problems, path)
    return value


def _expanded(text: str, problems: Problems, path: KeyPath) -> str:
    for variable in VARIABLE.finditer(text):
        name = variable[1] or variable[2]
        if name not in os.environ:
            problems.add(path, f"{text!r}: the environment has no variable {name}")
    filled = VARIABLE.sub(lambda match: os.environ.get(match[1] or match[2], match[0]), text)
    return os.path.expanduser(filled)
