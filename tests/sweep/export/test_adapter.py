"""A LoRA model leaves a run merged, or as an adapter that PEFT loads: the same function."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from sweep.export import __main__ as export
from sweep.export import usage
from trainers.models import load

GRID = """\
name: lora
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 24}
    steps: 2
    heldout: 8
    max_length: 64
    learning_rate: 0.01
    batch_size: 4
    arms:
      - {name: full, set: {learning_rate: 0.000001}}
      - {name: lora, set: {adapter: {rank: 4}}}
evaluate: {benchmarks: []}
"""


@pytest.fixture(scope="module")
def run(drive, tmp_path_factory) -> Path:
    ended = drive(GRID, tmp_path_factory.mktemp("runs") / "lora")
    assert ended.code == 0, ended.output
    return ended.path


def told(*arguments: str | Path) -> tuple[int, str]:
    ended = CliRunner().invoke(export.app, [str(a) for a in arguments], catch_exceptions=False)
    return ended.exit_code, ended.output


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 25)[None]).logits


def test_both_forms_are_one_function_and_each_card_says_how_to_load_it(run, tiny, tmp_path):
    merged, adapter = tmp_path / "merged", tmp_path / "adapter"
    assert told(run, "--to", merged)[0] == 0
    assert told(run, "--to", adapter, "--as", "adapter")[0] == 0
    whole = logits(AutoModelForCausalLM.from_pretrained(merged))
    assert torch.allclose(logits(load.load(str(adapter)).model), whole, atol=1e-4)
    on_base = PeftModel.from_pretrained(load.load("tiny").model, str(adapter))
    assert torch.allclose(logits(on_base), whole, atol=1e-4)
    assert not torch.allclose(logits(tiny.model), whole, atol=1e-3)
    assert not (adapter / "model.safetensors").exists()
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 4
    cards = [ModelCard.load(folder / "README.md") for folder in (merged, adapter)]
    assert [card.data.library_name for card in cards] == ["transformers", "peft"]
    assert "an adapter of 29,184, merged into the weights" in cards[0].text
    assert "this is that adapter" in cards[1].text and "load.load(" in cards[1].text
    assert "| `adapter` | `{'rank': 4" in cards[1].text


def test_a_base_model_of_the_hub_is_loaded_by_peft():
    assert "AutoPeftModelForCausalLM" in usage.adapter("HuggingFaceTB/SmolLM2-135M")


def test_a_model_without_an_adapter_is_refused_as_one(chain_run, tmp_path):
    code, output = told(chain_run.path, "--to", tmp_path / "to", "--as", "adapter")
    assert code == 2
    assert "has no adapter (it was trained without one); leave --as out" in output
    assert not (tmp_path / "to").exists()
    assert told(chain_run.path, "--to", tmp_path / "to", "--as", "gguf")[0] == 2
