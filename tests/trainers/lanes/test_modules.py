"""Models of several families with lanes give each lane the losses and gradients of the family's own
model on its weights; what cannot have lanes is found out."""

import copy
from functools import partial

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.trainers import varlen_on_cpu
from tests.trainers.small_models import CPU, EXAMPLES, small
from trainers.lanes import modules, proof
from trainers.lanes.head import LaneHead
from trainers.lanes.stack import Stack
from trainers.models import adapters
from trainers.ops import chunked_loss, packed_attention
from trainers.ops.chunked_loss import Head
from trainers.ops.packed_attention import rows
from trainers.specs.adapter import Adapter
from trainers.specs.lanes import NotLaned
from trainers.steps import optimizers
from trainers.training import compiled

LANES = 3

FAMILIES = {
    "tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "untied": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 4}),
    "biased": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8}),
    "olmo2": (Olmo2ForCausalLM, Olmo2Config, {}),
    "layer norm": (PhiForCausalLM, PhiConfig, {"num_key_value_heads": 4}),
    "neox": (GPTNeoXForCausalLM, GPTNeoXConfig, {}),
    "scaled": (CohereForCausalLM, CohereConfig, {"logit_scale": 0.3}),
    "divided": (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 4.0}),
    "padded": (MistralForCausalLM, MistralConfig, {"sliding_window": 4}),
}


def stacked(model, lanes=LANES, bfloat16=False) -> Stack:
    return Stack(model, lanes, optimizers.decaying(model), bfloat16)


def apart(stack: Stack) -> None:
    """Give each lane weights of its own."""
    generator = torch.Generator().manual_seed(1)
    for row in stack.weights:
        row *= 1 + 0.2 * torch.randn(row.shape, generator=generator)


@pytest.mark.parametrize("piece", [2**24, 50], ids=["whole", "lane by lane"])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_lane_has_the_losses_and_gradients_of_its_own_model(name, piece, monkeypatch):
    monkeypatch.setitem(chunked_loss.PIECE, "cpu", piece)
    kind, config, settings = FAMILIES[name]
    model = small(kind, config, **settings).eval()
    stack = stacked(model)
    apart(stack)
    single = [copy.deepcopy(stack.model(model, lane)) for lane in range(LANES)]
    with packed_attention.used(model) as packed:
        laned = modules.laned(model, stack).eval()
        row = rows(EXAMPLES, packed, CPU, LANES)
        weights = torch.linspace(0.1, 1, len(row.targets))
        losses = LaneHead(model, LANES).losses(laned, LANES, row, weights)
    losses.backward(torch.ones(LANES))
    for lane, own in enumerate(single):
        own.zero_grad()
        with packed_attention.used(own):
            loss = Head(own).loss(own, rows(EXAMPLES, packed, CPU), weights)
        loss.backward()
        torch.testing.assert_close(losses[lane], loss, rtol=1e-5, atol=1e-6)
        mine = stack.model(model, lane)
        for (path, here), there in zip(mine.named_parameters(), own.parameters(), strict=True):
            assert torch.equal(here, there)
            expected = torch.zeros_like(there) if there.grad is None else there.grad
            torch.testing.assert_close(here.grad, expected, rtol=1e-3, atol=1e-5, msg=path)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_pass_the_proof(name):
    kind, config, settings = FAMILIES[name]
    prove(small(kind, config, **settings))


def prove(model, bfloat16=False) -> Stack:
    with packed_attention.used(model, bfloat16) as packed:
        stack = stacked(model, bfloat16=bfloat16)
        laned = modules.laned(model, stack)
        single = [stack.model(model, lane) for lane in range(LANES)]
        proof.check(laned, single, stack, packed, bfloat16)
    return stack


def test_the_proof_leaves_the_weights_of_the_start_and_no_gradient():
    model = small()
    stack = prove(model)
    assert not stack.gradients.any()
    for lane in range(LANES):
        for here, there in zip(
            stack.model(model, lane).parameters(), model.parameters(), strict=True
        ):
            assert torch.equal(here, there)


