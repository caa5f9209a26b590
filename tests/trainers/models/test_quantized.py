"""Weights in 4 bits are bitsandbytes', and an adapter on them computes what PEFT's on transformers'
does; wherever it is loaded, it is the function that was trained."""

import copy
import json
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GPT2Config,
    GPT2LMHeadModel,
)

from tests.trainers.small_models import small
from trainers.evaluate import harness
from trainers.evaluate.open_model import open_model
from trainers.inference.harness_model import in_bfloat16
from trainers.models import adapters, load, quantized
from trainers.specs.adapter import Adapter
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks

CPU = torch.device("cpu")
IDS = torch.arange(5, 25)[None]
NF4 = {"rank": 4, "base_weights": "nf4"}
FORMS = pytest.mark.parametrize(
    "form",
    [NF4, NF4 | {"dora": True, "rslora": True, "targets": "attention"}],
    ids=["lora", "dora"],
)


def in_4_bits(model):
    model = copy.deepcopy(model)
    quantized.quantize(model, CPU)
    return model


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def drawn(model) -> None:
    """B is zero at the start, and A then has no gradient."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = 0.05 * torch.randn(weight.shape, generator=generator)


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    """Of an adapter on the tiny model in 4 bits."""
    adapter = Adapter.model_validate(NF4)
    loaded = load.load("tiny", adapter=adapter)
    adapters.attach(loaded.model, adapter, 0)
    drawn(loaded.model)
    adapters.save(loaded.model, tmp_path / "model", "tiny", None)
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    torch.save(logits(loaded.model), tmp_path / "logits.pt")
    return tmp_path / "model"


def test_linear_modules_of_the_layers_are_what_bitsandbytes_makes_of_them(tiny):
    model = in_4_bits(tiny.model)
    changed = 0
    for name, module in tiny.model.named_modules():
        packed_module = model.get_submodule(name)
        if isinstance(module, torch.nn.Linear) and ".layers." in name:
            packed, state = quantize_4bit(
                module.weight.data, blocksize=64, compress_statistics=True, quant_type="nf4"
            )
            assert torch.equal(packed_module.weight.data, packed)
            assert torch.equal(packed_module.dense().weight, dequantize_4bit(packed, state))
            assert not torch.equal(packed_module.dense().weight, module.weight)
            changed += 1
        elif not list(module.children()):
            assert all(map(torch.equal, module.parameters(), packed_module.parameters()))
    assert changed == 2 * 7
    assert adapters.parameters(model) == tiny.model.num_parameters()


@FORMS
def test_adapter_is_that_of_peft_on_the_model_of_transformers(form, tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    config = BitsAndBytesConfig.from_dict(dict(quantized.CONFIG))
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=config, dtype=torch.float32
    )
    ours, adapter = in_4_bits(tiny.model), Adapter.model_validate(form)
    adapters.attach(ours, adapter, 0)
    targets = sorted(ours.peft_config["default"].target_modules)
    theirs = get_peft_model(
        theirs,
        LoraConfig(
            r=4, lora_alpha=32, target_modules=targets, use_rslora=adapter.rslora,
            use_dora=adapter.dora,
        ),
    )  # fmt: skip
    own = {name: weight for name, weight in ours.named_parameters() if weight.requires_grad}
    of_peft = {
        name.removeprefix("base_model.model."): weight
        for name, weight in theirs.named_parameters()
        if weight.requires_grad
    }
    drawn(ours)
    for name, weight in own.items():
        of_peft[name].data.copy_(weight)
    expected = theirs.train()(input_ids=IDS).logits  # theirs is bfloat16 otherwise, on some CPUs
    logits = ours.train()(input_ids=IDS).logits
    assert torch.allclose(logits, expected, atol=1e-4)
    for output in (expected, logits):
        output.square().mean().backward()
    assert own.keys() == of_peft.keys()
    for name, weight in own.items():
        gradient = of_peft[name].grad
        assert weight.grad.norm() > 0
        assert torch.allclose(weight.grad, gradient, atol=1e-5 * float(gradient.abs().max())), name


def test_biases_stay_what_they_are_under_autocast():
    model = small(attention_bias=True, mlp_bias=True)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    packed = in_4_bits(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        hidden = packed.base_model(input_ids=IDS % 10).last_hidden_state
    quantized.dequantize(packed)
    before = dict(model.named_parameters())
    assert all(
        torch.equal(weight, before[name])
        for name, weight in packed.named_parameters()
        if name.endswith("bias")
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = packed.base_model(input_ids=IDS % 10).last_hidden_state
    assert torch.equal(hidden, expected)


def test_folder_of_an_adapter_gives_the_function_that_was_trained(folder):
    expected = torch.load(folder.parent / "logits.pt")
    active, merged = (load.load(str(folder), merged=flag).model for flag in (False, True))
    assert quantized.holds(active) and not quantized.holds(merged)
    assert torch.equal(logits(active), expected)
    assert torch.allclose(logits(merged), expected, atol=1e-4)
    copied = in_bfloat16(active)
    assert (logits(copied).float() - expected).norm() < 3e-2 * expected.norm()
    assert torch.equal(logits(active), expected)
    again = load.load(str(folder), adapter=Adapter.model_validate(NF4)).model
    assert torch.equal(logits(again), logits(in_4_bits(merged)))  # as a stage starts from it


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_benchmarks_score_the_active_adapter_as_the_merged_one(dtype, near, folder):
    """The first is what a GPU scores."""
    spec = EvaluateSpec(benchmarks=["world_choice", "world_instruction"], limit=6, dtype=dtype)

    def scores(merged: bool) -> list[float]:
        lm = open_model(load.load(str(folder), merged=merged), spec)
        evaluations = [harness.score(lm, benchmarks.find(name), spec) for name in spec.benchmarks]
        return [score.value for evaluation in evaluations for score in evaluation.scores]

    assert scores(merged=False) == pytest.approx(scores(merged=True), abs=near)


def test_folder_in_other_bits_is_refused(folder):
    path = folder / adapters.BASE_CONFIG
    path.write_text(json.dumps(quantized.CONFIG | {"bnb_4bit_quant_type": "fp4"}))
    with pytest.raises(load.ModelUnavailable, match="not the 4 bits of this version"):
        load.load(str(folder))


def test_model_without_linear_modules_is_refused():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel has no decoder layers with linear"):
        quantized.quantize(model, CPU)
