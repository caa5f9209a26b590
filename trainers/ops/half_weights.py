"""Weights of a model's matrix products in the dtype of autocast, cast a layer at a time.

Autocast casts each weight by itself, forwards and its gradient backwards: 14 kernels a layer of a
Llama, one by one. Here one kernel casts all weights of a layer, and one all their gradients. The
numbers are the same to the last bit.
"""

from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.func import functional_call
from transformers.modeling_layers import GradientCheckpointingLayer

CASTS_ITSELF = "casts_itself"
"""Attribute of a linear module that is left as it is."""

DEVICES = ("cuda",)
"""Where a launch costs more than the cast itself."""


def forward(body: torch.nn.Module, options: dict[str, Any]) -> Any:
    """`body(**options)`, with a gradient for its own float32 weights. Sharded ones arrive in half
    precision by themselves."""
    device = options["input_ids"].device.type
    if (
        device not in DEVICES
        or not torch.is_autocast_enabled(device)
        or not torch.is_grad_enabled()
        or any(isinstance(part, FSDPModule) for part in body.modules())
    ):
        return body(**options)
    weights = _cast(body, torch.get_autocast_dtype(device))
    return functional_call(body, weights, (), options)


def _cast(body: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Of the linear modules in decoder layers, by their names in `body`."""
    copies: dict[str, torch.Tensor] = {}
    for prefix, layer in body.named_modules():
        if not isinstance(layer, GradientCheckpointingLayer):
            continue
        # DoRA takes the lengths of its rows from the weights themselves, in float32
        whole = tuple(
            f"{inner}."
            for inner, module in layer.named_modules()
            if getattr(module, "lora_magnitude_vector", None)
        )
        trained: dict[str, torch.Tensor] = {}
        frozen: dict[str, torch.Tensor] = {}
        for inner, module in layer.named_modules():
            linear = isinstance(module, torch.nn.Linear)
            if linear and not inner.startswith(whole) and not getattr(module, CASTS_ITSELF, False):
                for name, weight in module.named_parameters(recurse=False):
                    part = trained if weight.requires_grad else frozen
                    part[f"{prefix}.{inner}.{name}"] = weight
        if trained:
            cast: Any = _Cast.apply(dtype, *trained.values())
            copies |= dict(zip(trained, cast, strict=True))
        if frozen:  # apart: autograd would make their gradients for all or for none
            with torch.no_grad():
                cast = _copies(tuple(frozen.values()), dtype)
            copies |= dict(zip(frozen, cast, strict=True))
    return copies


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.dtype = weights[0].dtype
        return _copies(weights, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (None, *_copies(gradients, ctx.dtype))


def _copies(tensors: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    torch._foreach_copy_(copies, list(tensors))  # pyright: ignore[reportPrivateImportUsage]
    return tuple(copies)
