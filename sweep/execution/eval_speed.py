"""Seconds of a benchmark on one model, measured on few items and few tokens of each answer.

An answer of L tokens takes its prompt and L steps. Both are measured: the items with answers of one
token, and with answers of `TOKENS`. Of L, only the share of answers that have ended by then is
known: at a constant chance h of ending at each token the mean of L is (1 - (1 - h)^M) / h, where
the task cuts answers off at M tokens; with h = 0 it is M.
"""

import time
from typing import Any

from trainers.evaluate import harness
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks
from trainers.tasks.registry import Benchmark

TOKENS = 24
"""Of an answer."""

LM_EVAL_TOKENS = 256
"""Where a task names no length of answers."""

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
        longer = timed(items, TOKENS)[0] if _generative(benchmark) else few
        generated, cut = (b - a for a, b in zip(before, _tally(lm), strict=True))
    finally:
        if generates:
            lm.most_new_tokens = None
    # on a busy machine many items may take no longer than few, which says nothing of a fixed part
    per_item = (few - one) / (m - n) if m > n and few > one else few / m
    fixed = max(one - n * per_item, 0.0)
    if generated:
        step = max(longer - few, 0.0) / m / (TOKENS - 1)
        per_item += step * (_length(generated, m - cut, _longest(benchmark, spec)) - 1)
    count = settings["items"]
    if spec.limit is not None:
        count = min(count, spec.limit * len(settings["tasks"]))
    return {"seconds": fixed, "seconds_per_item": per_item, "items": count}


def _length(tokens: int, ended: int, longest: int) -> float:
    """Mean tokens of an answer, where `ended` of them ended within these tokens of all."""
    if ended <= 0:
        return float(longest)
    chance = min(ended / tokens, 1.0)
    return (1 - (1 - chance) ** longest) / chance


def _longest(benchmark: Benchmark, spec: EvaluateSpec) -> int:
    return benchmarks.settings(benchmark, spec).max_gen_toks or LM_EVAL_TOKENS


def _generative(benchmark: Benchmark) -> bool:
    configs = benchmarks.task_configs(benchmark)
    return any(
        config.get("output_type", "generate_until") == "generate_until" for config in configs
    )


def _tally(lm: Any) -> tuple[int, int]:
    """Tokens generated, and answers cut off, so far."""
    tally = getattr(lm, "tally", None)
    return (tally.generated, tally.cut) if tally is not None else (0, 0)
