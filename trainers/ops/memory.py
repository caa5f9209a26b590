"""How many tokens a micro-batch may have where the spec does not say: as suits the device."""

import torch
from transformers import PreTrainedModel

from trainers import devices
from trainers.ops.packed_attention import Example, rows

ON_CPU = 1024
"""Measured with SmolLM2-135M on two cores: more tokens at a time are no faster."""

FORWARD_ON_CPU = 4096
"""As `ON_CPU`, for passes without a gradient."""

MOST_ON_GPU = 65_536
FEWEST_ON_GPU = 1024

SHARE = 0.6
"""Of the memory that is left for activations: the rest is for what passes quickly, and for
fragments."""

WORKSPACE = 3 * 2**30
"""Bytes for the logits of a piece in float32 and bfloat16 (`chunked_loss.PIECE`), and for the
workspaces of the libraries."""

SAMPLE = 128
"""Tokens of the shorter of two forward passes that are weighed; the other has twice as many."""


def tokens_per_micro_batch(model: PreTrainedModel, packed: bool, bfloat16: bool) -> int:
    """On a CPU a constant; on a GPU what fits its share of the memory, from two weighed passes."""
    if model.device.type != "cuda":
        return ON_CPU
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    states = 3 * trained  # gradients, and AdamW's two moments
    left = devices.free_memory(model.device) - states - WORKSPACE
    return _between(SHARE * left / bytes_per_token(model, packed, bfloat16))


def tokens_per_forward(model: PreTrainedModel) -> int:
    """As `tokens_per_micro_batch`, for a pass without a gradient: one layer's tensors at a time."""
    if model.device.type != "cuda":
        return FORWARD_ON_CPU
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    per_token = 4 * (16 * config.hidden_size + 4 * inner)
    return _between(SHARE * (devices.free_memory(model.device) - WORKSPACE) / per_token)


def _between(tokens: float) -> int:
    return max(min(int(tokens), MOST_ON_GPU), FEWEST_ON_GPU)


def bytes_per_token(model: PreTrainedModel, packed: bool, bfloat16: bool) -> float:
    """What a forward pass keeps of one more token for its backward pass; copies of weights in
    another dtype, which are kept too, are the same for any number of tokens."""
    short, long = (_kept(model, packed, bfloat16, tokens) for tokens in (SAMPLE, 2 * SAMPLE))
    return (long - short) / SAMPLE


def _kept(model: PreTrainedModel, packed: bool, bfloat16: bool, tokens: int) -> int:
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.arange(tokens + 1) % model.config.get_text_config().vocab_size
    row = rows([Example(ids, ids)], packed, model.device)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16),
    ):
        kept = model.base_model(**row.options)  # noqa: F841  (or its tensors' places are taken)
        return sum(storages.values())
