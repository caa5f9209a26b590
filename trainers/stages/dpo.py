"""Direct preference optimisation: a thin reading of TRL's DPOTrainer, on exact batches of pairs.

The loss is TRL's formula and not its code, which pads, and which gathers its metrics over the ranks
in every micro-batch: ours are cut by each rank on its own. The tests hold the two against each
other. The reference's log-probabilities come from `trainers/ops/reference.py`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
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
from trainers.specs.conditions import DEFAULTS, Conditions
from trainers.specs.preference import DpoSpec
from trainers.specs.result import StageResult
from trainers.stages.pair_batches import PairBatches, weighted
from trainers.training import loop

PRECOMPUTED = ["reference_chosen", "reference_rejected"]


class Engine(PairBatches, DPOTrainer):
    """TRL's trainer, stepping by exact batches of pairs."""

    @staticmethod
    def collate(rows: list[dict[str, Any]]) -> list[Pair]:
        return [Pair(*cut(row), torch.tensor([row[name] for name in PRECOMPUTED])) for row in rows]

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # they are among its columns


def loss_and_facts(
    spec: DpoSpec,
    lost: torch.Tensor,
    row: Rows,
    weights: torch.Tensor,
    reference: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Of a micro-batch whose tokens have the negative log-likelihoods `lost`, (targets,) or (lanes,
    targets): sums over the pairs, which have `weights`."""
    zeros = torch.zeros(*lost.shape[:-1], 2 * len(weights), device=lost.device)
    policy = zeros.index_add(-1, row.owners, -lost).unflatten(-1, (-1, 2))
    # not by bincount, which makes the host wait for a GPU
    tokens = zeros.index_add(-1, row.owners, torch.ones_like(lost)).unflatten(-1, (-1, 2))
    pairs = losses(policy, reference, tokens, spec.loss, spec.beta)
    return weighted(pairs.loss, pairs.chosen, pairs.rejected, weights)


def _forward(spec: DpoSpec, model: PreTrainedModel) -> Callable[..., tuple[torch.Tensor, ...]]:
    head = Head(model)

    def forward(
        model: PreTrainedModel, row: Rows, weights: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return loss_and_facts(spec, head.token_losses(model, row), row, weights, reference)

    return forward


def rows_with_reference(data: Prepared, kept: Reference) -> Dataset:
    """The training rows, as `Engine.collate` reads them."""
    rows = data.train.select_columns(["input_ids", "labels", "second"])
    for name, column in zip(PRECOMPUTED, kept.train.T, strict=True):
        rows = rows.add_column(name, column)  # pyright: ignore[reportCallIssue]
    return rows


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
    conditions: Conditions = DEFAULTS,
) -> StageResult:
    """Train `loaded.model` in place; see `loop.train`. Losses are in nats a pair.

    `figures` has besides: rewards_chosen, rewards_rejected, rewards_margin and rewards_accuracy,
    means over the pairs of a batch, smoothed over the steps, and reference_pairs_computed.

    Raises:
        OutOfTime: the monotonic clock has passed the deadline.
    """
    rows = rows_with_reference(data, kept)
    kind = loop.Kind(Engine, _arguments, partial(_forward, spec), spec.loss)
    result = loop.train(kind, spec, loaded.model, loaded.tokenizer, data, rows, folder, conditions)
    return result._replace(figures=result.figures | {"reference_pairs_computed": kept.computed})
