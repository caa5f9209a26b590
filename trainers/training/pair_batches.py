"""Exact batches of pairs: a batch is so many pairs, and its loss the mean of theirs."""

from collections.abc import Sequence
from typing import Any

import torch

from trainers.ops.packed_attention import rows, to_device
from trainers.ops.pairs import sides
from trainers.training.exact_batches import ExactBatches


class PairBatches(ExactBatches):
    """For a trainer whose `model(rows, weights, reference)` gives the weighted loss of pairs and,
    detached, each of `FACTS`."""

    def worth(self, examples: Sequence[Any]) -> list[float]:
        return [1 / len(examples)] * len(examples)

    def share(self, worth: Sequence[float], examples: Sequence[Any], places: list[int]) -> float:
        return sum(worth[place] for place in places)

    def losses(
        self, model: Any, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        device = self.args.device
        row = rows(sides(examples), self.settings.packed, device)
        reference = torch.stack([pair.reference for pair in examples])
        weights, reference = to_device([torch.tensor(worth), reference], device)
        return model(row, weights, reference)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # tokenised once for all trials
