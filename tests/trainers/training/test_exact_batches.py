"""The batch is exact: whatever the budget, the ranks and the split, the weights take the same step.

The relative distance is that of the weights' updates, not of the weights. AdamW divides by the root
of the squared gradient, so rounding in a gradient near zero is the worst that can happen to it.
"""

import copy
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from tests.trainers.weights import EXACT, distance, flat, in_two_processes
from trainers.data import prepare
from trainers.models import load
from trainers.ops import chunked_loss, packed_attention
from trainers.ops.memory import out_of_memory
from trainers.specs.training import SftSpec
from trainers.stages import sft
from trainers.steps import token_budget
from trainers.steps.batch_loader import _Rows
from trainers.training import compiled
from trainers.training.exact_batches import ExactBatches

SPEC = {
    "kind": "sft", "data": {"name": "world:sft", "examples": 60}, "learning_rate": 1e-3,
    "batch_size": 16, "heldout": 3, "max_length": 96, "dtype": "float32", "steps": 4,
    "noise_scale_every": 0,
}  # fmt: skip
"""The fourth batch is the last of its epoch: 9 examples."""

WHOLE = 10**6
"""A budget that takes any batch at once."""


def update(start: load.Loaded, folder: Path, **settings) -> tuple[torch.Tensor, dict[str, Any]]:
    """What training adds to the weights, and its figures."""
    spec = SftSpec.model_validate(SPEC | settings)
    loaded = start._replace(model=copy.deepcopy(start.model))
    prepared = prepare.prepare(spec, loaded.tokenizer, folder / "data")
    figures = sft.train(spec, loaded, prepared, folder).figures
    return flat(loaded.model) - flat(start.model), figures


@pytest.fixture
def train(tiny, tmp_path):
    return lambda **settings: update(tiny, tmp_path, **settings)


@pytest.fixture
def whole(train):
    """The same for any cut of the batch: computed as one micro-batch."""
    return lambda **settings: train(tokens_per_micro_batch=WHOLE, **settings)[0]


def test_the_rows_of_a_step_are_read_as_the_data_set_has_them():
    columns = {
        "input_ids": [[1, 2, 3], [], [4], [5, 6]],
        "second": [2, 0, 1, 1],
        "reference": [-1.5, 0.1, 2.0, 3.0],
        "asked": ["a", "b", "c", "d"],
    }
    rows = Dataset.from_dict(columns).select([3, 1, 2, 0])  # so that a row is not where it lies
    batches = _Rows(rows)
    found = batches[[3, 1, 0]]
    assert len(batches) == 4
    assert [row["input_ids"].tolist() for row in found] == [[1, 2, 3], [], [5, 6]]
    assert {row["input_ids"].dtype for row in found} == {torch.int64}
    assert [(row["second"], row["reference"], row["asked"]) for row in found] == [
        (2, -1.5, "a"), (0, 0.1, "b"), (1, 3.0, "d"),
    ]  # fmt: skip


@pytest.mark.parametrize("loss", ["token_mean", "example_mean"])
@pytest.mark.parametrize("budget", [1, 100, 400])
def test_any_budget_takes_the_same_step(budget, loss, train, whole):
    found, _ = train(tokens_per_micro_batch=budget, loss=loss)
    assert distance(found, whole(loss=loss)) < EXACT


def test_padded_rows_take_the_same_step(train, whole, monkeypatch):
    expected = whole()
    monkeypatch.setattr(packed_attention, "_takes", lambda *_: False)
    found, figures = train(tokens_per_micro_batch=200)
    assert not figures["packed"]
    assert distance(found, expected) < EXACT


def test_measuring_the_noise_scale_takes_the_same_step(train, whole):
    found, figures = train(tokens_per_micro_batch=100, noise_scale_every=1)
    assert figures["noise_scale_measurements"] == 4
    assert distance(found, whole()) < EXACT


def test_every_example_in_the_wrong_place_would_be_seen(train, whole):
    """The bound is not so wide that another batch passes."""
    assert distance(train(seed=1)[0], whole()) > 100 * EXACT


