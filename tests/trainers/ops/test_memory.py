"""What a forward pass keeps, against what it is known to keep."""

import pytest
import torch

from trainers.ops import memory, packed_attention


def test_bytes_of_a_token_do_not_hang_on_the_number_of_tokens(tiny, monkeypatch):
    with packed_attention.used(tiny.model) as packed:
        few = memory.bytes_per_token(tiny.model, packed, bfloat16=False)
        monkeypatch.setattr(memory, "SAMPLE", 2 * memory.SAMPLE)
        assert memory.bytes_per_token(tiny.model, packed, bfloat16=False) == pytest.approx(few)


def test_bytes_of_a_token_hold_what_every_layer_must_keep(tiny):
    """At least the inputs of its seven matrix products, and not many times that."""
    config = tiny.model.config
    layer = 4 * config.hidden_size + 3 * config.intermediate_size
    least = 4 * layer * config.num_hidden_layers
    with packed_attention.used(tiny.model) as packed:
        whole = memory.bytes_per_token(tiny.model, packed, bfloat16=False)
        half = memory.bytes_per_token(tiny.model, packed, bfloat16=True)
    assert least < whole < 5 * least
    assert half < whole


def test_a_cpu_has_a_constant(tiny):
    assert tiny.model.device == torch.device("cpu")
    assert memory.tokens_per_micro_batch(tiny.model, True, False, 8) == memory.ON_CPU
