"""DPO on the tiny model: TRL's loss, the batch as it was asked for, the reference computed once."""

import copy
import json
import math

import numpy as np
import pytest
import torch

from tests.trainers.weights import EXACT, distance, flat
from trainers.data import prepare
from trainers.data.forms.tokenize import IGNORED
from trainers.models import load
from trainers.ops import dpo_loss, likelihood
from trainers.ops.packed_attention import Example
from trainers.ops.reference import reference as reference_of
from trainers.processes import attempt
from trainers.specs.preference import DpoSpec
from trainers.stages import dpo, reference_pass

SPEC = {
    "kind": "dpo", "data": {"name": "world:preferences", "examples": 40}, "learning_rate": 1e-4,
    "batch_size": 8, "heldout": 8, "max_length": 128, "dtype": "float32", "steps": 4,
    "noise_scale_every": 0,
}  # fmt: skip

WHOLE = 10**6
"""Of the relative distance between updates, as in test_exact_batches.py."""


def spec(**settings) -> DpoSpec:
    return DpoSpec.model_validate(SPEC | settings)


@pytest.fixture
def train(tiny, tmp_path):
    """The update of the weights and the figures; data and reference are shared."""

    def run(folder: str = "trial", **settings):
        asked = spec(**settings)
        loaded = tiny._replace(model=copy.deepcopy(tiny.model))
        prepared = prepare.prepare(asked, loaded.tokenizer, tmp_path / "data")
        kept = reference_of("start", lambda: loaded, prepared, tmp_path / "data", asked.dtype)
        (tmp_path / folder).mkdir(exist_ok=True)
        result = dpo.train(asked, loaded, prepared, kept, tmp_path / folder)
        return flat(loaded.model) - flat(tiny.model), result

    return run


def test_losses_are_the_formula_by_hand_on_three_pairs():
    policy = torch.tensor([[-10.0, -30.0], [-8.0, -4.0], [-20.0, -21.0]])
    reference = torch.tensor([[-12.0, -24.0], [-8.0, -6.0], [-20.0, -20.0]])
    tokens = torch.tensor([[4, 12], [2, 1], [10, 5]])
    # beta 5: 5 (2/4 - -6/12) = 5; 5 (0/2 - 2/1) = -10; 5 (0/10 - -1/5) = 1
    found = dpo_loss.losses(policy, reference, tokens, "dpo_norm", 5.0)
    by_hand = [math.log(1 + math.exp(-margin)) for margin in (5, -10, 1)]
    assert found.loss.tolist() == pytest.approx(by_hand, rel=1e-6)
    assert found.chosen.tolist() == pytest.approx([2.5, 0, 0])
    assert found.rejected.tolist() == pytest.approx([-2.5, 10, -1])
    # beta 0.1, without lengths: 0.1 (2 - -6) = 0.8; 0.1 (0 - 2) = -0.2; 0.1 (0 - -1) = 0.1
    plain = dpo_loss.losses(policy, reference, tokens, "sigmoid", 0.1)
    by_hand = [math.log(1 + math.exp(-margin)) for margin in (0.8, -0.2, 0.1)]
    assert plain.loss.tolist() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("loss", ["dpo_norm", "sigmoid"])
