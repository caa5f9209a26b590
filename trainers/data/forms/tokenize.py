"""One row -> the tokens that the model reads, and which of them count in the loss."""

import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from transformers import PreTrainedTokenizerBase

from trainers.data.forms.conversation import conversation
from trainers.data.forms.messages import transcript
from trainers.data.forms.rendering import Rendering
from trainers.data.rows.stored_rows import Row

IGNORED = -100
"""The label of a token that does not count in the loss (torch's ignore_index)."""


TURNS = re.compile(r"<\|(?:im_start|start_header_id|user|assistant)\|>|<start_of_turn>|\[INST\]")
"""Marks of turns in texts that other chat templates wrote ..."""

ASKED = re.compile(r"### ?(?:Human|User|Instruction):")
ANSWERED = re.compile(r"### ?(?:Assistant|Response):")
"""... and two that are one together: the other after the one."""


class Text(NamedTuple):
    """A row as the model reads it."""

    text: str
    spans: list[tuple[int, int]] | None
    """Character ranges that count in the loss; None where all do."""
    blank: bool
    """Whether nothing but white space was to count."""
    folded: bool = False
    """Whether the system turn stands in the first user turn, as the template has none."""
    rendered: bool = False
    """Whether it is a plain text that holds a conversation, all of which counts."""
    spaced: bool = False
    """Whether an answer begins with white space, as texts do that TRL joins to their prompt."""
    left_out: frozenset[str] = frozenset()
    """What of the row's messages it does not have, in words."""
    worded: bool = False
    """Whether it is a prompt whose truth is in words."""


def encode(
    texts: list[Text], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and labels of each."""
    if not texts:
        return
    encoded = _with_exact_offsets(tokenizer)(
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


_exact: WeakKeyDictionary[PreTrainedTokenizerBase, PreTrainedTokenizerBase] = WeakKeyDictionary()


def _with_exact_offsets(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, or where its post-processor takes white space out of the offsets, as that of
    GPT-2's family does by default, a copy without one: no special tokens are asked of it."""
    own: Any = tokenizer
    if "trim_offsets=True" not in repr(own.backend_tokenizer.post_processor):
        return tokenizer
    if tokenizer not in _exact:
        exact: Any = copy.deepcopy(tokenizer)
        exact.backend_tokenizer.post_processor = None
        _exact[tokenizer] = exact
    return _exact[tokenizer]


def text_of(row: Row, tokenizer: PreTrainedTokenizerBase, loss_on: str) -> Text:
    """A conversation, a prompt with its completion, or a text.

    With `loss_on: assistant` each assistant turn counts, up to and including its end token. Plain
    text begins as the tokenizer begins every text, ends with the end token and counts in full.

    Raises:
        ValueError: the row has none of the known forms, or the chat template refuses it.
    """
    talk = conversation(row)
    if isinstance(talk, str):
        return _plain(talk, tokenizer, loss_on)
    counted = [
        turn
        for turn in talk.messages
        if (loss_on == "all" or turn["role"] == "assistant") and turn.get("weight") != 0
    ]
    says = any(turn["content"].strip() or turn.get("tool_calls") for turn in counted)
    if (counted or not talk.messages) and not says:
        return Text("", [], blank=True)
    rendering = Rendering.of(tokenizer)
    spaced = any(
        turn["role"] == "assistant" and turn["content"][:1].isspace() for turn in talk.messages
    )
    read = rendering.text(talk) if loss_on == "all" else rendering.with_spans(talk)
    spans = None if loss_on == "all" else read.spans
    return Text(read.text, spans, False, read.folded, spaced=spaced, left_out=read.left_out)


def _plain(text: str, tokenizer: PreTrainedTokenizerBase, loss_on: str) -> Text:
    """A text between the tokenizer's first and end token, where it does not have them already."""
    rendering, end = Rendering.of(tokenizer), str(tokenizer.eos_token or "")
    inside = text.removeprefix(rendering.opening)
    has_end = bool(end) and inside.rstrip().endswith(end)
    marked = inside.rstrip().removesuffix(end) if has_end else inside
    talk = any(mark in marked for mark in rendering.marks) or _has_turns(text)
    rendered = loss_on != "all" and bool(talk or transcript(text))
    whole = rendering.opening + inside + ("" if has_end else end)
    return Text(whole, None, blank=not text.strip(), rendered=rendered)


def _has_turns(text: str) -> bool:
    asked = ASKED.search(text)
    answered = asked is not None and ANSWERED.search(text, asked.end()) is not None
    return answered or TURNS.search(text) is not None
