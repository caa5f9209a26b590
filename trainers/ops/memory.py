"""How many tokens a micro-batch may have where the spec does not say: as suits the device."""

import torch
from transformers import PreTrainedModel

from trainers.ops.packed_attention import Example, rows

ON_CPU = 1024
"""Measured with SmolLM2-135M on two cores: more tokens at a time are no faster."""

MOST_ON_GPU = 65_536
FEWEST_ON_GPU = 1024

SHARE = 0.5
"""Of the free memory that activations may take: the rest is for what passes quickly, and for a
second trial that starts at the same time."""

SAMPLE = 128
"""Tokens of the shorter of two forward passes that are weighed; the other has twice as many."""


def tokens_per_micro_batch(model: PreTrainedModel, packed: bool, bfloat16: bool) -> int:
    """On a CPU a constant; on a GPU what fits, from the free memory and two weighed passes."""
    if model.device.type != "cuda":
        return ON_CPU
    free, _ = torch.cuda.mem_get_info(model.device)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    left = free - 3 * trained  # its gradient, and AdamW's two moments
    fits = int(SHARE * left / bytes_per_token(model, packed, bfloat16))
    return max(min(fits, MOST_ON_GPU), FEWEST_ON_GPU)


def bytes_per_token(model: PreTrainedModel, packed: bool, bfloat16: bool) -> float:
    """What a forward pass keeps of one more token for its backward pass; copies of weights in
    another dtype, which are kept too, are the same for any number of tokens."""
    one, two = (_kept(model, packed, bfloat16, tokens) for tokens in (SAMPLE, 2 * SAMPLE))
    return (two - one) / SAMPLE


def _kept(model: PreTrainedModel, packed: bool, bfloat16: bool, tokens: int) -> int:
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.arange(tokens + 1) % model.config.get_text_config().vocab_size
    one = rows([Example(ids, ids)], packed, model.device)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16),
    ):
        kept = model.base_model(**one.options)  # noqa: F841  (or its tensors' places are taken)
        return sum(found.values())
