"""What evaluation and decoding do on this device."""

import time
from pathlib import Path
from typing import Any

from tests.gpu.setting import Setting, synchronize
from trainers.evaluate import harness
from trainers.evaluate.open_model import open_model
from trainers.inference import generation, harness_model
from trainers.inference.decoder import Decoder
from trainers.inference.token_budget import Budget
from trainers.models import load
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks


def _spec(setting: Setting) -> EvaluateSpec:
    return EvaluateSpec(
        benchmarks=list(setting.benchmarks), limit=setting.limit, data_dir=setting.items
    )


def evaluation(setting: Setting, folder: Path) -> dict[str, Any]:
    """Seconds and items of each benchmark, and the answers in progress at once."""
    asked = _spec(setting)
    lm = open_model(load.load(setting.model), asked)
    results: dict[str, Any] = {}
    for name in asked.benchmarks:
        benchmark = benchmarks.find(name)
        if missing := benchmarks.missing(benchmark, asked):
            results[name] = {"left_out": missing}
            continue
        begun = time.monotonic()
        found = harness.score(lm, benchmark, asked)
        primary = next(score for score in found.scores if score.primary)
        results[name] = {
            "seconds": time.monotonic() - begun,
            "items": sum(found.settings["n"].values()),
            "score": primary.value,
            "slots": lm.tally.slots if hasattr(lm, "tally") else None,
        }
    return {**harness_model.description(lm), **results}


def decoding(setting: Setting, folder: Path) -> dict[str, Any]:
    """Tokens a second of answers that never end before their last token."""
    loaded = load.load(setting.model)
    lm = open_model(loaded, _spec(setting))
    decoder: Decoder = lm.decoder
    words = [f"Write {number} words about the sea." for number in range(setting.prompts)]
    prompts = [lm.tok_encode(text) for text in words]
    tally = generation.Tally()
    with decoder.attached():
        for timed in (False, True):
            tally = generation.Tally()
            synchronize()
            begun = time.monotonic()
            few = setting.new_tokens if timed else 2
            budget = Budget(decoder, lm.max_length)
            answers = generation.generate(decoder, prompts, few, lambda _: False, budget, tally)
            synchronize()
            seconds = time.monotonic() - begun
    return {
        "tokens_per_second": sum(map(len, answers)) / seconds,
        "milliseconds_per_step": 1000 * seconds / max(tally.steps, 1),
        "slots": tally.slots,
    }
