"""Which task of its benchmark an item belongs to."""

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.records.score_files import score_records


def item_tasks(run_dir: Path, items: pd.DataFrame) -> dict[str, str]:
    """Item -> task, for lm-eval's benchmarks of several tasks. The items of a score lie in the
    order of its tasks, and its settings have the number of each.

    Raises:
        ResultsError: a record is damaged.
    """
    places = items.groupby(["key", "benchmark"], observed=True).indices
    tasks: dict[str, str] = {}
    known: set[str] = set()
    for key, benchmark, path, record in score_records(run_dir):
        settings = record.get("settings") or {}
        counts: dict[str, int] = settings.get("n") or {}
        here = places.get((key, benchmark))
        if path.stem in known or here is None or len(counts) < 2 or "tasks" not in settings:
            continue
        known.add(path.stem)
        tasks |= _by_place(items.iloc[here], counts)
    return tasks


def _by_place(items: pd.DataFrame, counts: dict[str, int]) -> dict[str, str]:
    """By a metric that every item has; another one has the items of some tasks alone."""
    tasks = np.repeat(list(counts), list(counts.values())).tolist()
    for _, rows in items.groupby("metric", sort=False, observed=True):
        if len(rows) == len(tasks):
            return dict(zip(rows["item"].astype(str), tasks, strict=True))
    return {}
