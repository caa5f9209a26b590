"""Scores of texts under a reward model."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from trainers.data.forms.tokenize import IGNORED
from trainers.models import load
from trainers.ops import packed_attention
from trainers.ops.chunked_loss import hidden_states
from trainers.ops.likelihood import Score, in_micro_batches
from trainers.ops.packed_attention import Example, Rows


def to_be_judged(text: Example) -> Example:
    """The same text with nothing to predict but what comes after its last token: a score."""
    labels = torch.full((text.tokens + 1,), IGNORED)
    labels[-1] = 0
    return Example(text.ids, labels)


def scores(model: PreTrainedModel, row: Rows) -> torch.Tensor:
    """A reward model's scores of the texts in rows of `to_be_judged`, (texts,), float32."""
    head: Any = model
    return (hidden_states(model, row).float() * head.score.weight[0]).sum(dim=1)


def scorer(model: PreTrainedModel) -> Score:
    return partial(scores, model)


def scores_of(loaded: load.Loaded, texts: Sequence[Example], dtype: str) -> torch.Tensor:
    """What a reward model gives each text at its last token, (texts,), float32 on the CPU."""
    model, bfloat16 = loaded.model, load.bfloat16(dtype)
    sides = [to_be_judged(text) for text in texts]
    with packed_attention.used(model, bfloat16) as packed:
        return in_micro_batches(loaded, sides, scorer, packed, bfloat16)
