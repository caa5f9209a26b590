"""A preference pair as the tensors of its two texts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from trainers.ops.packed_attention import Example


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
    """The two texts of a row with the columns of `layouts.PAIR_COLUMNS`."""
    second = int(row["second"])
    ids, labels = row["input_ids"], row["labels"]
    return Example(ids[:second], labels[:second]), Example(ids[second:], labels[second:])


def sides(pairs: Sequence[Pair]) -> list[Example]:
    """Chosen and rejected in turn."""
    return [side for pair in pairs for side in (pair.chosen, pair.rejected)]
