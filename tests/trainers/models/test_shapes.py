"""Sizes of models and adapters by their shapes, against transformers and PEFT themselves."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from trainers.models import adapters, at_hand, shapes
from trainers.specs.adapter import Adapter
from trainers.specs.kinds import KINDS

UNTIED = {"allenai/Llama-3.1-Tulu-3-8B"}
WITH_BIAS = {"Qwen/Qwen2.5-1.5B-Instruct"}


@pytest.mark.parametrize("name", at_hand.KNOWN_PARAMETERS)
def test_shape_gives_the_known_number_of_parameters(name):
    shape = shapes.KNOWN[name]
    layer = sum(n_in * n_out for n_in, n_out in shape.linear.values()) + 2 * shape.width
    layer += (shape.queries + 2 * shape.keys) * (name in WITH_BIAS)
    tables = shape.vocabulary * shape.width * (1 + (name in UNTIED))
    assert shape.layers * layer + tables + shape.width == at_hand.parameters(name)


@pytest.mark.parametrize(
    "adapter",
    [
        {"rank": 4},
        {"rank": 16, "targets": "attention"},
        {"targets": "mlp"},
        {"targets": ["q_proj", "down_proj"], "rank": 3},
        {"rank": 8, "dora": True},
    ],
)
def test_adapter_has_as_many_weights_as_peft_makes(adapter, tmp_path):
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=80, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    spec = Adapter.model_validate(adapter)
    adapters.attach(model, spec, 0)
    shape = shapes.shape(str(tmp_path))
    assert shape is not None
    assert shapes.in_adapter(shape, spec) == model.num_parameters(only_trainable=True)
    assert isinstance(model.lm_head, torch.nn.Linear)


def test_what_a_training_trains():
    sft = {"kind": "sft", "data": "world:sft", "learning_rate": 1e-3, "batch_size": 4}
    reward = sft | {"kind": "reward", "data": "world:preferences"}
    full, low, judge = (
        KINDS[settings["kind"]].model_validate(settings)
        for settings in (sft, sft | {"adapter": {"rank": 8}}, reward | {"adapter": {"rank": 8}})
    )
    assert shapes.trained("tiny", full) == at_hand.parameters("tiny")
    low_rank = shapes.trained("tiny", low)
    assert low_rank == 2 * 8 * (4 * 2 * 192 + 3 * (192 + 512))
    assert shapes.trained("tiny", judge) == low_rank + 192, "and the head"
    assert shapes.trained("owner/name", low) is None


def test_layers_unlike_llamas_are_unknown(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt_neox"}))
    assert shapes.shape(str(tmp_path)) is None
    named = Adapter.model_validate({"targets": ["query_key_value"]})
    assert shapes.in_adapter(shapes.SMOLLM2_135M, named) is None
