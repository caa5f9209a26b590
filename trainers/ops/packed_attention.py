"""Examples -> one row of tokens without padding, in which none attends to another.

transformers hands the row's lengths through to an attention function of ours, which runs each
example by itself: with FlashAttention's kernel for lengths that vary, in torch, where a GPU has it,
and example by example elsewhere. A model that cannot be proven to take such rows gets padded ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, PreTrainedModel

from trainers.data.tokenize import IGNORED

ATTENTION = "packed"

PROOF = (5, 3, 1)
"""Lengths of the random examples that in one row have to give what they give alone."""

TOLERANCE = 1e-3
"""Of the relative distance of the two, in float32."""


@dataclass(frozen=True)
class Example:
    """Tokens and labels of one example, int64 and of equal length."""

    ids: torch.Tensor
    labels: torch.Tensor

    @cached_property
    def places(self) -> torch.Tensor:
        """Where a token that counts is predicted: the one before it, so a label on the first token
        does not count."""
        return (self.labels[1:] != IGNORED).nonzero()[:, 0]

    @cached_property
    def length(self) -> int:
        """Tokens that the loss hangs on: all before the last one that counts."""
        return int(self.places[-1]) + 1 if len(self.places) else 0

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def loss_tokens(self) -> int:
        return len(self.places)


class Segments(NamedTuple):
    """How a packed row is cut into examples."""

    lengths: tuple[int, ...]
    bounds: torch.Tensor
    """Cumulative lengths from zero, int32, on the device."""


class Rows(NamedTuple):
    """The input of one forward pass, and what it is to predict."""

    input_ids: torch.Tensor
    """(1, tokens) if packed, else (examples, longest), padded at the end."""
    position_ids: torch.Tensor | None
    """None if padded, as `segments`."""
    segments: Segments | None
    places: torch.Tensor
    """Where in the flattened rows a token that counts is predicted, (targets,)."""
    targets: torch.Tensor
    """The tokens that count, (targets,)."""
    owners: torch.Tensor
    """The example that each of them belongs to, (targets,)."""

    @property
    def options(self) -> dict[str, Any]:
        """What a transformers model takes. Padding stands at the end, where causal attention does
        not see it, so no mask is needed."""
        found: dict[str, Any] = {"input_ids": self.input_ids, "use_cache": False}
        if self.segments is not None:
            found |= {"position_ids": self.position_ids, "segments": self.segments}
        return found


def rows(examples: Sequence[Example], packed: bool, device: torch.device) -> Rows:
    """Examples as one packed row, or as padded ones; what follows an example's last token that
    counts is left out."""
    lengths = [example.length for example in examples]
    ids = [one.ids[:length] for one, length in zip(examples, lengths, strict=True)]
    bounds = np.cumsum([0, *lengths])
    starts = bounds[:-1] if packed else np.arange(len(lengths)) * max(lengths)
    places = [one.places + int(start) for one, start in zip(examples, starts, strict=True)]
    targets = [one.labels[1:][one.places] for one in examples]
    counts = torch.tensor([one.loss_tokens for one in examples])
    owners = torch.arange(len(examples)).repeat_interleave(counts)
    ends = (torch.cat(places), torch.cat(targets), owners)
    if not packed:
        padded = pad_sequence(ids, batch_first=True)
        return Rows(_on(padded, device), None, None, *(_on(part, device) for part in ends))
    positions = torch.cat([torch.arange(length) for length in lengths])
    return Rows(
        _on(torch.cat(ids)[None], device),
        _on(positions[None], device),
        Segments(tuple(lengths), _on(torch.from_numpy(bounds.astype(np.int32)), device)),
        *(_on(part, device) for part in ends),
    )


def _on(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    segments: Segments | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each segment; (1, heads, tokens, size) to (1, tokens, heads, size).

    Without segments every row is one.
    """
    grouped = query.shape[1] != key.shape[1]
    half = query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)
    if half and segments is not None and not dropout:
        from torch.nn.attention.varlen import varlen_attn

        longest = max(segments.lengths)
        q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        bounds = segments.bounds
        out: Any = varlen_attn(
            q, k, v, bounds, bounds, longest, longest,
            scale=scaling, window_size=(-1, 0), enable_gqa=grouped,
        )  # fmt: skip
        return out[None], None
    lengths = list(segments.lengths if segments else query.shape[2:3])
    parts = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    found = [
        scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=grouped
        )
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(found, dim=2).transpose(1, 2), None


AttentionInterface.register(ATTENTION, attention)


@contextmanager
def used(model: PreTrainedModel) -> Iterator[bool]:
    """While open, the model has packed attention where it takes it; gives whether it does."""
    before: Any = model.config._attn_implementation
    model.eval()
    expected = [_hidden(model, rows([one], False, model.device)) for one in _proof(model)]
    model.set_attn_implementation(ATTENTION)
    try:
        packed = before == "sdpa" and _takes(model, torch.cat(expected))
        if not packed:
            model.set_attn_implementation(before)
        yield packed
    finally:
        model.set_attn_implementation(before)


def _proof(model: PreTrainedModel) -> list[Example]:
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(vocabulary, (n + 1,), generator=generator) for n in PROOF]
    return [Example(one, one) for one in ids]


def _takes(model: PreTrainedModel, expected: torch.Tensor) -> bool:
    """Whether examples in one row get the hidden states that each gets alone.

    A model that carries a state along the row fails this; one whose layers look back over a window
    would pass with short examples, so it is told by its configuration.
    """
    if getattr(model.config.get_text_config(), "sliding_window", None) is not None:
        return False
    try:
        found = _hidden(model, rows(_proof(model), True, model.device))
    except (TypeError, ValueError):
        return False
    return bool((found - expected).norm() < TOLERANCE * expected.norm())


@torch.no_grad()
def _hidden(model: PreTrainedModel, one: Rows) -> torch.Tensor:
    return model.base_model(**one.options).last_hidden_state.flatten(0, 1)