def test_running_out_of_memory_halves_the_budget_and_repeats_the_step(train, whole, monkeypatch):
    """The third micro-batch of the second step fails, with gradients of two already there."""
    expected, calls = whole(), []
    plain = ExactBatches._backward

    def backward(self, *arguments):
        calls.append(self.state.global_step)
        if calls.count(1) == 3 and self.budget.tokens == 150:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 TB")
        return plain(self, *arguments)

    monkeypatch.setattr(ExactBatches, "_backward", backward)
    found, figures = train(tokens_per_micro_batch=150)
    assert distance(found, expected) < EXACT
    assert figures["budgets_too_large"] == [150]
    assert figures["tokens_per_micro_batch"] == 75
    assert figures["examples"] == 57


def test_a_halved_budget_grows_again_after_calm_steps(train, whole, monkeypatch):
    """It fails in the second step, and the third is the second one without a failure."""
    plain, failed = ExactBatches._backward, []

    def backward(self, *arguments):
        if self.state.global_step == 1 and not failed:
            failed.append(self.budget.tokens)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, *arguments)

    monkeypatch.setattr(token_budget, "CALM_STEPS", 1)
    monkeypatch.setattr(ExactBatches, "_backward", backward)
    found, figures = train(tokens_per_micro_batch=150)
    assert figures["budgets_too_large"] == [150]
    assert figures["tokens_per_micro_batch"] == 150
    assert distance(found, whole()) < EXACT


def test_what_a_killed_attempt_knew_is_known_to_the_next(train, monkeypatch):
    """Budgets that were too large, and whether the layers are compiled."""
    plain, settings = ExactBatches._backward, {"tokens_per_micro_batch": 150, "save_every_steps": 2}

    def backward(self, *arguments):
        if self.budget.tokens == 150:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ExactBatches, "_backward", backward)
        train(**settings)
    known = []
    monkeypatch.setattr(compiled, "worthwhile", lambda *facts: known.append(facts[-1]) or "no")
    _, figures = train(**settings)
    assert figures["budgets_too_large"] == [150]
    assert figures["tokens_per_micro_batch"] == 75
    assert known == [False]


def test_running_out_in_the_second_half_repeats_both(train, whole, monkeypatch):
    expected, events = whole(), []
    norm, plain = ExactBatches._norm_so_far, ExactBatches._backward

    def measured(self):
        events.append("half")
        return norm(self)

    def backward(self, *arguments):
        if events == ["half"]:
            events.append("failed")
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, *arguments)

    monkeypatch.setattr(ExactBatches, "_norm_so_far", measured)
    monkeypatch.setattr(ExactBatches, "_backward", backward)
    found, figures = train(tokens_per_micro_batch=200, noise_scale_every=1)
    assert events[:3] == ["half", "failed", "half"], "measured once in that step"
    assert figures["budgets_too_large"] == [200]
    assert distance(found, expected) < EXACT


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


RANKS = [
    {"tokens_per_micro_batch": 100},
    {"tokens_per_micro_batch": 300, "loss": "example_mean", "noise_scale_every": 1},
    {"batch_size": 1, "steps": 3},
]
"""With a batch of one example the other rank has none."""


@pytest.mark.slow
def test_two_ranks_take_the_step_of_one(train, whole, tmp_path):
    in_two_processes(_rank, str(tmp_path))
    for number, settings in enumerate(RANKS):
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        alone = settings | {"tokens_per_micro_batch": WHOLE}
        expected, figures = train(**alone)
        assert distance(found["update"], expected) < EXACT
        lines = (tmp_path / f"{number}" / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        assert len(losses) == figures["steps"]
        assert losses[-1] == pytest.approx(figures["final_loss"], rel=1e-4)
        if figures["noise_scale"] is not None:
            assert found["noise_scale"] == pytest.approx(figures["noise_scale"], rel=1e-2)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    start = load.load("tiny")
    for number, settings in enumerate(RANKS):
        place = Path(folder) / str(number)
        place.mkdir(exist_ok=True)
        found, figures = update(start, place, **settings)
        if rank == 0:
            kept = {"update": found, "noise_scale": figures["noise_scale"]}
            torch.save(kept, Path(folder) / f"{number}.pt")


def test_the_model_is_tried_out_before_its_layers_are_compiled(train, monkeypatch):
    """Or graphs would be compiled that no training step uses."""
    calls, is_plain = [], chunked_loss._is_plain

    @contextmanager
    def layers(*_):
        calls.append("compiled")
        yield compiled.Compiled(False, "")

    monkeypatch.setattr(compiled, "layers", layers)
    monkeypatch.setattr(
        chunked_loss, "_is_plain", lambda model: calls.append("tried out") or is_plain(model)
    )
    train(steps=1)
    assert calls == ["tried out", "compiled"]
