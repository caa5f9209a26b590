"""Weights cast a layer at a time give the same numbers as autocast, to the last bit."""

import pytest
import torch
from torch.distributed.fsdp import FSDPModule

from tests.trainers.small_models import EXAMPLES, small
from trainers.models import adapters
from trainers.ops import half_weights
from trainers.ops.packed_attention import rows
from trainers.specs.adapter import Adapter


@pytest.mark.parametrize("biases", [False, True])
def test_states_and_gradients_are_those_of_autocast(biases, monkeypatch):
    model = small(attention_bias=biases, mlp_bias=biases).train()
    options = rows(EXAMPLES, False, torch.device("cpu")).options

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        for _ in range(2):  # the second pass adds to the first one's
            with torch.autocast("cpu", torch.bfloat16):
                states = half_weights.forward(model.base_model, options).last_hidden_state
            (
                states.float() * torch.linspace(-1, 1, states.numel()).view_as(states)
            ).sum().backward()
        body = model.base_model.named_parameters()
        return [states.detach(), *(parameter.grad.clone() for _, parameter in body)]

    expected = gradients()
    monkeypatch.setattr(half_weights, "DEVICES", ("cpu",))
    calls = []
    copies = half_weights._copies
    monkeypatch.setattr(half_weights, "_copies", lambda *given: calls.append(1) or copies(*given))
    found = gradients()
    assert len(calls) == 2 * 2 * len(model.model.layers)
    assert all(map(torch.equal, found, expected))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "adapter",
    [
        {"rank": 4},
        {"rank": 4, "targets": "attention", "dora": True, "rslora": True},
        {"rank": 4, "base_weights": "nf4"},
    ],
    ids=["lora", "dora", "nf4"],
)
def test_adapters_gradients_are_those_of_autocast(adapter, monkeypatch):
    """And of the frozen weights under it none is made."""
    model = small().train()
    adapters.attach(model, Adapter.model_validate(adapter), 0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # at zero A would have no gradient
            torch.nn.init.normal_(parameter, std=0.1)
    options = rows(EXAMPLES, False, torch.device("cpu")).options

    def numbers() -> list[torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            states = half_weights.forward(model.base_model, options).last_hidden_state
        (states.float() * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        trained = [p for p in model.parameters() if p.requires_grad]
        assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
        return [states.detach(), *(p.grad.clone() for p in trained)]

    expected = numbers()
    assert all(bool(gradient.any()) for gradient in expected)
    monkeypatch.setattr(half_weights, "DEVICES", ("cpu",))
    found = numbers()
    assert all(map(torch.equal, found, expected))


def test_without_a_gradient_or_autocast_nothing_is_cast(monkeypatch):
    monkeypatch.setattr(half_weights, "DEVICES", ("cpu",))
    monkeypatch.setattr(half_weights, "_cast", lambda *_: pytest.fail("cast"))
    model, options = small(), rows(EXAMPLES, False, torch.device("cpu")).options
    half_weights.forward(model.base_model, options)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half_weights.forward(model.base_model, options)


def test_an_adapter_that_comes_later_and_weights_that_are_replaced_are_met(monkeypatch):
    monkeypatch.setattr(half_weights, "DEVICES", ("cpu",))
    model, options = small().train(), rows(EXAMPLES, False, torch.device("cpu")).options

    def states() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return half_weights.forward(model.base_model, options).last_hidden_state

    states()
    linear = model.model.layers[0].mlp.up_proj
    linear.weight = torch.nn.Parameter(2 * linear.weight.detach())
    doubled = states()
    monkeypatch.setattr(half_weights, "DEVICES", ())
    assert torch.equal(doubled, states())
    monkeypatch.setattr(half_weights, "DEVICES", ("cpu",))
    adapters.attach(model, Adapter(rank=4), 0)
    states().float().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert not any(type(p) is torch.Tensor for p in model.base_model.parameters())


def test_a_body_with_a_sharded_block_is_left_to_its_shards(monkeypatch):
    """Blocks of a layer are divided, and not the layer itself (trainers/steps/sharding.py)."""
    monkeypatch.setattr(half_weights, "DEVICES", ("cpu",))
    monkeypatch.setattr(half_weights, "_copies", lambda *_: pytest.fail("cast"))
    model, options = small().train(), rows(EXAMPLES, False, torch.device("cpu")).options
    block = model.model.layers[1].mlp
    block.__class__ = type("Sharded", (FSDPModule, type(block)), {})
    with torch.autocast("cpu", torch.bfloat16):
        half_weights.forward(model.base_model, options)
