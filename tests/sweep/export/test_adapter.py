"""A LoRA model leaves a run merged, or as an adapter that PEFT loads: the same function."""

import json
import shutil
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoModelForCausalLM

from sweep.export import usage
from tests.sweep.export.exporting import told
from trainers.data import prepare
from trainers.evaluate import heldout_loss
from trainers.models import load
from trainers.specs.training import SftSpec

SFT = """\
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
"""

GRID = (
    f"name: lora\n{SFT}"
    + """\
    arms:
      - {name: full, set: {learning_rate: 0.000001}}
      - {name: lora, set: {adapter: {rank: 4}}}
evaluate: {benchmarks: []}
"""
)

IN_4_BITS = (
    f"name: qlora\n{SFT}"
    + """\
    grid: {adapter.base_weights: [float32, nf4]}
  dpo:
    kind: dpo
    start_from: sft
    data: {name: world:preferences, examples: 16}
    steps: 2
    heldout: 4
    max_length: 64
    learning_rate: 0.0001
    batch_size: 4
    adapter: {rank: 4, base_weights: nf4}
evaluate: {benchmarks: [world_choice], limit: 8}
"""
)


@pytest.fixture(scope="module")
def run(drive, tmp_path_factory) -> Path:
    ended = drive(GRID, tmp_path_factory.mktemp("runs") / "lora")
    assert ended.code == 0, ended.output
    return ended.path


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 25)[None]).logits


def test_both_forms_are_one_function_and_each_card_says_how_to_load_it(run, tiny, tmp_path):
    merged, adapter = tmp_path / "merged", tmp_path / "adapter"
    with mock.patch.object(load, "device", lambda: pytest.fail("a GPU may not hold it whole")):
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


@pytest.fixture(scope="module")
def in_4_bits(drive, tmp_path_factory) -> Path:
    ended = drive(IN_4_BITS, tmp_path_factory.mktemp("runs") / "qlora")
    assert ended.code == 0, ended.output
    return ended.path


def trial(run: Path, stage: str, base_weights: str | None = None) -> tuple[Path, dict]:
    """Its first folder and record of a stage, with such a base."""
    for path in sorted((run / "trials").glob(f"{stage}-*/trial.json")):
        record = json.loads(path.read_text())
        base = record["spec"]["adapter"].get("base_weights", "float32")
        if base_weights in (None, base):
            return path.parent, record
    raise AssertionError(f"no {stage} with {base_weights}")


@pytest.mark.slow
def test_scores_are_those_of_the_adapter_on_weights_in_4_bits(in_4_bits, tiny):
    folder, record = trial(in_4_bits, "sft", "nf4")
    loaded = load.load(str(folder / "model"), merged=False)
    spec = SftSpec.model_validate(record["spec"])
    prepared = prepare.prepare(spec, loaded.tokenizer, in_4_bits / "data")
    expected = heldout_loss.score(loaded, prepared.heldout, "float32").scores[0].value
    whole, _ = trial(in_4_bits, "sft", "float32")
    results = pd.read_csv(in_4_bits / "results.csv")
    rows = results[results.benchmark == "heldout_loss"].set_index("key").value
    assert rows[record["key"]] == pytest.approx(expected, abs=1e-5)
    assert rows[whole.name.rpartition("-")[2]] != pytest.approx(expected, abs=1e-3)
    assert set(results[results.stage == "sft"].adapter) == {"lora", "qlora"}


def test_a_trial_on_a_trained_one_in_4_bits_keeps_whole_weights(in_4_bits):
    """With a reference for each start: its weights in 4 bits."""
    folder, record = trial(in_4_bits, "dpo")
    assert not (folder / "model" / "adapter_config.json").exists()
    training = json.loads((folder / "train.json").read_text())
    assert training["first_loss"] == pytest.approx(0.693147, abs=1e-4)
    assert training["model_parameters"] == 967_104 and not training["compiled"]
    parents = {
        json.loads(p.read_text())["parent"] for p in in_4_bits.glob("trials/dpo-lr*/trial.json")
    }
    assert record["parent"] in parents and len(parents) == 2


def test_export_of_weights_in_4_bits_is_what_they_stand_for_and_says_so(in_4_bits, tmp_path):
    folder, record = trial(in_4_bits, "sft", "nf4")
    text = (in_4_bits / "results.csv").read_text()
    assert record["key"] in text
    shutil.copytree(in_4_bits, tmp_path / "run")
    whole, _ = trial(tmp_path / "run", "sft", "float32")
    shutil.rmtree(whole)  # so that the other is the best
    merged, adapter = tmp_path / "merged", tmp_path / "adapter"
    assert told(tmp_path / "run", "--stage", "sft", "--to", merged)[0] == 0
    assert told(tmp_path / "run", "--stage", "sft", "--to", adapter, "--as", "adapter")[0] == 0
    trained = logits(load.load(str(folder / "model"), merged=False).model)
    for exported in (AutoModelForCausalLM.from_pretrained(merged), load.load(str(adapter)).model):
        assert torch.allclose(logits(exported), trained, atol=1e-4)
    cards = [ModelCard.load(path / "README.md").text for path in (merged, adapter)]
    assert "on weights in 4 bits (NF4), merged into the weights that these stand for" in cards[0]
    assert "on weights in 4 bits (NF4), this is that adapter" in cards[1]


@pytest.mark.parametrize("base_weights", ["float32", "nf4"])
def test_card_loads_the_adapter_as_it_was_trained(base_weights, in_4_bits, tiny, tmp_path):
    folder, _ = trial(in_4_bits, "sft", base_weights)
    tiny.model.save_pretrained(tmp_path / "base")
    shutil.copytree(folder / "model", tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    text = usage.adapter("owner/name", in_4_bits=base_weights == "nf4")
    code = text.removeprefix("```python\n").removesuffix("```").partition("turns = ")[0]
    names: dict = {}
    exec(code.replace('folder = "."', f"folder = {str(tmp_path / 'adapter')!r}"), names)
    with torch.no_grad():  # training, for else bitsandbytes computes in bfloat16 on some CPUs
        theirs = names["model"].train()(input_ids=torch.arange(5, 25)[None]).logits
    ours = logits(load.load(str(folder / "model"), merged=False).model)
    assert torch.allclose(theirs, ours, atol=1e-4)
