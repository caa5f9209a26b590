"""Sampling by random numbers of each completion's own, so that what is written depends neither on
the completions beside it nor on the process that writes it, but for rounding. So they are written
in chunks, of as many at a time as the memory holds."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import LogitsProcessor, LogitsProcessorList

from trainers.inference.token_budget import CPU_KEYS, GPU_SHARE
from trainers.ops.memory import out_of_memory, release, room_on
from trainers.processes import attempt


def numbers(seed: int, step: int, places: Sequence[int], each: int, tokens: int) -> np.ndarray:
    """Completions x tokens, uniform on [0, 1): `each` completions of the prompt at every place of
    the batch of a step, one after another."""
    return np.stack(
        [
            np.random.default_rng([seed, step, place, completion]).random(tokens)
            for place in places
            for completion in range(each)
        ]
    )


class Inverse(LogitsProcessor):
    """Leaves each row the one token at which the cumulative probability passes its next number: a
    sample of softmax(scores / temperature), by inversion."""

    def __init__(self, numbers: np.ndarray, temperature: float):
        self._numbers, self._temperature, self._taken = torch.tensor(numbers), temperature, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._numbers = self._numbers.to(scores.device)
        probabilities = (scores.float() / self._temperature).softmax(dim=-1)
        passed = probabilities.cumsum(dim=-1, dtype=torch.float64)
        number = self._numbers[:, self._taken, None] * passed[:, -1:]
        token = torch.searchsorted(passed, number, right=True).clamp(max=scores.shape[1] - 1)
        self._taken += 1
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


class Chunks:
    """How many completions are written at a time: what fits, and half as many from then on where
    memory runs out."""

    def __init__(self) -> None:
        self.most = sys.maxsize

    def rows(self, model: Any, prompt: int, new: int) -> int:
        return max(min(fitting(model, prompt, new), self.most), 1)


def fitting(model: Any, prompt: int, new: int) -> int:
    """Completions of so many new tokens, by their keys and values, and on a GPU by one layer's
    activations of their prompts and by their logits too; all of a model without attention."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if not heads:
        return sys.maxsize
    width, size = config.hidden_size, model.dtype.itemsize
    head = getattr(config, "head_dim", None) or width // heads
    keys = (getattr(config, "num_key_value_heads", None) or heads) * head
    kept = 2 * config.num_hidden_layers * keys * (prompt + new) * size
    if model.device.type != "cuda":
        return CPU_KEYS // kept
    inner = getattr(config, "intermediate_size", None) or 4 * width
    passing = prompt * (12 * width + 3 * inner + 6 * heads * head + prompt) * size
    logits = 24 * config.vocab_size  # in float32, twice, and cumulated in float64
    return int(GPU_SHARE * room_on(model.device) / max(kept, passing + logits))


@contextmanager
def drawn(
    model: Any, numbers: np.ndarray, temperature: float, padding: int, chunks: Chunks
) -> Iterator[None]:
    """Have `model.generate` sample by the numbers, a row of them for each completion, in chunks and
    each process for itself; what ends before the longest is filled up with the token `padding`."""
    model.generate = partial(
        _generate, model, model.generate, numbers, temperature, padding, chunks
    )
    try:
        yield
    finally:
        del model.generate


def _generate(
    model: Any,
    generate: Callable[..., torch.Tensor],
    numbers: np.ndarray,
    temperature: float,
    padding: int,
    chunks: Chunks,
    *,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    **options: Any,
) -> torch.Tensor:
    written: list[torch.Tensor] = []
    start, (count, prompt) = 0, input_ids.shape
    while start < count:
        rows = min(chunks.rows(model, prompt, numbers.shape[1]), count - start)
        part = slice(start, start + rows)
        left = int(attention_mask[part].argmax(dim=1).min())  # padding that no prompt here needs
        sampler = Inverse(numbers[part], temperature)
        try:
            said = generate(
                input_ids=input_ids[part, left:],
                attention_mask=attention_mask[part, left:],
                logits_processor=LogitsProcessorList([sampler]),
                synced_gpus=False,
                **options,
            )
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or rows == 1:
                raise
            said = None
        if said is None:  # not in the handler: the error holds the tensors of the failed pass
            chunks.most = rows // 2
            release()
            continue
        written.append(said[:, prompt - left :])
        start += rows
    longest = max(said.shape[1] for said in written)
    filled = [pad(said, (0, longest - said.shape[1]), value=padding) for said in written]
    return torch.cat([input_ids, torch.cat(filled)], dim=1)


@contextmanager
def signed(*models: torch.nn.Module) -> Iterator[None]:
    """While open, each pass of the models is a sign of progress."""
    sign = partial(attempt.sign, "writing completions")
    hooks = [model.register_forward_pre_hook(lambda *_: sign()) for model in models]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
