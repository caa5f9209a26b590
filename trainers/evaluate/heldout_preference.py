"""The DPO loss on the held-out pairs of a stage, as a benchmark with an error over the pairs."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset

from trainers.evaluate.scores import Evaluation, summarise
from trainers.models import load
from trainers.ops.dpo_loss import losses
from trainers.ops.likelihood import pair_log_probabilities
from trainers.ops.pairs import cut
from trainers.specs.preference import RANKING_ACCURACY, DpoSpec
from trainers.tasks.registry import HELDOUT


def score(
    spec: DpoSpec, loaded: load.Loaded, rows: Dataset, under_reference: np.ndarray, dtype: str
) -> Evaluation:
    """Loss, accuracy and margin on held-out pairs, by the spec's own loss and beta, and the ranking
    accuracy, which the policy has without its reference.

    Raises:
        ValueError: no pair is held out.
    """
    if len(rows) == 0:
        raise ValueError("no pair is held out; set `heldout` of the stage")
    policy = torch.from_numpy(pair_log_probabilities(loaded, rows, load.bfloat16(dtype)))
    columns: Any = rows.with_format("torch", columns=["input_ids", "labels", "second"])
    tokens = torch.tensor([[side.loss_tokens for side in cut(row)] for row in columns])
    by_pair = losses(policy, torch.from_numpy(under_reference), tokens, spec.loss, spec.beta)
    margin = (by_pair.chosen - by_pair.rejected).double().numpy()
    chosen, rejected = (policy / tokens).unbind(dim=-1)
    values = {
        "loss": by_pair.loss.double().numpy(),
        "accuracy": (margin > 0).astype(float),
        "margin": margin,
        RANKING_ACCURACY: (chosen > rejected).double().numpy(),
    }
    return summarise(
        {metric: float(column.mean()) for metric, column in values.items()},
        values,
        list(rows["item"]),
        primary="loss",
        lower_is_better={"loss"},
        settings={"benchmark": HELDOUT, "loss": spec.loss, "beta": spec.beta},
    )
