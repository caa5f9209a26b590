"""Training for real, on the tiny model: exact batches, the schedule, and divergence as a result."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from trainers import data, sft
from trainers.data import IGNORED
from trainers.spec import SftSpec, StageResult

PLAIN = {
    "kind": "sft", "data": {"name": "world:sft", "examples": 26}, "learning_rate": 1e-3,
    "batch_size": 8, "heldout": 3, "max_length": 96, "dtype": "float32",
}  # fmt: skip


class Run(NamedTuple):
    result: StageResult
    weights: torch.Tensor
    batches: list[list[tuple[int, ...]]]
    """Token ids of the examples of each forward pass, without padding."""
    lines: list[dict[str, Any]]

    @property
    def examples(self) -> list[tuple[int, ...]]:
        return [ids for batch in self.batches for ids in batch]

    @property
    def figures(self) -> dict[str, Any]:
        return self.result.figures


@pytest.fixture
def train(tiny, tmp_path_factory):
    """Trains a copy of the tiny model; returns all that can be seen of it."""
    import copy

    def run(poison: bool = False, **settings) -> Run:
        spec = SftSpec.model_validate(PLAIN | settings)
        loaded = tiny._replace(model=copy.deepcopy(tiny.model))
        if poison:
            next(loaded.model.parameters()).data.fill_(math.nan)
        seen: list[list[tuple[int, ...]]] = []

        def watch(_module, _arguments, options):
            rows = zip(options["input_ids"], options["attention_mask"], strict=True)
            seen.append([tuple(ids[mask.bool()].tolist()) for ids, mask in rows])

        loaded.model.register_forward_pre_hook(watch, with_kwargs=True)
        prepared = data.prepare(spec, loaded.tokenizer, cache)
        folder = tmp_path_factory.mktemp("trial")
        result = sft.train(spec, loaded, prepared, folder)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line.pop("seconds", None)  # all else of a line is decided by the spec
        return Run(result, _flat(loaded.model), seen, lines)

    cache: Path = tmp_path_factory.getbasetemp() / "prepared"
    return run


@pytest.fixture
def rows(tiny, tmp_path_factory):
    """The training rows of PLAIN."""
    spec = SftSpec.model_validate(PLAIN)
    return data.prepare(spec, tiny.tokenizer, tmp_path_factory.getbasetemp() / "prepared").train


def _flat(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("per_device", [4, 1])
def test_split_into_micro_batches_does_not_change_the_weights(per_device, train):
    """Rows differ in length and in how many of their tokens count."""
    whole = train(steps=3)
    parts = train(steps=3, per_device_batch_size=per_device)
    assert [len(batch) for batch in whole.batches] == [8, 8, 7]
    assert {len(batch) for batch in parts.batches} <= {per_device, 7 % per_device or per_device}
    assert len(parts.batches) > len(whole.batches)
    assert distance(parts.weights, whole.weights) < 1e-4
    for one, other in zip(whole.lines, parts.lines, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)


def test_training_moves_the_weights_further_than_the_split_does(train, tiny):
    assert distance(train(steps=3).weights, _flat(tiny.model)) > 1e-2


def test_loss_of_a_step_is_the_mean_over_the_tokens_that_count(train, tiny, rows):
    run = train(steps=1)
    by_ids = {tuple(row["input_ids"]): row["labels"] for row in rows}
    total = tokens = 0.0
    for ids in run.batches[0]:
        labels = torch.tensor(by_ids[ids])[1:]
        with torch.no_grad():
            logits = tiny.model(input_ids=torch.tensor([ids])).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        tokens += int((labels != IGNORED).sum())
    assert run.figures["first_loss"] == run.figures["final_loss"] == run.lines[0]["loss"]
    assert run.figures["first_loss"] == pytest.approx(total / tokens, rel=1e-4)


def test_same_seed_gives_the_same_weights_to_the_bit(train):
    torch.manual_seed(1)
    first = train(steps=2)
    torch.manual_seed(2)
    second = train(steps=2)
    assert torch.equal(first.weights, second.weights)
    assert first.lines == second.lines


def test_seed_decides_the_order_and_nothing_else(train):
    zero, one = train(epochs=1), train(epochs=1, seed=1)
    assert zero.batches != one.batches
    assert sorted(zero.examples) == sorted(one.examples)
    assert not torch.equal(zero.weights, one.weights)


def test_order_does_not_hang_on_the_split(train):
    whole, single = train(steps=2), train(steps=2, per_device_batch_size=1)
    assert whole.examples == single.examples


def test_epoch_takes_each_example_once_and_its_last_batch_is_what_is_left(train, rows):
    run = train(epochs=2)
    sizes = [len(batch) for batch in run.batches]
    assert sizes == [8, 8, 7, 8, 8, 7]
    everything = sorted(tuple(ids) for ids in rows["input_ids"])
    first, second = run.examples[:23], run.examples[23:]
    assert sorted(first) == sorted(second) == everything
    assert first != second, "the second pass has an order of its own"


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 1},
        {"epochs": 2, "per_device_batch_size": 4},
        {"epochs": 1.5},
        {"steps": 2},
        {"steps": 4, "per_device_batch_size": 2},
        {"steps": 2, "batch_size": 100},
        {"epochs": 1, "batch_size": 12, "per_device_batch_size": 8},
        {"epochs": 2, "batch_size": 5, "per_device_batch_size": 1},
    ],
    ids=str,
)
def test_figures_state_what_was_trained_on(settings, train):
    run = train(**settings)
    assert run.result.status == "ok"
    assert run.result.reason == ""
    assert run.figures["examples"] == len(run.examples)
    assert run.figures["tokens"] == sum(map(len, run.examples))
    assert run.figures["epochs"] == pytest.approx(len(run.examples) / 23)
    spec = SftSpec.model_validate(PLAIN | settings)
    assert run.figures["steps"] == len(run.lines) == spec.optimizer_steps(23)


def test_figures_are_those_of_the_record(train, tiny):
    figures = train(steps=2, adam_beta2=0.95, warmup_steps=1).figures
    assert figures["model_parameters"] == tiny.model.num_parameters()
    assert figures["adam_beta2"] == 0.95
    assert figures["warmup_steps"] == 1
    assert figures["dtype"] == "float32"
    assert figures["train_seconds"] > 0
    assert (figures["data_train"], figures["data_heldout"]) == (23, 3)
    json.dumps(figures, allow_nan=False)


def rate(schedule: str, step: int, steps: int, warmup: int) -> float:
    """Share of the peak in the optimizer step `step`, counted from 0."""
    if step < warmup:
        return step / warmup
    part = (step - warmup) / max(steps - warmup, 1)
    return {"constant": 1, "linear": 1 - part, "cosine": (1 + math.cos(math.pi * part)) / 2}[
        schedule
    ]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(
    ("warm", "warmup"),
    [({}, 0), ({"warmup_steps": 3}, 3), ({"warmup_ratio": 0.21}, 3), ({"warmup_steps": 10}, 10)],
    ids=str,
)
def test_learning_rate_follows_the_formula(schedule, warm, warmup, train):
    run = train(steps=10, batch_size=1, schedule=schedule, **warm)
    expected = [1e-3 * rate(schedule, step, 10, warmup) for step in range(10)]
    assert [line["learning_rate"] for line in run.lines] == pytest.approx(expected)
    assert run.figures["learning_rate_sum"] == pytest.approx(sum(expected))
    assert run.figures["warmup_steps"] == warmup


def test_rate_that_is_recorded_is_the_rate_that_was_used(train, tiny):
    """The first step of a warmup has the rate zero, so it cannot move the weights."""
    run = train(steps=1, warmup_steps=1)
    assert run.lines[0]["learning_rate"] == 0
    assert torch.equal(run.weights, _flat(tiny.model))


def test_loss_falls_where_the_rate_is_sensible(train):
    figures = train(epochs=3, learning_rate=3e-3).figures
    assert figures["final_loss"] < 0.8 * figures["first_loss"]


def test_loss_that_is_not_finite_ends_training_at_once(train):
    run = train(steps=20, poison=True)
    assert run.result.status == "diverged"
    assert run.result.reason == "loss nan at step 1"
    assert run.figures["steps"] == len(run.lines) == 1
    assert run.figures["final_loss"] is None
    assert run.lines[0]["loss"] is None
    json.dumps(run.figures, allow_nan=False)


def test_rate_far_too_high_diverges_within_a_few_steps(train):
    run = train(steps=60, batch_size=4, learning_rate=100)
    assert run.result.status == "diverged"
    assert run.figures["steps"] < 10
    assert f"step {run.figures['steps']}" in run.result.reason
    assert run.figures["examples"] == sum(map(len, run.batches))


def test_divergence_is_measured_against_the_first_loss(train):
    patient = train(steps=6, batch_size=4, learning_rate=1, divergence_factor=1e9)
    assert patient.result.status == "ok"
    hasty = train(steps=6, batch_size=4, learning_rate=1, divergence_factor=1.2)
    assert hasty.result.status == "diverged"
    assert "more than 1.2 times its start" in hasty.result.reason


def test_gradient_is_clipped_to_its_norm_or_not_at_all(train):
    """The clipped and the whole gradient differ for an optimizer with a memory."""
    clipped, whole = train(steps=3, max_grad_norm=1e-3), train(steps=3, max_grad_norm=0)
    assert whole.result.status == "ok"
    assert whole.lines[0]["grad_norm"] == pytest.approx(clipped.lines[0]["grad_norm"], rel=1e-4)
    assert whole.lines[0]["grad_norm"] > 1e-3
    assert not torch.equal(clipped.weights, whole.weights)


def test_all_tokens_count_where_that_is_asked_for(train):
    assert (
        train(steps=1, loss_on="all").figures["first_loss"]
        != (train(steps=1).figures["first_loss"])
    )


def test_one_trial_leaves_nothing_of_its_precision_to_the_next(train):
    before = train(steps=2)
    half = train(steps=2, dtype="bfloat16")
    after = train(steps=2)
    assert half.figures["dtype"] == "bfloat16"
    assert not torch.equal(half.weights, before.weights)
    assert half.weights.dtype == torch.float32, "the weights themselves stay whole"
    assert torch.equal(after.weights, before.weights)


def test_training_leaves_one_file_and_no_checkpoint(tiny, tmp_path):
    import copy

    spec = SftSpec.model_validate(PLAIN | {"steps": 1})
    loaded = tiny._replace(model=copy.deepcopy(tiny.model))
    prepared = data.prepare(spec, loaded.tokenizer, tmp_path / "data")
    (tmp_path / "trial").mkdir()
    sft.train(spec, loaded, prepared, tmp_path / "trial")
    assert [path.name for path in (tmp_path / "trial").rglob("*") if path.is_file()] == [
        "metrics.jsonl"
    ]
