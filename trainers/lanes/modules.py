"""A transformers model whose weights have lanes: (lanes, tokens, size) go through it.

Linear modules, embeddings and norms are replaced; what has no weights is as it was. The gradient of
a weight is added where it lies in the stack as soon as it is known, and no lane's number is ever
part of another lane's.
"""

from typing import Any

import torch
from torch.nn.functional import embedding, layer_norm
from transformers import PreTrainedModel

from trainers.lanes.stack import Stack, twin
from trainers.ops import half_weights
from trainers.specs.lanes import NotLaned

FROZEN = "_has_frozen_weights"


def laned(model: PreTrainedModel, stack: Stack) -> PreTrainedModel:
    """A model like `model` for all lanes of the stack at once.

    Raises:
        NotLaned: it has weights in a module of another kind.
    """
    names = {name: stack.stacked(name) for name in stack.spans}
    whole = twin(model, names)
    by_id = {id(parameter): name for name, parameter in names.items()}
    for path, module in list(whole.named_modules()):
        own = dict(module.named_parameters(recurse=False))
        trained = [parameter for parameter in own.values() if id(parameter) in by_id]
        if not trained:
            continue  # all lanes share what is frozen
        if len(trained) < len(own):
            raise NotLaned(f"{type(module).__name__} {path}: not all of its weights are trained")
        spans = {part: by_id[id(parameter)] for part, parameter in own.items()}
        whole.set_submodule(path, _laned(module, path, spans, stack))
    frozen = any(not parameter.requires_grad for parameter in whole.base_model.parameters())
    setattr(whole, FROZEN, frozen)
    return whole


def forget(laned: PreTrainedModel) -> None:
    """Let go of what a backward pass that failed has left beside the stack."""
    for module in laned.modules():
        if isinstance(module, LaneLinear) and module.rounded is not None:
            module.rounded.grad = None


def hidden_states(laned: PreTrainedModel, options: dict[str, Any]) -> torch.Tensor:
    """Of the rows that `options` hold, (lanes * rows, tokens, size)."""
    body = laned.base_model
    if getattr(laned, FROZEN):
        return half_weights.forward(body, options).last_hidden_state
    return body(**options).last_hidden_state


def _laned(
    module: torch.nn.Module, path: str, spans: dict[str, str], stack: Stack
) -> torch.nn.Module:
    """`spans` are the names in the stack of the module's own weights."""
    if type(module) is torch.nn.Linear:
        return LaneLinear(module, spans["weight"], stack)
    if type(module) is torch.nn.Embedding and module.max_norm is None:
        return LaneEmbedding(module, spans["weight"], stack)
    if type(module) is torch.nn.LayerNorm:
        module = _LayerNorm(module)
    elif isinstance(module, torch.nn.LayerNorm) or any(
        len(stack.spans[name].shape) != 1 for name in spans.values()
    ):
        kind = type(module).__name__
        raise NotLaned(f"{path}: no lanes for the weights {', '.join(spans)} of {kind}")
    return LaneNorm(module, spans, stack)


class LaneLinear(torch.nn.Linear):
    """(lanes * rows, tokens, inputs) to (lanes * rows, tokens, outputs)."""

    casts_itself = True
    rounded: torch.nn.Parameter | None
    """The weight for products in bfloat16."""

    def __init__(self, linear: torch.nn.Linear, name: str, stack: Stack):
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.rounded = None
        if stack.half is not None:
            self.rounded = torch.nn.Parameter(stack.slices(stack.half, name))
            self.rounded.register_post_accumulate_grad_hook(self._add)

    def _add(self, rounded: torch.Tensor) -> None:
        """Add a gradient in bfloat16 where that of the weight lies."""
        assert self.weight.grad is not None and rounded.grad is not None
        self.weight.grad += rounded.grad
        rounded.grad = None

    @property
    def product(self) -> torch.Tensor:
        """The weight in the dtype of the products."""
        if self.rounded is None or not torch.is_autocast_enabled(self.weight.device.type):
            return self.weight
        return self.rounded

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        product = self.product
        rows = input.to(product.dtype).reshape(len(product), -1, self.in_features)
        bias = None if self.bias is None else self.bias[:, None].to(product.dtype)
        out: Any = _Product.apply(rows, product, bias)
        return out.view(*input.shape[:-1], self.out_features)


