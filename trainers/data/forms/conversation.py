"""A row of any stage's data -> who says what in it: the one reader for training, held-out slices
and audits. Loads no torch.

A row is a conversation (`messages` or `conversations`), a question with its answer (`prompt` and
`completion`, Alpaca's `instruction` with `input` and `output`, and others: `QUESTIONS`), a pair of
answers (`chosen` and `rejected`), what is asked alone (`PROMPTS`), or plain `text`. Where a row has
several of these, the conversation is read, then the question with its answer. A row whose columns
are those of a form, of which one holds nothing (None, NaN), is empty.
"""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from trainers.data.forms.messages import Messages, answer, messages, shown, tools
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

PAIR_QUESTIONS = ("prompt", "instruction", "question", "query", "input")
"""Of pairs: columns of what is asked."""

FORMS = (
    "`messages`, `conversations`, `prompt` with `completion` or `response`, `instruction` with "
    "`output`, `question` with `answer`, `problem` with `solution`, `chosen` with `rejected`, or "
    "`text`"
)

WAY_OUT = "name the columns in the grid file, as data: {name: ..., columns: {prompt: question}}"


class Turn(NamedTuple):
    role: str
    """user, assistant, system, developer or tool; `text` for plain text, which nobody says."""
    text: str


class Conversation(NamedTuple):
    messages: Messages
    tools: Sequence[Any] = ()
    """JSON schemas of the functions that the assistant may call."""
    options: Mapping[str, Any] = MappingProxyType({})
    """The row's own arguments for the chat template (TRL's column `chat_template_kwargs`)."""


def filled(row: Row) -> Row:
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
    for column in CONVERSATIONS:
        if column in row:
            return with_extras(row, messages(row[column], column))
    for asked, answered in QUESTIONS:
        if asked in row and answered in row:
            said = answer(row[answered], answered, "assistant")
            return with_extras(row, question(row, asked) + said)
    unanswered = any(asked in row and answered in stored for asked, answered in QUESTIONS)
    if not unanswered and isinstance(row.get("text"), str):
        return row["text"]
    if {"chosen", "rejected"} <= row.keys():
        raise ValueError(
            "`chosen` and `rejected` are a pair, which stages of the kinds dpo and reward read; "
            "columns: {messages: chosen} trains on the chosen answers"
        )
    if stored & {*CONVERSATIONS, "text"} or any({*names} <= stored for names in QUESTIONS):
        return ""
    raise ValueError(f"a row with the columns {', '.join(row) or 'none'}; it needs {FORMS}: "
                     f"{WAY_OUT}")  # fmt: skip


def with_extras(row: Row, turns: Messages) -> Conversation:
    """Messages with what stands beside them: a `system` turn, `tools`, the template's arguments."""
    system = row["system"] if "system" in row else row.get("system_prompt")
    if isinstance(system, str) and system.strip() and (not turns or turns[0]["role"] != "system"):
        turns = [{"role": "system", "content": system}, *turns]
    options = row.get("chat_template_kwargs")
    given = options.items() if isinstance(options, dict) else ()
    kept = {name: value for name, value in given if value is not None}
    return Conversation(turns, tools(row.get("tools")), kept)


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


class Pair(NamedTuple):
    """What was asked, and two ways to go on; without a turn where the row lacks one of them."""

    prompt: Messages
    chosen: Messages
    rejected: Messages


def pair_of(row: Row) -> Pair:
    """A row with a chosen and a rejected answer: texts, lists of messages, or whole conversations
    that begin alike (an implicit prompt), as in TRL's preference format,
    `allenai/llama-3.1-tulu-3-8b-preference-mixture`, `allenai/ultrafeedback_binarized_cleaned` and
    the transcripts of Anthropic's HH-RLHF.

    Raises:
        ValueError: the row is no pair, or a message in it has an unknown role.
    """
    stored, row = row.keys(), filled(row)
    if not {"chosen", "rejected"} <= row.keys():
        if {"chosen", "rejected"} <= stored:
            return Pair([], [], [])
        raise ValueError(
            f"a row with the columns {', '.join(row)}; use `chosen` and `rejected`, with a "
            f"`prompt` where they are the answers alone: {WAY_OUT}"
        )
    pair = _pair(row)
    if not pair.prompt and any(side and side[0]["role"] == "system" for side in pair[1:]):
        return pair
    return pair._replace(prompt=with_extras(row, pair.prompt).messages)


def _pair(row: Row) -> Pair:
    """Without the column `system`."""
    asked = next((question(row, name) for name in PAIR_QUESTIONS if name in row), [])
    chosen, rejected = (answer(row[name], name, "assistant") for name in ("chosen", "rejected"))
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(row[name], str) and row[name].rstrip().endswith("\n\nAssistant:"):
            return Pair([], [], [])  # a transcript without an answer
        if not side or side[-1]["role"] != "assistant":
            raise ValueError(f"`{name}` is {shown(row[name])}; the assistant has no last turn")
    if all(side[0]["role"] == "assistant" for side in (chosen, rejected)):
        return Pair(asked, chosen, rejected) if asked else _implicit(chosen, rejected)
    shared = 0
    for left, right in zip(chosen[:-1], rejected[:-1], strict=False):
        if left != right:
            break
        shared += 1
    return Pair(chosen[:shared], chosen[shared:], rejected[shared:])


def _implicit(chosen: Messages, rejected: Messages) -> Pair:
    """Two texts without a prompt: the words with which both begin are what is asked, as TRL's
    `extract_prompt` has it."""
    texts = [side[0]["content"] for side in (chosen, rejected)]
    cut = os.path.commonprefix(texts).rfind(" ")  # noqa: RUF071 (no paths)
    if len(chosen) != 1 or len(rejected) != 1 or cut < 1:
        return Pair([], chosen, rejected)
    sides = ([{"role": "assistant", "content": text[cut:]}] for text in texts)
    return Pair([{"role": "user", "content": texts[0][:cut]}], *sides)


def turns(row: Row) -> list[Turn]:
    """All turns of a row, each once: the two answers of a preference share their question.

    Raises:
        ValueError: the row has none of the known forms.
    """
    return list(dict.fromkeys(_turns(row)))


def _turns(row: Row) -> list[Turn]:
    content = filled(row)
    if {"chosen", "rejected"} <= content.keys():
        pair = pair_of(row)
        return [turn for side in pair for turn in _said(side)]
    answered = any({*names} <= content.keys() for names in QUESTIONS)
    asked = next((name for name in PROMPTS if name in content), None)
    if asked and not answered and not content.keys() & {*CONVERSATIONS, "text"}:
        return _said(with_extras(content, question(content, asked)).messages)
    read = conversation(row)
    return [Turn("text", read)] if isinstance(read, str) else _said(read.messages)


def _said(turns: Messages) -> list[Turn]:
    return [Turn(turn["role"], turn["content"]) for turn in turns]
