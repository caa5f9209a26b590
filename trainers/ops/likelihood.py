"""Log-probabilities of texts under a model, in packed micro-batches and without a gradient."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset

from trainers import attempt
from trainers.models import load
from trainers.ops import batching, packed_attention
from trainers.ops.chunked_loss import Head
from trainers.ops.packed_attention import Example
from trainers.ops.pairs import cut

TOKENS_PER_BATCH = 4096

PAIRS_AT_A_TIME = 256
"""Pairs whose tokens are in memory at once."""


def losses(loaded: load.Loaded, examples: list[Example], bfloat16: bool) -> torch.Tensor:
    """The sum over each example's tokens that count, (examples,)."""
    model = loaded.model
    found = torch.zeros(len(examples))
    head = Head(model)
    with packed_attention.used(model) as packed:
        lengths = [example.length for example in examples]
        for places in batching.micro_batches(lengths, TOKENS_PER_BATCH, not packed):
            attempt.sign("log-probabilities")
            one = packed_attention.rows([examples[place] for place in places], packed, model.device)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
                lost = head.negative_log_likelihoods(model, one)
            found[places] = torch.zeros(len(places)).index_add(0, one.owners.cpu(), lost.cpu())
    return found


def pair_log_probabilities(loaded: load.Loaded, pairs: Dataset, bfloat16: bool) -> np.ndarray:
    """Sums over the tokens of each answer, float32, (pairs, 2): chosen and rejected."""
    parts = [np.empty((0, 2), np.float32)]
    columns = pairs.with_format("torch", columns=["input_ids", "labels", "second"])
    for start in range(0, len(pairs), PAIRS_AT_A_TIME):
        rows: Any = columns.select(range(start, min(start + PAIRS_AT_A_TIME, len(pairs))))
        examples = [side for row in rows for side in cut(row)]
        parts.append(-losses(loaded, examples, bfloat16).reshape(-1, 2).numpy())
    return np.concatenate(parts)
