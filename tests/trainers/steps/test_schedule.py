"""Steps, rates and beta2, against the formulas."""

import math
from typing import Any

import numpy as np
import pytest

from trainers.specs.training import SftSpec
from trainers.steps import schedule

LENGTHS = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90, 100])


def course(**settings) -> schedule.Course:
    plain = {"kind": "sft", "data": "world:sft", "learning_rate": 1e-3, "batch_size": 2}
    return schedule.course(SftSpec.model_validate(plain | settings), LENGTHS)


def rates(name: Any, found: schedule.Course) -> list[float]:
    return [schedule.factor(name, found, step) for step in range(found.steps)]


def expected(name: str, step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return step / warmup
    part = (step - warmup) / max(steps - warmup, 1)
    return {"constant": 1, "linear": 1 - part, "cosine": (1 + math.cos(math.pi * part)) / 2}[name]


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(
    ("warm", "warmup"),
    [({}, 0), ({"warmup_steps": 3}, 3), ({"warmup_ratio": 0.21}, 3), ({"warmup_steps": 10}, 10)],
    ids=str,
)
def test_rate_follows_the_formula(name, warm, warmup):
    found = course(steps=10, **warm)
    assert found.warmup_steps == warmup
    assert rates(name, found) == pytest.approx(
        [expected(name, step, 10, warmup) for step in range(10)]
    )


@pytest.mark.parametrize("name", ["constant_with_warmup", "linear", "cosine"])
def test_rate_is_that_of_transformers(name):
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=4, num_training_steps=20)
    ours = course(steps=20, warmup_steps=4)
    for rate in rates(name.removesuffix("_with_warmup"), ours):
        assert theirs.get_last_lr()[0] == pytest.approx(rate)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("field", ["schedule", "loss"])
def test_value_that_is_not_known_is_no_other_one(field):
    import torch

    from trainers.ops import batching, dpo_loss

    if field == "schedule":
        with pytest.raises(AssertionError):
            schedule.factor("polynomial", course(steps=10), 9)  # pyright: ignore[reportArgumentType]
        return
    pairs = torch.ones(1, 2)
    with pytest.raises(AssertionError):
        dpo_loss.losses(pairs, pairs, pairs, "hinge", 1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="'grpo' is not a loss of texts"):
        batching.weights([1, 2], "grpo")


def test_warmup_stable_decay_has_three_parts():
    found = course(schedule="warmup_stable_decay", steps=10, warmup_steps=2, decay_ratio=0.4)
    assert found.decay_steps == 4
    assert rates("warmup_stable_decay", found) == pytest.approx(
        [0, 0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    )


def test_decay_leaves_the_warmup_its_steps():
    found = course(schedule="warmup_stable_decay", steps=10, warmup_steps=8, decay_ratio=1.0)
    assert found.decay_steps == 2


def test_budget_and_warmup_in_tokens_are_steps_of_this_order():
    found = course(tokens=1000, warmup_tokens=300)
    from trainers.ops.batching import Order

    sums = np.cumsum(Order(10, 2, 0).sums(LENGTHS, found.steps))
    assert sums[-2] < 1000 <= sums[-1]
    assert found.steps > 5, "into the second epoch"
    assert sums[found.warmup_steps - 2] < 300 <= sums[found.warmup_steps - 1]
    assert course(warmup_tokens=0).warmup_steps == 0
    assert course(steps=3, warmup_tokens=10**9).warmup_steps == 3


def test_budget_in_tokens_is_the_same_at_every_batch_size_up_to_a_step():
    for batch_size in (1, 3, 10):
        found = course(tokens=2000, batch_size=batch_size)
        assert 2000 <= found.steps * found.tokens_per_step < 2000 + 100 * batch_size


def test_beta2_has_the_half_life_in_tokens_at_every_batch_size():
    for batch_size in (1, 2, 5):
        found = course(batch_size=batch_size, epochs=2, adam_beta2_half_life_tokens=5000)
        assert found.tokens_per_step == pytest.approx(55 * batch_size)
        assert found.adam_beta2 ** (5000 / found.tokens_per_step) == pytest.approx(0.5)
    assert course(adam_beta2=0.9).adam_beta2 == 0.9
