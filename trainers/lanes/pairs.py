"""DPO and reward models in lanes; as `stages.dpo` and `stages.reward_model`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from trainers.data.prepare import Prepared
from trainers.lanes import run
from trainers.lanes.head import LaneHead, hidden_states
from trainers.models import load
from trainers.ops.packed_attention import Rows
from trainers.ops.reference import Reference
from trainers.specs.preference import DpoSpec, RewardSpec
from trainers.specs.result import StageResult
from trainers.stages import dpo, pair_batches, reward_model

Save = Callable[[int, load.Loaded, StageResult], None]


class _Pairs:
    facts = pair_batches.FACTS
    worth = staticmethod(pair_batches.worth)
    share = staticmethod(pair_batches.PairBatches.share)

    def __init__(self, packed: bool):
        self._packed = packed

    def inputs(
        self, laned: PreTrainedModel, lanes: int, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[Rows, torch.Tensor, torch.Tensor]:
        return pair_batches.inputs(examples, worth, self._packed, laned.device, lanes)


class Dpo(_Pairs):
    collate = staticmethod(dpo.Engine.collate)

    def __init__(self, spec: DpoSpec, model: PreTrainedModel, lanes: int, packed: bool):
        super().__init__(packed)
        self._spec, self._head = spec, LaneHead(model, lanes)

    def losses(
        self, laned: PreTrainedModel, lanes: int, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        row, weights, reference = self.inputs(laned, lanes, examples, worth)
        lost = self._head.token_losses(laned, lanes, row)
        return dpo.loss_and_facts(self._spec, lost, row, weights, reference)


class Reward(_Pairs):
    collate = staticmethod(reward_model.Engine.collate)

    def __init__(self, model: PreTrainedModel, lanes: int, packed: bool):
        super().__init__(packed)

    def losses(
        self, laned: PreTrainedModel, lanes: int, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        row, weights, _ = self.inputs(laned, lanes, examples, worth)
        head: Any = laned
        scores = (hidden_states(laned, row, lanes).float() * head.score.weight).sum(dim=-1)
        return reward_model.loss_and_facts(scores, weights)


def train_dpo(
    specs: Sequence[DpoSpec],
    loaded: load.Loaded,
    data: Prepared,
    kept: Reference,
    folders: Sequence[Path],
    deadline: float,
    memory_kills: int,
    save: Save,
) -> list[StageResult | Exception]:
    """See `run.train`."""
    rows = dpo.rows_with_reference(data, kept)
    extra = {"reference_pairs_computed": kept.computed}
    return run.train(
        partial(Dpo, specs[0]),
        specs,
        loaded,
        data,
        rows,
        folders,
        deadline,
        memory_kills,
        save,
        extra,
    )


def train_reward(
    specs: Sequence[RewardSpec],
    loaded: load.Loaded,
    data: Prepared,
    folders: Sequence[Path],
    deadline: float,
    memory_kills: int,
    save: Save,
) -> list[StageResult | Exception]:
    """Reward models on the body of `loaded.model`; `save` gets the reward models. See
    `run.train`."""
    judge = loaded._replace(model=reward_model.with_head(loaded.model, specs[0].seed))
    rows = data.train.select_columns(["input_ids", "labels", "second"])
    return run.train(Reward, specs, judge, data, rows, folders, deadline, memory_kills, save)
