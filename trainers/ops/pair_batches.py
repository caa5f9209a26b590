"""Exact batches of pairs: a batch is so many pairs, and its loss the mean of theirs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from trainers.data.tokenize import IGNORED
from trainers.ops.chunked_loss import hidden_states
from trainers.ops.packed_attention import Example, Rows, rows
from trainers.training.exact_batches import ExactBatches


class Pair(NamedTuple):
    """A chosen and a rejected text; both go through the model in one micro-batch."""

    chosen: Example
    rejected: Example
    reference: torch.Tensor
    """The answers' log-probabilities under the reference, (2,); zeros where there is none."""

    @property
    def length(self) -> int:
        return self.chosen.length + self.rejected.length

    @property
    def tokens(self) -> int:
        return self.chosen.tokens + self.rejected.tokens

    @property
    def loss_tokens(self) -> int:
        return self.chosen.loss_tokens + self.rejected.loss_tokens


def cut(row: dict[str, Any]) -> tuple[Example, Example]:
    """The two texts of a row with the columns of `forms.PAIR_COLUMNS`."""
    second = int(row["second"])
    ids, labels = row["input_ids"], row["labels"]
    return Example(ids[:second], labels[:second]), Example(ids[second:], labels[second:])


def to_be_judged(one: Example) -> Example:
    """The same text with nothing to predict but what comes after its last token: a score."""
    labels = torch.full((one.tokens + 1,), IGNORED)
    labels[-1] = 0
    return Example(one.ids, labels)


def scores(model: PreTrainedModel, one: Rows) -> torch.Tensor:
    """A reward model's scores of the texts in rows of `to_be_judged`, (texts,), float32."""
    head: Any = model
    return (hidden_states(model, one).float() * head.score.weight[0]).sum(dim=1)


def sides(pairs: Sequence[Pair]) -> list[Example]:
    """Chosen and rejected in turn."""
    return [side for pair in pairs for side in (pair.chosen, pair.rejected)]


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
        one = rows(sides(examples), self.settings.packed, device)
        reference = torch.stack([pair.reference for pair in examples]).to(device)
        return model(one, torch.tensor(worth, device=device), reference)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # tokenised once for all trials
