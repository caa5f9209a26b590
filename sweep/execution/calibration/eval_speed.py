"""Seconds of a benchmark on one model, measured on few items and few tokens of each answer.

An answer of L tokens takes its prompt and L steps. Both are measured: the items with answers of one
token, and with answers of `TOKENS`. Of L, only the share of answers that have ended by then is
known: at a constant chance h of ending at each token, the longest of k answers has sum over t < M
of 1 - (1 - (1 - h)^t)^k tokens in the mean, where the task cuts answers off at M; with k = 1 that
is the mean of L.

A step of few answers takes a CPU less time than one of many, and a GPU as much: there all items
share the steps, `SLOTS` at a time, and the last ones go on until their longest answer ends.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sweep.plan.step_time import SLOTS
from trainers.evaluate import harness
from trainers.models import load
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks
from trainers.tasks.registry import Benchmark

TOKENS = 24
"""Of an answer."""

MOST_ITEMS = 64


def measure(lm: Any, benchmark: Benchmark, spec: EvaluateSpec, seconds: float) -> dict[str, Any]:
    """As `BenchmarkSpeed` has it (sweep/price/calibration.py), in about so many seconds; one item
    at least, however long it takes."""
    generates = hasattr(lm, "most_new_tokens")

    def timed(items: int, tokens: int) -> tuple[float, int, dict[str, Any]]:
        if generates:
            lm.most_new_tokens = tokens
        begun = time.monotonic()
        score = harness.score(lm, benchmark, spec.model_copy(update={"limit": items}))
        return time.monotonic() - begun, score.scores[0].n, score.settings

    try:
        first, n, settings = timed(1, 1)  # reads the task too
        one = first if first > seconds / 2 else timed(1, 1)[0]
        left = max(seconds - first - one, 0.0)
        most = min(spec.limit or MOST_ITEMS, MOST_ITEMS)
        items = max(1, min(most, int(left / 2 / max(one, 1e-3))))
        few, m = timed(items, 1)[:2] if items > 1 else (one, n)
        before = _tally(lm)
        writes = benchmarks.longest_answer(benchmark, spec) > 0
        longer = timed(items, TOKENS)[0] if writes else few
        generated, cut, steps = (b - a for a, b in zip(before, _tally(lm), strict=True))
    finally:
        if generates:
            lm.most_new_tokens = None
    count = settings["items"]
    if spec.limit is not None:
        count = min(count, spec.limit * len(settings["tasks"]))
    # on a busy machine many items may take no longer than few, which says nothing of a fixed part
    per_item = (few - one) / (m - n) if m > n and few > one else few / m
    fixed = max(one - n * per_item, 0.0)
    if generated:
        most_tokens = benchmarks.longest_answer(benchmark, spec)
        written = max(longer - few, 0.0)

        def longest(among: int) -> float:
            return _longest(generated, m - cut, most_tokens, among) - 1  # the first is timed

        if load.device().type == "cuda":
            beside, each = _on_gpu(written / steps, count, longest)
            fixed += beside
            per_item += each
        else:
            per_item += written / m / (TOKENS - 1) * longest(1)
    return {"seconds": fixed, "seconds_per_item": per_item, "items": count}


def _on_gpu(step: float, items: int, longest: Callable[[int], float]) -> tuple[float, float]:
    """Seconds of writing the answers to all items, and those to each beside them, where a step
    takes so many however many share it. `longest` has the further tokens of the longest of some."""
    each = step * longest(1) / SLOTS
    last = min(items, SLOTS)
    return step * longest(last) - each * last, each


def _longest(tokens: int, ended: int, most: int, among: int = 1) -> float:
    """Tokens, in the mean, of the longest of so many answers, where `ended` of some ended within
    these tokens of all."""
    chance = min(max(ended, 0) / tokens, 1.0)
    return float((1 - (1 - (1 - chance) ** np.arange(most)) ** among).sum())


def _tally(lm: Any) -> tuple[int, int, int]:
    """Tokens generated, answers cut off, and steps, so far."""
    tally = getattr(lm, "tally", None)
    return (0, 0, 0) if tally is None else (tally.generated, tally.cut, tally.steps)
