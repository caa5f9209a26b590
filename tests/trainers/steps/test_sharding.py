"""Processes that share the weights take the steps of one that has them all, in a format that any
number of processes goes on from. The distance is that of the weights' updates."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainers import dispatch
from trainers.models import adapters, load, shapes
from trainers.ops import half_weights
from trainers.processes import process
from trainers.specs.conditions import Conditions, Sharding
from trainers.specs.kinds import KINDS
from trainers.specs.result import BudgetTooLarge, StageResult
from trainers.steps import distributed
from trainers.training.exact_batches import ExactBatches

COMMON = {
    "learning_rate": 1e-3, "batch_size": 9, "dtype": "float32", "steps": 4,
    "noise_scale_every": 2, "tokens_per_micro_batch": 100, "save_every_steps": 2,
}  # fmt: skip
DATA = {
    "sft": {"data": {"name": "world:sft", "examples": 60}, "heldout": 3, "max_length": 96},
    "dpo": {"data": {"name": "world:preferences", "examples": 40}, "heldout": 8, "max_length": 128},
    "reward": {
        "data": {"name": "world:preferences", "examples": 40}, "heldout": 8, "max_length": 128,
    },
}  # fmt: skip
EXACT = 1e-4

Runs = Sequence[tuple[str, Sharding, dict[str, Any]]]
"""Name of a folder, sharding, settings."""


def train(folder: Path, sharding: Sharding, settings: dict[str, Any]) -> StageResult:
    """Train `tiny`; leave in `folder` what it added to the body's weights, and figures."""
    kind = settings.get("kind", "sft")
    spec = KINDS[kind].model_validate({"kind": kind} | COMMON | DATA[kind] | settings)
    loaded = load.load("tiny", on_cpu=sharding != "none")
    start = body(loaded.model)
    folder.mkdir(exist_ok=True)
    data = folder.parent / f"data-{kind}"
    result = dispatch.train(spec, loaded, data, "start", folder, Conditions(sharding=sharding))
    if distributed.is_first() and result.status == "ok":
        model = result.model or loaded.model
        adapters.merge(model)
        np.save(folder / "update.npy", body(model) - start)
    if distributed.is_first():
        ended = {"status": result.status, "reason": result.reason, "figures": result.figures}
        (folder / "result.json").write_text(json.dumps(ended))
    return result


def body(model: Any) -> np.ndarray:
    named = sorted(dict(model.base_model.named_parameters()).items())
    return torch.cat([parameter.detach().cpu().flatten() for _, parameter in named]).numpy()


def all_of(folder: Path, runs: Runs) -> None:
    """In each of several processes."""
    process.prepare(1)
    for name, sharding, settings in runs:
        train(folder / name, sharding, settings)


def distance(found: Path, expected: Path) -> float:
    a, b = (np.load(folder / "update.npy") for folder in (found, expected))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def assert_same(found: Path, expected: Path) -> None:
    assert distance(found, expected) < EXACT
    assert losses(found) == pytest.approx(losses(expected), rel=1e-5)
    of_one, of_all = (result(folder)["figures"] for folder in (expected, found))
    if of_one["noise_scale"] is not None:
        assert of_all["noise_scale"] == pytest.approx(of_one["noise_scale"], rel=1e-2)
    same = ("steps", "examples", "tokens", "model_parameters", "trained_parameters", "packed")
    assert [of_all[name] for name in same] == [of_one[name] for name in same]


def without_last_steps(of: Path, to: Path) -> Path:
    """A training that was killed after its checkpoint of step 2."""
    shutil.copytree(of / "checkpoints", to / "checkpoints")
    shutil.copy(of / "metrics.jsonl", to / "metrics.jsonl")
    return to


@pytest.mark.slow
def test_two_processes_that_share_the_weights_take_the_steps_of_one(tmp_path):
    """With micro-batches that are not as many in one process as in the other."""
    distributed.run(2, all_of, tmp_path, [("two", "full", {})])
    train(tmp_path / "one", "none", {"tokens_per_micro_batch": 10**6})
    assert_same(tmp_path / "two", tmp_path / "one")
    assert result(tmp_path / "two")["figures"]["sharding"] == "full"


LORA = {"learning_rate": 1e-2, "adapter": {"rank": 4}}
KINDS_OF_RUNS = {
    "sft": {"loss": "example_mean", "tokens_per_micro_batch": 300},
    "one example": {"batch_size": 1, "noise_scale_every": 0},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1},
    "lora": LORA,
    "dora": LORA | {"adapter": {"rank": 4, "dora": True}},
    "dpo": {"kind": "dpo"},
    "lora of dpo": {"kind": "dpo"} | LORA,
    "reward": {"kind": "reward"},
}


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["optimizer", "full"])
def test_every_kind_takes_the_steps_of_one(sharding, tmp_path):
    runs = [(f"all {name}", sharding, settings) for name, settings in KINDS_OF_RUNS.items()]
    distributed.run(2, all_of, tmp_path, runs)
    for name, settings in KINDS_OF_RUNS.items():
        train(tmp_path / name, "none", settings)
        assert_same(tmp_path / f"all {name}", tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["optimizer", "full"])
