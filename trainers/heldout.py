"""The loss on the held-out slice of a stage's data, as a benchmark with an error over examples."""

from collections.abc import Iterator

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from trainers import models
from trainers.benchmarks import HELDOUT
from trainers.data import IGNORED
from trainers.scores import Evaluation, contributions, summarise

TOKENS_PER_BATCH = 2048
"""Bounds the logits: at SmolLM2's vocabulary of 49,152 this is 400 MB in float32."""


def score(loaded: models.Loaded, heldout: Dataset, dtype: str) -> Evaluation:
    """Nats per token that counts: sum of all losses over the number of all such tokens.

    Raises:
        ValueError: there is no held-out example.
    """
    if len(heldout) == 0:
        raise ValueError("no example is held out; set `heldout` of the stage")
    losses = torch.zeros(len(heldout))
    tokens = torch.zeros(len(heldout))
    model = loaded.model
    for indices in _batches([len(ids) for ids in heldout["input_ids"]]):
        rows = heldout[indices]
        ids = pad_sequence([torch.tensor(row) for row in rows["input_ids"]], batch_first=True)
        labels = pad_sequence(
            [torch.tensor(row) for row in rows["labels"]], batch_first=True, padding_value=IGNORED
        )
        lengths = torch.tensor([len(row) for row in rows["input_ids"]])
        mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
        with (
            torch.inference_mode(),
            torch.autocast(model.device.type, torch.bfloat16, enabled=models.bfloat16(dtype)),
        ):
            logits = model(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device)
            ).logits[:, :-1]
        targets = labels[:, 1:].to(model.device)
        loss = cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
        ).view(targets.shape)
        losses[indices] = loss.sum(dim=1).cpu()
        tokens[indices] = (targets != IGNORED).sum(dim=1).float().cpu()
    values = contributions(losses.double().numpy(), tokens.double().numpy())
    return summarise(
        {"loss": float(values.mean())},
        {"loss": values},
        list(heldout["item"]),
        primary="loss",
        lower_is_better={"loss"},
        settings={"benchmark": HELDOUT, "tokens": int(tokens.sum())},
    )


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indices of examples of like length, at most `TOKENS_PER_BATCH` padded tokens at a time."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
