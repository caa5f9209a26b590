"""Per-item values -> scores with standard errors, and the table of items."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trainers.spec import Score


class Evaluation(NamedTuple):
    scores: list[Score]
    items: pd.DataFrame
    """Columns item (a hash, the same in every trial), metric, value; values average to the score."""
    settings: dict[str, Any]


def contributions(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Per-item values whose mean is sum(numerators) / sum(denominators) and whose scatter gives its error.

    c_i = r + (a_i - r b_i) n / sum(b), the linearised ratio: std(c) / sqrt(n) is the delta method's standard
    error, and the same holds for differences of two models on the same items.
    """
    ratio = numerators.sum() / denominators.sum()
    return ratio + (numerators - ratio * denominators) * len(numerators) / denominators.sum()


def mean_of_tasks(values: list[np.ndarray]) -> np.ndarray:
    """Per-item values, all tasks' items in a row, whose mean is the unweighted mean of the tasks' means.

    c_i = m + (x_i - m_task) N / (k n_task) for k tasks with N items in all.
    """
    total, count = sum(len(v) for v in values), len(values)
    mean = np.mean([v.mean() for v in values])
    return np.concatenate([mean + (v - v.mean()) * total / (count * len(v)) for v in values])


def summarise(
    values: dict[str, np.ndarray],
    items: list[str],
    primary: str,
    lower_is_better: Iterable[str],
    settings: dict[str, Any],
) -> Evaluation:
    """Scores (mean and standard error over items) and the long table of items."""
    if primary not in values:
        raise ValueError(f"primary metric {primary!r} is not among {', '.join(values)}")
    n = len(items)
    scores = [
        Score(
            metric=name,
            value=float(v.mean()),
            stderr=float(v.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
            n=n,
            primary=name == primary,
            higher_is_better=name not in lower_is_better,
        )
        for name, v in values.items()
    ]
    table = pd.concat(
        [pd.DataFrame({"item": items, "metric": name, "value": v}) for name, v in values.items()],
        ignore_index=True,
    )
    return Evaluation(scores, table, settings)
