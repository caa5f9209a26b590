"""Scores and recommendations without the items that the training data contains.

The items of an evaluation carry the hashes of their documents, and so do the findings of the audit.
Where a score is no plain mean of its items (two tests averaged, instructions pooled), their values
are the score's linear parts, and leaving some out is right to first order.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.recommend import Advice, Recommendation
from analysis.benchmarks import task
from analysis.fit.surface import FitStatus
from analysis.text import number, rate

Leaked = dict[tuple[str, str], frozenset[str]]
"""(stage, benchmark) -> names of the items that the data of the stage's models contains."""

MIN_ITEMS = 2
"""Fewer items that are left give no error."""


class Clean(NamedTuple):
    """The tables without the contaminated items, and both scores of each that has some."""

    frame: pd.DataFrame
    items: pd.DataFrame
    scores: pd.DataFrame
    """Columns of the trial, benchmark, metric, value, n, value_without, n_without."""


class Change(NamedTuple):
    """What becomes of a recommendation without the contaminated items."""

    label: str
    changed: bool
    sentence: str


def leaked(pairs: Iterable[dict[str, Any]], stages: dict[str, list[str]]) -> Leaked:
    """The contaminated items of each stage: found in data that its models were trained on."""
    by_data: dict[tuple[str, str], set[str]] = {}
    for pair in pairs:
        by_data.setdefault((pair["data"], pair["benchmark"]), set()).add(pair["item"])
    names = {benchmark for _, benchmark in by_data}
    return {
        (stage, benchmark): frozenset(found)
        for stage, data in stages.items()
        for benchmark in sorted(names)
        if (found := set().union(*(by_data.get((one, benchmark), ()) for one in data)))
    }


def without(frame: pd.DataFrame, items: pd.DataFrame, leaks: Leaked) -> Clean:
    """The same tables without contaminated items; a score that loses all its items is left out."""
    stage_of = dict(zip(frame.key, frame.stage, strict=True))
    stages = items.key.map(stage_of)
    out = np.zeros(len(items), dtype=bool)
    # An item that occurs twice in a benchmark is named `hash` and `hash-2`.
    documents = items.item.astype(str).str.partition("-")[0]
    for (stage, benchmark), names in leaks.items():
        here = ((stages == stage) & (items.benchmark == benchmark)).to_numpy()
        out[here] |= documents[here].isin(names).to_numpy()
    touched = items.loc[out, ["key", "benchmark", "metric"]].drop_duplicates()
    kept = items.loc[~out]
    values = kept.merge(touched).groupby(["key", "benchmark", "metric"]).value
    left = values.agg(value_without="mean", stderr_without=_stderr, n_without="count").reset_index()
    rows = frame.merge(touched.assign(touched=True), how="left").merge(left, how="left")
    changed = rows.touched.notna() & (rows.status == "ok")
    lost = changed & ~(rows.n_without >= MIN_ITEMS)
    clean = frame.reset_index(drop=True).copy()
    for name in ("value", "stderr", "n"):
        replaced = rows.loc[changed, f"{name}_without"]
        clean.loc[changed, name] = replaced.astype(clean[name].dtype)
    columns = [
        *("key", "stage", "arm", "learning_rate", "batch_size", "seed", "benchmark", "metric"),
        *("primary", "value", "n", "value_without", "n_without"),
    ]
    return Clean(clean.loc[~lost.to_numpy()], kept, rows.loc[changed, columns])


def _stderr(values: pd.Series) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def changes(before: Advice, after: Advice, touched: set[str]) -> list[Change]:
    """For each benchmark that has contaminated items, and each task type with such a benchmark."""
    found = [
        _change(old, after.benchmarks.get(name))
        for name, old in before.benchmarks.items()
        if name in touched
    ]
    types = {task(name).task_type for name in touched}
    return found + [
        _change(old, after.task_types.get(name))
        for name, old in before.task_types.items()
        if name in types
    ]


def _change(old: Recommendation, new: Recommendation | None) -> Change:
    if new is None:
        return Change(old.label, True, f"{old.label}: no item is left without them.")
    if old.status is not new.status:
        sentence = f"The recommendation changes. With them: {old.sentence} Without: {new.sentence}"
        return Change(old.label, True, sentence)
    if new.status is FitStatus.IDENTIFIED:
        assert old.ratio and old.low and old.high and new.ratio, "identified"
        ratios = f"{rate(old.ratio)} with them, {rate(new.ratio)} without"
        span = f"95 % interval ({rate(old.low)} to {rate(old.high)})"
        if not old.low <= new.ratio <= old.high:
            sentence = f"The recommendation changes: ratio {ratios}, outside the {span}."
            return Change(old.label, True, sentence)
        return Change(old.label, False, f"It stays: ratio {ratios}, inside the {span}.")
    moved = _moved(old, new)
    return Change(old.label, False, f"It stays undecided{moved}.")


def _moved(old: Recommendation, new: Recommendation) -> str:
    if old.best_cell is None or new.best_cell is None:
        return ""
    cells = [(cell.learning_rate, cell.batch_size) for cell in (old.best_cell, new.best_cell)]
    if cells[0] == cells[1]:
        return ", with the same best cell"
    (a, b), (c, d) = cells
    return f"; the best cell moves from {rate(a)} x {b} to {rate(c)} x {d}"


def summary(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per stage, arm and benchmark: n items, how many are contaminated, and the mean of the
    trials' primary scores with and without them."""
    rows = scores.loc[scores.primary.fillna(False).astype(bool)]
    return [
        {
            "stage": stage,
            "arm": arm,
            "benchmark": benchmark,
            "n": int(group.n.max()),
            "contaminated": int((group.n - group.n_without.fillna(0)).max()),
            "trials": len(group),
            "value": number(float(group.value.mean()), 4),
            "without": number(float(group.value_without.mean()), 4),
        }
        for (stage, arm, benchmark), group in rows.groupby(
            ["stage", "arm", "benchmark"], sort=False
        )
    ]
