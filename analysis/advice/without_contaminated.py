"""Scores and answers without the items that the training data contains.

The items of an evaluation carry the hashes of their documents, and so do the findings of the audit.
Where a score is the mean of several tasks, the values of its items are the score's linear parts: it
is the mean over its tasks of what is left of each. Where it pools parts of items (instructions of
a prompt, words of a perplexity), leaving some out is right to first order alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.answers import Answers
from analysis.advice.setting import Setting
from analysis.benchmarks import task
from analysis.fit.rates import RateAt, RateStatus
from analysis.text import listed, number, rate

Leaked = dict[str, frozenset[str]]
"""Key of a trial -> names of the items that the data of its model contains. A name is of a task's
document, so that it is the same in every benchmark that has the task."""

SCORE = ("key", "benchmark", "metric")
"""What tells the scores of a table apart."""

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
    unknown: list[str]
    """Data and benchmarks of which the audit could see nothing, a line each."""
    too_short: list[str]
    """Benchmarks of which it could see a part alone, a line each."""


class Change(NamedTuple):
    """What becomes of the answers without the contaminated items."""

    label: str
    changed: bool
    sentence: str


Stages = Mapping[str, Mapping[str, Sequence[str]] | Sequence[str]]
"""Stage -> arm -> data that its cells train on; in older records stage -> data of all its arms and
of the stages before."""


def leaked(
    pairs: Iterable[dict[str, Any]], stages: Stages, trials: Iterable[dict[str, Any]]
) -> Leaked:
    """The contaminated items of each trial (trial.json): found in data that its model, or one that
    it starts from, was trained on."""
    by_data: dict[str, set[str]] = {}
    for pair in pairs:
        by_data.setdefault(pair["data"], set()).add(pair["item"])
    by_key = {trial["key"]: trial for trial in trials}
    leaks = {}
    for first in by_key:
        names, key = set(), first
        while (trial := by_key.get(key)) is not None:
            for data in _data(stages.get(trial["stage"], ()), trial.get("arm") or ""):
                names |= by_data.get(data, set())
            key = trial.get("parent")
        if names:
            leaks[first] = frozenset(names)
    return leaks


def _data(of_stage: Mapping[str, Sequence[str]] | Sequence[str], arm: str) -> Sequence[str]:
    """Of an arm that has another name by now, the data of all arms."""
    if not isinstance(of_stage, Mapping):
        return of_stage
    return of_stage.get(arm) or [data for every in of_stage.values() for data in every]


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


def without(
    frame: pd.DataFrame, items: pd.DataFrame, leaks: Leaked, tasks: Mapping[str, str] | None = None
) -> Clean:
    """The same tables without contaminated items; a score that loses all its items is left out, and
    so is one of several tasks that loses all of a task. `tasks` has the task of each item, where a
    benchmark has several."""
    out = np.zeros(len(items), dtype=bool)
    documents = _documents(items)
    keys_of: dict[frozenset[str], list[str]] = {}
    for key, names in leaks.items():
        keys_of.setdefault(names, []).append(key)
    for names, keys in keys_of.items():
        here = items.key.isin(keys).to_numpy()
        out[here] |= documents.loc[here].isin(names).to_numpy()
    touched = items.loc[out, list(SCORE)].drop_duplicates()
    items = items.reset_index(drop=True)
    kept, lost_task = _with_task_weights(items, out, tasks or {})
    values = kept.merge(touched).groupby(list(SCORE), observed=True).value
    left = values.agg(value_without="mean", stderr_without=_stderr, n_without="count").reset_index()
    rows = frame.merge(touched.assign(touched=True), how="left").merge(left, how="left")
    rows = rows.merge(lost_task.assign(lost_task=True), how="left")
    changed = rows.touched.notna() & (rows.status == "ok")
    lost = changed & (~(rows.n_without >= MIN_ITEMS) | rows.lost_task.notna())
    rows.loc[lost, ["value_without", "stderr_without"]] = np.nan
    clean = frame.reset_index(drop=True).copy()
    for name in ("value", "stderr", "n"):
        replaced = rows.loc[changed, f"{name}_without"]
        clean.loc[changed, name] = replaced.astype(clean[name].dtype)
    columns = [
        *("key", "stage", "arm", "learning_rate", "batch_size", "seed", "benchmark", "metric"),
        *("primary", "value", "n", "value_without", "n_without"),
    ]
    return Clean(clean.loc[~lost.to_numpy()], kept, rows.loc[changed, columns], {}, [], [])


def _with_task_weights(
    items: pd.DataFrame, out: np.ndarray, tasks: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The items that are not `out`, and the scores (`SCORE`) that lose all of a task.

    The values of a mean of tasks average to that mean in every task, scaled so that each task
    counts by its number of items (`trainers/evaluate/scores.py`). So the mean over what is left is
    that of the tasks' kept values, by their numbers before: each task keeps its weight. The values
    are moved so that they average to it.
    """
    kept = items.loc[~out].copy()
    touched = items.assign(out=out).groupby(list(SCORE), observed=True).out.transform("any")
    rows = items.assign(kept=~out).loc[touched.to_numpy()]
    rows = rows.assign(task=rows["item"].astype(str).map(dict(tasks)))
    rows = rows.loc[rows.task.notna()]
    scores = rows.groupby(list(SCORE), observed=True)
    of_task = rows.groupby([*SCORE, "task"], observed=True)
    weight = of_task.value.transform("size") / scores.value.transform("size")
    left = of_task.kept.transform("sum")
    lost = rows.loc[left == 0, list(SCORE)].drop_duplicates()
    rows = rows.assign(weight=weight, left=left).loc[rows.kept]
    mean = rows.groupby([*SCORE, "task"], observed=True).value.transform("mean")
    rows = rows.assign(mean=mean, part=rows.weight * mean / rows.left)
    scores = rows.groupby(list(SCORE), observed=True).part
    scale = rows.weight * scores.transform("size") / rows.left
    kept.loc[rows.index, "value"] = scores.transform("sum") + (rows.value - mean) * scale
    return kept, lost


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
        return Change(label, True, "no score is left without them.")
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
            "without": number(float(group.value_without.mean()), 4)
            if group.value_without.notna().any()
            else "no score is left",
        }
        for (stage, arm, benchmark), group in rows.groupby(
            ["stage", "arm", "benchmark"], sort=False
        )
    ]
