"""The proof that lanes compute what each model computes alone, before the first step."""

import warnings
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from trainers.lanes import modules
from trainers.lanes.stack import Stack
from trainers.ops import half_weights, packed_attention
from trainers.ops.memory import out_of_memory
from trainers.ops.packed_attention import TOLERANCE
from trainers.specs.lanes import NotLaned
from trainers.training import compiled

APART = 0.05
"""Each lane's weights are larger by that share than the ones of the lane before."""

NUMBERS = 2**20
"""Of each lane's gradient, that are compared before and after compiling."""


def check(
    laned: PreTrainedModel,
    single: Sequence[PreTrainedModel],
    stack: Stack,
    packed: bool,
    bfloat16: bool,
) -> None:
    """Hidden states and gradients of short examples, in lanes with different weights and in the
    `single` models on the same weights. Leaves all lanes with the weights of the start.

    Raises:
        NotLaned: they differ, or the model does not take lanes.
    """
    for model in (laned, *single):
        model.train()
    try:
        for dtype in (torch.float32, *([torch.bfloat16] if bfloat16 else [])):
            _apart(stack)
            try:
                _compare(laned, single, stack, packed, dtype)
            except (TypeError, ValueError, IndexError, RuntimeError) as error:
                if out_of_memory(error):
                    raise
                raise NotLaned(f"{type(laned).__name__} does not take lanes: {error}") from error
    finally:
        stack.fill()
        stack.zero()


@torch.no_grad()
def _apart(stack: Stack) -> None:
    for lane, row in enumerate(stack.weights):
        row[row == 0] = APART * (1 + lane)  # as half of a fresh adapter is
        row *= 1 + APART * lane
    stack.round()
    stack.zero()


def _compare(
    laned: PreTrainedModel,
    single: Sequence[PreTrainedModel],
    stack: Stack,
    packed: bool,
    dtype: torch.dtype,
) -> None:
    """The gradients of the single models are taken off those of the lanes: what is left is the
    difference."""
    lanes, device = stack.lanes, stack.weights.device
    examples = packed_attention.proof(laned)
    examples[0].ids[0] = getattr(laned.get_input_embeddings(), "padding_idx", None) or 0
    row = packed_attention.rows(examples, packed, device, lanes)
    with _products_in(dtype, device):
        together = modules.hidden_states(laned, row.options).float()
    together = together.view(lanes, -1, together.shape[-1])
    generator = torch.Generator().manual_seed(0)
    weigh = torch.randn(together[0].shape, generator=generator).to(device)
    with warnings.catch_warnings():
        # said once in a process: that gradients lie apart may be slow, and these are vectors
        warnings.filterwarnings("ignore", message="grad and param do not obey")
        (together * weigh).sum(dim=(1, 2)).backward(torch.ones(lanes, device=device))
    norms = stack.norms()
    row = packed_attention.rows(examples, packed, device)
    for model, lane in zip(single, together, strict=True):
        with _products_in(dtype, device):
            states = half_weights.forward(model.base_model, row.options).last_hidden_state
        alone = states.float().flatten(0, 1)
        (-(alone * weigh).sum()).backward()
        if not (lane - alone).norm() < TOLERANCE[dtype] * alone.norm():
            raise NotLaned(f"hidden states of lanes of {type(laned).__name__} differ in {dtype}")
    if not (stack.norms() < TOLERANCE[dtype] * norms).all():
        raise NotLaned(f"gradients of lanes of {type(laned).__name__} differ in {dtype}")


def run(
    stack: Stack, laned: PreTrainedModel, lengths: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """`compiled.Run` of a model with the lanes of `stack`, whose gradients it samples: four copies
    of all of them would not fit beside as many lanes as the memory holds."""
    training = laned.training
    laned.train()
    stack.round()
    examples = compiled.random_examples(laned, lengths)
    device = stack.weights.device
    with _products_in(torch.bfloat16, device):
        row = packed_attention.rows(examples, True, device, stack.lanes)
        hidden = modules.hidden_states(laned, row.options).float()
    weigh = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1)).to(device)
    (hidden * weigh).sum().backward()
    step = stack.gradients.shape[1] // NUMBERS | 1  # odd, so that all columns of a matrix are met
    gradient = stack.gradients[:, ::step].clone()
    stack.zero()
    laned.train(training)
    return hidden.detach(), gradient


def _products_in(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
