"""Reward models: a thin reading of TRL's RewardTrainer, on exact batches of pairs.

A reward model is a policy's body with a scalar head, read after the last token of an answer (its
end token, where it was not cut off).
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from trainers.data.prepare import Prepared
from trainers.models import load
from trainers.ops.judge import scores, to_be_judged
from trainers.ops.packed_attention import Rows
from trainers.ops.pairs import Pair, cut
from trainers.specs.conditions import DEFAULTS, Conditions
from trainers.specs.preference import RewardSpec
from trainers.specs.result import StageResult
from trainers.stages.pair_batches import PairBatches, weighted
from trainers.training import loop


class Engine(PairBatches, RewardTrainer):
    """TRL's trainer, stepping by exact batches of pairs."""

    @staticmethod
    def collate(rows: list[dict[str, Any]]) -> list[Pair]:
        sides = [[to_be_judged(side) for side in cut(row)] for row in rows]
        return [Pair(chosen, rejected, torch.zeros(2)) for chosen, rejected in sides]


def with_head(policy: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A reward model on the policy's own body: changing one changes the other.

    The head is drawn from a normal distribution with the standard deviation 1 / sqrt(size + 1), as
    Tulu 3's (allenai/open-instruct, reward_modeling.py), by `seed`, and has no bias.

    Raises:
        ValueError: the architecture has no sequence classifier with a head named `score`.
    """
    config: Any = policy.config
    config.num_labels = 1
    with torch.device("meta"):
        model: Any = AutoModelForSequenceClassification.from_config(config)
    if not hasattr(model, "score") or not hasattr(model, model.base_model_prefix):
        raise ValueError(f"{type(policy).__name__} cannot be made a reward model: no head `score`")
    setattr(model, model.base_model_prefix, policy.base_model)
    size = config.get_text_config().hidden_size
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, size, generator=generator) / math.sqrt(size + 1)
    model.score = torch.nn.Linear(size, 1, bias=False)
    model.score.weight.data = weight.to(policy.device)
    return model


def loss_and_facts(scores: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The mean of -log sigmoid(chosen - rejected) (Ouyang et al. 2022, arXiv 2203.02155) and facts,
    of `scores` of the chosen and the rejected texts in turn, (texts,) or (lanes, texts)."""
    chosen, rejected = scores.unflatten(-1, (-1, 2)).unbind(dim=-1)
    return weighted(-logsigmoid(chosen - rejected), chosen, rejected, weights)


def _forward(model: PreTrainedModel) -> Callable[..., tuple[torch.Tensor, ...]]:
    def forward(
        model: PreTrainedModel, row: Rows, weights: torch.Tensor, _: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return loss_and_facts(scores(model, row), weights)

    return forward


_arguments = partial(
    RewardConfig,
    activation_checkpointing=False,
    max_length=None,  # truncated while preparing
    disable_dropout=True,
)


def train(
    spec: RewardSpec,
    loaded: load.Loaded,
    data: Prepared,
    folder: Path,
    conditions: Conditions = DEFAULTS,
) -> StageResult:
    """Train a reward model on the body of `loaded.model`; see `loop.train`. Losses are in nats a
    pair. The result has the model.

    `figures` has besides: rewards_chosen, rewards_rejected, rewards_margin and rewards_accuracy,
    means over the pairs of a batch, smoothed over the steps.

    Raises:
        OutOfTime: the monotonic clock has passed the deadline.
    """
    model = with_head(loaded.model, spec.seed)
    rows = data.train.select_columns(["input_ids", "labels", "second"])
    kind = loop.Kind(Engine, _arguments, _forward, "")
    result = loop.train(kind, spec, model, loaded.tokenizer, data, rows, folder, conditions)
    return result._replace(model=result.model or model)
