"""Models of a few thousand parameters, of several families, and examples for them."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainers.data.forms.tokenize import IGNORED
from trainers.ops.packed_attention import Example

CPU = torch.device("cpu")


def example(length: int, counted: int, seed: int, after: int = 0) -> Example:
    """`counted` tokens with a label, and `after` more without one behind them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(100, (length,), generator=generator)
    labels = torch.full((length,), IGNORED)
    part = slice(length - counted - after, length - after)
    labels[part] = ids[part]
    return Example(ids, labels)


EXAMPLES = [example(7, 3, 0), example(20, 20, 1), example(2, 1, 2), example(12, 2, 3, after=4)]


def small(kind=LlamaForCausalLM, config=LlamaConfig, **settings):
    torch.manual_seed(0)
    plain = {
        "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2,
    }  # fmt: skip
    return kind(config(**(plain | settings))).float()
