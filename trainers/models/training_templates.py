"""Chat templates that mark what the assistant writes, for training on each of its turns.

Templates of many families rewrite earlier turns (Qwen3 drops their thoughts, Phi-3 ends the whole
conversation with another token), so what the assistant wrote cannot be told by rendering the turns
before it. TRL ships training versions of them, with `{% generation %}` marks. They are read as
files: importing TRL loads torch, and so does asking it.
"""

import functools
import importlib.util
import re
from pathlib import Path

MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def marked(template: str) -> bool:
    """Whether a template marks what the assistant writes."""
    return MARKS.search(template) is not None


def training_version(template: str) -> str | None:
    """TRL's training version of a template, or None where it has none."""
    return _versions().get(template.strip())


@functools.cache
def _versions() -> dict[str, str]:
    spec = importlib.util.find_spec("trl")  # finds without importing
    if spec is None or not spec.submodule_search_locations:
        return {}
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    versions = {}
    for training in folder.glob("*_training.jinja"):
        original = training.with_name(training.name.replace("_training", ""))
        if original.is_file():
            versions[original.read_text(encoding="utf-8").strip()] = training.read_text("utf-8")
    return versions
