"""What only a CUDA device shows: `python -m pytest -m gpu`."""

import gc

import pytest
import torch

from trainers.data import prepare
from trainers.evaluate import harness, heldout_loss
from trainers.evaluate.open_model import open_model
from trainers.models import adapters, load
from trainers.specs.adapter import Adapter
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.training import SftSpec
from trainers.stages import sft
from trainers.tasks import benchmarks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SPEC = SftSpec.model_validate(
    {
        "kind": "sft",
        "data": {"name": "world:sft", "examples": 200},
        "learning_rate": 1e-3,
        "batch_size": 8,
        "steps": 20,
        "max_length": 128,
        "heldout": 40,
    }
)


def train(folder, **changes):
    """The figures of a training from the tiny model, and the model."""
    spec = SPEC.model_copy(update=changes)
    loaded = load.load("tiny")
    prepared = prepare.prepare(spec, loaded.tokenizer, folder / "data")
    return sft.train(spec, loaded, prepared, folder), loaded, prepared


def test_auto_is_bfloat16_where_the_gpu_has_it_and_the_weights_stay_float32(tmp_path):
    result, loaded, _ = train(tmp_path)
    wanted = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    assert result.figures["dtype"] == wanted
    assert result.figures["device"] == "cuda"
    assert next(loaded.model.parameters()).dtype == torch.float32
    assert result.figures["smoothed_loss"] < result.figures["first_loss"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapter_on_weights_in_4_bits_trains_and_is_scored_as_it_was_trained(
    dtype, tmp_path, monkeypatch
):
    adapter = Adapter(rank=4, base_weights="nf4")
    result, loaded, prepared = train(tmp_path, dtype=dtype, adapter=adapter)
    assert result.figures["smoothed_loss"] < result.figures["first_loss"]
    assert not result.figures["compiled"]
    weight = loaded.model.get_submodule("model.layers.0.mlp.up_proj").get_base_layer().weight
    assert weight.is_cuda and weight.quant_state.absmax.is_cuda and weight.dtype == torch.uint8
    adapters.save(loaded.model, tmp_path / "model", "tiny", None)
    loaded.tokenizer.save_pretrained(tmp_path / "model")

    def score(merged: bool) -> float | None:
        model = load.load(str(tmp_path / "model"), merged=merged)
        return heldout_loss.score(model, prepared.heldout, dtype).scores[0].value

    trained = heldout_loss.score(loaded, prepared.heldout, dtype).scores[0].value
    near = 1e-4 if dtype == "float32" else 1e-2
    assert score(merged=False) == pytest.approx(trained, rel=near)
    assert score(merged=True) == pytest.approx(trained, rel=near)
    monkeypatch.setattr(load, "device", lambda: torch.device("cpu"))
    assert score(merged=True) == pytest.approx(trained, rel=10 * near)


def test_the_gpu_makes_the_4_bits_that_the_cpu_makes():
    """But where a weight lies half-way between two values."""
    adapter = Adapter(rank=4, base_weights="nf4")
    on_cpu = load.load("tiny", on_cpu=True).model
    adapters.make_base(on_cpu, adapter)
    on_gpu = load.load("tiny", adapter=adapter).model
    for name in ("self_attn.q_proj", "mlp.down_proj"):
        pairs = [model.get_submodule(f"model.layers.0.{name}") for model in (on_cpu, on_gpu)]
        codes = [pair.weight.data.cpu() for pair in pairs]
        assert (codes[0] != codes[1]).float().mean() < 1e-3
        dense = [pair.dense().weight.cpu() for pair in pairs]
        assert (dense[0] - dense[1]).norm() < 1e-2 * dense[0].norm()


def test_float32_on_the_gpu_trains_to_the_loss_of_the_cpu(tmp_path, monkeypatch):
    on_gpu, _, _ = train(tmp_path, dtype="float32", steps=5)
    monkeypatch.setattr(load, "device", lambda: torch.device("cpu"))
    on_cpu, _, _ = train(tmp_path, dtype="float32", steps=5)
    assert on_gpu.figures["final_loss"] == pytest.approx(on_cpu.figures["final_loss"], rel=1e-2)


def test_scores_in_float32_are_those_of_the_cpu(tmp_path, monkeypatch):
    spec = EvaluateSpec(benchmarks=["world_choice"], limit=40, dtype="float32")

    def scored():
        loaded = load.load("tiny")
        prepared = prepare.prepare(SPEC, loaded.tokenizer, tmp_path / "data")
        loss = heldout_loss.score(loaded, prepared.heldout, "float32").scores[0].value
        lm = open_model(loaded, spec)
        return harness.score(lm, benchmarks.find("world_choice"), spec).scores[0].value, loss

    on_gpu = scored()
    monkeypatch.setattr(load, "device", lambda: torch.device("cpu"))
    assert scored() == pytest.approx(on_gpu, abs=1e-3)


def test_a_trial_leaves_no_memory_on_the_gpu(tmp_path):
    used = []
    for _ in range(4):
        train(tmp_path)
        gc.collect()
        torch.cuda.empty_cache()
        used.append(torch.cuda.memory_allocated())
    left = [tuple(t.shape) for t in gc.get_objects() if torch.is_tensor(t) and t.is_cuda]
    assert used[-1] <= used[1], f"bytes after each trial {used}, tensors alive {left}"


def test_packed_scores_in_bfloat16_are_near_the_stock_classs_and_memory_is_given_back():
    from lm_eval.api.instance import Instance

    from trainers.inference import harness_model

    loaded = load.load("tiny")
    lm = open_model(loaded, EvaluateSpec(benchmarks=["world_choice"], dtype="bfloat16"))
    assert isinstance(lm, harness_model.SharedPrefixLM)
    assert next(loaded.model.parameters()).dtype == torch.float32, "the loaded model stays"
    stock = harness_model.HFLM(pretrained=lm.model, tokenizer=loaded.tokenizer, batch_size=1)
    pairs = [("The cat sat on the mat. " * n, " the cat") for n in range(1, 40)]
    asked = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    lm.loglikelihood(asked)
    before = torch.cuda.memory_allocated()
    found = lm.loglikelihood(asked)
    settings = {"until": [], "max_gen_toks": 8}
    prompts = [Instance("generate_until", {}, (context, settings), 0) for context, _ in pairs]
    assert len(lm.generate_until(prompts)) == len(pairs)
    gc.collect()
    assert torch.cuda.memory_allocated() == before
    expected = stock.loglikelihood(asked)
    assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], rel=0.02, abs=0.5)
