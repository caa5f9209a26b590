"""The loss on the held-out slice of a stage's data, as a benchmark with an error over examples."""

from typing import Any

import torch
from datasets import Dataset

from trainers.evaluate.scores import Evaluation, contributions, summarise
from trainers.models import load
from trainers.ops.likelihood import losses
from trainers.ops.packed_attention import Example
from trainers.tasks.registry import HELDOUT


def score(loaded: load.Loaded, heldout: Dataset, dtype: str) -> Evaluation:
    """Nats per token that counts: sum of all losses over the number of all such tokens.

    Raises:
        ValueError: there is no held-out example.
    """
    if len(heldout) == 0:
        raise ValueError("no example is held out; set `heldout` of the stage")
    columns: Any = heldout.with_format("torch")[:]
    examples = [Example(*row) for row in zip(columns["input_ids"], columns["labels"], strict=True)]
    tokens = torch.tensor([example.loss_tokens for example in examples])
    lost = losses(loaded, examples, load.bfloat16(dtype))
    values = contributions(lost.double().numpy(), tokens.double().numpy())
    return summarise(
        {"loss": float(values.mean())},
        {"loss": values},
        list(heldout["item"]),
        primary="loss",
        lower_is_better={"loss"},
        settings={"benchmark": HELDOUT, "tokens": int(tokens.sum())},
    )
