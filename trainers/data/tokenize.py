"""One row -> the tokens that the model reads, and which of them count in the loss.

Labels are made here, not by the chat template's generation marks: SmolLM2's template has none.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from trainers.data.sources import Row

IGNORED = -100
"""The label of a token that does not count in the loss (torch's ignore_index)."""


class Text(NamedTuple):
    """A row as the model reads it."""

    text: str
    spans: list[tuple[int, int]] | None
    """Character ranges that count in the loss; None where all do."""
    blank: bool
    """Whether nothing but white space was to count."""


def tokenise(row: Row, tokenizer: PreTrainedTokenizerBase, loss_on: str) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a conversation, a prompt with its completion, or a text.

    With `loss_on: assistant` the labels are the tokens of each assistant turn up to and including
    its end token. Plain text ends with the end token and counts in full.

    Raises:
        ValueError: the row has none of the three forms, or the template rewrites earlier turns.
    """
    ((ids, labels),) = encode([text_of(row, tokenizer, loss_on)], tokenizer)
    return {"input_ids": ids.tolist(), "labels": labels.tolist()}


def encode(
    texts: list[Text], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and labels of each."""
    if not texts:
        return
    encoded = tokenizer(
        [text.text for text in texts],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,  # it warns of rows that are cut later
    )
    for text, ids, offsets in zip(
        texts, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        tokens = np.array(ids, dtype=np.int32)
        if text.spans is None:
            yield tokens, tokens
            continue
        starts, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
        counted = np.zeros(len(tokens), dtype=bool)
        for low, high in text.spans:
            counted |= (low <= starts) & (starts < high)
        yield tokens, np.where(counted & (starts < ends), tokens, np.int32(IGNORED))


def text_of(row: Row, tokenizer: PreTrainedTokenizerBase, loss_on: str) -> Text:
    if "text" in row:
        return Text(row["text"] + (tokenizer.eos_token or ""), None, not row["text"].strip())
    messages = _messages(row)
    said = [
        message["content"]
        for message in messages
        if loss_on == "all" or message["role"] == "assistant"
    ]
    if (said or not messages) and not any((part or "").strip() for part in said):
        return Text("", [], blank=True)
    text = render(tokenizer, messages)
    spans = None if loss_on == "all" else list(assistant_spans(tokenizer, messages, text))
    return Text(text, spans, blank=False)


def _messages(row: Row) -> list[dict[str, Any]]:
    if "messages" in row:
        return row["messages"]
    if "prompt" in row and "completion" in row:
        prompt, completion = row["prompt"], row["completion"]
        prompt = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        answer = completion if isinstance(completion, list) else None
        return prompt + (answer or [{"role": "assistant", "content": completion}])
    raise ValueError(
        f"a row with columns {sorted(row)}; use `messages`, `prompt` and `completion`, or `text`"
    )


def assistant_spans(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], text: str, first: int = 0
) -> Iterator[tuple[int, int]]:
    """Character ranges of what the assistant writes from message `first` on, without the line break
    after its end token."""
    for turn, message in enumerate(messages):
        if turn < first or message["role"] != "assistant":
            continue
        before = render(tokenizer, messages[:turn], add_generation_prompt=True)
        last = turn + 1 == len(messages)
        through = (text if last else render(tokenizer, messages[: turn + 1])).rstrip()
        if not (text.startswith(before) and text.startswith(through)):
            raise ValueError(
                "the chat template rewrites earlier turns, so the assistant's tokens cannot be "
                "told apart; use loss_on: all"
            )
        yield len(before), len(through)


def render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], **options) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
