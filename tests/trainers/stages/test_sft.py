"""Training for real, on the tiny model: exact batches, the schedule, and divergence as a result."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.trainers.weights import EXACT, distance, flat
from trainers.data import prepare
from trainers.data.forms.tokenize import IGNORED
from trainers.ops.packed_attention import Example, Rows
from trainers.specs.result import StageResult
from trainers.specs.training import SftSpec
from trainers.stages import sft

PLAIN = {
    "kind": "sft", "data": {"name": "world:sft", "examples": 26}, "learning_rate": 1e-3,
    "batch_size": 8, "heldout": 3, "max_length": 96, "dtype": "float32",
}  # fmt: skip


class Run(NamedTuple):
    result: StageResult
    weights: torch.Tensor
    steps: list[list[list[tuple[int, ...]]]]
    """Token ids of the examples of each forward pass of each step, up to what the loss hangs on."""
    lines: list[dict[str, Any]]

    @property
    def batches(self) -> list[list[tuple[int, ...]]]:
        """The examples of each step, in no order."""
        return [sorted(ids for part in step for ids in part) for step in self.steps]

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
        steps: list[list[list[tuple[int, ...]]]] = [[]]

        def watch(_module, arguments):
            for one in arguments:  # none in the proof of packing
                if isinstance(one, Rows) and one.segments is not None:
                    parts = one.input_ids[0].split(one.segments.lengths)
                    steps[-1].append([tuple(ids.tolist()) for ids in parts])

        loaded.model.register_forward_pre_hook(watch)
        step_ended = register_optimizer_step_post_hook(lambda *_: steps.append([]))
        prepared = prepare.prepare(spec, loaded.tokenizer, cache)
        folder = tmp_path_factory.mktemp("trial")
        try:
            result = sft.train(spec, loaded, prepared, folder)
        finally:
            step_ended.remove()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line.pop("seconds", None)  # all else of a line is decided by the spec
        return Run(result, flat(loaded.model), [step for step in steps if step], lines)

    cache: Path = tmp_path_factory.getbasetemp() / "prepared"
    return run


@pytest.fixture
def rows(tiny, tmp_path_factory) -> list[Example]:
    """The training rows of PLAIN."""
    spec = SftSpec.model_validate(PLAIN)
    found = prepare.prepare(spec, tiny.tokenizer, tmp_path_factory.getbasetemp() / "prepared").train
    return [Example(torch.tensor(row["input_ids"]), torch.tensor(row["labels"])) for row in found]


def read(row: Example) -> tuple[int, ...]:
    """What the model is given of a row: all before its last token that counts."""
    return tuple(row.ids[: row.length].tolist())


@pytest.mark.parametrize("budget", [100, 1])
def test_split_into_micro_batches_does_not_change_the_weights(budget, train):
    """Rows differ in length and in how many of their tokens count."""
    whole = train(steps=3, noise_scale_every=0)
    parts = train(steps=3, tokens_per_micro_batch=budget, noise_scale_every=0)
    assert [len(step) for step in whole.steps] == [1, 1, 1]
    assert all(len(part) == 1 or sum(map(len, part)) <= budget for s in parts.steps for part in s)
    assert whole.batches == parts.batches
    assert [len(batch) for batch in parts.batches] == [8, 8, 7]
    assert distance(parts.weights, whole.weights) < EXACT
    for one, other in zip(whole.lines, parts.lines, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)


def test_training_moves_the_weights_further_than_the_split_does(train, tiny):
    assert distance(train(steps=3).weights, flat(tiny.model)) > 1e-2


def losses(tiny, rows, examples) -> list[torch.Tensor]:
    """Of the loss tokens of each example, by the definition."""
    by_ids = {read(row): row for row in rows}
    found = []
    for ids in examples:
        row = by_ids[ids]
        with torch.no_grad():
            logits = tiny.model(input_ids=row.ids[None]).logits[0, :-1]
        targets = row.labels[1:]
        each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        found.append(each[targets != IGNORED])
    return found


def test_loss_of_a_step_is_the_mean_over_the_tokens_that_count(train, tiny, rows):
    run = train(steps=1)
    expected = torch.cat(losses(tiny, rows, run.batches[0])).mean()
    assert run.figures["first_loss"] == run.figures["final_loss"] == run.lines[0]["loss"]
    assert run.figures["first_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_examples_weigh_alike_where_that_is_asked_for(train, tiny, rows):
    run = train(steps=1, loss="example_mean")
    means = [float(each.mean()) for each in losses(tiny, rows, run.batches[0])]
    assert run.figures["first_loss"] == pytest.approx(sum(means) / 8, rel=1e-4)
    assert run.figures["first_loss"] != train(steps=1).figures["first_loss"]


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


def test_epoch_takes_each_example_once_and_its_last_batch_is_what_is_left(train, rows):
    run = train(epochs=2)
    assert [len(batch) for batch in run.batches] == [8, 8, 7, 8, 8, 7]
    everything = sorted(read(row) for row in rows)
    first, second = run.batches[:3], run.batches[3:]
    assert sorted(ids for batch in first for ids in batch) == everything
    assert sorted(ids for batch in second for ids in batch) == everything
    assert first != second, "the second pass has an order of its own"


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 1},
        {"epochs": 2, "tokens_per_micro_batch": 64},
        {"epochs": 1.5},
        {"steps": 2},
        {"steps": 4, "noise_scale_every": 1},
        {"steps": 2, "batch_size": 100},
        {"epochs": 1, "batch_size": 12},
        {"epochs": 2, "batch_size": 5, "tokens_per_micro_batch": 1},
    ],
    ids=str,
)
def test_figures_state_what_was_trained_on(settings, train, rows):
    run = train(**settings)
    by_ids = {read(row): row for row in rows}
    taken = [by_ids[ids] for ids in run.examples]
    assert run.result.status == "ok"
    assert run.result.reason == ""
    assert run.figures["examples"] == len(run.examples)
    assert run.figures["tokens"] == sum(len(row.ids) for row in taken)
    assert run.figures["loss_tokens"] == sum(row.loss_tokens for row in taken)
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


def test_rates_follow_the_schedule(train):
    """The formulas are tested with trainers/steps/schedule.py."""
    run = train(steps=4, schedule="linear", warmup_steps=2)
    expected = [0, 0.5e-3, 1e-3, 0.5e-3]
    assert [line["learning_rate"] for line in run.lines] == pytest.approx(expected)
    assert run.figures["learning_rate_sum"] == pytest.approx(sum(expected))
    assert run.figures["warmup_steps"] == 2


def test_budget_in_tokens_ends_with_the_step_that_reaches_it(train):
    run = train(tokens=1500)
    before, last = run.lines[-2:]
    assert before["tokens"] < 1500 <= last["tokens"] == run.figures["tokens"]


def test_beta2_forgets_half_in_as_many_tokens_at_every_batch_size(train):
    for batch_size in (2, 8):
        figures = train(epochs=1, batch_size=batch_size, adam_beta2_half_life_tokens=1000).figures
        steps = 1000 / (figures["tokens"] / figures["steps"])
        assert figures["adam_beta2"] ** steps == pytest.approx(0.5)


def test_rate_that_is_recorded_is_the_rate_that_was_used(train, tiny):
    """The first step of a warmup has the rate zero, so it cannot move the weights."""
    run = train(steps=1, warmup_steps=1)
    assert run.lines[0]["learning_rate"] == 0
    assert torch.equal(run.weights, flat(tiny.model))


def test_loss_falls_where_the_rate_is_sensible(train):
    figures = train(epochs=3, learning_rate=3e-3).figures
    assert figures["final_loss"] < 0.8 * figures["first_loss"]


def test_loss_that_is_not_finite_ends_training_before_it_reaches_the_weights(train):
    run = train(steps=20, poison=True)
    assert run.result.status == "diverged"
    assert run.result.reason == "loss nan at step 1"
    assert run.figures["steps"] == len(run.lines) == 0
    assert run.figures["final_loss"] is None
    json.dumps(run.figures, allow_nan=False)


def test_rate_far_too_high_diverges_within_a_few_steps(train):
    run = train(steps=60, batch_size=4, learning_rate=100)
    assert run.result.status == "diverged"
    assert run.figures["steps"] == len(run.lines) < 15
    assert math.isfinite(run.figures["final_loss"])


def test_divergence_is_measured_against_the_start_and_needs_some_steps(train):
    wild = {"steps": 8, "batch_size": 4, "learning_rate": 1.0}
    patient = train(**wild, divergence_factor=1e9)
    assert patient.result.status == "ok"
    hasty = train(**wild, divergence_factor=1.2, divergence_steps=1)
    assert hasty.result.status == "diverged"
    assert "for 1 steps more than 1.2 times its start" in hasty.result.reason
    later = train(**wild, divergence_factor=1.2, divergence_steps=3)
    assert later.figures["steps"] == hasty.figures["steps"] + 2


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
    prepared = prepare.prepare(spec, loaded.tokenizer, tmp_path / "data")
    (tmp_path / "trial").mkdir()
    sft.train(spec, loaded, prepared, tmp_path / "trial")
    assert [path.name for path in (tmp_path / "trial").rglob("*") if path.is_file()] == [
        "metrics.jsonl"
    ]
