"""The gradient noise scale: the batch above which a larger one hardly makes a better step.

McCandlish et al. 2018 (arXiv 1812.06162), appendix A: the squared norm of a mean gradient over B
examples is |G|^2 + tr(Sigma) / B on average. Measured on a whole batch and on a random half of it,
that gives both |G|^2 and tr(Sigma); their ratio is the noise scale B_simple = tr(Sigma) / |G|^2.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95

MOST = 2000
"""Measurements of one training: more make it slower, and its noise scale hardly surer."""


class Measurement(NamedTuple):
    """At one optimizer step: squared norms of the mean gradient, before clipping."""

    examples: int
    half: int
    """Examples of the half."""
    square: float
    """Over the whole batch."""
    half_square: float
    """Over the half alone."""


class NoiseScale(NamedTuple):
    """In examples. None where it is not bounded: no gradient stands out of the noise."""

    value: float | None
    low: float | None
    high: float | None
    measurements: int


def halve(examples: int, seed: int, step: int) -> tuple[list[int], list[int]]:
    """Places of two random halves of a batch; of an odd number the second has one more."""
    order = np.random.default_rng([seed, step, 1]).permutation(examples).tolist()
    return order[: examples // 2], order[examples // 2 :]


def every(asked: int, steps: int) -> int:
    """Steps from one measurement to the next, for a training of `steps` that has `asked` for one in
    so many; 0 for none."""
    return max(asked, math.ceil(steps / MOST)) if asked else 0


def groups(examples: int, every: int, seed: int, step: int) -> list[list[int]]:
    """Places of the whole batch, or of two random halves of it where the noise scale is measured:
    in each `every`-th step, counted from 0, and never where that is 0."""
    if not every or step % every or examples < 2:
        return [list(range(examples))]
    return list(halve(examples, seed, step))


def estimates(measurement: Measurement) -> tuple[float, float]:
    """Unbiased estimates of |G|^2 and tr(Sigma) from one step (eq. A.2); either may be negative."""
    square = (
        measurement.examples * measurement.square - measurement.half * measurement.half_square
    ) / (measurement.examples - measurement.half)
    trace = (measurement.half_square - measurement.square) / (
        1 / measurement.half - 1 / measurement.examples
    )
    return square, trace


def noise_scale(measurements: Sequence[Measurement]) -> NoiseScale:
    """The ratio of the means, since a mean of ratios is biased; 95 % interval by bootstrap over the
    steps that were measured."""
    count = len(measurements)
    if not count:
        return NoiseScale(None, None, None, 0)
    pairs = np.array([estimates(measurement) for measurement in measurements])
    value = _ratio(pairs.mean(axis=0)[None])[0]
    if count < 2:
        return NoiseScale(_bounded(value), None, None, count)
    generator = np.random.default_rng(0)
    means = np.array(
        [pairs[generator.integers(count, size=count)].mean(axis=0) for _ in range(RESAMPLES)]
    )
    outside = (1 - LEVEL) / 2
    low, high = np.quantile(_ratio(means), [outside, 1 - outside], method="nearest")
    return NoiseScale(_bounded(value), _bounded(low), _bounded(high), count)


def _ratio(means: np.ndarray) -> np.ndarray:
    """tr(Sigma) / |G|^2 by the row; infinite where no gradient is left, never below zero."""
    square, trace = means.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(square > 0, np.maximum(trace, 0) / square, np.inf)


def _bounded(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
