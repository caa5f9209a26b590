"""LoRA for real, on the tiny model: PEFT and TRL's numbers, the same in all forms, resumption."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from trainers import dispatch
from trainers.data import prepare
from trainers.models import adapters, load
from trainers.ops.batching import Order
from trainers.specs.adapter import Adapter
from trainers.specs.kinds import KINDS
from trainers.specs.training import SftSpec
from trainers.stages import reward_model, rlvr, sft
from trainers.training.callbacks import Monitor

SPEC = {
    "kind": "sft", "data": {"name": "world:sft", "examples": 60}, "learning_rate": 3e-3,
    "batch_size": 4, "heldout": 3, "max_length": 96, "dtype": "float32", "steps": 10,
    "schedule": "constant", "max_grad_norm": 0, "noise_scale_every": 0,
}  # fmt: skip

PLAIN = {"rank": 4, "alpha": 8}
DORA = {"rank": 4, "alpha": 8, "dora": True, "rslora": True, "targets": "attention"}
NF4 = PLAIN | {"base_weights": "nf4"}
FORMS = pytest.mark.parametrize(
    "adapter",
    [PLAIN, DORA, NF4, DORA | {"base_weights": "nf4"}],
    ids=["plain", "dora", "nf4", "nf4-dora"],
)
BASES = pytest.mark.parametrize("adapter", [PLAIN, NF4], ids=["float32", "nf4"])


def slow(settings: dict[str, Any]) -> Any:
    return pytest.param(settings, marks=pytest.mark.slow)


@pytest.fixture
def train(tiny, tmp_path):
    """The trained model with its adapter, the result and the losses."""

    def run(folder: str = "trial", **settings):
        spec = SftSpec.model_validate(SPEC | settings)
        loaded = tiny._replace(model=copy.deepcopy(tiny.model))
        prepared = prepare.prepare(spec, loaded.tokenizer, tmp_path / "data")
        (tmp_path / folder).mkdir(exist_ok=True)
        result = sft.train(spec, loaded, prepared, tmp_path / folder)
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        return loaded.model.eval(), result, [json.loads(line)["loss"] for line in lines]

    return run


def own(model) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 25)[None]).logits


def base(tiny, adapter: dict) -> torch.Tensor:
    """Logits of what the adapter is trained on."""
    model = copy.deepcopy(tiny.model)
    adapters.make_base(model, Adapter.model_validate(adapter))
    return logits(model)


@FORMS
def test_losses_are_those_of_peft_and_trl(adapter, train, tiny, tmp_path):
    _, _, found = train(adapter=adapter)
    spec = SftSpec.model_validate(SPEC | {"adapter": adapter})
    prepared = prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
    order = Order(len(prepared.train), spec.rows_per_step, spec.seed)
    places = [place for batch in order.batches(0, 10) for place in batch]
    rows: Dataset = prepared.train.select_columns(["input_ids", "labels"]).select(places)
    model = copy.deepcopy(tiny.model)
    adapters.attach(model, spec.adapter, spec.seed)
    args = SFTConfig(
        output_dir=str(tmp_path / "trl"), per_device_train_batch_size=4, max_steps=10,
        learning_rate=spec.learning_rate, lr_scheduler_type="constant", use_cpu=True, bf16=False,
        train_sampling_strategy="sequential", activation_checkpointing=False, max_length=None,
        max_grad_norm=0, dataset_kwargs={"skip_prepare_dataset": True}, logging_steps=1,
        save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=rows, processing_class=tiny.tokenizer
    )
    trainer.train()
    expected = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(found) == len(expected) == 10
    assert found == pytest.approx(expected, abs=1e-4)
    assert found[-1] < found[0] - 0.1


@FORMS
def test_adapter_is_one_whether_active_saved_or_merged(adapter, train, tiny, tmp_path):
    model, result, _ = train(adapter=adapter)
    active = logits(model)
    adapters.save(model, tmp_path / "model", "tiny", None)
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "model.safetensors").exists()
    assert torch.allclose(logits(load.load(str(tmp_path / "model")).model), active, atol=1e-4)
    with adapters.off(model):
        assert torch.equal(logits(model), base(tiny, adapter))
    adapters.merge(model)
    assert torch.allclose(logits(model), active, atol=1e-4)
    again = load.load(str(tmp_path / "model")).model
    assert all(weight.requires_grad for weight in (*again.parameters(), *model.parameters()))
    assert model.state_dict().keys() == tiny.model.state_dict().keys()
    assert not torch.allclose(active, logits(tiny.model), atol=1e-2)
    assert result.figures["model_parameters"] == tiny.model.num_parameters()
    assert (tmp_path / "model" / adapters.BASE_CONFIG).exists() == ("base_weights" in adapter)
    assert result.figures["trained_parameters"] < 0.1 * tiny.model.num_parameters()


@BASES
def test_split_into_micro_batches_does_not_change_the_adapter(adapter, train):
    whole, parts = (own(train(adapter=adapter, tokens_per_micro_batch=n)[0]) for n in (4096, 100))
    for name, weight in whole.items():
        assert (weight - parts[name]).norm() <= 1e-3 * weight.norm() + 1e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"adapter": PLAIN | {"dropout": 0.1}},
        slow({"adapter": DORA}),
        slow({"adapter": NF4}),
        {"adapter": DORA | {"base_weights": "nf4"}},
        {"optimizer": "adamw_8bit"},
        slow({"optimizer": "adafactor"}),
        slow({"optimizer": "sgd"}),
        slow({"optimizer": "lion", "learning_rate": 1e-4}),
        slow({"optimizer": "muon", "schedule": "linear"}),
    ],
    ids=lambda settings: settings.get("optimizer", "adapter"),
)
def test_training_that_is_taken_up_again_ends_with_the_same_bits(settings, train, monkeypatch):
    expected, _, losses = train("undisturbed", save_every_steps=3, **settings)

    def killed(self, last):
        if self.progress.steps == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Monitor, "_check_start", killed)
        train("killed", save_every_steps=3, **settings)
    found, _, again = train("killed", save_every_steps=3, **settings)
    assert again == losses
    for name, weight in own(expected).items():
        assert torch.equal(own(found)[name], weight), name


def test_targets_that_the_model_lacks_are_named(train):
    with pytest.raises(ValueError, match="no linear module query_key_value; it has q_proj"):
        train(adapter={"targets": ["query_key_value"]})


def test_rate_far_too_high_diverges(train):
    _, result, _ = train(adapter=PLAIN, learning_rate=1e3, max_grad_norm=1.0)
    assert result.status == "diverged"


def _kind(name: str, tiny, folder: Path, **settings):
    shared = {
        "kind": name, "learning_rate": 1e-3, "heldout": 3, "max_length": 96, "dtype": "float32",
        "steps": 2,
    }  # fmt: skip
    spec = KINDS[name].model_validate(shared | settings)
    loaded = tiny._replace(model=copy.deepcopy(tiny.model))
    return spec, loaded, prepare.prepare(spec, loaded.tokenizer, folder / "data")


def test_dpo_starts_at_the_reference_and_trains_the_adapter_alone(tiny, tmp_path):
    """In one cache, where the reference of each base has its own values."""
    data = {"name": "world:preferences", "examples": 24}
    for adapter in (PLAIN, NF4):
        spec, loaded, _ = _kind("dpo", tiny, tmp_path, data=data, batch_size=4, adapter=adapter)
        result = dispatch.train(spec, loaded, tmp_path, "base", tmp_path)  # type: ignore[arg-type]
        assert result.figures["first_loss"] == pytest.approx(0.693147, abs=1e-4)
        assert result.figures["reference_pairs_computed"] > 0
        with adapters.off(loaded.model):
            assert torch.equal(logits(loaded.model), base(tiny, adapter))


@BASES
def test_reward_model_trains_its_head_with_the_adapter(adapter, tiny, tmp_path):
    data = {"name": "world:preferences", "examples": 24}
    spec, loaded, prepared = _kind(
        "reward", tiny, tmp_path, data=data, batch_size=4, adapter=adapter
    )
    result = reward_model.train(spec, loaded, prepared, tmp_path)  # type: ignore[arg-type]
    trained = own(result.model)
    assert "score.weight" in trained
    assert all("lora_" in name or name == "score.weight" for name in trained)
    active = logits(result.model.eval())
    adapters.merge(result.model)
    result.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    judge = load.load_judge(str(tmp_path / "model")).model
    assert torch.allclose(logits(judge), active, atol=1e-4)


@pytest.mark.parametrize(
    ("algorithm", "adapter"), [("grpo", PLAIN), ("grpo", NF4), ("rloo", PLAIN)]
)
def test_rlvr_measures_kl_against_the_model_without_the_adapter(
    algorithm, adapter, tiny, tmp_path, monkeypatch
):
    """None before the first step, some after it: rewards differ, so the step moves the model."""
    monkeypatch.setattr(
        rlvr, "verified", lambda completions, **_: [float(n % 2) for n, _ in enumerate(completions)]
    )
    spec, loaded, prepared = _kind(
        "rlvr", tiny, tmp_path, data={"name": "world:prompts", "examples": 24}, batch_size=8,
        group_size=4, max_new_tokens=8, algorithm=algorithm, beta=0.1, learning_rate=1e-2,
        adapter=adapter,
    )  # fmt: skip
    result = rlvr.train(spec, loaded, prepared, tmp_path)  # type: ignore[arg-type]
    lines = [json.loads(one) for one in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert result.status == "ok"
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert lines[1]["kl"] > 1e-4
    assert "disable_adapter" not in vars(loaded.model)


def test_rlvr_refuses_dropout():
    with pytest.raises(ValueError, match=r"adapter\.dropout has no place here"):
        KINDS["rlvr"].model_validate({
            "kind": "rlvr", "data": "world:prompts", "learning_rate": 1e-3, "batch_size": 8,
            "adapter": {"dropout": 0.1},
        })  # fmt: skip
