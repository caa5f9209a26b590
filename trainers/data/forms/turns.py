"""A row of any stage's data -> who says what in it, for audits: read as training reads it. Loads no
torch."""

from typing import NamedTuple

from trainers.data.forms.conversation import (
    CONVERSATIONS,
    PROMPTS,
    asked_and_answered,
    conversation,
    filled,
    question,
    with_extras,
)
from trainers.data.forms.messages import Messages
from trainers.data.forms.pairs import pair_of
from trainers.data.rows.stored_rows import Row


class Turn(NamedTuple):
    role: str
    """user, assistant, system, developer or tool; `text` for plain text, which nobody says."""
    text: str


def turns(row: Row) -> list[Turn]:
    """All turns of a row, each once: the two answers of a preference share their question.

    Raises:
        ValueError: the row has none of the known forms.
    """
    return list(places(row))


def places(row: Row) -> dict[Turn, int]:
    """Each turn of a row -> its place in the row, from 0; of one that is said again, the first.

    Raises:
        ValueError: the row has none of the known forms.
    """
    first: dict[Turn, int] = {}
    for place, turn in enumerate(_turns(row)):
        first.setdefault(turn, place)
    return first


def _turns(row: Row) -> list[Turn]:
    content = filled(row)
    if {"chosen", "rejected"} <= content.keys():
        pair = pair_of(row)
        return _said([*pair.prompt, *pair.chosen, *pair.rejected])
    asked = next((name for name in PROMPTS if name in content), None)
    alone = asked in content.named or not content.keys() & {*CONVERSATIONS, "text"}
    if asked and alone and not asked_and_answered(content):
        return _said(with_extras(content, question(content, asked)).messages)
    read = conversation(row)
    return [Turn("text", read)] if isinstance(read, str) else _said(read.messages)


def _said(turns: Messages) -> list[Turn]:
    return [Turn(turn["role"], turn["content"]) for turn in turns]
