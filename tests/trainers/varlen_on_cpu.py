"""The operator of `torch.nn.attention.varlen`, computed on a CPU: what a GPU's kernel gives."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.nn.attention import varlen

from trainers.ops import half_weights, packed_attention


def _segments(bounds: torch.Tensor, *tensors: torch.Tensor) -> Any:
    """(tokens, heads, size) each -> (heads, tokens, size) in float32, segment by segment."""
    lengths = bounds.diff().tolist()
    parts = (tensor.transpose(0, 1).float().split(lengths, dim=1) for tensor in tensors)
    return zip(*parts, strict=True)


def _scores(q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
    future = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).triu(1)
    return (scale * q @ k.transpose(1, 2)).masked_fill(future, float("-inf")).softmax(dim=-1)


def forward(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, scale=None,
    window_size=None, enable_gqa=False, seqused_k=None, block_table=None, num_splits=None,
):  # fmt: skip
    assert is_causal
    assert max_q == int(cu_seq_q.diff().max())
    assert query.dtype == key.dtype == value.dtype in (torch.bfloat16, torch.float16)
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    outputs = []
    for q, k, v in _segments(cu_seq_q, query, key, value):
        scores = _scores(q, k.repeat_interleave(groups, 0), scale)
        outputs.append(scores @ v.repeat_interleave(groups, 0))
    out = torch.cat(outputs, dim=1).transpose(0, 1).to(query.dtype).contiguous()
    lse = torch.zeros(query.shape[1], query.shape[0])
    return out, lse, torch.zeros(2, dtype=torch.uint64)


def backward(
    grad_out, query, key, value, out, lse, cu_seq_q, cu_seq_k, max_q, max_k, is_causal, rng_state,
    scale=None, window_size=None,
):  # fmt: skip
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    parts = []
    for q, k, v, above in _segments(cu_seq_q, query, key, value, grad_out):
        keys, values = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
        scores = _scores(q, keys, scale)
        to_scores = above @ values.transpose(1, 2)
        to_products = scores * (to_scores - (to_scores * scores).sum(dim=-1, keepdim=True))
        to_keys = scale * to_products.transpose(1, 2) @ q
        to_values = scores.transpose(1, 2) @ above
        shared = (len(k), groups, *k.shape[1:])
        parts.append((
            scale * to_products @ keys,
            to_keys.view(shared).sum(dim=1),
            to_values.view(shared).sum(dim=1),
        ))  # fmt: skip
    return tuple(
        torch.cat(gradients, dim=1).transpose(0, 1).to(query.dtype).contiguous()
        for gradients in zip(*parts, strict=True)
    )


@contextmanager
def used() -> Iterator[list[tuple[torch.dtype, ...]]]:
    """As `chosen`; yields the dtypes of query, key and value of each call."""
    calls: list[tuple[torch.dtype, ...]] = []
    plain = varlen.varlen_attn

    def counted(query: Any, key: Any, value: Any, *arguments: Any, **named: Any) -> Any:
        calls.append((query.dtype, key.dtype, value.dtype))
        return plain(query, key, value, *arguments, **named)

    with chosen(), mock.patch.object(varlen, "varlen_attn", counted):
        yield calls


@contextmanager
def chosen() -> Iterator[None]:
    """While open, packed attention takes the path that a GPU takes."""
    with (
        mock.patch.object(packed_attention, "has_kernel", _half),
        mock.patch.object(half_weights, "DEVICES", ("cpu",)),
    ):
        yield


def _half(query: torch.Tensor) -> bool:
    return query.dtype in (torch.bfloat16, torch.float16)


varlen._varlen_attn.register_kernel("cpu", forward)
varlen._varlen_attn_backward.register_kernel("cpu", backward)
