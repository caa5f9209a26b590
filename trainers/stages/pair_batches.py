"""Exact batches of pairs: a batch is so many pairs, and its loss the mean of theirs."""

from collections.abc import Sequence
from typing import Any

import torch

from trainers.ops.packed_attention import Rows, rows, to_device
from trainers.ops.pairs import Pair, sides
from trainers.training.exact_batches import ExactBatches

FACTS = ("rewards_chosen", "rewards_rejected", "rewards_margin", "rewards_accuracy")


class PairBatches(ExactBatches):
    """For a trainer whose `model(rows, weights, reference)` gives the weighted loss of pairs and,
    detached, each of `FACTS`."""

    FACTS = FACTS

    def worth(self, examples: Sequence[Any]) -> list[float]:
        return worth(examples)

    @staticmethod
    def share(worth: Sequence[float], examples: Sequence[Any], places: list[int]) -> float:
        return sum(worth[place] for place in places)

    def losses(
        self, model: Any, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        return model(*inputs(examples, worth, self.settings.packed, self.args.device))

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # tokenised once for all trials


def worth(examples: Sequence[Any]) -> list[float]:
    """What each pair weighs in its batch's loss."""
    return [1 / len(examples)] * len(examples)


def inputs(
    pairs: Sequence[Pair],
    worth: Sequence[float],
    packed: bool,
    device: torch.device,
    lanes: int = 1,
) -> tuple[Rows, torch.Tensor, torch.Tensor]:
    """Rows of the texts, and the weights and the reference's log-probabilities of the pairs."""
    row = rows(sides(pairs), packed, device, lanes)
    reference = torch.stack([pair.reference for pair in pairs])
    weights, reference = to_device([torch.tensor(worth), reference], device)
    return row, weights, reference


def weighted(
    loss: torch.Tensor, chosen: torch.Tensor, rejected: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """The weighted sums of the loss and of `FACTS`, from the rewards of the texts; each (pairs,) or
    (lanes, pairs)."""
    chosen, rejected = chosen.detach(), rejected.detach()
    facts = (chosen, rejected, chosen - rejected, (chosen > rejected).float())
    return tuple((part * weights).sum(dim=-1) for part in (loss, *facts))