def test_loss_is_that_of_trl(loss, tiny, tmp_path):
    """TRL's own trainer, its own tokens, collator and reference, on the same pairs."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from trainers.data.rows.sources import DataSpec, rows

    pairs = list(rows(DataSpec(name="world:preferences", examples=40)))
    asked = spec(loss=loss, beta=0.5, heldout=0)
    prepared = prepare.prepare(asked, tiny.tokenizer, tmp_path / "data")
    assert len(prepared.train) == len(pairs)
    policy = load.load("tiny").model
    with torch.no_grad():
        for number, parameter in enumerate(policy.parameters()):
            generator = torch.Generator().manual_seed(number)
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    trainer = DPOTrainer(
        model=copy.deepcopy(policy),
        ref_model=copy.deepcopy(tiny.model),
        args=DPOConfig(
            output_dir=str(tmp_path / "trl"), beta=0.5, max_length=None, bf16=False, use_cpu=True,
            loss_type="sigmoid_norm" if loss == "dpo_norm" else "sigmoid", report_to="none",
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tiny.tokenizer,
    )  # fmt: skip
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(len(pairs))])
    expected = float(trainer.compute_loss(trainer.model, dict(batch)))

    sides = []
    for ids, here, counted in zip(
        batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
    ):
        length = int(here.sum())
        labels = torch.where(counted == 1, ids, IGNORED)
        sides.append(Example(ids[:length], labels[:length]))
    sides = [
        side for pair in zip(sides[: len(pairs)], sides[len(pairs) :], strict=True) for side in pair
    ]
    under = [
        -likelihood.losses(tiny._replace(model=model), sides, False).reshape(-1, 2)
        for model in (policy, tiny.model)
    ]
    tokens = torch.tensor([side.loss_tokens for side in sides]).reshape(-1, 2)
    found = dpo_loss.losses(*under, tokens, loss, 0.5).loss.mean()
    assert float(found) == pytest.approx(expected, rel=1e-4)

    # Ours end with the end token; TRL's have the line break after it that the template writes.
    ours = [side for row in prepared.train.with_format("torch") for side in dpo.cut(row)]
    assert all(torch.equal(one.ids, its.ids[:-1]) for one, its in zip(ours, sides, strict=True))


@pytest.mark.parametrize("budget", [1, 150, 700])
def test_any_budget_takes_the_same_step(budget, train):
    found, _ = train(tokens_per_micro_batch=budget)
    whole, _ = train(tokens_per_micro_batch=WHOLE)
    assert distance(found, whole) < EXACT


def test_second_cell_computes_no_reference(train):
    _, first = train("first")
    _, second = train("second", learning_rate=3e-4, beta=1.0)
    counts = first.figures
    assert counts["reference_pairs_computed"] == counts["data_train"] + counts["data_heldout"] > 30
    assert second.figures["reference_pairs_computed"] == 0


def test_another_start_or_other_data_has_its_own_reference(tiny, tmp_path):
    prepared = prepare.prepare(spec(), tiny.tokenizer, tmp_path)
    other = prepare.prepare(spec(max_length=60), tiny.tokenizer, tmp_path)
    counts = [
        reference_of(start, lambda: tiny, part, tmp_path, "float32").computed
        for start, part in (("a", prepared), ("b", prepared), ("a", other), ("a", prepared))
    ]
    assert counts[:2] == [len(prepared.train) + len(prepared.heldout)] * 2
    assert counts[2] == len(other.train) + len(other.heldout)
    assert counts[3] == 0


def test_a_pass_that_is_stopped_goes_on_from_the_pairs_it_has(tiny, tmp_path, monkeypatch):
    """The values are those of a pass that nobody stopped; what is of other data is not gone on
    from."""
    asked = spec(data={"name": "world:preferences", "examples": 40}, heldout=8)
    prepared = prepare.prepare(asked, tiny.tokenizer, tmp_path / "data")
    monkeypatch.setitem(likelihood.PAIRS_AT_A_TIME, "cpu", 10)

    def over_pairs(cache: str, start: str = "start"):
        return reference_pass.run(asked, tiny, prepared, tmp_path / cache, start, tmp_path / "pass")

    whole = over_pairs("whole")
    with attempt.begun(tmp_path / "pass"):
        attempt.ask_to_stop(tmp_path / "pass", "SIGTERM")
        with pytest.raises(attempt.Stopped, match="SIGTERM, at pair 10 of"):
            over_pairs("stopped")
    assert not list((tmp_path / "stopped" / "reference").glob("*.npz"))
    other = over_pairs("other", "another start")
    assert other["pairs_computed"] == other["pairs"]
    rest = over_pairs("stopped")
    assert rest["pairs_computed"] == whole["pairs"] - 10
    found, expected = (
        np.load(tmp_path / cache / "reference" / whole["reference_file"])
        for cache in ("stopped", "whole")
    )
    for part in ("train", "heldout"):
        assert np.array_equal(found[part], expected[part])


def test_packed_attention_is_proven_once_for_all_pairs(tiny, tmp_path, monkeypatch):
    proofs = []
    used = likelihood.packed_attention.used

    def counted(*arguments):
        proofs.append(arguments)
        return used(*arguments)

    monkeypatch.setattr(likelihood.packed_attention, "used", counted)
    monkeypatch.setitem(likelihood.PAIRS_AT_A_TIME, "cpu", 5)
    prepared = prepare.prepare(spec(), tiny.tokenizer, tmp_path)
    assert reference_of("start", lambda: tiny, prepared, tmp_path, "float32").computed > 30
    assert len(proofs) == 1


def test_first_step_has_the_loss_of_two_equal_models(train, tmp_path):
    """log 2, whatever the pairs: the policy is the reference."""
    train()
    line = json.loads((tmp_path / "trial" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert line["rewards_margin"] == pytest.approx(0, abs=1e-4)


def test_training_parts_the_answers(train):
    _, result = train(steps=30, learning_rate=1e-3)
    figures = result.figures
    assert figures["smoothed_loss"] < 0.6
    assert figures["rewards_accuracy"] > 0.7
    assert figures["rewards_margin"] == pytest.approx(
        figures["rewards_chosen"] - figures["rewards_rejected"], abs=1e-5
    )


def test_divergence_is_a_result(train):
    _, result = train(learning_rate=1e4, schedule="constant")
    assert result.status == "diverged"
    assert "step" in result.reason


def test_killed_training_ends_with_the_same_weights(train, tmp_path, monkeypatch):
    whole, _ = train(steps=6)
    from trainers.specs.result import OutOfTime

    asked = {"steps": 6, "save_every_steps": 2}
    original = dpo.loop.Monitor.on_step_end

    def stop(self, *arguments, **options):
        original(self, *arguments, **options)
        if self.progress.steps == 3:
            raise OutOfTime("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(dpo.loop.Monitor, "on_step_end", stop)
        with pytest.raises(OutOfTime):
            train("killed", **asked)
    resumed, result = train("killed", **asked)
    assert result.figures["steps"] == 6
    assert torch.equal(resumed, whole)
