"""A row of any stage's data -> the conversation in it, or its text. Loads no torch.

A row is a conversation (`messages` or `conversations`), a question with its answer (`prompt` and
`completion`, Alpaca's `instruction` with `input` and `output`, and others: `QUESTIONS`), a pair of
answers (`chosen` and `rejected`), what is asked alone (`PROMPTS`), or plain `text`. Where a row has
several of these, the one that the grid file names is read, then the conversation, then the question
with its answer. A row whose columns are those of a form, of which one holds nothing (None, NaN), is
empty.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from trainers.data.forms.messages import Messages, answer, behind, messages, shown, tools
from trainers.data.rows.stored_rows import Damaged, Row
from trainers.data.rows.watched import Watched

CONVERSATIONS = ("messages", "conversations", "conversation")

QUESTIONS = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("prompt", "response"),
    ("question", "response"),
    ("query", "response"),
    ("problem", "solution"),
    ("input", "output"),
)
"""Columns of what is asked and of the answer: TRL, Alpaca, Dolly, GSM8K, OpenOrca, MetaMath,
NuminaMath."""

ABOUT = {"instruction": ("input", "context"), "question": ("context",)}
"""Column of what is asked -> columns of what it is about, where a row has one."""

PROMPTS = ("prompt", "question")
"""Of RLVR, which has no answer beside: columns of what is asked."""

FORMS = (
    "`messages`, `conversations`, `prompt` with `completion` or `response`, `instruction` with "
    "`output`, `question` with `answer`, `problem` with `solution`, `chosen` with `rejected`, or "
    "`text`"
)

WAY_OUT = "name the columns in the grid file, as data: {name: ..., columns: {prompt: question}}"


class Conversation(NamedTuple):
    messages: Messages
    tools: Sequence[Any] = ()
    """JSON schemas of the functions that the assistant may call."""
    options: Mapping[str, Any] = MappingProxyType({})
    """The row's own arguments for the chat template (TRL's column `chat_template_kwargs`)."""


def filled(row: Row) -> Watched:
    """The columns that hold something.

    Raises:
        ValueError: the row could not be read from its file.
    """
    if isinstance(row, Damaged):
        raise ValueError(row.reason)
    return row.filled() if isinstance(row, Watched) else Watched(row).filled()


def conversation(row: Row) -> Conversation | str:
    """The conversation in a row, or its plain text, which is blank where the row is empty.

    Raises:
        ValueError: the row has none of the forms, or a message in it has an unknown role.
    """
    stored, row = row.keys(), filled(row)
    if (row.named & {"messages", "prompt", "completion", "text"} & stored) - row.keys():
        return ""
    unanswered = any(
        asked in row and answered in stored - row.keys() for asked, answered in QUESTIONS
    )
    readers = (
        ({"messages"}, _messages),
        ({"prompt", "completion"}, _question_and_answer),
        ({"text"}, _text),
    )
    for columns, read in sorted(readers, key=lambda reader: not reader[0] & row.named):
        if read is _text and unanswered and not columns & row.named:
            continue
        talk = read(row)
        if talk is not None:
            return talk
    if {"chosen", "rejected"} <= row.keys():
        raise ValueError(
            "`chosen` and `rejected` are a pair, which stages of the kinds dpo and reward read; "
            "columns: {messages: chosen} trains on the chosen answers"
        )
    lacks = (stored - row.keys()) & {*CONVERSATIONS, "text"}
    if lacks or any({*names} <= stored for names in QUESTIONS):
        return ""
    if "text" in row:
        raise ValueError(f"`text` is {shown(row['text'])}; give a text")
    raise ValueError(f"a row with the columns {', '.join(row) or 'none'}; it needs {FORMS}: "
                     f"{WAY_OUT}")  # fmt: skip


def _messages(row: Watched) -> Conversation | None:
    column = next((name for name in CONVERSATIONS if name in row), None)
    return None if column is None else with_extras(row, messages(row[column], column))


def _question_and_answer(row: Watched) -> Conversation | None:
    columns = asked_and_answered(row)
    if columns is None:
        return None
    asked, answered = columns
    before = question(row, asked)
    said = answer(row[answered], answered, "assistant", before)
    return with_extras(row, behind(before, said) or before + said)


def asked_and_answered(row: Watched) -> tuple[str, str] | None:
    """The columns of a question and its answer; one that is named stands for its like."""
    pairs = (
        ("prompt" if "prompt" in row.named else asked,
         "completion" if "completion" in row.named else answered)
        for asked, answered in QUESTIONS
    )  # fmt: skip
    return next((pair for pair in pairs if {*pair} <= row.keys()), None)


def _text(row: Watched) -> str | None:
    text = row.get("text")
    return text if isinstance(text, str) else None


def with_extras(row: Row, turns: Messages) -> Conversation:
    """Messages with what stands beside them: a `system` turn, `tools`, the template's arguments."""
    system = row["system"] if "system" in row else row.get("system_prompt")
    if isinstance(system, str) and system.strip() and (not turns or turns[0]["role"] != "system"):
        turns = [{"role": "system", "content": system}, *turns]
    options = row.get("chat_template_kwargs")
    given = options.items() if isinstance(options, dict) else ()
    kept = {name: value for name, value in given if value is not None}
    functions = row["tools"] if "tools" in row else row.get("functions")
    return Conversation(turns, tools(functions), kept)


def question(row: Row, asked: str) -> Messages:
    """The turns up to an answer."""
    before: Messages = []
    for entry in row.get("history") or []:  # LLaMA-Factory's: earlier questions with their answers
        if not (isinstance(entry, list) and len(entry) == 2):
            raise ValueError(f"`history` has {shown(entry)}; give pairs of question and answer")
        before += [
            {"role": "user", "content": str(entry[0])},
            {"role": "assistant", "content": str(entry[1])},
        ]
    value = row[asked]
    for about in ABOUT.get(asked, ()):
        if isinstance(value, str) and (matter := _passages(row.get(about), about, asked)):
            value = f"{value}\n\n{matter}" if value.strip() else matter
    return before + answer(value, asked, "user")


def _passages(matter: Any, column: str, asked: str) -> str:
    """What a question is about: a text, or several, a paragraph each."""
    texts = matter if isinstance(matter, list) else [matter or ""]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"`{column}` is {shown(matter)}; give a text or a list of texts, or leave it out with "
            f"columns: {{prompt: {asked}, completion: ...}}"
        )
    return "\n\n".join(text for text in texts if text.strip())
