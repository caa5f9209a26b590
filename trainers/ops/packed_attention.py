"""Examples -> one row of tokens without padding, in which none attends to another.

transformers passes the row's lengths on to our attention function. On a GPU it calls the
FlashAttention kernel for sequences of varying length (`torch.nn.attention.varlen`) once per layer;
elsewhere it calls SDPA once per example. A model that fails the proof gets padded rows.

The weights are float32 and autocast is on. RoPE multiplies by cos and sin in the dtype of the
embeddings, so queries and keys arrive in float32 and values in the autocast dtype: attention casts
all three first, because the kernel takes half precision alone.
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

from trainers.data.forms.tokenize import IGNORED
from trainers.ops.forward_pass import inside

ATTENTION = "packed"

PROOF = (5, 3, 1)
"""Lengths of the random examples whose hidden states must be the same in one row and alone."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""Relative L2 distance of the hidden states in a row and alone, by the dtype of the products."""

LARGEST_HEAD = 256
"""Head size that the FlashAttention kernel takes at most; it must be a multiple of 8."""


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
    longest: int
    bounds: torch.Tensor
    """Cumulative lengths from zero, through all rows one after the other, int32, on the device."""


class Rows(NamedTuple):
    """The input of one forward pass, and what it is to predict."""

    input_ids: torch.Tensor
    """(lanes, tokens) if packed, else (lanes * examples, longest), padded at the end; lane by lane,
    and the same in each."""
    position_ids: torch.Tensor | None
    """None if padded, as `segments`."""
    segments: Segments | None
    places: torch.Tensor
    """Where in a lane's flattened rows a token that counts is predicted, (targets,)."""
    targets: torch.Tensor
    """The tokens that count, (targets,)."""
    owners: torch.Tensor
    """The example that each of them belongs to, (targets,)."""

    @property
    def examples(self) -> int:
        """Of all lanes, if padded."""
        return len(self.input_ids) if self.segments is None else len(self.segments.lengths)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of a transformers model. Padding stands at the end, where causal attention does
        not see it, so no mask is needed."""
        options: dict[str, Any] = {"input_ids": self.input_ids, "use_cache": False}
        if self.segments is not None:
            options |= {"position_ids": self.position_ids, "segments": self.segments}
        return options


def rows(examples: Sequence[Example], packed: bool, device: torch.device, lanes: int = 1) -> Rows:
    """Examples as one packed row, or as padded ones, for each of `lanes` models that are trained
    together; tokens after an example's last token that counts are left out. All tensors reach the
    device in one copy."""
    lengths = [example.length for example in examples]
    ids = [example.ids[:length] for example, length in zip(examples, lengths, strict=True)]
    bounds = np.cumsum([0, *lengths])
    starts = bounds[:-1] if packed else np.arange(len(lengths)) * max(lengths)
    places = [example.places + int(start) for example, start in zip(examples, starts, strict=True)]
    targets = [example.labels[1:][example.places] for example in examples]
    counts = torch.tensor([example.loss_tokens for example in examples])
    owners = torch.arange(len(examples)).repeat_interleave(counts)
    parts = [torch.cat(places), torch.cat(targets), owners]
    if not packed:
        (padded,) = to_device([pad_sequence(ids, batch_first=True)], device)
        places_there, targets_there, owners_there = to_device(parts, device)
        padded = padded.repeat(lanes, 1)
        return Rows(padded, None, None, places_there, targets_there, owners_there)
    positions = torch.cat([torch.arange(length) for length in lengths])
    edges = torch.from_numpy(np.cumsum([0, *lengths * lanes]))
    parts += [torch.cat(ids)[None], positions[None], edges]
    *ends, row, positions, edges = to_device(parts, device)
    segments = Segments(tuple(lengths), max(lengths), edges.int())
    return Rows(row.expand(lanes, -1), positions, segments, *ends)


def to_device(parts: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Tensors of one dtype, copied to the device together; the host does not wait for the copy."""
    flat = torch.cat([part.flatten() for part in parts])
    if device.type == "cuda":
        flat = flat.pin_memory()
    moved = flat.to(device, non_blocking=True).split([part.numel() for part in parts])
    return [new.view(part.shape) for new, part in zip(moved, parts, strict=True)]


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
    """Causal attention within each segment of each row; (rows, heads, tokens, size) to
    (rows, tokens, heads, size).

    Without segments every row is one.
    """
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    grouped = query.shape[1] != key.shape[1]
    if segments is not None and not dropout and has_kernel(query):
        from torch.nn.attention.varlen import varlen_attn  # seconds, and a CPU needs none of it

        q, k, v = (
            tensor.transpose(1, 2).flatten(0, 1).contiguous() for tensor in (query, key, value)
        )
        bounds, longest = segments.bounds, segments.longest
        out: Any = varlen_attn(
            q, k, v, bounds, bounds, longest, longest,
            scale=scaling, window_size=(-1, 0), enable_gqa=grouped,
        )  # fmt: skip
        return out.unflatten(0, (query.shape[0], query.shape[2])), None
    if grouped and query.is_cuda and query.dtype == torch.float32:
        # SDPA's only float32 kernel for grouped heads makes the whole matrix of scores
        repeats = query.shape[1] // key.shape[1]
        key, value = (tensor.repeat_interleave(repeats, dim=1) for tensor in (key, value))
        grouped = False
    lengths = list(segments.lengths if segments else query.shape[2:3])
    parts = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    outputs = [
        scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=grouped
        )
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def has_kernel(query: torch.Tensor) -> bool:
    """Whether the FlashAttention kernel for varying lengths takes queries like these."""
    size = query.shape[-1]
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and size % 8 == 0 and size <= LARGEST_HEAD


