"""Supervised fine-tuning in lanes; as `stages.sft`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from trainers.data.prepare import Prepared
from trainers.lanes import run
from trainers.lanes.head import LaneHead
from trainers.models import load
from trainers.ops import batching
from trainers.ops.packed_attention import rows, to_device
from trainers.specs.result import StageResult
from trainers.specs.training import SftSpec
from trainers.training.exact_batches import ExactBatches


class Texts:
    """Texts whose tokens count; `loss` is the spec's."""

    facts = ()
    collate, share = staticmethod(ExactBatches.collate), staticmethod(ExactBatches.share)

    def __init__(self, loss: str, model: PreTrainedModel, lanes: int, packed: bool):
        self._head = LaneHead(model, lanes)
        self._loss, self._packed = loss, packed

    def worth(self, examples: Sequence[Any]) -> list[float]:
        return batching.weights([example.loss_tokens for example in examples], self._loss)

    def losses(
        self, laned: PreTrainedModel, lanes: int, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        device = laned.device
        row = rows(examples, self._packed, device, lanes)
        (weights,) = to_device([torch.tensor(worth)], device)
        return (self._head.losses(laned, lanes, row, weights[row.owners]),)


def train(
    specs: Sequence[SftSpec],
    loaded: load.Loaded,
    data: Prepared,
    folders: Sequence[Path],
    deadline: float,
    memory_kills: int,
    save: Callable[[int, load.Loaded, StageResult], None],
) -> list[StageResult | Exception]:
    """See `run.train`."""
    rows = data.train.select_columns(["input_ids", "labels"])
    kind = partial(Texts, specs[0].loss)
    return run.train(kind, specs, loaded, data, rows, folders, deadline, memory_kills, save)