@pytest.mark.parametrize("name", ["tied", "biased", "qwen3"])
def test_on_the_path_of_a_gpu_in_bfloat16(name):
    """Lanes fold into one packed sequence for the kernel of varying lengths."""
    kind, config, settings = FAMILIES[name]
    with varlen_on_cpu.used() as calls:
        prove(small(kind, config, **settings), bfloat16=True)
    assert calls


@pytest.mark.parametrize(
    ("kind", "config", "settings", "reason"),
    [
        (MambaForCausalLM, MambaConfig, {}, "no lanes for the weights"),
        (GPT2LMHeadModel, GPT2Config, {}, "Conv1D"),
        (LlamaForCausalLM, LlamaConfig, {"attention_dropout": 0.5}, "differ"),
        (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 8}, "Embedding"),
    ],
    ids=["mamba", "gpt2", "dropout", "gemma2"],
)
def test_what_has_no_lanes_is_found_out(kind, config, settings, reason):
    with pytest.raises(NotLaned, match=reason):
        prove(small(kind, config, **settings))


def test_lanes_that_are_mixed_up_fail_the_proof(monkeypatch):
    """So that the proof is one."""
    plain = modules._Product.forward

    def mixed(ctx, rows, *rest):
        return plain(ctx, rows.roll(1, 0), *rest)

    monkeypatch.setattr(modules._Product, "forward", staticmethod(mixed))
    with pytest.raises(NotLaned, match="hidden states of lanes of LlamaForCausalLM differ"):
        prove(small())


def test_gradients_in_the_wrong_lane_fail_the_proof(monkeypatch):
    plain = modules._Product.backward

    def shifted(ctx, slope):
        return plain(ctx, slope.roll(1, 0))

    monkeypatch.setattr(modules._Product, "backward", staticmethod(shifted))
    with pytest.raises(NotLaned, match="gradients of lanes of LlamaForCausalLM differ"):
        prove(small())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tied", "biased", "qwen3"])
def test_compiled_layers_pass_the_proof_and_serve_all_lengths(name):
    from torch._dynamo.testing import CompileCounterWithBackend

    kind, config, settings = FAMILIES[name]
    model, backend = small(kind, config, **settings), CompileCounterWithBackend("aot_eager")
    with varlen_on_cpu.chosen(), packed_attention.used(model, bfloat16=True):
        stack = stacked(model, bfloat16=True)
        apart(stack)
        laned = modules.laned(model, stack)
        run = partial(proof.run, stack)
        with compiled.layers(laned, "", backend, run) as compilation:
            assert compilation == (True, "")
            compiled_once = backend.frame_count
            for lengths in ((5, 3), (30, 2, 9, 4), (64,)):
                run(laned, lengths)
            assert backend.frame_count == compiled_once > 0


def test_of_gradients_a_sample_over_all_weights_is_compared(monkeypatch):
    monkeypatch.setattr(proof, "NUMBERS", 200)
    stack = stacked(model := small(), bfloat16=True)
    with varlen_on_cpu.chosen(), packed_attention.used(model, bfloat16=True):
        laned = modules.laned(model, stack)
        _, gradient = proof.run(stack, laned, (5, 3))
    assert 100 < gradient.shape[1] <= 201
    assert gradient.any(dim=1).all() and not stack.gradients.any()
    weights = max(span.end for span in stack.spans.values())
    fourth = gradient.shape[1] * weights // stack.weights.shape[1] // 4
    assert all(gradient[:, fourth * i : fourth * (i + 1)].any() for i in range(4))


def test_a_bias_that_is_frozen_beside_its_weight_has_no_lanes():
    model = small(mlp_bias=True)
    model.model.layers[0].mlp.up_proj.bias.requires_grad_(False)
    with pytest.raises(NotLaned, match="not all of its weights are trained"):
        prove(model)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_adapters_over_one_frozen_base_pass_the_proof(bfloat16):
    model = small()
    adapters.attach(model, Adapter(rank=4), 0)
    with varlen_on_cpu.used():
        stack = prove(model, bfloat16)
    assert stack.weights.shape[1] < sum(p.numel() for p in model.parameters())
