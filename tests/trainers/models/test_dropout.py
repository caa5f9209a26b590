"""A model's own dropout: read from its configuration, off while training where it is to be."""

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from tests.trainers.small_models import small
from trainers.models import adapters, dropout
from trainers.specs.adapter import Adapter

IDS = torch.arange(5, 25)[None]
MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"attn_pdrop": 0.2}),
    "opt": (OPTForCausalLM, OPTConfig, {"word_embed_proj_dim": 32, "attention_dropout": 0.5}),
    "falcon": (FalconForCausalLM, FalconConfig, {"hidden_dropout": 0.5}),
    "gpt_neo": (
        GPTNeoForCausalLM, GPTNeoConfig,
        {"attention_types": [[["global"], 2]], "attention_dropout": 0.5},
    ),
    "llama": (LlamaForCausalLM, LlamaConfig, {"attention_dropout": 0.5}),
}  # fmt: skip
EXPECTED = {
    "gpt2": {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.2},
    "opt": {"dropout": 0.1, "attention_dropout": 0.5},
    "falcon": {"hidden_dropout": 0.5},
    "gpt_neo": {"attention_dropout": 0.5},
    "llama": {"attention_dropout": 0.5},
}


def hidden(model, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return model.train()(input_ids=IDS).logits


@pytest.mark.parametrize("name", MODELS)
def test_model_draws_nothing_while_its_dropout_is_off(name):
    kind, config, settings = MODELS[name]
    model = small(kind, config, **settings)
    before = model.config.to_dict()
    assert dropout.in_config(before) == EXPECTED[name]
    assert not torch.equal(hidden(model, 0), hidden(model, 1))
    with dropout.off(model):
        assert torch.equal(hidden(model, 0), hidden(model, 1))
    assert not torch.equal(hidden(model, 0), hidden(model, 1))
    assert model.config.to_dict() == before


def test_dropout_of_an_adapter_stays():
    model = small()
    adapters.attach(model, Adapter(rank=2, dropout=0.5), seed=0)
    with dropout.off(model):
        (first, *_) = (module for module in model.modules() if isinstance(module, LoraLayer))
        assert first.lora_dropout["default"].p == 0.5


def test_configuration_of_text_in_one_of_several_parts_counts():
    assert dropout.in_config({"text_config": {"attention_dropout": 0.1, "classifier_dropout": 0.1}})
    assert dropout.in_config({"attention_dropout": 0.0, "moe_drop_tokens": True}) == {}
