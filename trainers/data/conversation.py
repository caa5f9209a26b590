"""A row of any stage's data -> who says what in it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

FORMS = ("messages", "prompt", "chosen", "rejected", "completion", "text")


class Turn(NamedTuple):
    role: str
    """user, assistant, system or tool; `text` for plain text, which nobody says."""
    text: str


def turns(row: dict[str, Any]) -> list[Turn]:
    """All turns of a row, each once: the two answers of a preference share their question.

    Conversations (`messages`), prompts with completions or with a chosen and a rejected answer,
    each a text or a list of messages, and plain `text`.

    Raises:
        ValueError: the row has none of these forms.
    """
    found = list(dict.fromkeys(_turns(row)))
    if not found:
        raise ValueError(f"a row has {', '.join(row)}; it needs one of {', '.join(FORMS)}")
    return found


def _turns(row: dict[str, Any]) -> Iterator[Turn]:
    for form in FORMS:
        value = row.get(form)
        if isinstance(value, str):
            role = {"prompt": "user", "text": "text"}.get(form, "assistant")
            yield Turn(role, value)
        elif isinstance(value, list):
            yield from (Turn(str(said.get("role", "")), _text(said)) for said in value)


def _text(message: dict[str, Any]) -> str:
    """A message's text; of a list of parts, those that are text."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in content)