def test_four_processes_go_on_from_two(sharding, tmp_path):
    train(tmp_path / "one", "none", {})
    distributed.run(2, all_of, tmp_path, [("two", sharding, {})])
    distributed.run(4, all_of, tmp_path, [("four", sharding, {})])
    for name in ("two", "four"):
        assert_same(tmp_path / name, tmp_path / "one")
    resumed = without_last_steps(tmp_path / "two", tmp_path / "resumed")
    distributed.run(4, all_of, tmp_path, [("resumed", sharding, {})])
    assert_same(resumed, tmp_path / "one")
    back = without_last_steps(tmp_path / "four", tmp_path / "back")
    train(back, "none", {})
    assert_same(back, tmp_path / "one")


def all_as_on_a_gpu(folder: Path, runs: Runs) -> None:
    half_weights.DEVICES = ("cpu",)
    all_of(folder, runs)


@pytest.mark.slow
def test_in_bfloat16_they_round_as_processes_do_that_share_nothing(tmp_path):
    settings = {"dtype": "bfloat16", "noise_scale_every": 0}
    runs: Runs = [(name, name, settings) for name in ("none", "optimizer", "full")]  # type: ignore
    distributed.run(2, all_as_on_a_gpu, tmp_path, runs)
    for name in ("optimizer", "full"):
        assert distance(tmp_path / name, tmp_path / "none") < 1e-2
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "none"), rel=1e-3)


@pytest.mark.slow
def test_divergence_is_the_same_result(tmp_path):
    distributed.run(2, all_of, tmp_path, [("two", "full", {"learning_rate": 1e4, "steps": 40})])
    assert result(tmp_path / "two")["status"] == "diverged"


GPUS = os.environ.get("SWEEP_TEST_GPUS", "")
"""Those of the machine; tests themselves see one of them (tests/conftest.py)."""


@pytest.mark.gpu
@pytest.mark.skipif("," not in GPUS, reason="needs two CUDA devices")
@pytest.mark.parametrize("tokens", [None, 200], ids=["fitted", "given"])
@pytest.mark.parametrize("sharding", ["optimizer", "full"])
def test_two_gpus_round_as_two_that_share_nothing(sharding, tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", GPUS)  # of the processes that are started
    settings = {"dtype": "bfloat16", "noise_scale_every": 0, "tokens_per_micro_batch": tokens}
    runs: Runs = [("plain", "none", settings), ("shared", sharding, settings)]
    distributed.run(2, all_of, tmp_path, runs)
    assert distance(tmp_path / "shared", tmp_path / "plain") < 3e-2
    assert losses(tmp_path / "shared") == pytest.approx(losses(tmp_path / "plain"), rel=1e-2)


def runs_out_of_memory(folder: Path) -> None:
    """The second process, in the second step, while the first waits for it."""
    plain = ExactBatches._backward

    def backward(self, *arguments):
        if os.environ["RANK"] == "1" and self.state.global_step == 1 and self.budget.tokens > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, *arguments)

    ExactBatches._backward = backward  # type: ignore[method-assign]
    all_of(folder, [("two", "full", {"tokens_per_micro_batch": 200})])


@pytest.mark.slow
def test_all_end_where_one_runs_out_of_memory(tmp_path):
    with pytest.raises(BudgetTooLarge, match="process 1 of 2 ran out of memory with"):
        distributed.run(2, runs_out_of_memory, tmp_path)


def sizes(folder: Path) -> None:
    """Of the parts of a Llama, as they are, beside what a plan thinks."""
    from trainers.steps import sharding

    torch.distributed.init_process_group("gloo")
    config = LlamaConfig(
        vocab_size=512, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    parameters = model.num_parameters()
    sharding.shard(model, torch.device("cpu"), "full", bfloat16=True)
    shape = shapes.of_config(config.to_dict())
    assert sharding.division(model) == shape.division(parameters)
    own = sum(part.to_local().numel() for part in model.parameters())
    assert parameters / 2 <= own < 1.01 * parameters / 2, "each holds its half"
    (folder / os.environ["RANK"]).touch()


@pytest.mark.slow
def test_plan_counts_the_parts_as_they_are_cut(tmp_path):
    distributed.run(2, sizes, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