class _Product(torch.autograd.Function):
    """The gradient of a weight in float32 is added where it lies, in one operation."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.biased = bias is not None
        if bias is None:
            return torch.bmm(rows, weight.mT)
        return torch.baddbmm(bias, rows, weight.mT)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (slope,) = outputs
        rows, weight = ctx.saved_tensors
        to_rows = torch.bmm(slope, weight) if ctx.needs_input_grad[0] else None
        to_bias = slope.sum(dim=1, keepdim=True) if ctx.biased else None
        if weight.dtype == torch.float32:
            weight.grad.baddbmm_(slope.mT, rows)
            return to_rows, None, to_bias
        return to_rows, torch.bmm(slope.mT, rows), to_bias


class LaneEmbedding(torch.nn.Embedding):
    """(lanes * rows, tokens), or (1, tokens) for all lanes alike, to (lanes * rows, tokens, size).

    The rows of the stack are one long table, in which each lane's table has its place.
    """

    def __init__(self, table: torch.nn.Embedding, name: str, stack: Stack):
        torch.nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = table.padding_idx, None, 2.0
        self.scale_grad_by_freq = self.sparse = False
        self.weight = table.weight
        size = self.embedding_dim
        lanes = torch.arange(stack.lanes, device=self.weight.device)
        per_lane, first = stack.weights.shape[1] // size, stack.spans[name].start // size
        self._offsets = (lanes * per_lane + first)[:, None]
        self._table = stack.weights.view(-1, size)
        self._gradients = stack.gradients.view(-1, size)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        lanes = len(self._offsets)
        ids = input.expand(lanes, -1) if len(input) == 1 else input
        ids = ids.reshape(lanes, -1)
        untrained = None if self.padding_idx is None else ids == self.padding_idx
        places = ids + self._offsets
        out: Any = _Lookup.apply(places, untrained, self.weight, self._table, self._gradients)
        return out.view(-1, *input.shape[1:], self.embedding_dim)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        places: torch.Tensor,
        untrained: torch.Tensor | None,
        weight: torch.nn.Parameter,
        table: torch.Tensor,
        gradients: torch.Tensor,
    ) -> torch.Tensor:
        """`untrained` are lookups without a gradient, those of the padding token; `weight` only
        makes it known that the table is trained."""
        ctx.save_for_backward(places, untrained)
        ctx.gradients = gradients
        return embedding(places, table)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        places, untrained = ctx.saved_tensors
        (slope,) = outputs
        if untrained is not None:
            slope = slope.masked_fill(untrained[..., None], 0.0)
        ctx.gradients.index_put_((places.flatten(),), slope.flatten(0, 1), accumulate=True)
        return None, None, None, None, None


class LaneNorm(torch.nn.Module):
    """A module whose weights are vectors that the input is multiplied by and that are added to it,
    by broadcasting along its last axis."""

    def __init__(self, norm: torch.nn.Module, spans: dict[str, str], stack: Stack):
        super().__init__()
        self.norm = norm
        self._lanes = stack.lanes
        self._axes = 0
        """Of the input that the weights have been given their shape for."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden
        if len(rows) != self._lanes:
            rows = rows.unflatten(0, (self._lanes, -1))
        if rows.ndim != self._axes:
            self._broadcast(rows.ndim)
        return self.norm(rows).view(hidden.shape)

    def _broadcast(self, axes: int) -> None:
        self._axes = axes
        for name, parameter in list(self.norm.named_parameters(recurse=False)):
            shape = (self._lanes, *[1] * (axes - 2), parameter.shape[-1])
            shaped = torch.nn.Parameter(parameter.detach().view(shape))
            assert parameter.grad is not None, "its place in the stack"
            shaped.grad = parameter.grad.view(shape)
            setattr(self.norm, name, shaped)


class _LayerNorm(torch.nn.Module):
    """As torch's, whose weights cannot be broadcast."""

    def __init__(self, norm: torch.nn.LayerNorm):
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self._shape, self._eps = norm.normalized_shape, norm.eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        out = layer_norm(hidden, self._shape, None, None, self._eps) * self.weight
        return out if self.bias is None else out + self.bias
