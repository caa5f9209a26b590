"""A reward model on pairs -> its pairwise accuracy, with a standard error over the pairs.

A pair counts where the chosen answer's score is above the rejected one's; a tie does not, as in
RewardBench's own code. The prompts are wrapped in the model's chat template.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid

from trainers.data.forms import pairs, preference_pairs, tokenize
from trainers.data.rows import sources
from trainers.evaluate.scores import Evaluation, summarise
from trainers.models import load
from trainers.ops.judge import scores_of
from trainers.ops.packed_attention import Example
from trainers.ops.pairs import cut
from trainers.specs.data import DataSpec
from trainers.specs.evaluation import EvaluateAt, EvaluateSpec
from trainers.specs.preference import PAIR_ACCURACY
from trainers.tasks.registry import Benchmark
from trainers.tasks.task_files import local_file
from trainers.tasks.tasks import first

MAX_LENGTH = 2048
"""Tokens of a benchmark's text, the prompt with an answer; the paper's evaluation length."""

SUBSETS = {
    "chat": {
        "alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95,
        "mt-bench-easy": 28, "mt-bench-med": 40,
    },
    "chat_hard": {
        "mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46,
    },
    "safety": {
        "refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154,
        "xstest-should-respond": 250, "donotanswer": 136,
    },
    "reasoning": {
        "math-prm": 984, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164,
        "hep-python": 164, "hep-rust": 164,
    },
}  # fmt: skip
"""RewardBench's categories: subset -> what it weighs in its category (allenai/reward-bench,
rewardbench/constants.py). `math-prm` has 447 pairs and weighs as much as all code together."""


def heldout(loaded: load.Loaded, rows: Dataset, dtype: str) -> Evaluation:
    """Accuracy, loss and margin on the held-out pairs of a stage.

    Raises:
        ValueError: no pair is held out.
    """
    if len(rows) == 0:
        raise ValueError("no pair is held out; set `heldout` of the stage")
    columns: Any = rows.with_format("torch", columns=["input_ids", "labels", "second"])
    evaluation = _score_pairs(loaded, [cut(row) for row in columns], dtype)
    values = _of_margins(evaluation)
    return summarise(
        {metric: float(column.mean()) for metric, column in values.items()},
        values,
        list(rows["item"]),
        primary="accuracy",
        lower_is_better={"loss"},
        settings={"benchmark": PAIR_ACCURACY},
    )


def score(loaded: load.Loaded, benchmark: Benchmark, spec: EvaluateSpec) -> Evaluation:
    """A benchmark of pairs; where its rows name their `subset`, RewardBench's categories as well,
    and their unweighted mean, over those that are there, as the primary metric `average`.

    Raises:
        DataUnavailable: the pairs cannot be had.
        EvaluationUnavailable: there is no local file, or there are several.
    """
    rows = _rows(benchmark, spec)
    texts = [
        text
        for row in rows
        for text in preference_pairs.rendered(pairs.pair_of(row), loaded.tokenizer)
    ]
    sides = [_example(*encoded) for encoded in tokenize.encode(texts, loaded.tokenizer)]
    margins = _score_pairs(loaded, list(zip(sides[::2], sides[1::2], strict=True)), spec.dtype)
    values = _of_margins(margins)
    subsets = np.array([row.get("subset") or "" for row in rows])
    weighed = by_category(values["accuracy"], subsets)
    values |= weighed
    items = [hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()[:16] for row in rows]
    evaluation = summarise(
        {metric: float(column.mean()) for metric, column in values.items()},
        values,
        items,
        primary=benchmark.metric or "accuracy",
        lower_is_better={"loss"},
        settings={
            "benchmark": benchmark.name,
            "limit": spec.limit,
            "max_length": MAX_LENGTH,
            "categories": [name for name in weighed if name in SUBSETS],
            "n": {str(name): int((subsets == name).sum()) for name in np.unique(subsets)},
            "documents": hashlib.sha256("".join(items).encode()).hexdigest()[:16],
        },
    )
    sizes = {name: int(np.isin(subsets, list(SUBSETS[name])).sum()) for name in SUBSETS}
    return evaluation._replace(
        scores=[score._replace(n=sizes.get(score.metric, score.n)) for score in evaluation.scores]
    )


def by_category(correct: np.ndarray, subsets: np.ndarray) -> dict[str, np.ndarray]:
    """Per-pair values of each of RewardBench's categories and of their `average`, whose means are
    the scores and whose scatter gives their errors. Empty where no pair is of a known subset.

    With w_s the share of subset s in the score: c_i = m + (x_i - m_s) w_s N / n_s for N pairs in
    all, n_s of them of the pair's own subset.
    """
    shares = {}
    for category, weights in SUBSETS.items():
        present = {name: weight for name, weight in weights.items() if name in subsets}
        if present:
            total = sum(present.values())
            shares[category] = {name: weight / total for name, weight in present.items()}
    if not shares:
        return {}
    shares["average"] = {
        name: share / len(shares) for parts in shares.values() for name, share in parts.items()
    }
    return {name: _weighed(correct, subsets, parts) for name, parts in shares.items()}


def _weighed(correct: np.ndarray, subsets: np.ndarray, shares: dict[str, float]) -> np.ndarray:
    means = {name: correct[subsets == name].mean() for name in shares}
    by_item = np.full(len(correct), sum(means[name] * share for name, share in shares.items()))
    for name, share in shares.items():
        mine = subsets == name
        by_item[mine] += (correct[mine] - means[name]) * share * len(correct) / mine.sum()
    return by_item


def _rows(benchmark: Benchmark, spec: EvaluateSpec) -> list[sources.Row]:
    """In their order; of a limit a seeded random part, the same for every model."""
    assert benchmark.pairs is not None
    hub_data, commits = benchmark.pairs.data, spec.commits if isinstance(spec, EvaluateAt) else {}
    data = DataSpec(name=hub_data, split=benchmark.pairs.split, revision=commits.get(hub_data))
    if spec.data_dir is not None:
        file = local_file(Path(spec.data_dir), benchmark.pairs.file)
        data = DataSpec(name=str(file))
    stored = sources.stored_rows(data)
    limit = len(stored) if spec.limit is None else spec.limit
    return stored.read(sorted(first(len(stored), limit).tolist()))


def _example(ids: np.ndarray, labels: np.ndarray) -> Example:
    return Example(*(torch.from_numpy(values[:MAX_LENGTH]).long() for values in (ids, labels)))


def _of_margins(margins: np.ndarray) -> dict[str, np.ndarray]:
    """Per-pair accuracy, loss in nats, and margin."""
    loss = -logsigmoid(torch.from_numpy(margins)).numpy()
    return {"accuracy": (margins > 0).astype(float), "loss": loss, "margin": margins}


def _score_pairs(
    loaded: load.Loaded, pairs: Sequence[tuple[Example, Example]], dtype: str
) -> np.ndarray:
    """The chosen one's score less the rejected one's, (pairs,), float64."""
    values = scores_of(loaded, [side for pair in pairs for side in pair], dtype)
    chosen, rejected = values.double().reshape(-1, 2).unbind(dim=1)
    return (chosen - rejected).numpy()
