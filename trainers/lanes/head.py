"""The losses of the tokens that count, of each lane."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from trainers.lanes import modules
from trainers.lanes.modules import LaneLinear
from trainers.ops import chunked_loss
from trainers.ops.chunked_loss import PIECE, Head
from trainers.ops.packed_attention import Rows


class LaneHead:
    """As `Head`, of a model with at most `lanes`; `model` is a single one."""

    def __init__(self, model: PreTrainedModel, lanes: int):
        self.plain = Head(model).plain
        self._most = lanes

    def losses(
        self, laned: PreTrainedModel, lanes: int, row: Rows, weights: torch.Tensor
    ) -> torch.Tensor:
        """The weighted sum over the targets, (lanes,); `weights` are (targets,)."""
        if not self.plain:
            return (_own_losses(laned, row, lanes) * weights).sum(dim=1)
        return _apply(_Losses, *self._parts(laned, lanes, row), weights)

    def token_losses(self, laned: PreTrainedModel, lanes: int, row: Rows) -> torch.Tensor:
        """Negative log-likelihood of each target, (lanes, targets), with a gradient."""
        if not self.plain:
            return _own_losses(laned, row, lanes)
        return _apply(_TokenLosses, *self._parts(laned, lanes, row))

    def _parts(self, laned: PreTrainedModel, lanes: int, row: Rows) -> tuple[Any, ...]:
        """What a loss is computed from; first whether of all lanes at once, or in larger pieces of
        one after the other. The most lanes decide that: how targets are cut moves last digits."""
        head: Any = laned.get_output_embeddings()
        states = hidden_states(laned, row, lanes)
        logits = self._most * head.out_features * len(row.targets)
        at_once = logits <= PIECE[states.device.type] or not isinstance(head, LaneLinear)
        return at_once, states, head, row.targets


def _apply(function: Any, *arguments: Any) -> torch.Tensor:
    return function.apply(*arguments)


class _Losses(torch.autograd.Function):
    """`HeadLoss` of each lane, whose gradients for the head are added to it at once: so the sum of
    the losses is all that may be differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        at_once: bool,
        hidden: torch.Tensor,
        head: torch.nn.Linear,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """`hidden` (lanes, targets, size)."""
        kept = chunked_loss.cast(hidden)
        total, to_hidden = _gradients(at_once, kept, head, targets, weights)
        ctx.save_for_backward(to_hidden.to(hidden.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (to_hidden,) = ctx.saved_tensors
        return None, to_hidden, None, None, None


class _TokenLosses(torch.autograd.Function):
    """`TokenLosses` of each lane; the gradients for the head are added to it."""

    @staticmethod
    def forward(
        ctx: Any,
        at_once: bool,
        hidden: torch.Tensor,
        head: torch.nn.Linear,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """As `_Losses`; returns (lanes, targets)."""
        kept = chunked_loss.cast(hidden)
        ctx.save_for_backward(kept, targets)
        ctx.at_once, ctx.head, ctx.dtype = at_once, head, hidden.dtype
        each = [
            chunked_loss.negative_log_likelihoods(part, weight, bias, targets)
            for part, weight, bias in _lanes(at_once, kept, _product(head, kept), head.bias)
        ]
        return each[0] if at_once else torch.stack(each)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        kept, targets = ctx.saved_tensors
        _, to_hidden = _gradients(ctx.at_once, kept, ctx.head, targets, outputs[0])
        return None, to_hidden.to(ctx.dtype), None, None


def _gradients(
    at_once: bool,
    kept: torch.Tensor,
    head: torch.nn.Linear,
    targets: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`chunked_loss.gradients` of all lanes; those for the head are added to it, unless they share
    it."""
    bias = head.bias
    product = _product(head, kept)
    slopes = (head.weight.grad, None if bias is None else bias.grad)
    parts = (kept, product, bias, weights.expand(len(kept), -1), *slopes)
    each = [
        chunked_loss.gradients(hidden, whole, shift, targets, share, to_weight, to_bias)
        for hidden, whole, shift, share, to_weight, to_bias in _lanes(at_once, *parts)
    ]
    if at_once:
        return each[0]
    totals, to_hidden = zip(*each, strict=True)
    return torch.stack(totals), torch.stack(to_hidden)


def _product(head: torch.nn.Linear, kept: torch.Tensor) -> torch.Tensor:
    """The head's weight for products with `kept`, (vocabulary, size) if all lanes share it."""
    rounded = head.rounded if isinstance(head, LaneLinear) else None
    return head.weight if rounded is None or kept.dtype == torch.float32 else rounded


def _lanes(at_once: bool, *parts: torch.Tensor | None) -> list[tuple[Any, ...]]:
    """The parts of all lanes together, or of one lane after the other."""
    if at_once:
        return [parts]
    lanes = next(len(part) for part in parts if part is not None)
    return [tuple(None if part is None else part[lane] for part in parts) for lane in range(lanes)]


def hidden_states(laned: PreTrainedModel, row: Rows, lanes: int) -> torch.Tensor:
    """Where a token that counts is predicted, (lanes, targets, size)."""
    states = modules.hidden_states(laned, row.options)
    return states.reshape(lanes, -1, states.shape[-1]).index_select(1, row.places)


def _own_losses(laned: PreTrainedModel, row: Rows, lanes: int) -> torch.Tensor:
    """Of each target, (lanes, targets)."""
    forward = type(laned).forward
    if row.segments is not None:
        logits = forward(laned, **row.options, logits_to_keep=row.places).logits
    else:
        logits = forward(laned, **row.options).logits
        logits = logits.reshape(lanes, -1, logits.shape[-1]).index_select(1, row.places)
    targets = row.targets.expand(lanes, -1)
    return cross_entropy(logits.float().mT, targets, reduction="none")
