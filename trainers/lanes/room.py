"""How many lanes the memory holds, and how many tokens beside them."""

import psutil
import torch
from transformers import PreTrainedModel

from trainers.ops import memory
from trainers.ops.memory import WORKSPACE
from trainers.specs.optimizer import STATE_BYTES

SHARE = 0.8
"""Of the memory that is left, for weights, gradients and the optimizers' states; the rest is for
activations."""


def bytes_per_lane(model: PreTrainedModel, optimizer: str, bfloat16: bool) -> float:
    """Weights, their copy in bfloat16, gradients, and the optimizer's state."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained * (4 + 4 + STATE_BYTES[optimizer] + 2 * bfloat16)


def lanes_that_fit(model: PreTrainedModel, optimizer: str, bfloat16: bool, lanes: int) -> int:
    """Of `lanes`; at least 1."""
    left = SHARE * _left(model.device)
    return max(min(int(left / bytes_per_lane(model, optimizer, bfloat16)), lanes), 1)


def tokens_per_micro_batch(
    model: PreTrainedModel, optimizer: str, packed: bool, bfloat16: bool, lanes: int
) -> int:
    """Of all lanes together, where the spec does not say; their weights and gradients are there
    already."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    states = lanes * trained * STATE_BYTES[optimizer]
    return memory.tokens_beside(model, packed, bfloat16, states)


def _left(device: torch.device) -> int:
    if device.type == "cuda":
        return memory.room_on(device) - WORKSPACE
    return psutil.virtual_memory().available
