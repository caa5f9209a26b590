"""Scores and answers without the items that the training data contains.

The items of an evaluation carry the hashes of their documents, and so do the findings of the audit.
Where a score is no plain mean of its items (two tests averaged, instructions pooled), their values
are the score's linear parts, and leaving some out is right to first order.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.answers import Answers
from analysis.advice.setting import Setting
from analysis.benchmarks import task
from analysis.fit.rates import RateAt, RateStatus
from analysis.text import listed, number, rate

Leaked = dict[str, frozenset[str]]
"""Stage -> names of the items that the data of its models contains. A name is of a task's document,
so that it is the same in every benchmark that has the task."""

MIN_ITEMS = 2
"""Fewer items that are left give no error."""


class Clean(NamedTuple):
    """The tables without the contaminated items, and both scores of each that has some."""

    frame: pd.DataFrame
    items: pd.DataFrame
    scores: pd.DataFrame
    """Columns of the trial, benchmark, metric, value, n, value_without, n_without."""
    unscored: dict[str, int]
    """Audited benchmark -> its contaminated items, where none of its items is scored."""


class Change(NamedTuple):
    """What becomes of the answers without the contaminated items."""

    label: str
    changed: bool
    sentence: str


def leaked(pairs: Iterable[dict[str, Any]], stages: dict[str, list[str]]) -> Leaked:
    """The contaminated items of each stage: found in data that its models were trained on."""
    by_data: dict[str, set[str]] = {}
    for pair in pairs:
        by_data.setdefault(pair["data"], set()).add(pair["item"])
    return {
        stage: frozenset(leaked)
        for stage, data in stages.items()
        if (leaked := set().union(*(by_data.get(source, ()) for source in data)))
    }


def unscored(
    pairs: Iterable[dict[str, Any]], benchmarks: Collection[str], items: pd.DataFrame
) -> dict[str, int]:
    """See `Clean`; `benchmarks` are those that have scores."""
    found: dict[str, set[str]] = {}
    for pair in pairs:
        found.setdefault(pair["benchmark"], set()).add(pair["item"])
    scored = set(_documents(items))
    return {
        benchmark: len(names)
        for benchmark, names in found.items()
        if benchmark not in benchmarks and not names & scored
    }


def _documents(items: pd.DataFrame) -> pd.Series:
    """The name of each item's document; one that occurs twice in a benchmark is named `hash` and
    `hash-2`."""
    return items.item.astype(str).str.partition("-")[0]


def without(frame: pd.DataFrame, items: pd.DataFrame, leaks: Leaked) -> Clean:
    """The same tables without contaminated items; a score that loses all its items is left out."""
    stage_of = dict(zip(frame.key, frame.stage, strict=True))
    stages = items.key.map(stage_of)
    out = np.zeros(len(items), dtype=bool)
    documents = _documents(items)
    for stage, names in leaks.items():
        here = (stages == stage).to_numpy()
        out[here] |= documents.loc[here].isin(names).to_numpy()
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
    return Clean(clean.loc[~lost.to_numpy()], kept, rows.loc[changed, columns], {})


def _stderr(values: pd.Series) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def changes(before: Answers, after: Answers, touched: set[str]) -> list[Change]:
    """For each benchmark that has contaminated items, and each task type with such a benchmark."""
    listed_changes = []
    for name, old in before.benchmarks.items():
        new = after.benchmarks.get(name)
        if name in touched and old.setting is not None:
            same = None if new is None else (new.setting, new.rates)
            listed_changes.append(_change(old.label, (old.setting, old.rates), same))
    for kind in dict.fromkeys(task(name).task_type for name in touched):
        if kind in before.task_types:
            old_pair = before.task_types[kind], before.type_rates.get(kind, ())
            new_pair = after.task_types.get(kind), after.type_rates.get(kind, ())
            listed_changes.append(_change(before.task_types[kind].label, old_pair, new_pair))
    return listed_changes


Answered = tuple[Setting | None, Sequence[RateAt]]
"""A setting and the learning rates LR*(B) beside it."""


def _change(label: str, old: Answered, new: Answered | None) -> Change:
    if new is None or new[0] is None:
        return Change(label, True, "no item is left without them.")
    assert old[0] is not None, "a setting before"
    lost = _left(old[1], new[1])
    settings = [f"{rate(one.learning_rate)} x {one.batch_size}" for one in (old[0], new[0])]
    if lost:
        sizes = listed([str(size) for size in lost])
        where = f"{'size' if len(lost) == 1 else 'sizes'} {sizes}"
        text = f"the best learning rate at batch {where} is not the one that it is with them"
        return Change(
            label, True, f"{text}; the setting: {settings[0]} with, {settings[1]} without."
        )
    if settings[0] == settings[1]:
        return Change(label, False, f"the setting stays {settings[0]}.")
    text = f"the setting moves from {settings[0]} to {settings[1]}, within the intervals"
    return Change(label, False, f"{text} of the best learning rates.")


def _left(old: Sequence[RateAt], new: Sequence[RateAt]) -> list[int]:
    """Batch sizes whose best rate lay inside and now lies outside that interval, or is placed no
    more."""
    after = {rate.batch_size: rate for rate in new}
    return [
        rate.batch_size
        for rate in old
        if rate.status is RateStatus.INTERIOR
        and (
            (now := after.get(rate.batch_size)) is None
            or now.status is not RateStatus.INTERIOR
            or not rate.low <= now.learning_rate <= rate.high
        )
    ]


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
