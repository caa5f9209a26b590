"""The loss of the tokens that count: head and softmax for them alone, a piece at a time.

The logits of all positions would be the largest thing in memory (49,152 numbers a token for
SmolLM2), and in instruction tuning most positions have no label.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedModel

from trainers.ops import half_weights
from trainers.ops.forward_pass import inside
from trainers.ops.packed_attention import Rows

PIECE = {"cuda": 2**28, "cpu": 2**24}
"""Logits at a time: 1 GiB in float32 on a GPU, 64 MiB on a CPU."""


class HeadLoss(torch.autograd.Function):
    """Weighted sum of the negative log-likelihoods, with its gradients made in the same pass.

    No logits outlive their piece and none are made twice: the gradient of a piece is taken while
    its logits are there, and the backward pass only scales (as Liger's fused loss does; Hsu et al.
    2024, arXiv 2410.10989, section 3.2).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """`hidden` (targets, size), `weight` (vocabulary, size); `targets` and `weights` are
        (targets,). Returns a scalar in float32."""
        kept, trained = cast(hidden), ctx.needs_input_grad[1]
        to_weight = torch.zeros_like(weight) if trained else None
        to_bias = torch.zeros_like(bias) if trained and bias is not None else None
        total, to_hidden = gradients(kept, weight, bias, targets, weights, to_weight, to_bias)
        ctx.save_for_backward(to_hidden.to(hidden.dtype), to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (scale,) = outputs
        to_hidden, to_weight, to_bias = ctx.saved_tensors
        bias = None if to_bias is None else to_bias * scale
        weight = None if to_weight is None else to_weight.mul_(scale)
        return to_hidden * scale, weight, bias, None, None


class TokenLosses(torch.autograd.Function):
    """The negative log-likelihood of each target, for a loss that is no weighted sum of them: the
    backward pass makes the logits of a piece once more."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """As `HeadLoss`; returns (targets,) in float32."""
        kept = cast(hidden)
        ctx.save_for_backward(kept, weight, bias, targets)
        ctx.dtype = hidden.dtype
        return negative_log_likelihoods(kept, weight, bias, targets)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        kept, weight, bias, targets = ctx.saved_tensors
        trained = ctx.needs_input_grad[1]
        to_weight = torch.zeros_like(weight) if trained else None
        to_bias = torch.zeros_like(bias) if trained and bias is not None else None
        _, to_hidden = gradients(kept, weight, bias, targets, outputs[0], to_weight, to_bias)
        return to_hidden.to(ctx.dtype), to_weight, to_bias, None


def gradients(
    kept: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    weights: torch.Tensor,
    to_weight: torch.Tensor | None,
    to_bias: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted sum of the losses, in float32, and its gradient for the hidden states `kept`, in
    their dtype, that of the matrix products. The gradients for head and bias are added to
    `to_weight` and `to_bias`; None where they are not trained.

    `kept` is (targets, size) and `weight` (vocabulary, size). Both may have lanes before that, or
    `kept` alone for a head that lanes share, and then so has what is returned; `targets` are
    (targets,), `weights` too or (lanes, targets).
    """
    head = weight.to(kept.dtype)
    lanes = kept.shape[:-2]
    total = torch.zeros(lanes, device=kept.device)
    to_hidden = torch.empty_like(kept)
    for piece in _pieces(len(targets), lanes.numel() * weight.shape[-2], kept.device):
        share = weights[..., piece, None]
        logits = _logits(kept[..., piece, :], head, bias)
        aim = targets[piece, None].expand(*lanes, -1, 1)
        logits -= logits.amax(dim=-1, keepdim=True)
        aimed = logits.gather(-1, aim)
        exponentials = logits.exp_()
        sums = exponentials.sum(dim=-1, keepdim=True)
        total += ((sums.log() - aimed) * share).sum(dim=(-2, -1))
        slope = exponentials.mul_(share / sums)  # of the loss against the logits: shares ...
        slope.scatter_add_(-1, aim, (-share).expand_as(aim))  # ... less the aim
        if to_bias is not None:
            to_bias += slope.sum(dim=-2)
        slope = slope.to(kept.dtype)
        to_hidden[..., piece, :] = slope @ head
        if to_weight is not None:
            add_product(to_weight, slope.mT, kept[..., piece, :])
    return total, to_hidden


def add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add `left @ right` to `total`, matrices or stacks of them."""
    if left.dtype != total.dtype:
        total += left @ right
    elif total.ndim == 2:
        total.addmm_(left, right)
    else:
        total.baddbmm_(left, right)


def negative_log_likelihoods(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Of each target, (targets,), without gradients; with lanes before that as in `gradients`."""
    kept = cast(hidden)
    head = weight.to(kept.dtype)
    lanes = kept.shape[:-2]
    losses = torch.empty(kept.shape[:-1], device=hidden.device)
    for piece in _pieces(len(targets), lanes.numel() * weight.shape[-2], hidden.device):
        logits = _logits(kept[..., piece, :], head, bias)
        aim = targets[piece, None].expand(*lanes, -1, 1)
        aimed = logits.gather(-1, aim)[..., 0]
        losses[..., piece] = torch.logsumexp(logits, dim=-1) - aimed
    return losses


def _logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    bias = None if bias is None else bias.to(weight.dtype)
    if weight.ndim == 2:
        return linear(hidden, weight, bias).float()
    logits = hidden @ weight.mT
    return (logits if bias is None else logits + bias[..., None, :]).float()


def cast(tensor: torch.Tensor) -> torch.Tensor:
    """To the dtype of the matrix products, which inside a Function is ours to see to."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


def _pieces(targets: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    size = max(PIECE[device.type] // vocabulary, 1)
    return (slice(start, start + size) for start in range(0, targets, size))


class Head:
    """How a model goes from hidden states to logits: plainly by one matrix, or in its own way.

    A model that scales or caps its logits is found out by what it returns, not by its name; it
    makes its own logits, for the positions that count.
    """

    def __init__(self, model: PreTrainedModel):
        self.plain = inside(model, _is_plain)

    def loss(self, model: PreTrainedModel, row: Rows, weights: torch.Tensor) -> torch.Tensor:
        """The weighted sum over the targets; `weights` are (targets,)."""
        if not self.plain:
            logits = _own_logits(model, row)
            return (cross_entropy(logits, row.targets, reduction="none") * weights).sum()
        states = hidden_states(model, row)
        head: Any = model.get_output_embeddings()
        return HeadLoss.apply(states, head.weight, head.bias, row.targets, weights)  # type: ignore

    def token_losses(self, model: PreTrainedModel, row: Rows) -> torch.Tensor:
        """Negative log-likelihood of each target, (targets,), with a gradient."""
        if not self.plain:
            return cross_entropy(_own_logits(model, row), row.targets, reduction="none")
        head: Any = model.get_output_embeddings()
        states = hidden_states(model, row)
        return TokenLosses.apply(states, head.weight, head.bias, row.targets)  # type: ignore

    @torch.no_grad()
    def negative_log_likelihoods(self, model: PreTrainedModel, row: Rows) -> torch.Tensor:
        """Of each target, (targets,)."""
        if not self.plain:
            return cross_entropy(_own_logits(model, row), row.targets, reduction="none")
        head: Any = model.get_output_embeddings()
        return negative_log_likelihoods(
            hidden_states(model, row), head.weight, head.bias, row.targets
        )


def hidden_states(model: PreTrainedModel, row: Rows) -> torch.Tensor:
    """Where a token that counts is predicted, (targets, size)."""
    states = half_weights.forward(model.base_model, row.options).last_hidden_state
    return states.flatten(0, 1).index_select(0, row.places)


def _own_logits(model: PreTrainedModel, row: Rows) -> torch.Tensor:
    forward = type(model).forward  # not the one that a trainer has put in its place
    if row.segments is not None:  # one row, so the model can select before its head
        return forward(model, **row.options, logits_to_keep=row.places).logits[0].float()
    return forward(model, **row.options).logits.flatten(0, 1)[row.places].float()


@torch.no_grad()
def _is_plain(model: PreTrainedModel) -> bool:
    """Whether the output embeddings, applied to the hidden states, are the model's logits."""
    head: Any = model.get_output_embeddings()
    ids = torch.arange(4, device=model.device)[None]
    if not isinstance(head, torch.nn.Linear):
        return False
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    expected = type(model).forward(model, input_ids=ids, use_cache=False).logits
    return bool((head(hidden) - expected).norm() < 1e-4 * expected.norm())
