"""Per-item values -> scores with standard errors, and the table of items."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trainers import files
from trainers.specs.result import Score


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


def mean_of_tasks(values: list[np.ndarray], by_size: bool = False) -> np.ndarray:
    """Per-item values, all tasks' items in a row, whose mean is the mean of the tasks' means, each
    task weighing the same or as its number of items (`by_size`).

    c_i = m + (x_i - m_task) w_task N / n_task for tasks of weights w with N items in all.
    """
    total = sum(len(v) for v in values)
    shares = [len(v) / total if by_size else 1 / len(values) for v in values]
    mean = sum(share * v.mean() for share, v in zip(shares, values, strict=True))
    return np.concatenate(
        [
            mean + (v - v.mean()) * share * total / len(v)
            for share, v in zip(shares, values, strict=True)
        ]
    )


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

    `values` are per item of `items`, nan for an item that has no part in the metric.

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
            n=len(items) if name not in values else int(np.isfinite(values[name]).sum()),
            primary=name == primary,
            higher_is_better=name not in lower_is_better,
        )
        for name, value in reported.items()
    ]
    columns = [pd.DataFrame({"item": items, "metric": k, "value": v}) for k, v in values.items()]
    types = {"item": "str", "metric": "str", "value": "float64"}  # also of a table without rows
    table = pd.concat(columns, ignore_index=True) if columns else pd.DataFrame(columns=list(types))
    return Evaluation(scores, table.dropna(ignore_index=True).astype(types), settings)


def _standard_error(values: np.ndarray | None) -> float | None:
    """std / sqrt(n), as lm-eval has it; of answers that are all wrong, or all right, that of
    (hits + 1) / (n + 2): no hit in n items is not certainty."""
    values = None if values is None else values[np.isfinite(values)]
    if values is None or len(values) < 2:
        return None
    if np.isin(values, (0.0, 1.0)).all() and np.ptp(values) == 0:
        share = (values.sum() + 1) / (len(values) + 2)
        return float(np.sqrt(share * (1 - share) / (len(values) + 2)))
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def write(
    path: Path, benchmark: str, fingerprint: str, evaluation: Evaluation, seconds: float
) -> None:
    """The record of one evaluation, `<fingerprint>.json`, and its items beside it as .parquet.

    The items first, the scores last, each aside and renamed: an evaluation is there when its .json
    is.
    """
    record = {
        "benchmark": benchmark,
        "fingerprint": fingerprint,
        "settings": evaluation.settings,
        "eval_seconds": seconds,
        "scores": [_finite(score._asdict()) for score in evaluation.scores],
    }
    with files.replacing(path.with_suffix(".parquet")) as part:
        evaluation.items.to_parquet(part)
    files.write_json(path, record)


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """Numbers that are not finite, which JSON has no word for, as null: a score that failed."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in record.items()
    }
