"""Where the weights of lanes lie: each lane's are one row of numbers, with gradients beside them.

A weight of all lanes is a slice of the rows, (lanes, *shape); a lane's own are slices of its row.
So a norm over all gradients of each lane, or a step of an optimizer that works number by number, is
one operation on a row.
"""

import copy
import math
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

ALIGNED = 64
"""Numbers; a weight begins at a multiple of that, as kernels like it."""

CHUNK = 4096
"""Numbers that are squared and summed together: a sum over millions in one go would be less exact
on a CPU."""


class Span(NamedTuple):
    """Where a weight lies in a row."""

    start: int
    shape: torch.Size

    @property
    def end(self) -> int:
        return self.start + self.shape.numel()


class Row(torch.nn.Module):
    """A lane's weights as two vectors, for an optimizer."""

    def __init__(self, decaying: torch.nn.Parameter, others: torch.nn.Parameter):
        super().__init__()
        self.decaying = decaying
        """Those with weight decay."""
        self.others = others


class Stack:
    """The trained weights of `lanes` models like `model`, in float32 and all as it has them.

    `decaying` names the weights with weight decay; they lie before the others.
    """

    def __init__(
        self, model: PreTrainedModel, lanes: int, decaying: Collection[str], bfloat16: bool
    ):
        self.lanes = lanes
        self._start = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.spans: dict[str, Span] = {}
        self.split = end = 0
        for name in sorted(self._start, key=lambda name: name not in decaying):  # stable
            shape = self._start[name].shape
            start = _up(end, math.lcm(ALIGNED, shape[-1]))
            end = start + shape.numel()
            self.spans[name] = Span(start, shape)
            if name in decaying:
                self.split = end
        size = _up(end, math.lcm(CHUNK, *_widths_of_tables(model)))
        self.weights = torch.zeros(lanes, size, device=model.device)
        self.gradients = torch.zeros_like(self.weights)
        self.half = torch.empty_like(self.weights, dtype=torch.bfloat16) if bfloat16 else None
        """The weights for products in bfloat16."""
        self.fill()

    @torch.no_grad()
    def fill(self) -> None:
        """Give all lanes the weights of the model."""
        self.weights.zero_()
        for name, span in self.spans.items():
            self.weights[:, span.start : span.end] = self._start[name].flatten()

    @torch.no_grad()
    def round(self) -> None:
        """Bring `half` up to date; the weights have changed."""
        if self.half is not None:
            self.half.copy_(self.weights)

    def first(self, lanes: int) -> "Stack":
        """The same numbers, as a stack of the first `lanes` alone."""
        part = copy.copy(self)
        part.lanes = lanes
        part.weights, part.gradients = self.weights[:lanes], self.gradients[:lanes]
        part.half = None if self.half is None else self.half[:lanes]
        return part

    def zero(self) -> None:
        self.gradients.zero_()

    def norms(self) -> torch.Tensor:
        """L2 norm over all gradients of each lane, (lanes,)."""
        parts = torch.linalg.vector_norm(self.gradients.view(self.lanes, -1, CHUNK), dim=2)
        return torch.linalg.vector_norm(parts, dim=1)

    def slices(self, rows: torch.Tensor, name: str) -> torch.Tensor:
        """Of all lanes, (lanes, *shape)."""
        span = self.spans[name]
        return rows[:, span.start : span.end].unflatten(1, span.shape)

    def stacked(self, name: str) -> torch.nn.Parameter:
        """The weight of all lanes, whose gradient is added to `gradients`."""
        return _parameter(self.slices(self.weights, name), self.slices(self.gradients, name))

    def row(self, lane: int) -> Row:
        """A lane's weights for an optimizer that works number by number."""
        cut = (slice(0, self.split), slice(self.split, None))
        return Row(*(_parameter(self.weights[lane, c], self.gradients[lane, c]) for c in cut))

    def model(self, model: PreTrainedModel, lane: int) -> PreTrainedModel:
        """A lane as a model like `model`, on the weights here."""
        weights, gradients = self.weights[lane : lane + 1], self.gradients[lane : lane + 1]
        return twin(
            model,
            {
                name: _parameter(self.slices(weights, name)[0], self.slices(gradients, name)[0])
                for name in self.spans
            },
        )


def twin(model: PreTrainedModel, weights: dict[str, torch.nn.Parameter]) -> PreTrainedModel:
    """A model with modules of its own, which has `weights` by their names and shares all else."""
    replaced: dict[int, Any] = {id(tensor): tensor for tensor in model.buffers()}
    for name, parameter in model.named_parameters():
        replaced[id(parameter)] = weights.get(name, parameter)
    return copy.deepcopy(model, replaced)


def _parameter(weight: torch.Tensor, gradient: torch.Tensor) -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(weight)
    parameter.grad = gradient
    return parameter


def _widths_of_tables(model: PreTrainedModel) -> list[int]:
    """So long are the rows that each table of all lanes together is part of one long table."""
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    return [int(table.weight.shape[-1]) for table in tables]


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