AttentionInterface.register(ATTENTION, attention)


@contextmanager
def used(model: PreTrainedModel, bfloat16: bool = False, float32: bool = True) -> Iterator[bool]:
    """While open, the model has packed attention if it passes the proof; yields whether it does.

    The proof runs in float32, which shows what the model computes, unless its weights are gathered
    in bfloat16; and, with `bfloat16`, under the autocast of the training, which shows what its
    kernels compute.
    """
    before: Any = model.config._attn_implementation
    model.eval()
    dtypes = [*([torch.float32] if float32 else []), *([torch.bfloat16] if bfloat16 else [])]
    expected = _alone(model, dtypes)
    model.set_attn_implementation(ATTENTION)
    try:
        packed = before == "sdpa" and _takes(model, expected)
        if not packed:
            model.set_attn_implementation(before)
        yield packed
    finally:
        model.set_attn_implementation(before)


def proof(model: PreTrainedModel) -> list[Example]:
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(vocabulary, (n + 1,), generator=generator) for n in PROOF]
    return [Example(tokens, tokens) for tokens in ids]


def _alone(
    model: PreTrainedModel, dtypes: Sequence[torch.dtype]
) -> dict[torch.dtype, torch.Tensor]:
    """Hidden states of the proof's examples, each by itself, by the dtype of the products."""
    return {
        dtype: torch.cat(
            [_hidden(model, rows([text], False, model.device), dtype) for text in proof(model)]
        )
        for dtype in dtypes
    }


def _takes(model: PreTrainedModel, expected: dict[torch.dtype, torch.Tensor]) -> bool:
    """Whether examples in one row get the hidden states that each gets alone.

    A model that carries a state along the row fails this. One whose layers look back over a window
    would pass with short examples, so its configuration decides.
    """
    if getattr(model.config.get_text_config(), "sliding_window", None) is not None:
        return False
    row = rows(proof(model), True, model.device)
    for dtype, alone in expected.items():
        try:
            together = _hidden(model, row, dtype)
        except (TypeError, ValueError):
            return False
        if not (together - alone).norm() < TOLERANCE[dtype] * alone.norm():
            return False
    return True


@torch.no_grad()
def _hidden(model: PreTrainedModel, row: Rows, dtype: torch.dtype) -> torch.Tensor:
    with torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        output: Any = inside(model, lambda model: model.base_model(**row.options))
        return output.last_hidden_state.flatten(0, 1).float()
