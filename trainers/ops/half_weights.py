"""Weights of a model's matrix products in the dtype of autocast, cast a layer at a time.

Autocast casts each weight by itself, forwards and its gradient backwards: 14 kernels a layer of a
Llama, one by one. Here one kernel casts all weights of a layer, and one all their gradients. The
numbers are the same to the last bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn import Module
from transformers.modeling_layers import GradientCheckpointingLayer

CASTS_ITSELF = "casts_itself"
"""Attribute of a linear module that is left as it is."""

DEVICES = ("cuda",)
"""Where a launch costs more than the cast itself."""


Linears = tuple[Module, ...]
"""Those of a decoder layer whose weights are cast here."""

_LAYERS: WeakKeyDictionary[Module, list[Linears]] = WeakKeyDictionary()
"""Of each body, looked up once: the host takes 5 ms to walk through one of 30 layers, as long as to
launch its kernels."""


def forward(body: Module, options: dict[str, Any]) -> Any:
    """`body(**options)`, with a gradient for its own float32 weights. Sharded ones arrive in half
    precision by themselves."""
    device = options["input_ids"].device.type
    if (
        device not in DEVICES
        or not torch.is_autocast_enabled(device)
        or not torch.is_grad_enabled()
    ):
        return body(**options)
    if body not in _LAYERS:
        _LAYERS[body] = list(_layers(body))
    with _cast(_LAYERS[body], torch.get_autocast_dtype(device)):
        return body(**options)


def _layers(body: Module) -> Iterator[Linears]:
    if any(isinstance(part, FSDPModule) for part in body.modules()):
        return
    for layer in body.modules():
        if not isinstance(layer, GradientCheckpointingLayer):
            continue
        # DoRA takes the lengths of its rows from the weights themselves, in float32
        whole = {
            part
            for module in layer.modules()
            if getattr(module, "lora_magnitude_vector", None)
            for part in module.modules()
        }
        yield tuple(
            module
            for module in layer.modules()
            if isinstance(module, torch.nn.Linear)
            and module not in whole
            and not getattr(module, CASTS_ITSELF, False)
        )


@contextmanager
def _cast(layers: list[Linears], dtype: torch.dtype) -> Iterator[None]:
    """While open, the linear modules have copies in place of their weights. A module that is put
    into a layer later keeps its weights, which autocast then casts."""
    own: list[tuple[Module, str, Any]] = []
    try:
        for linears in layers:
            weights = [
                (module, name, weight)
                for module in linears
                for name, weight in module._parameters.items()
                if weight is not None
            ]
            trained = [one for one in weights if one[2].requires_grad]
            frozen = [one for one in weights if not one[2].requires_grad]
            copies: list[torch.Tensor] = []
            if trained:
                copies += _Cast.apply(dtype, *(weight for _, _, weight in trained))  # type: ignore
            if frozen:  # apart: autograd would make their gradients for all or for none
                with torch.no_grad():
                    copies += _copies(tuple(weight for _, _, weight in frozen), dtype)
            own += weights
            for (module, name, _), copied in zip(trained + frozen, copies, strict=True):
                module._parameters[name] = copied  # type: ignore
        yield
    finally:
        for module, name, weight in own:
            module._parameters[name] = weight


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
