"""Frozen linear modules in 4 bits, as QLoRA trains an adapter on (Dettmers et al. 2023, arXiv
2305.14314): NormalFloat in blocks of 64 with double quantisation, by bitsandbytes.

Only those of the decoder layers; embeddings, norms and head stay as they are. A weight is used as
what its 4 bits stand for, in the dtype of the matrix product that it is a factor of.
"""

from collections.abc import Iterator
from typing import Any

import torch
from bitsandbytes.autograd._functions import matmul_4bit
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

CONFIG = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "float32",
}
"""The same in transformers' words; its products are bfloat16 where a training's are."""


class Nf4Linear(Linear4bit):
    """bitsandbytes' module, computing in the dtype of autocast or of its input. Theirs keeps the
    dtype of its first input, rounds the bias to it for good, and computes in bfloat16 on some
    CPUs."""

    casts_itself = True  # trainers/ops/half_weights.py
    weight: Any
    bias: Any

    def __init__(self, linear: torch.nn.Linear, device: torch.device):
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features, bias=False, quant_type="nf4")
        parameter: Any = Params4bit
        packed = parameter(linear.weight.data, quant_type="nf4", compress_statistics=True)
        self.weight = packed.to(device)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return matmul_4bit(x, self.weight, bias=bias, quant_state=self.weight.quant_state)

    def dense(self) -> torch.nn.Linear:
        """A module with the weights that the 4 bits stand for, in float32."""
        with torch.device("meta"):
            linear: Any = torch.nn.Linear(self.in_features, self.out_features, bias=False)
        weight = dequantize_4bit(self.weight.data, self.weight.quant_state)
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        linear.bias = self.bias
        return linear


def quantize(model: PreTrainedModel, device: torch.device, dense: bool = False) -> None:
    """Put the linear modules of the decoder layers into 4 bits, a weight at a time, and the model
    on `device`; or, if `dense`, put what the 4 bits stand for in the place of each weight, in
    float32 where it was. A model in 4 bits is left as it is.

    Raises:
        ValueError: as `linear`.
    """
    if holds(model):
        return
    for name, module in linear(model):
        packed = Nf4Linear(module, device)
        model.set_submodule(name, packed.dense().to(module.weight.device) if dense else packed)
    if not dense:
        move: Any = model
        move.to(device)


def linear(model: PreTrainedModel) -> list[tuple[str, torch.nn.Linear]]:
    """What is put into 4 bits, by name.

    Raises:
        ValueError: the model has no decoder layers known to transformers, or none with linear
            modules.
    """
    modules = list(_linear(model))
    if not modules:
        raise ValueError(
            f"adapter.base_weights: {type(model).__name__} has no decoder layers with linear "
            "modules known to transformers; use float32"
        )
    return modules


def _linear(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Linear]]:
    for prefix, layer in model.named_modules():
        if isinstance(layer, GradientCheckpointingLayer):
            for name, module in layer.named_modules():
                if isinstance(module, torch.nn.Linear):
                    yield f"{prefix}.{name}", module


def dequantize(model: PreTrainedModel) -> None:
    """Put the weights that the 4 bits stand for in their place, in float32."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Nf4Linear):
            model.set_submodule(name, module.dense())


def holds(model: torch.nn.Module) -> bool:
    """Whether some of the model's weights are in 4 bits."""
    return any(isinstance(module, Nf4Linear) for module in model.modules())
