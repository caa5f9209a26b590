"""A row with a chosen and a rejected answer -> what was asked, and both. Loads no torch."""

import os
from typing import NamedTuple

from trainers.data.forms.conversation import (
    CONVERSATIONS,
    WAY_OUT,
    filled,
    question,
    with_extras,
)
from trainers.data.forms.messages import (
    Messages,
    answer,
    are_messages,
    behind,
    messages,
    parsed_messages,
    shown,
)
from trainers.data.rows.stored_rows import Row
from trainers.data.rows.watched import Watched

PAIR_QUESTIONS = ("prompt", "instruction", "question", "query", "input")
"""Columns of what is asked."""


class Pair(NamedTuple):
    """What was asked, and two ways to go on; without a turn where the row lacks one of them."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    apart: str = ""
    """The column of a question that is no part of the answers, whole conversations themselves, and
    so of no example."""


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
    lacks = (stored - row.keys()) & {*PAIR_QUESTIONS}
    pair = _pair(row, guess=not lacks)
    if not pair.prompt and any(side and side[0]["role"] == "system" for side in pair[1:3]):
        return pair
    return pair._replace(prompt=with_extras(row, pair.prompt).messages)


def _pair(row: Watched, guess: bool) -> Pair:
    """Without the column `system`. Answers alone, whose question no column has, are empty where
    it is not to be guessed."""
    column = next(iter(row.first_named((*PAIR_QUESTIONS, *CONVERSATIONS))), None)
    asked = [] if column is None else _pair_question(row, column)
    chosen, rejected = (
        answer(row[name], name, "assistant", asked) for name in ("chosen", "rejected")
    )
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        said = row[name].strip() if isinstance(row[name], str) else ""
        if said.startswith("Human:") and said.endswith("\n\nAssistant:"):
            return Pair([], [], [])  # a transcript without an answer
        if not side or side[-1]["role"] != "assistant":
            raise ValueError(f"`{name}` is {shown(row[name])}; the assistant has no last turn")
    if all(side[0]["role"] == "assistant" for side in (chosen, rejected)):
        if not asked and not guess:
            return Pair([], [], [])
        return Pair(asked, chosen, rejected) if asked else _implicit(row, chosen, rejected)
    apart = ""
    whole, other = (behind(asked, side) for side in (chosen, rejected))
    if whole is not None and other is not None:
        chosen, rejected = whole, other
    elif column is not None and isinstance(row[column], str):
        said = asked[-1]["content"].strip()
        apart = "" if any(said in turn["content"] for turn in chosen + rejected) else column
    else:
        name, side = ("chosen", chosen) if whole is None else ("rejected", rejected)
        raise ValueError(
            f"`{column}` ends with {shown(asked[-1]['content'])} and `{name}` begins with "
            f"{shown(side[0]['content'])}; give the turns before the answer once"
        )
    shared = 0
    for left, right in zip(chosen[:-1], rejected[:-1], strict=False):
        if left != right:
            break
        shared += 1
    return Pair(chosen[:shared], chosen[shared:], rejected[shared:], apart)


def _pair_question(row: Watched, column: str) -> Messages:
    """The turns up to the answers."""
    if column in PAIR_QUESTIONS:
        return question(row, column)
    turns = messages(row[column], column)
    while turns and turns[-1]["role"] == "assistant":
        turns.pop()
    return turns


def _implicit(row: Watched, chosen: Messages, rejected: Messages) -> Pair:
    """Two texts without a prompt: the words with which both begin are what is asked, as TRL's
    `extract_prompt` has it.

    Raises:
        ValueError: another column holds messages, so the question probably stands there.
    """
    for column, value in dict(row).items():
        if column not in row.read and are_messages(parsed_messages(value), known=True):
            raise ValueError(
                f"no column says what is asked, and `{column}` holds messages; name it as data: "
                f"{{name: ..., columns: {{messages: {column}}}}}"
            )
    if not (isinstance(row["chosen"], str) and isinstance(row["rejected"], str)):
        return Pair([], chosen, rejected)
    texts = [side[0]["content"] for side in (chosen, rejected)]
    cut = os.path.commonprefix(texts).rfind(" ")  # noqa: RUF071 (no paths)
    if len(chosen) != 1 or len(rejected) != 1 or cut < 1:
        return Pair([], chosen, rejected)
    left, right = ([{"role": "assistant", "content": text[cut:]}] for text in texts)
    return Pair([{"role": "user", "content": texts[0][:cut]}], left, right)
