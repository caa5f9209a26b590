"""An adapter is put on the modules that its `targets` say, whatever their class and names."""

import copy

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from tests.trainers.small_models import small
from trainers.models import adapters, reach
from trainers.specs.adapter import Adapter
from trainers.specs.kinds import KINDS

IDS = torch.arange(5, 25)[None]
MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config, {}),
    "bigcode": (GPTBigCodeForCausalLM, GPTBigCodeConfig, {}),
    "mamba": (MambaForCausalLM, MambaConfig, {}),
    "opt": (OPTForCausalLM, OPTConfig, {"word_embed_proj_dim": 32, "ffn_dim": 64}),
    "moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig, {"num_experts": 8, "moe_intermediate_size": 32}),
}


def model(name: str):
    kind, config, settings = MODELS[name]
    return small(kind, config, **settings).eval()


def adapter(**settings) -> Adapter:
    return Adapter.model_validate({"rank": 2, **settings})


def adapted(model) -> set[str]:
    """Names, from the layer on, of the modules of the first layer that have an adapter."""
    names = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    return {name.partition(".0.")[2] for name in names if ".0." in name}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("gpt2", "all_linear", {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
        ("gpt2", "mlp", {"mlp.c_fc", "mlp.c_proj"}),
        ("gpt2", ["c_proj"], {"attn.c_proj", "mlp.c_proj"}),
        ("gpt2", ["attn.c_proj"], {"attn.c_proj"}),
        ("bigcode", "attention", {"attn.c_attn", "attn.c_proj"}),
        ("bigcode", "mlp", {"mlp.c_fc", "mlp.c_proj"}),
        ("opt", "mlp", {"fc1", "fc2"}),
        ("mamba", ["in_proj", "x_proj"], {"mixer.in_proj", "mixer.x_proj"}),
        ("moe", "all_linear", {f"self_attn.{name}_proj" for name in "qkvo"}),
    ],
)
def test_modules_with_an_adapter_are_those_of_the_block(name, given, expected):
    made = model(name)
    adapters.attach(made, adapter(targets=given), seed=0)
    assert adapted(made) == expected


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("mamba", "mlp", "mlp: no linear module of MambaForCausalLM is in a feed-forward block"),
        ("moe", "mlp", "use all_linear, or a list of some of q_proj, k_proj, v_proj, o_proj"),
        ("gpt2", ["q_proj"], "no linear module q_proj; it has c_attn, c_proj, c_fc"),
        ("gpt2", ["lm_head"], "no linear module lm_head"),
        ("mamba", "all_linear", "Module 'out_proj' is incompatible with Mamba-based models"),
    ],
)
def test_targets_that_are_none_are_refused_in_a_sentence(name, given, said):
    with pytest.raises(ValueError, match=rf"^adapter\.targets: .*{said}"):
        adapters.check(model(name), adapter(targets=given))


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_adapter_of_conv1d_is_pefts_and_one_whether_active_saved_or_merged(dora, tmp_path):
    plain = model("gpt2")
    made, theirs = copy.deepcopy(plain), copy.deepcopy(plain)
    adapters.attach(made, adapter(dora=dora), seed=0)
    theirs.add_adapter(LoraConfig(r=2, target_modules="all-linear", fan_in_fan_out=True))
    assert adapted(made) == adapted(theirs)
    generator = torch.Generator().manual_seed(1)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=generator)
    active = made(input_ids=IDS).logits
    assert not torch.allclose(active, plain(input_ids=IDS).logits, atol=1e-2)
    adapters.save(made, tmp_path, "gpt2", None)
    loaded = adapters.put_on(copy.deepcopy(plain), tmp_path)
    torch.testing.assert_close(loaded(input_ids=IDS).logits, active, atol=1e-4, rtol=1e-4)
    adapters.merge(made)
    torch.testing.assert_close(made(input_ids=IDS).logits, active, atol=1e-4, rtol=1e-4)
    assert made.state_dict().keys() == plain.state_dict().keys()


def spec(**settings):
    return KINDS["sft"].model_validate({
        "kind": "sft", "data": "world:sft", "learning_rate": 1e-3, "batch_size": 4, **settings,
    })  # fmt: skip


@pytest.mark.slow
def test_a_grid_is_told_by_a_process_of_its_own(tmp_path):
    model("moe").config.save_pretrained(tmp_path)
    stages = {"first": [spec(adapter={"targets": "mlp"}), spec(optimizer="muon")]}
    (problem,), (note,) = reach.reach(str(tmp_path), stages)
    assert problem.startswith("stages.first.adapter.targets: mlp: no linear module of Qwen3Moe")
    assert note.endswith("they are not trained; `optimizer: muon` trains them with AdamW")


def test_a_grid_is_told_what_does_not_fit_and_what_is_left_out():
    with torch.device("meta"):
        made = model("moe")
    first = (adapter(), adapter(base_weights="nf4"))
    given = {"first": first, "second": (adapter(targets="mlp"),)}
    request = reach.Request(folder="", adapters=given, muon=True)
    (problem,) = reach._problems(made, request)
    (note,) = reach._notes(made, request)
    assert problem.startswith("stages.second.adapter.targets: mlp: no linear module of Qwen3Moe")
    assert note.startswith("88% of the weights of the layers of Qwen3MoeForCausalLM are not in")
    assert "(experts.gate_up_proj, experts.down_proj): no adapter is put on them" in note
    assert "nf4` leaves them in float32; `optimizer: muon` trains them with AdamW" in note


def test_where_modules_are_matrices_nothing_is_left_out():
    request = reach.Request(folder="", adapters={"sft": (adapter(),)}, muon=True)
    for name in ("gpt2", "opt"):
        assert list(reach._notes(model(name), request)) == []
        assert list(reach._problems(model(name), request)) == []
    in_4_bits = reach.Request(
        folder="", adapters={"sft": (adapter(base_weights="nf4"),)}, muon=True
    )
    (line,) = reach._problems(model("gpt2"), in_4_bits)
    assert line.startswith("stages.sft.adapter.base_weights: GPT2LMHeadModel has no decoder layers")


def test_models_that_are_known_are_not_built(monkeypatch):
    monkeypatch.setattr(reach.subprocess, "run", None)
    stages = {"sft": [spec(adapter={"targets": ["q_proj", "query"]})]}
    (line,), _ = reach.reach("tiny", stages)
    assert line.startswith("stages.sft.adapter.targets: tiny has no linear module query; it has q_")
    assert reach.reach("tiny", {"sft": [spec(adapter={}), spec(optimizer="muon")]}) == ([], [])
    assert reach.reach("owner/elsewhere", stages) == ([], [])
