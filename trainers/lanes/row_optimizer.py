"""A lane's optimizer, over its weights one by one or over its row at once."""

from collections.abc import Iterator, MutableMapping
from typing import Any, cast

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel

from trainers.lanes.stack import Row, Span, Stack
from trainers.specs.optimizer import OptimizerSpec
from trainers.steps import optimizers

BY_NUMBER = ("adamw", "sgd")
"""Optimizers that treat each number by itself, so that a whole row can be one weight to them: a
step is a few operations and not some for every weight."""


def optimizer(
    spec: OptimizerSpec, adam_beta2: float, stack: Stack, lane: int, model: PreTrainedModel
) -> "Optimizer | ByWeight":
    """Of the lane whose weights `model` has; groups are those with weight decay and the others."""
    if spec.optimizer not in BY_NUMBER:
        decaying = {name for name, span in stack.spans.items() if span.end <= stack.split}
        return optimizers.optimizer(spec, adam_beta2, model, decaying)
    row = stack.row(lane)
    whole = optimizers.optimizer(spec, adam_beta2, cast(Any, row), {"decaying"})
    return ByWeight(whole, row, stack, model)


class ByWeight:
    """An optimizer over a row; its state is shown and taken back by the single weight, as another
    optimizer of its kind has it."""

    def __init__(self, whole: Optimizer, row: Row, stack: Stack, model: PreTrainedModel):
        self.param_groups = whole.param_groups
        self.state = _State(whole, row, stack, model)
        self.step = whole.step


class _State(MutableMapping[torch.Tensor, dict[str, Any]]):
    """Weight -> its part of each vector of the state, and what is one for all weights."""

    def __init__(self, whole: Optimizer, row: Row, stack: Stack, model: PreTrainedModel):
        self._whole = whole
        self._parts: dict[torch.Tensor, tuple[torch.nn.Parameter, Span]] = {}
        for name, parameter in model.named_parameters():
            if name not in stack.spans:
                continue
            span = stack.spans[name]
            if span.end <= stack.split:
                self._parts[parameter] = row.decaying, span
            else:
                moved = Span(span.start - stack.split, span.shape)
                self._parts[parameter] = row.others, moved

    def __getitem__(self, weight: torch.Tensor) -> dict[str, Any]:
        vector, span = self._parts[weight]
        return {
            entry: value[span.start : span.end].view(span.shape)
            if isinstance(value, torch.Tensor) and value.shape == vector.shape
            else value
            for entry, value in self._whole.state[vector].items()
        }

    def __setitem__(self, weight: torch.Tensor, entries: dict[str, Any]) -> None:
        vector, span = self._parts[weight]
        state = self._whole.state[vector]
        for entry, value in entries.items():
            if isinstance(value, torch.Tensor) and value.shape == span.shape:
                if entry not in state:
                    state[entry] = torch.zeros_like(vector, requires_grad=False)
                state[entry][span.start : span.end] = value.flatten()
            else:
                state[entry] = value

    def __delitem__(self, weight: torch.Tensor) -> None:
        del self._parts[weight]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
