"""Which task of its benchmark an item belongs to."""

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.records.run_folder import load, manifest, trials, wanted


def item_tasks(run_dir: Path, items: pd.DataFrame) -> dict[str, str]:
    """Item -> task, for the benchmarks of several tasks. The items of a score lie in the order of
    its tasks, and its settings have the number of each.

    Raises:
        ResultsError: a record is damaged.
    """
    stages = manifest(run_dir).get("stages", {})
    tasks: dict[str, str] = {}
    known: set[str] = set()
    for folder, trial in trials(run_dir):
        for evaluation in wanted(stages, trial["stage"]):
            path = folder / "scores" / f"{evaluation['fingerprint']}.json"
            if evaluation["fingerprint"] in known or not path.exists():
                continue
            counts: dict[str, int] = (load(path).get("settings") or {}).get("n") or {}
            several = len(counts) > 1
            here = (items.key == trial["key"]) & (items.benchmark == evaluation["benchmark"])
            found = _by_place(items.loc[here], counts) if several else {}
            if found or not several:
                known.add(evaluation["fingerprint"])
            tasks |= found
    return tasks


def _by_place(items: pd.DataFrame, counts: dict[str, int]) -> dict[str, str]:
    """By a metric that every item has; another one has the items of some tasks alone."""
    tasks = np.repeat(list(counts), list(counts.values())).tolist()
    for _, rows in items.groupby("metric", sort=False, observed=True):
        if len(rows) == len(tasks):
            return dict(zip(rows["item"].astype(str), tasks, strict=True))
    return {}
