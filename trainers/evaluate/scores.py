"""Per-item values -> scores with standard errors, and the table of items."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trainers import files
from trainers.specs.spec import Score


class Evaluation(NamedTuple):
    scores: list[Score]
    items: pd.DataFrame
    """Columns item (a hash, the same in every trial), metric, value; values average to the
    score."""
    settings: dict[str, Any]


def contributions(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Per-item values whose mean is sum(numerators) / sum(denominators) and whose scatter gives
    its error.

    c_i = r + (a_i - r b_i) n / sum(b), the linearised ratio: std(c) / sqrt(n) is the delta method's
    standard error, and the same holds for differences of two models on the same items.
    """
    ratio = numerators.sum() / denominators.sum()
    return ratio + (numerators - ratio * denominators) * len(numerators) / denominators.sum()


def mean_of_tasks(values: list[np.ndarray]) -> np.ndarray:
    """Per-item values, all tasks' items in a row, whose mean is the unweighted mean of the tasks'
    means.

    c_i = m + (x_i - m_task) N / (k n_task) for k tasks with N items in all.
    """
    total, count = sum(len(v) for v in values), len(values)
    mean = np.mean([v.mean() for v in values])
    return np.concatenate([mean + (v - v.mean()) * total / (count * len(v)) for v in values])


def summarise(
    reported: dict[str, float],
    values: dict[str, np.ndarray],
    items: list[str],
    *,
    primary: str,
    lower_is_better: Collection[str],
    settings: dict[str, Any],
) -> Evaluation:
    """A score for every `reported` metric, with an error where it has per-item `values`.

    Raises:
        ValueError: the primary metric is not among them.
    """
    if primary not in reported:
        raise ValueError(f"primary metric {primary!r} is not among {', '.join(reported)}")
    scores = [
        Score(
            metric=name,
            value=value,
            stderr=_standard_error(values.get(name)),
            n=len(items),
            primary=name == primary,
            higher_is_better=name not in lower_is_better,
        )
        for name, value in reported.items()
    ]
    columns = [pd.DataFrame({"item": items, "metric": k, "value": v}) for k, v in values.items()]
    empty = pd.DataFrame({"item": [], "metric": [], "value": []})
    return Evaluation(scores, pd.concat(columns, ignore_index=True) if columns else empty, settings)


def _standard_error(values: np.ndarray | None) -> float | None:
    """std / sqrt(n), as lm-eval has it; of answers that are all wrong, or all right, that of
    (hits + 1) / (n + 2): no hit in n items is not certainty."""
    if values is None or len(values) < 2:
        return None
    if np.isin(values, (0.0, 1.0)).all() and np.ptp(values) == 0:
        share = (values.sum() + 1) / (len(values) + 2)
        return float(np.sqrt(share * (1 - share) / (len(values) + 2)))
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def write(path: Path, benchmark: str, fingerprint: str, found: Evaluation, seconds: float) -> None:
    """The record of one evaluation, `<fingerprint>.json`, and its items beside it as .parquet.

    The items first, the scores last, each aside and renamed: an evaluation is there when its .json
    is.
    """
    record = {
        "benchmark": benchmark,
        "fingerprint": fingerprint,
        "settings": found.settings,
        "eval_seconds": seconds,
        "scores": [score._asdict() for score in found.scores],
    }
    with files.replacing(path.with_suffix(".parquet")) as part:
        found.items.to_parquet(part)
    files.write_json(path, record)
