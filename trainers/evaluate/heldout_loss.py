"""The loss on the held-out slice of a stage's data, as a benchmark with an error over examples."""

from typing import Any

import torch
from datasets import Dataset

from trainers.evaluate.benchmarks import HELDOUT
from trainers.evaluate.scores import Evaluation, contributions, summarise
from trainers.models import load
from trainers.ops import batching, packed_attention
from trainers.ops.chunked_loss import Head
from trainers.ops.packed_attention import Example

TOKENS_PER_BATCH = 4096


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


def losses(loaded: load.Loaded, examples: list[Example], bfloat16: bool) -> torch.Tensor:
    """The sum over each example's tokens that count, (examples,)."""
    model = loaded.model
    found = torch.zeros(len(examples))
    head = Head(model)
    with packed_attention.used(model) as packed:
        lengths = [example.length for example in examples]
        for places in batching.micro_batches(lengths, TOKENS_PER_BATCH, not packed):
            one = packed_attention.rows([examples[place] for place in places], packed, model.device)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
                lost = head.negative_log_likelihoods(model, one)
            found[places] = torch.zeros(len(places)).index_add(0, one.owners.cpu(), lost.cpu())
    return found
