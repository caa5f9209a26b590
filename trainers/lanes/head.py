"""The loss of the tokens that count, of each lane."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from trainers.ops import chunked_loss
from trainers.ops.chunked_loss import PIECE, Head
from trainers.ops.packed_attention import Rows


class LaneHead:
    """As `Head`; `plain` says whether the model has a head that is one matrix."""

    def __init__(self, model: PreTrainedModel, lanes: int):
        self.plain = Head(model).plain
        self._most = lanes
        """Lanes at the start: it decides how targets are cut, which moves the last digits."""

    def losses(
        self, laned: PreTrainedModel, lanes: int, row: Rows, weights: torch.Tensor
    ) -> torch.Tensor:
        """The weighted sum over the targets, (lanes,); `weights` are (targets,)."""
        if not self.plain:
            return (_own_losses(laned, row, lanes) * weights).sum(dim=1)
        head: Any = laned.get_output_embeddings()
        states = hidden_states(laned, row, lanes)
        logits = self._most * head.out_features * len(row.targets)
        loss: Any = _HeadLosses.apply(
            states, head.weight, head.bias, row.targets, weights,
            logits <= PIECE[states.device.type],
        )  # fmt: skip
        return loss


class _HeadLosses(torch.autograd.Function):
    """`HeadLoss` of each lane, whose gradients for the head are added to it at once: so the sum of
    the losses is all that may be differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.nn.Parameter,
        bias: torch.nn.Parameter | None,
        targets: torch.Tensor,
        weights: torch.Tensor,
        at_once: bool,
    ) -> torch.Tensor:
        """`hidden` (lanes, targets, size), `weight` (lanes, vocabulary, size)."""
        kept = chunked_loss.cast(hidden)
        assert weight.grad is not None, "its place in the stack"
        slope, bias_slope = weight.grad, None if bias is None else bias.grad
        if at_once:
            total, to_hidden = chunked_loss.gradients(
                kept, weight, bias, targets, weights, slope, bias_slope
            )
        else:  # larger pieces, of one lane after the other
            each = [
                chunked_loss.gradients(
                    kept[lane],
                    weight[lane],
                    None if bias is None else bias[lane],
                    targets,
                    weights,
                    slope[lane],
                    None if bias_slope is None else bias_slope[lane],
                )
                for lane in range(len(kept))
            ]
            total, to_hidden = map(torch.stack, zip(*each, strict=True))
        ctx.save_for_backward(to_hidden.to(hidden.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (to_hidden,) = ctx.saved_tensors
        return to_hidden, None, None, None, None, None


def hidden_states(laned: PreTrainedModel, row: Rows, lanes: int) -> torch.Tensor:
    """Where a token that counts is predicted, (lanes, targets, size)."""
    states = laned.base_model(**row.options).last_hidden_state
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
