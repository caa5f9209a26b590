"""Direct preference optimisation: a thin reading of TRL's DPOTrainer, on exact batches of pairs.

The loss is TRL's formula and not its code, which pads, and which gathers its metrics over the ranks
in every micro-batch: ours are cut by each rank on its own. The tests hold the two against each
other. The reference's log-probabilities come from `trainers/ops/reference.py`.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from trainers.data.prepare import Prepared
from trainers.models import load
from trainers.ops.chunked_loss import Head
from trainers.ops.dpo_loss import losses
from trainers.ops.packed_attention import Rows
from trainers.ops.pairs import Pair, cut
from trainers.ops.reference import Reference
from trainers.specs.preference import DpoSpec
from trainers.specs.result import StageResult
from trainers.training import loop
from trainers.training.pair_batches import PairBatches

PRECOMPUTED = ["reference_chosen", "reference_rejected"]


class Engine(PairBatches, DPOTrainer):
    """TRL's trainer, stepping by exact batches of pairs."""

    FACTS = ("rewards_chosen", "rewards_rejected", "rewards_margin", "rewards_accuracy")

    @staticmethod
    def collate(rows: list[dict[str, Any]]) -> list[Pair]:
        return [Pair(*cut(row), torch.tensor([row[name] for name in PRECOMPUTED])) for row in rows]

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # they are among its columns


def _forward(spec: DpoSpec, model: PreTrainedModel) -> Callable[..., tuple[torch.Tensor, ...]]:
    head = Head(model)

    def forward(
        model: PreTrainedModel, row: Rows, weights: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        lost = head.token_losses(model, row)
        zeros = torch.zeros(2 * len(weights), device=lost.device)
        policy = zeros.index_add(0, row.owners, -lost)
        # not by bincount, which makes the host wait for a GPU
        tokens = zeros.index_add(0, row.owners, torch.ones_like(lost))
        pairs = losses(
            policy.reshape(-1, 2), reference, tokens.reshape(-1, 2), spec.loss, spec.beta
        )
        chosen, rejected = pairs.chosen.detach(), pairs.rejected.detach()
        facts = (chosen, rejected, chosen - rejected, (chosen > rejected).float())
        return (pairs.loss @ weights, *(fact @ weights for fact in facts))

    return forward


_arguments = partial(
    DPOConfig,
    activation_checkpointing=False,
    max_length=None,  # truncated while preparing
    precompute_ref_log_probs=True,  # by us
    disable_dropout=True,
)


def train(
    spec: DpoSpec,
    loaded: load.Loaded,
    data: Prepared,
    kept: Reference,
    folder: Path,
    deadline: float = math.inf,
    memory_kills: int = 0,
) -> StageResult:
    """Train `loaded.model` in place; see `loop.train`. Losses are in nats a pair.

    `figures` has besides: rewards_chosen, rewards_rejected, rewards_margin and rewards_accuracy,
    means over the pairs of a batch, smoothed over the steps, and reference_pairs_computed.

    Raises:
        OutOfTime: the monotonic clock has passed `deadline`.
    """
    rows = data.train.select_columns(["input_ids", "labels", "second"])
    for name, column in zip(PRECOMPUTED, kept.train.T, strict=True):
        rows = rows.add_column(name, column)  # pyright: ignore[reportCallIssue]
    kind = loop.Kind(Engine, _arguments, partial(_forward, spec), spec.loss)
    result = loop.train(
        kind, spec, loaded.model, loaded.tokenizer, data, rows, folder, deadline, memory_kills
    )
    return result._replace(figures=result.figures | {"reference_pairs_computed": kept.computed})
