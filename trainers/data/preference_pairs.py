"""A row with a chosen and a rejected answer -> the two texts that a model reads.

The answers are texts, lists of messages, or whole conversations that begin alike, as in TRL's
preference format, `allenai/llama-3.1-tulu-3-8b-preference-mixture` and
`allenai/ultrafeedback_binarized_cleaned`.
"""

from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from trainers.data.sources import Row
from trainers.data.tokenize import Text, assistant_spans, render

Messages = list[dict[str, Any]]


class Pair(NamedTuple):
    """What was asked, and two ways to go on."""

    prompt: Messages
    chosen: Messages
    rejected: Messages


def read(row: Row) -> Pair:
    """
    Raises:
        ValueError: the row is no pair.
    """
    if not {"chosen", "rejected"} <= row.keys():
        raise ValueError(
            f"a row with columns {sorted(row)}; use `chosen` and `rejected`, with a `prompt` where "
            "they are the answers alone"
        )
    chosen, rejected = (_messages(row[name], "assistant") for name in ("chosen", "rejected"))
    if all(side and side[0]["role"] == "assistant" for side in (chosen, rejected)):
        return Pair(_messages(row.get("prompt") or [], "user"), chosen, rejected)
    shared = 0
    for left, right in zip(chosen[:-1], rejected[:-1], strict=False):
        if left != right:
            break
        shared += 1
    return Pair(chosen[:shared], chosen[shared:], rejected[shared:])


def texts(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[Text, Text]:
    """The chosen and the rejected one, each up to its last token that counts. What the assistant
    writes after the prompt counts. Two answers that are the same, or an empty one, are blank.

    Raises:
        ValueError: the row is no pair, or the template rewrites earlier turns.
    """
    pair = read(row)
    said = [[message["content"] for message in side] for side in (pair.chosen, pair.rejected)]
    if said[0] == said[1] or not all(any((part or "").strip() for part in side) for side in said):
        blank = Text("", [], blank=True)
        return blank, blank
    return rendered(pair, tokenizer)


def rendered(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> tuple[Text, Text]:
    """The chosen and the rejected one, whatever they say.

    Raises:
        ValueError: the template rewrites earlier turns, or an answer is not the assistant's.
    """
    return _text(pair.prompt, pair.chosen, tokenizer), _text(pair.prompt, pair.rejected, tokenizer)


def _text(prompt: Messages, answer: Messages, tokenizer: PreTrainedTokenizerBase) -> Text:
    messages = prompt + answer
    text = render(tokenizer, messages)
    spans = list(assistant_spans(tokenizer, messages, text, first=len(prompt)))
    if not spans:
        raise ValueError("an answer has no turn of the assistant")
    return Text(text[: spans[-1][1]], spans, blank=False)


def _messages(value: Any, role: str) -> Messages:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)
