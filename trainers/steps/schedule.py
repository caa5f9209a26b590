"""From a spec and the lengths of the examples to the course of a training: steps, rates, beta2.

Everything is settled before the first step: lengths and order are known, so a budget in tokens is a
number of steps.
"""

import math
from typing import NamedTuple, assert_never

import numpy as np

from trainers.ops.batching import Order
from trainers.specs.training import Schedule, TrainingSpec


class Course(NamedTuple):
    """Of one training."""

    steps: int
    warmup_steps: int
    decay_steps: int
    """Steps of the decay of `warmup_stable_decay`."""
    adam_beta2: float
    tokens_per_step: float
    """The mean over the steps."""


def course(spec: TrainingSpec, lengths: np.ndarray) -> Course:
    """`lengths` are the examples' tokens, in the order of the data."""
    order = Order(len(lengths), spec.rows_per_step, spec.seed)
    if spec.tokens is not None:
        steps = max(order.steps_to(spec.tokens, lengths), 1)
    else:
        steps = spec.optimizer_steps(len(lengths))
    tokens = order.sums(lengths, steps)
    mean = float(tokens.mean())
    if spec.warmup_tokens is not None:
        warmup = int(np.searchsorted(np.cumsum(tokens), spec.warmup_tokens)) + 1
        warmup = min(warmup, steps) if spec.warmup_tokens else 0
    else:
        warmup = spec.warmup(steps)
    decay = min(math.ceil(spec.decay_ratio * steps), max(steps - warmup, 0))
    half_life, beta2 = spec.adam_beta2_half_life_tokens, spec.adam_beta2
    if half_life is not None:
        beta2 = 2 ** (-mean / half_life)
    assert beta2 is not None, "the spec has one of the two"
    return Course(steps, warmup, decay, beta2, mean)


def factor(schedule: Schedule, course: Course, step: int) -> float:
    """Share of the peak learning rate in optimizer step `step`, counted from 0.

    Rises by step / warmup_steps, so that the first step of a warmup has the rate zero, as in
    transformers' schedules. `warmup_stable_decay` falls linearly to zero over its last
    `decay_steps` (Haegele et al. 2024, arXiv 2405.18392, section 3).
    """
    if step < course.warmup_steps:
        return step / course.warmup_steps
    left = course.steps - step
    whole = max(course.steps - course.warmup_steps, 1)
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return max(left / whole, 0.0)
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1 - left / whole, 1.0)))
        case "warmup_stable_decay":
            return max(min(left / max(course.decay_steps, 1), 1.0), 0.0)
        case _:
            assert_never(schedule)
