"""Sampling by random numbers of each completion's own, so that what is written depends neither on
the completions beside it nor on the process that writes it, but for rounding."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList


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


@contextmanager
def drawn(model: Any, sampler: LogitsProcessor) -> Iterator[None]:
    """Have `model.generate` take the tokens that the sampler leaves, each process for itself."""
    samplers = LogitsProcessorList([sampler])
    model.generate = partial(model.generate, logits_processor=samplers, synced_gpus=False)
    try:
        yield
    finally:
        del model.generate
