"""Scores of texts under a reward model."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from trainers.data.tokenize import IGNORED
from trainers.models import load
from trainers.ops import batching, packed_attention
from trainers.ops.chunked_loss import hidden_states
from trainers.ops.packed_attention import Example, Rows

TOKENS_PER_BATCH = 4096


def to_be_judged(one: Example) -> Example:
    """The same text with nothing to predict but what comes after its last token: a score."""
    labels = torch.full((one.tokens + 1,), IGNORED)
    labels[-1] = 0
    return Example(one.ids, labels)


def scores(model: PreTrainedModel, one: Rows) -> torch.Tensor:
    """A reward model's scores of the texts in rows of `to_be_judged`, (texts,), float32."""
    head: Any = model
    return (hidden_states(model, one).float() * head.score.weight[0]).sum(dim=1)


def scores_of(loaded: load.Loaded, texts: Sequence[Example], dtype: str) -> torch.Tensor:
    """What a reward model gives each text at its last token, (texts,), float32 on the CPU."""
    model = loaded.model
    sides = [to_be_judged(text) for text in texts]
    values = torch.zeros(len(sides))
    with packed_attention.used(model) as packed, torch.no_grad():
        lengths = [side.length for side in sides]
        for places in batching.micro_batches(lengths, TOKENS_PER_BATCH, not packed):
            one = packed_attention.rows([sides[place] for place in places], packed, model.device)
            bfloat16 = load.bfloat16(dtype)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
                values[places] = scores(model, one).cpu()
    return values
