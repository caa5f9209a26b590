"""Log-probabilities of texts under a model, in packed micro-batches and without a gradient."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from trainers import attempt
from trainers.models import load
from trainers.ops import batching, memory, packed_attention
from trainers.ops.chunked_loss import Head
from trainers.ops.memory import out_of_memory
from trainers.ops.packed_attention import Example, Rows
from trainers.ops.pairs import cut

PAIRS_AT_A_TIME = {"cpu": 256, "cuda": 4096}
"""Pairs whose tokens are in memory at once."""

SMALLEST_BUDGET = 64
"""Tokens; what does not fit with this does not fit."""

Score = Callable[[Rows], torch.Tensor]
"""Of a micro-batch, (texts,), on the device."""


def losses(loaded: load.Loaded, examples: list[Example], bfloat16: bool) -> torch.Tensor:
    """The sum over each example's tokens that count, (examples,), float32 on the CPU."""
    with _losses_of(loaded, bfloat16) as losses_of:
        return losses_of(examples)


Keep = Callable[[np.ndarray], None]
"""Told now and then of all values so far, so that another start can go on from them."""


def pair_log_probabilities(
    loaded: load.Loaded,
    pairs: Dataset,
    bfloat16: bool,
    known: np.ndarray | None = None,
    keep: Keep = lambda values: None,
) -> np.ndarray:
    """Sums over the tokens of each answer, float32, (pairs, 2): chosen and rejected. `known` are
    those of the first pairs, as an earlier start has kept them."""
    values = np.empty((0, 2), np.float32) if known is None else known
    columns = pairs.with_format("torch", columns=["input_ids", "labels", "second"])
    size = PAIRS_AT_A_TIME[loaded.model.device.type]
    with _losses_of(loaded, bfloat16) as losses_of:
        while len(values) < len(pairs):
            rows: Any = columns[len(values) : len(values) + size]
            by_row = zip(*rows.values(), strict=True)
            examples = [side for row in by_row for side in cut(dict(zip(rows, row, strict=True)))]
            lost = losses_of(examples, f"pair {len(values):,} of {len(pairs):,}")
            values = np.concatenate([values, -lost.reshape(-1, 2).numpy()])
            keep(values)
    return values


@contextmanager
def _losses_of(loaded: load.Loaded, bfloat16: bool) -> Iterator[Callable[..., torch.Tensor]]:
    """While open, the model has packed attention; proven once, for any number of calls."""
    model = loaded.model
    head = Head(model)

    def score(row: Rows) -> torch.Tensor:
        lost = head.negative_log_likelihoods(model, row)
        return torch.zeros(row.examples, device=lost.device).index_add(0, row.owners, lost)

    with packed_attention.used(model, bfloat16) as packed:
        yield lambda examples, sign="log-probabilities": in_micro_batches(
            loaded, examples, score, packed, bfloat16, sign
        )


@torch.no_grad()
def in_micro_batches(
    loaded: load.Loaded,
    examples: Sequence[Example],
    score: Score,
    packed: bool,
    bfloat16: bool,
    sign: str = "log-probabilities",
) -> torch.Tensor:
    """`score` of all examples, float32 on the CPU, read from the device once; `sign` is what signs
    of progress say.

    Where memory runs out the rest goes on with half as many tokens at a time.
    """
    model = loaded.model
    budget = memory.tokens_per_forward(model)
    lengths = [example.length for example in examples]
    waiting = list(range(len(examples)))
    order: list[int] = []
    scores: list[torch.Tensor] = []
    while waiting:
        parts = batching.micro_batches([lengths[place] for place in waiting], budget, not packed)
        parts = [[waiting[place] for place in part] for part in parts]
        try:
            for part in parts:
                attempt.sign(sign)
                row = packed_attention.rows([examples[n] for n in part], packed, model.device)
                with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
                    scores.append(score(row))
                order += part
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or budget // 2 < SMALLEST_BUDGET:
                raise
        done = set(order)
        waiting = [place for place in waiting if place not in done]
        if waiting:
            budget //= 2
            memory.release()
    values = torch.zeros(len(examples))
    if order:
        values[order] = torch.cat(scores).float().cpu()
    return values
